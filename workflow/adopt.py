"""Say of results that a change of code does not alter them, and give them the names of today's plan.

    python workflow/adopt.py                                     # which code changed, and what could be adopted
    python workflow/adopt.py --only 'students/*/labels/*' ...    # of it, what these names match
    python workflow/adopt.py --because "a renamed variable"      # does it

New code gives new names, since nobody but you can know that an edit changes no result. Adopted are results whose recipe
is the plan's and whose inputs are, or are adopted too; trainings that are under way go on from their saved states.
What was adopted, from which name, over which edits and why stays in each result's provenance.json and in the report.
Tables are rendered again, which takes seconds.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from keep import chosen_plan, refuse_beside_snakemake
from launch import holder, is_held
from plan import Plan

from deit.recipes import Job
from deit.results import ADOPTED, made_by

MADE_AGAIN = ("table", "report")


@dataclass(frozen=True)
class Adoption:
    """A finished result, or the saved state of a training, that is to serve for a planned job."""

    folder: Path
    before: Job
    after: Job

    @property
    def is_finished(self) -> bool:
        return self.folder.parent.name != "resume"

    @property
    def edited(self) -> list[str]:
        """The files that behave otherwise than when the result was made."""
        return sorted({file for file, _ in self.before.behaviour.items() ^ self.after.behaviour.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", help="the study; default: the one in params/study.yaml")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names, as plan.csv shows them")
    parser.add_argument("--because", metavar="REASON", help="adopt what is listed, and record why")
    arguments = parser.parse_args()
    plan = chosen_plan(arguments.study)
    found = list(adoptions(plan, arguments.only))
    print("\n".join(listing(found)))
    if found and arguments.because:
        refuse_beside_snakemake()
        refuse_while_training(found)
        plan.write()
        for adoption in found:
            adopt(adoption, arguments.because)
        print("adopted; `snakemake` goes on from here, and `dvc repro` records it")
    elif found:
        print('Nothing was adopted yet: --because "why no result changes" does it.')


# What could be adopted ------------------------------------------------------------------------------------------------


def adoptions(plan: Plan, patterns: list[str]) -> Iterator[Adoption]:
    """For every planned job that is not finished: the newest result of the same recipe and inputs, makers first."""
    candidates = earlier(plan)
    today = dict(adopted_before(plan))
    for job in plan.jobs.values():
        if job.kind in MADE_AGAIN or plan.is_finished(job) or not any(fnmatch(job.name, word) for word in patterns):
            continue
        for folder, before in candidates.get(job.name, []):
            inputs = {role: today.get(digest, digest) for role, digest in before.inputs.items()}
            if (before.kind, before.recipe, inputs) == (job.kind, job.recipe, job.inputs):
                today[before.digest] = job.digest
                yield Adoption(folder, before, job)
                break


def earlier(plan: Plan) -> dict[str, list[tuple[Path, Job]]]:
    """Name -> (folder, the job that made it) of what the plan does not use: results, then states, the newest first."""
    root = Path("results") / plan.name
    planned = {job.execution.output for job in plan.jobs.values()}
    finished = [path.parent for path in root.glob("**/provenance.json") if path.parent.suffix != ".partial"]
    states = [path.parent for path in root.glob("resume/*/resume.pt") if path.parent.name not in plan.jobs]
    found: dict[str, list[tuple[Path, Job]]] = {}
    for folder in [*newest_first(finished, "provenance.json"), *newest_first(states, "resume.pt")]:
        recipe = root / "recipes" / f"{folder.name}.json"
        if folder in states and recipe.exists():
            job = Job.model_validate_json(recipe.read_text())
        elif folder not in states and str(folder) not in planned:
            job = made_by(folder)
        else:
            continue
        found.setdefault(job.name, []).append((folder, job))
    return found


def newest_first(folders: list[Path], file: str) -> list[Path]:
    return sorted(folders, key=lambda folder: (folder / file).stat().st_mtime_ns, reverse=True)


def adopted_before(plan: Plan) -> Iterator[tuple[str, str]]:
    """Former digest -> digest, of planned results that were adopted earlier: their users may still name the former."""
    for digest, job in plan.jobs.items():
        path = Path(job.execution.output) / "provenance.json"
        if path.exists():
            yield from ((entry["from"], digest) for entry in json.loads(path.read_text()).get("adopted", []))


def listing(found: list[Adoption]) -> Iterator[str]:
    """Which code changed and how to see it, then a line a result."""
    if not found:
        yield "Nothing to adopt: no unfinished job of the plan has a result that differs from it by code alone."
        return
    yield "Code that behaves otherwise than when these results were made:"
    for (file, commit), count in Counter((file, made_at(one)) for one in found for file in one.edited).items():
        yield f"  {file}, of {count} result(s)" + (f": git diff {commit} -- {file}" if commit else "")
    yield "Results that differ from the plan by this alone:"
    for one in found:
        state = "" if one.is_finished else "  (under way; its saved state)"
        yield f"  {one.before.digest} -> {one.after.digest}  {one.after.name}{state}"


def made_at(adoption: Adoption) -> str:
    """The commit at which a result was made."""
    if not adoption.is_finished:
        return ""
    commit = json.loads((adoption.folder / "provenance.json").read_text())["git_commit"]
    return commit.removesuffix("-dirty").replace("unknown", "")


def refuse_while_training(found: list[Adoption]) -> None:
    for lock in (one.folder / "lock.json" for one in found):
        if is_held(lock):
            raise SystemExit(f"Nothing was adopted: {holder(lock)} trains {lock.parent}. Let it end, or cancel it.")


# Adopting -------------------------------------------------------------------------------------------------------------


def adopt(adoption: Adoption, reason: str) -> None:
    """Renames a result, or a saved state, and all that bears its name. Stopped half way, the same command goes on."""
    before, after = adoption.before.digest, adoption.after.digest
    entry = {
        "from": before,
        "to": after,
        "edited": adoption.edited,
        "because": reason,
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if not adoption.is_finished:
        return adopt_state(adoption, entry)
    if before != after:
        record = json.loads((adoption.folder / "provenance.json").read_text())
        record["adopted"] = [*record.get("adopted", []), entry]
        replace(adoption.folder / "provenance.json", json.dumps(record, indent=1))
        replace(adoption.folder / "recipe.json", adoption.after.model_dump_json(indent=1))
    output = Path(adoption.after.execution.output)
    root, place = Path(*output.parts[:2]), Path(*output.parts[2:])
    for section, suffix in (("logs", ".log"), ("benchmarks", ".tsv")):
        file = root / section / place.with_name(f"{adoption.folder.name}{suffix}")
        if file.exists():
            file.rename(file.with_name(f"{output.name}{suffix}"))
    adoption.folder.rename(output)


def adopt_state(adoption: Adoption, entry: dict) -> None:
    """Lets the training of today's name go on from a saved state; its result will bear the entry."""
    from deit.checkpoints import ResumeState  # late, as it waits for torch

    before = ResumeState(adoption.folder, adoption.before.digest)
    after = ResumeState(adoption.folder.with_name(adoption.after.digest), adoption.after.digest)
    if (state := before.load()) is None:
        return  # damaged, as it has said itself
    after.folder.mkdir(exist_ok=True)
    records = [json.loads(path.read_text()) for path in [adoption.folder / ADOPTED] if path.exists()]
    replace(after.folder / ADOPTED, json.dumps([*sum(records, []), entry], indent=1))
    after.save(state)
    shutil.rmtree(before.folder)


def replace(path: Path, text: str) -> None:
    """Puts a new file in the place of one that may be a link into DVC's cache."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


if __name__ == "__main__":
    main()
