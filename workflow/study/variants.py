"""The section `variants` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterable, Iterator
from typing import Any

from deit.bounds import Recipe
from study.changes import change_problems, changed
from study.execution import uneven_problems
from study.models import model_problems, patch_problems
from study.phases import objective_problems, phase_problems, run_problems
from study.problem import Problem
from study.teacher_logits import cache_problems
from study.views import view_problems

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


def students_of(study: Any) -> list[str]:
    """The models whose variants tables name."""
    named = [table.student for table in (study.tables.ablation, study.tables.epochs) if table]
    named += study.tables.deit3.models if study.tables.deit3 else []
    return sorted({name for name in named if name in study.models})


def varied(study: Any, variant: Variant) -> Any:
    """The study as its variant has it. Raises ValidationError for a value that a section cannot take."""
    models = {name: study.models[name].changed(variant.model) for name in students_of(study)}
    sections = {
        part: changed(getattr(study, part), getattr(variant, part)) for part in ("views", "students", "finetuning")
    }
    return study.model_copy(update=sections | {"models": study.models | models})


def recipe_problems(study: Any, phases: Iterable[str], models: Iterable[str]) -> Iterator[Problem]:
    """Broken rules of the views, of these phases and of these models: of a study, or of what a variant makes of it."""
    yield from view_problems(study.views)
    for name in phases:
        phase = getattr(study, name)
        yield from phase_problems(name, phase, study.data, study.views)
        yield from run_problems(name, phase, study.models, study.supervision)
        yield from objective_problems(name, phase, study.supervision, study.views)
        yield from uneven_problems(study.execution, name, name, phase, study.models)
        if name in ("students", "finetuning"):
            yield from cache_problems(study.teacher_logits, name, phase)
    for name in models:
        yield from model_problems(name, study.models[name])
    yield from patch_problems({name: study.models[name] for name in models}, study.resolutions)


def variant_problems(name: str, variant: Variant, study: Any) -> Iterator[Problem]:
    """Values that are wrong; without such, rules that the study's own sections obey, and the changed ones break."""
    if broken := list(value_problems(name, variant, study)):
        yield from broken
        return
    before, after = (
        list(recipe_problems(each, ("students", "finetuning"), students_of(study)))
        for each in (study, varied(study, variant))
    )
    for problem in after:
        if problem not in before:
            yield Problem(f"variants.{name}", f"{problem.key}: {problem.text}", problem.remedy)


def value_problems(name: str, variant: Variant, study: Any) -> Iterator[Problem]:
    """Keys that a section does not have, and values that it cannot take; of the models, the first that cannot."""
    for part in PARTS:
        changes, key = getattr(variant, part), f"variants.{name}.{part}"
        bases = study.models.values() if part == "model" else [getattr(study, part)]
        found = (list(change_problems(key, changes, part, base, FIXED)) for base in bases)
        yield from next(filter(None, found), [])
