"""The section `supervision` of a params file: names of objectives, and what can be wrong in them."""

from collections.abc import Iterator

from pydantic import SerializeAsAny

from deit.bounds import Name
from deit.learn.objectives import Objective
from study.problem import Problem, unknown

Supervision = dict[Name, SerializeAsAny[Objective]]


def unknown_supervision(supervision: Supervision, key: str, name: str) -> Iterator[Problem]:
    return unknown(key, name, supervision, "supervision", "supervision")


def supervision_problems(supervision: Supervision) -> Iterator[Problem]:
    for name in supervision:
        if "-from-" in name:
            text = "'-from-' separates supervision and teacher in names of runs"
            yield Problem(f"supervision.{name}", text, "rename it.")
    if not any(objective.loss == "labels" for objective in supervision.values()):
        text = "none has the loss labels, and every teacher learns from labels"
        yield Problem("supervision", text, "add labels: {loss: labels}.")
