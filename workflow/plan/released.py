"""Published weights in place of trained ones: which runs of the tables have some, and why others have none."""

from collections.abc import Iterable
from fnmatch import fnmatch

from study.released import Released, chosen

from plan.plan import Plan
from plan.runs import Run, to


def key(run: Run) -> str:
    """The name of a run among the published weights, which have no seeds; those of a variant are not the study's."""
    variant = f"+{run.variant}" if run.variant else ""
    return f"{run.model}/{run.supervision}{variant}{to(run)}/{run.resolution}"


def existing(released: Released | None, runs: list[Run]) -> list[Run]:
    """The runs that the study can have: all, or those with published weights where it evaluates such."""
    return [run for run in runs if not released or key(run) in released.weights]


def why_missing(released: Released | None, runs: list[Run]) -> list[str]:
    """Why some of these runs have no weights, each reason once; none where all are trained."""
    here = set(existing(released, runs))
    return list(dict.fromkeys(reason(released, key(run)) for run in runs if run not in here))


def reason(released: Released | None, name: str) -> str:
    """Why a run has no weights, by the first pattern that it matches."""
    missing = released.missing if released else {}
    reasons = (why for pattern, why in missing.items() if fnmatch(name, pattern))
    return next(reasons, f"{name} is not among released.weights")


def plan_released(plan: Plan, released: Released, wanted: Iterable[Run]) -> None:
    """Plan to fetch the published weights of the wanted runs."""
    for run in wanted:
        source = chosen(released, released.weights[key(run)])
        plan.runs[run] = plan.plan_import(run.name, plan.settings.model(run), source)
