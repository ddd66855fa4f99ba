"""Results that this clone has elsewhere, as in another study: a job of the same digest is copied, not done twice."""

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
"""A transformer that others learn from is a student like any other in another study, or after an edit of this one."""


def plan_copies(plan: Plan) -> int:
    """Tells the unfinished jobs that are finished in another place to be copied from there; how many these are.

    Such a job reads nothing, so what only it needed is not made. With the switch COMPUTE_AGAIN nothing is copied.
    """
    if computes_again():
        return 0
    studies = sorted(Path("results").glob("*"))
    for job in reversed(plan.unfinished()):  # users before makers
        if source := finished_elsewhere(job, studies):
            copy = {"copy_of": source, "folders": {}, "after": []}
            plan.jobs[job.digest] = job.model_copy(update={"execution": job.execution.model_copy(update=copy)})
    return sum(bool(job.execution.copy_of) for job in plan.unfinished())


def computes_again() -> bool:
    """Whether the user asks for results to be made that could be had without."""
    return os.environ.get(SWITCH, "").lower() in ("yes", "true", "1")


def finished_elsewhere(job: Job, studies: list[Path]) -> str:
    """The folder of the same result in one of the studies' results; empty where none has it."""
    if job.kind not in COSTLY:
        return ""
    section, _, rest = job.name.partition("/")
    names = [section, *filter(None, [OTHER_SECTION.get(section)])]
    folders = (study / name / f"{rest}-{job.digest}" for study in studies for name in names)
    return next((str(folder) for folder in folders if is_complete(folder / "provenance.json")), "")
