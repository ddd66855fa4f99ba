"""Passes: which runs of one stream are trained by one job, and which teachers' caches that job fills on the way.

A pass is an execution choice (`execution: passes:`), so it is part of no result's name, and is planned anew from what
is not finished yet. Its runs and caches stay jobs of their own: they wait for the pass, and find their results there.
"""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from study.execution import PassParams
from study.params import read_layers
from study.problem import ParamsError, Problem, last_layer, refusal

from deit.learn.recipes import Pass
from deit.store.finished import is_complete, record_at
from deit.store.job import Execution, Job, Resources, canonical_digest
from deit.store.reach import our_code
from plan.plan import Plan


def plan_passes(plan: Plan, everything: bool = False) -> dict[str, Job]:
    """Digest -> pass, of the runs that are not finished (or of all); these learn which pass makes them.

    Runs under one name in `passes` that see different streams are passes of their own; a single run is none. Raises
    ParamsError for a pattern of the study's own that no run's name matches, or a run that two passes claim.
    """
    owners = owners_of(plan)
    jobs = plan.jobs.values() if everything else plan.unfinished()
    unfinished = {job.digest for job in jobs if not job.execution.copy_of}
    passes = {}
    for name, params in plan.study.execution.passes.items():
        members = [job for digest, job in plan.jobs.items() if digest in unfinished and owners.get(digest) == name]
        for number, runs in enumerate(by_stream(plan, members)):
            if len(runs) > 1:
                caches = caches_of(plan, runs, unfinished) if params.caches else []
                job = plan_pass(plan, f"passes/{name}-{number}", runs, caches, params, everything)
                passes[job.digest] = job
    return passes


def owners_of(plan: Plan) -> dict[str, str]:
    """Digest of a run -> the pass whose patterns match its name, without its section.

    ParamsError for all patterns that match no run, or else for a run that two passes claim. A study that extends
    another has not all of its runs, so only patterns of the study's own file have to match some.
    """
    names = {digest: job.name.partition("/")[2] for digest, job in plan.jobs.items() if job.kind == "train"}
    idle, twice = [], []
    owners: dict[str, str] = {}
    for key, params in plan.study.execution.passes.items():
        where = f"execution.passes.{key}.runs"
        for word in params.runs:
            matches = [digest for digest, name in names.items() if fnmatch(name, word)]
            if names and not matches:
                text = f"'{word}' matches no run; their names are like {next(iter(names.values()))}"
                idle.append(Problem(where, text, "correct it, or take the pass away."))
            for digest in matches:
                if (owner := owners.setdefault(digest, key)) != key:
                    text, other = f"{names[digest]} is in the pass '{owner}', too", f"execution.passes.{owner}.runs"
                    twice.append(Problem(where, text, "keep it in one of them.", (other,)))
    if idle or twice:
        layers = read_layers(plan.name, plan.folder)
        own = [problem for problem in idle if last_layer(problem.key, layers) == len(layers) - 1]
        if mistakes := own or twice[:1]:
            raise refusal(mistakes, layers)
    return owners


def by_stream(plan: Plan, jobs: list[Job]) -> Iterator[list[Job]]:
    """The jobs of each stream, without those that need another one of them: they are trained later."""
    streams: dict[str, list[Job]] = {}
    for job in jobs:
        seen = {key: job.recipe[key] for key in ("data", "views", "stream_seed")}
        streams.setdefault(canonical_digest(seen), []).append(job)
    for together in streams.values():
        digests = {job.digest for job in together}
        yield [job for job in together if not digests & ancestors(plan, job)]


def ancestors(plan: Plan, job: Job) -> set[str]:
    """Digests of all that a result is made from."""
    digests: set[str] = set()
    for digest in job.inputs.values():
        if digest in plan.jobs:  # a run of another study, whose weights are given, is not
            digests |= {digest} | ancestors(plan, plan.jobs[digest])
    return digests


def caches_of(plan: Plan, runs: list[Job], unfinished: set[str]) -> list[Job]:
    """The caches that these runs read and that are still to be made."""
    caches = {folder for job in runs for folder in job.execution.folders.get("teacher-logits", [])}
    return [job for job in plan.jobs.values() if job.execution.output in caches and job.digest in unfinished]


def plan_pass(
    plan: Plan, name: str, runs: list[Job], caches: list[Job], params: PassParams, everything: bool = False
) -> Job:
    execution = execution_of(runs, params.resources)
    refuse_uneven(plan, name, runs, execution)
    recipe = Pass(runs=tuple(job.digest for job in runs), caches=tuple(job.digest for job in caches))
    made = our_code().made_by(["deit.commands.train_pass"])
    job = Job(kind="pass", name=name, recipe=recipe.model_dump(mode="json"), **made._asdict())
    output = f"results/{plan.name}/{name}-{job.digest}"
    outputs = {each.execution.output for each in (*runs, *caches)}
    folders: dict[str, list[str]] = {}
    for each in (*runs, *caches):
        for flag, paths in each.execution.folders.items():
            known = folders.setdefault(flag, [])
            known += [path for path in paths if path not in outputs and path not in known]
    folders = {flag: paths for flag, paths in folders.items() if paths}
    lost = set() if everything else made_and_lost(output)
    asked = params.resources.model_dump(exclude_unset=True)
    for each in (*runs, *caches):
        if each.digest not in lost:
            made_by = each.execution.model_copy(update={**asked, "made_by": output})
            plan.jobs[each.digest] = each.model_copy(update={"execution": made_by})
    after = list(dict.fromkeys(folder for each in runs for folder in each.execution.after))
    of_images = runs[0].execution.model_dump(include={"data_root", "data_key"})
    place = {"output": output, "folders": folders, "after": after, **of_images}
    return job.model_copy(update={"execution": execution.model_copy(update=place)})


def made_and_lost(output: str) -> set[str]:
    """Digests of what a finished pass has made; where that is to be made nevertheless, it was deleted since.

    It is then made by jobs of its own, as the pass is not to be repeated for what it gave up.
    """
    outcome = record_at(Path(output, "outcome.json")) if is_complete(Path(output, "provenance.json")) else {}
    return {digest for digest, reason in outcome.items() if not reason}


def refuse_uneven(plan: Plan, name: str, runs: list[Job], execution: Execution) -> None:
    """ParamsError where the GPUs of a pass cannot share the mix groups of its runs evenly."""
    views, ranks = runs[0].resolved().views, max(execution.gpus, 1) * execution.nodes
    if (groups := views.batch // views.mix_group) % ranks:
        key = f"execution.passes.{name.removeprefix('passes/').rpartition('-')[0]}.resources.gpus"
        text = f"{ranks} GPUs (or CPU nodes) cannot share the {groups} mix groups a batch of {runs[0].name} evenly"
        raise ParamsError(f"params/{plan.name}.yaml: {key}: {text}; choose gpus x nodes that divide {groups}.")


def execution_of(runs: list[Job], resources: Resources) -> Execution:
    """What a pass asks for: the most that one of its runs does, and the time of all, but for what the params say."""
    each = [job.execution for job in runs]
    most = {key: max(getattr(one, key) for one in each) for key in ("gpus", "nodes", "threads", "workers", "mem_mb")}
    of_all = {"minutes": sum(one.minutes for one in each), "deterministic": all(one.deterministic for one in each)}
    return Execution.model_validate({**most, **of_all, **resources.model_dump(exclude_unset=True)})
