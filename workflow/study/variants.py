"""The section `variants` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from typing import Any

from deit.bounds import Recipe
from study.changes import change_problems, changed
from study.phases import OF_TRANSFORMERS
from study.problem import Problem
from study.rules import recipe_problems

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
    parts = ("views", *OF_TRANSFORMERS)
    sections = {part: changed(getattr(study, part), getattr(variant, part)) for part in parts}
    return study.model_copy(update=sections | {"models": study.models | models})


def variant_problems(study: Any) -> Iterator[Problem]:
    """Values that are wrong; without such, rules that the study's own sections obey, and the changed ones break."""
    students = students_of(study)
    own = list(recipe_problems(study, OF_TRANSFORMERS, students)) if study.variants else []
    for name, variant in study.variants.items():
        if broken := list(value_problems(name, variant, study)):
            yield from broken
            continue
        for problem in recipe_problems(varied(study, variant), OF_TRANSFORMERS, students):
            if problem not in own:
                yield Problem(f"variants.{name}", f"{problem.key}: {problem.text}", problem.remedy)


def value_problems(name: str, variant: Variant, study: Any) -> Iterator[Problem]:
    """Keys that a section does not have, and values that it cannot take; of the models, the first that cannot."""
    for part in PARTS:
        changes, key = getattr(variant, part), f"variants.{name}.{part}"
        bases = study.models.values() if part == "model" else [getattr(study, part)]
        found = (list(change_problems(key, changes, part, base, FIXED)) for base in bases)
        yield from next(filter(None, found), [])
