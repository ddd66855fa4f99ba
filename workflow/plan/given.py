"""Runs of other studies that give their weights to models of this one: each is the run that its study plans today."""

from collections.abc import Callable
from pathlib import Path

from study.given import sources
from study.models import Models
from study.names import check_exists
from study.problem import ParamsError, listed, meant

from deit.store.finished import is_complete
from deit.store.job import Job

Givers = dict[tuple[str | None, str | None], Job]
"""(study, run) -> the job that makes the run."""


def givers_of(models: Models, name: str, folder: Path, jobs_of: Callable[[str], list[Job]]) -> Givers:
    """The runs of other studies that models are given; `jobs_of` plans another study.

    Raises ParamsError for a study or a run that there is not.
    """
    found: Givers = {}
    for key, source in sources(models).items():
        if source.study is None:
            continue
        where = f"{folder}/{name}.yaml: {key}"
        check_exists(source.study, folder, f"{where}.study", "Name one of them.")
        runs = {job.name.partition("/")[2]: job for job in jobs_of(source.study) if job.kind in ("train", "import")}
        if source.run not in runs:
            hint = meant(str(source.run), runs) or f"its runs are {listed(list(runs), 5)}."
            raise ParamsError(f"{where}.run: the study {source.study} has no run '{source.run}'; {hint}")
        found[source.study, source.run] = runs[source.run]
    return found


def refuse_unfinished(study: str, givers: Givers, unfinished: list[Job]) -> None:
    """ParamsError where jobs need a run of another study that is not there yet; says the command that makes it."""
    needed = {job.inputs.get("run") for job in unfinished if job.kind == "import" and not job.execution.copy_of}
    missing = {
        f"params/{study}.yaml: models: the run {run} of the study {of} gives its weights and is not finished; make it "
        f"first: snakemake --profile local --config study={of} -- {job.execution.output}/weights.safetensors"
        for (of, run), job in givers.items()
        if job.digest in needed and not is_complete(Path(job.execution.output, "provenance.json"))
    }
    if missing:
        raise ParamsError(*sorted(missing))
