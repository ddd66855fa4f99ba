"""Declare that a change of code alters no result, and give results the names of today's plan.

    python workflow adopt [STUDY]                             # which code changed, and what could be adopted
    python workflow adopt --only 'students/*/labels/*' ...    # of it, what these names match
    python workflow adopt --because "a renamed variable"      # does it

New code gives new names, since nobody but you can know that an edit changes no result. A result can be adopted if it
has the plan's recipe and the plan's inputs, or inputs that are adopted with it. Trainings that are under way go on from
their saved states. Each result's provenance.json, and the report, tell from which name it was adopted, over which edits
and why. The former names stay as links that take no room, until `keep --prune`, so an edit can still be taken back.
Tables are rendered again, which takes seconds. Write STUDY before --only, which takes every word after it.
"""

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from plan.plan import Plan

from commands._study import add_study
from commands.keep import chosen_plan, refuse_beside_jobs
from deit.store.attempts import ATTEMPTS, now
from deit.store.copies import copy_file
from deit.store.job import Job, without_none
from deit.store.results import publish, read_adopted, read_result, readable_job, write_adopted

MADE_AGAIN = ("table", "report")


@dataclass(frozen=True)
class Adoption:
    """A finished result, or the saved state of a training, that is to serve for a planned job."""

    folder: Path
    record: dict
    """provenance.json of a result; empty for a state."""
    before: Job
    after: Job

    @property
    def edited(self) -> list[str]:
        """The files that behave otherwise than when the result was made."""
        return sorted({file for file, _ in self.before.behaviour.items() ^ self.after.behaviour.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names, as they are listed")
    parser.add_argument("--because", metavar="REASON", help="adopt what is listed, and record why")
    arguments = parser.parse_args()
    plan = chosen_plan(arguments.study)
    candidates = list(adoptions(plan, arguments.only))
    print("\n".join(listing(candidates)))
    if candidates and arguments.because:
        refuse_beside_jobs(plan.name)
        plan.write({})
        for adoption in candidates:
            adopt(adoption, arguments.because)
        print("adopted; `snakemake` goes on from here, and `dvc repro` records it")
    elif candidates:
        print('Nothing was adopted yet: --because "why no result changes" does it.')


# What could be adopted ------------------------------------------------------------------------------------------------


def adoptions(plan: Plan, patterns: list[str]) -> Iterator[Adoption]:
    """For every planned job that is not finished: the newest result of the same recipe and inputs, makers first."""
    results, states = earlier_results(plan), earlier_states(plan)
    today = dict(adopted_before(plan))
    for job in plan.jobs.values():
        if job.kind in MADE_AGAIN or plan.is_finished(job) or not any(fnmatch(job.name, word) for word in patterns):
            continue
        own_state = resume_folder(plan, job.digest) / "resume.pt"
        predecessors = [*results.get(job.name, []), *([] if own_state.exists() else states.get(job.name, []))]
        for folder, record, before in predecessors:
            inputs = {role: today.get(digest, digest) for role, digest in before.inputs.items()}
            recipes = [without_none(one.recipe) for one in (before, job)]  # a newer option that is not used is none
            if (before.kind, recipes[0], inputs) == (job.kind, recipes[1], job.inputs):
                today[before.digest] = job.digest
                yield Adoption(folder, record, before, job)
                break


# Name of a job -> folder, provenance and job of what the plan does not use, the newest first.
Predecessors = dict[str, list[tuple[Path, dict, Job]]]


def earlier_results(plan: Plan) -> Predecessors:
    outputs = {job.execution.output for job in plan.jobs.values()}
    results = []
    for path in sorted(Path("results", plan.name).glob("**/provenance.json")):
        job = readable_job(path.with_name("recipe.json"))
        if job and path.parent.suffix != ".partial" and str(path.parent) not in outputs:
            results.append((path.parent, json.loads(path.read_text(encoding="utf-8")), job))
    return by_name(sorted(results, key=lambda result: result[1]["finished"], reverse=True))


def earlier_states(plan: Plan) -> Predecessors:
    paths = sorted(Path("results", plan.name).glob("resume/*/resume.pt"))
    newest_first = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    others = [path.parent for path in newest_first if path.parent.name not in plan.jobs]
    jobs = [readable_job(Path("results", plan.name, "recipes", f"{folder.name}.json")) for folder in others]
    return by_name([(folder, {}, job) for folder, job in zip(others, jobs, strict=True) if job])


def by_name(predecessors: list[tuple[Path, dict, Job]]) -> Predecessors:
    groups: Predecessors = {}
    for folder, record, job in predecessors:
        groups.setdefault(job.name, []).append((folder, record, job))
    return groups


def resume_folder(plan: Plan, digest: str) -> Path:
    return Path("results", plan.name, "resume", digest)


def adopted_before(plan: Plan) -> Iterator[tuple[str, str]]:
    """Former digest -> digest, of planned results that were adopted earlier: their users may still name the former.

    So of runs of other studies that are given to this one.
    """
    for digest, job in [*plan.jobs.items(), *((job.digest, job) for job in plan.givers.values())]:
        path = Path(job.execution.output) / "provenance.json"
        if path.exists():
            yield from (
                (entry["from"], digest) for entry in json.loads(path.read_text(encoding="utf-8")).get("adopted", [])
            )


def listing(candidates: list[Adoption]) -> Iterator[str]:
    """Which code changed and how to see it, then a line a result."""
    if not candidates:
        yield "Nothing to adopt: no missing result of the plan (that --only matches) has a predecessor that differs by"
        yield "code alone and was made from the plan's own inputs, or from inputs that are adopted with it."
        return
    counts = Counter((file, made_at(one)) for one in candidates for file in one.edited)
    if counts:
        yield "Code that behaves otherwise than when these results were made:"
    for (file, commit), count in counts.items():
        yield f"  {file}, of {count} result(s)" + (f": git diff {commit} -- {file}" if commit else "")
    yield "Results that differ from the plan by code, or by the names of what they were made from, alone:"
    for one in candidates:
        state = "" if one.record else "  (under way; its saved state)"
        yield f"  {one.before.digest} -> {one.after.digest}  {one.after.name}{state}"


def made_at(adoption: Adoption) -> str:
    """The commit at which a result was made."""
    return adoption.record.get("git_commit", "").removesuffix("-dirty").replace("unknown", "")


# Adopting -------------------------------------------------------------------------------------------------------------


def adopt(adoption: Adoption, reason: str) -> None:
    """Gives a result, or a saved state, the name of the planned job. Stopped half way, the same command goes on."""
    entry = {
        "from": adoption.before.digest,
        "to": adoption.after.digest,
        "edited": adoption.edited,
        "because": reason,
        "at": now(),
    }
    if adoption.record:
        adopt_result(adoption, entry)
    else:
        adopt_state(adoption, entry)


def adopt_result(adoption: Adoption, entry: dict) -> None:
    """A folder of links, with a recipe and a provenance of its own; it gets its name when it is complete.

    Raises SystemExit where a file of the former result is not as it was published.
    """
    former = read_result(adoption.folder)
    former.verify()
    output = Path(adoption.after.execution.output)
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(adoption.folder, partial, symlinks=True, copy_function=link_or_copy)
    for name in ("recipe.json", "provenance.json"):
        (partial / name).unlink()  # a link: to write into it would change the former result
    (partial / "recipe.json").write_text(adoption.after.model_dump_json(indent=1), encoding="utf-8")
    publish(partial, output, former.record | {"adopted": [*former.record.get("adopted", []), entry]})


def link_or_copy(source: str, target: str) -> None:
    """A link takes no room; it is refused on file systems that have none, and for a file of somebody else's."""
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)


def adopt_state(adoption: Adoption, entry: dict) -> None:
    """Lets the training of today's name go on from a saved state; its result will bear the entry.

    Raises SystemExit where the state is damaged, or gone since it was listed.
    """
    from deit.store.checkpoints import ResumeState  # late, as it waits for torch

    before = ResumeState(adoption.folder, adoption.before.digest)
    after = ResumeState(adoption.folder.with_name(adoption.after.digest), adoption.after.digest)
    if (state := before.load()) is None:
        raise SystemExit(f"{before.folder}: the saved state has gone; see what is left without --because.")
    after.folder.mkdir(exist_ok=True)
    write_adopted(after.folder, [*read_adopted(before.folder), entry])
    with suppress(FileNotFoundError):
        shutil.copyfile(before.folder / ATTEMPTS, after.folder / ATTEMPTS)
    after.save(state)
    shutil.rmtree(before.folder)
