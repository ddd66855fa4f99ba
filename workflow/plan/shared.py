"""Results that other studies of this clone have made: a job of the same digest is copied, and not done twice."""

import os
from pathlib import Path

from deit.store.finished import is_complete
from deit.store.job import Job
from plan.plan import Plan

SWITCH = "COMPUTE_AGAIN"
COSTLY = ("train", "import", "cache", "views", "predict", "tokens")
"""Kinds of jobs whose results are worth a copy. Others take seconds, or are about this machine."""
OTHER_SECTION = {"teachers": "students", "adapted": "finetuned"}
OTHER_SECTION |= {there: here for here, there in OTHER_SECTION.items()}
"""A transformer that others learn from in one study may be a student like any other in the next."""


def plan_copies(plan: Plan) -> int:
    """Tells the unfinished jobs that are finished in another study to be copied from there; how many these are.

    Such a job reads nothing, so what only it needed is not made. With the switch COMPUTE_AGAIN nothing is copied.
    """
    others = [folder for folder in sorted(Path("results").glob("*")) if folder.name != plan.name]
    if not others or computes_again():
        return 0
    for job in reversed(plan.unfinished()):  # users before makers
        if source := finished_elsewhere(job, others):
            copy = {"copy_of": source, "folders": {}, "after": []}
            plan.jobs[job.digest] = job.model_copy(update={"execution": job.execution.model_copy(update=copy)})
    return sum(bool(job.execution.copy_of) for job in plan.unfinished())


def computes_again() -> bool:
    """Whether the user asks for results to be made that could be had without."""
    return os.environ.get(SWITCH, "").lower() in ("yes", "true", "1")


def finished_elsewhere(job: Job, others: list[Path]) -> str:
    """The folder of the same result in another study; empty where none has it."""
    if job.kind not in COSTLY:
        return ""
    section, _, rest = job.name.partition("/")
    names = [section, *filter(None, [OTHER_SECTION.get(section)])]
    folders = (other / name / f"{rest}-{job.digest}" for other in others for name in names)
    return next((str(folder) for folder in folders if is_complete(folder / "provenance.json")), "")
