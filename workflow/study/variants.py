"""The section `variants` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from deit.bounds import Recipe
from study.data import DataParams
from study.models import ModelParams, Models, model_problems, patch_problems
from study.phases import Phase, phase_problems, run_problems
from study.problem import Problem, unknown
from study.supervision import Supervision
from study.types_told import explained
from study.views import Resolutions, ViewParams

PARTS: dict[str, type[Recipe]] = {
    "views": ViewParams,
    "model": ModelParams,
    "students": Phase,
    "finetuning": Phase,
}
FIXED = ("kind", "timm", "timm_distilled", "runs")
"""What makes a network another one, or a phase another's: no variant changes them."""
Section = TypeVar("Section", bound=Recipe)


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
        for name, phase in (("students", self.students), ("finetuning", self.finetuning)):
            yield from phase_problems(name, phase, self.data, self.views)
            yield from run_problems(name, phase, self.models, self.supervision)
        varied = {name: self.models[name] for name in sorted(self.students_of_tables)}
        for name, model in varied.items():
            yield from model_problems(name, model)
        yield from patch_problems(varied, self.resolutions)


def changed(section: Section, changes: dict) -> Section:
    """A section with a variant's changes. Raises ValidationError."""
    return section.model_validate(section.model_dump() | changes)


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
    """Keys that a section does not have, and values that it cannot take."""
    for part, kind in PARTS.items():
        changes = getattr(variant, part)
        key, known = f"variants.{name}.{part}", [field for field in kind.model_fields if field not in FIXED]
        foreign = [
            problem for field in changes for problem in unknown(f"{key}.{field}", field, known, f"key of {part}")
        ]
        yield from foreign
        if foreign:
            continue
        for base in varied.bases(part):
            try:
                base.changed(changes) if isinstance(base, ModelParams) else changed(base, changes)
            except ValidationError as error:
                yield from explained(error, changes, key, kind)
                break
