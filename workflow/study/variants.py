"""The section `variants` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from deit.bounds import Recipe
from study.changes import change_problems, changed
from study.data import DataParams
from study.execution import ExecutionParams, uneven_problems
from study.models import Models, model_problems, patch_problems
from study.phases import Phase, objective_problems, phase_problems, run_problems
from study.problem import Problem
from study.supervision import Supervision
from study.views import Resolutions, ViewParams, view_problems

PARTS = ("views", "model", "students", "finetuning")
FIXED = ("kind", "timm", "timm_distilled", "weights", "initial", "runs", "views", "supervision")
"""What makes a network another one, or a phase another's: no variant changes them."""


class Variant(Recipe):
    """What the runs of a variant do differently from the study, at both resolutions."""

    views: dict[str, Any] = {}
    """Keys of `views`; the runs have a stream, and teacher caches, of their own."""
    model: dict[str, Any] = {}
    """Keys of the model; `arguments` are added to its own."""
    students: dict[str, Any] = {}
    """Keys of `students`: how they are pre-trained."""
    finetuning: dict[str, Any] = {}
    """Keys of `finetuning`. A variant of nothing else starts from the study's own pre-trained run."""

    @property
    def changes_pretraining(self) -> bool:
        return bool(self.views or self.model or self.students)


@dataclass(frozen=True, kw_only=True)
class Varied:
    """The sections that a variant may change, and those that they must fit."""

    views: ViewParams
    students: Phase
    finetuning: Phase
    models: Models
    students_of_tables: list[str]
    """The models whose variants tables name."""
    data: DataParams
    resolutions: Resolutions
    supervision: Supervision
    execution: ExecutionParams

    def bases(self, part: str) -> list[Recipe]:
        """What the changes of a part are made to."""
        return list(self.models.values()) if part == "model" else [getattr(self, part)]

    def changed(self, variant: Variant) -> "Varied":
        """Raises ValidationError for a value that a section cannot take."""
        varied = {name: self.models[name].changed(variant.model) for name in self.students_of_tables}
        return replace(
            self,
            views=changed(self.views, variant.views),
            students=changed(self.students, variant.students),
            finetuning=changed(self.finetuning, variant.finetuning),
            models=self.models | varied,
        )

    def problems(self) -> Iterator[Problem]:
        yield from view_problems(self.views)
        for name, phase in (("students", self.students), ("finetuning", self.finetuning)):
            yield from phase_problems(name, phase, self.data, self.views)
            yield from run_problems(name, phase, self.models, self.supervision)
            yield from objective_problems(name, phase, self.supervision, self.views)
            yield from uneven_problems(self.execution, name, name, phase, self.models)
        varied = {name: self.models[name] for name in sorted(self.students_of_tables)}
        for name, model in varied.items():
            yield from model_problems(name, model)
        yield from patch_problems(varied, self.resolutions)


def variant_problems(name: str, variant: Variant, varied: Varied) -> Iterator[Problem]:
    """Values that are wrong; without such, rules that the study's own sections obey, and the changed ones break."""
    if broken := list(value_problems(name, variant, varied)):
        yield from broken
        return
    before = list(varied.problems())
    for problem in varied.changed(variant).problems():
        if problem not in before:
            yield Problem(f"variants.{name}", f"{problem.key}: {problem.text}", problem.remedy)


def value_problems(name: str, variant: Variant, varied: Varied) -> Iterator[Problem]:
    """Keys that a section does not have, and values that it cannot take; of the models, the first that cannot."""
    for part in PARTS:
        changes, key = getattr(variant, part), f"variants.{name}.{part}"
        found = (list(change_problems(key, changes, part, base, FIXED)) for base in varied.bases(part))
        yield from next(filter(None, found), [])
