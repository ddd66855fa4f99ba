"""Published weights in place of trained ones: which runs of the tables have some, and why others have none."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from deit import recipes

if TYPE_CHECKING:
    from planning.plan import Plan, Run


def key(run: Run) -> str:
    """The name of a run among the published weights, which have no seeds."""
    return f"{run.model}/{run.supervision}/{run.resolution}"


def existing(plan: Plan, runs: list[Run]) -> list[Run]:
    """The runs that the study can have: all, or those with published weights where it evaluates such."""
    released = plan.study.released
    return [run for run in runs if not released or key(run) in released.weights]


def why_missing(plan: Plan, runs: list[Run]) -> list[str]:
    """Why some of these runs have no weights, each reason once; none where all are trained."""
    here = set(existing(plan, runs))
    return list(dict.fromkeys(reason(plan, key(run)) for run in runs if run not in here))


def reason(plan: Plan, name: str) -> str:
    """Why a run has no weights, by the first pattern that it matches."""
    missing = plan.study.released.missing if plan.study.released else {}
    reasons = (why for pattern, why in missing.items() if fnmatch(name, pattern))
    return next(reasons, f"{name} is not among released.weights")


def plan_released(plan: Plan, wanted: Iterable[Run]) -> None:
    """Plan to fetch the published weights of the wanted runs, each as the folder that a training would leave."""
    released, data = plan.study.released, plan.study.data
    if not released:
        return
    execution = plan.study.resources("data").model_copy(update={"data_root": released.root})
    for run in wanted:
        weights = released.weights[key(run)]
        keys = {"hub"} if released.source == "hub" else {"file", "sha256"}
        recipe = recipes.Importing(
            model=plan.model(run), mean=data.mean, std=data.std, **weights.model_dump(include=keys)
        )
        plan.runs[run] = plan.add("import", f"released/{run.name}", recipe, {}, {}, execution)
