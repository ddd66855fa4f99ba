"""Rules of variants; each broken one gives its key and a remedy."""

from collections.abc import Iterator

from pydantic import ValidationError

from deit.bounds import Recipe
from study.checks import model_problems, patch_problems, phase_problems, unknown
from study.problem import Problem
from study.study import ModelParams, Phase, Study, Variant, ViewParams, merged
from study.types_told import explained

PARTS: dict[str, type[Recipe]] = {
    "views": ViewParams,
    "model": ModelParams,
    "students": Phase,
    "finetuning": Phase,
}
FIXED = ("kind", "timm", "timm_distilled", "runs")
"""What makes a network another one, or a phase another's: no variant changes them."""


def variant_problems(study: Study) -> Iterator[Problem]:
    for name in study.variants:
        broken = list(value_problems(study, name))
        yield from broken or rule_problems(study, name)


def value_problems(study: Study, name: str) -> Iterator[Problem]:
    """Keys that a section does not have, and values that it cannot take."""
    variant = study.variants[name]
    for part, kind in PARTS.items():
        changes = getattr(variant, part)
        key, known = f"variants.{name}.{part}", [field for field in kind.model_fields if field not in FIXED]
        foreign = [
            problem for field in changes for problem in unknown(f"{key}.{field}", field, known, f"key of {part}")
        ]
        yield from foreign
        if foreign:
            continue
        for base in study.models.values() if part == "model" else [getattr(study, part)]:
            content = base.model_dump()
            try:
                kind.model_validate(merged(content, changes) if part == "model" else content | changes)
            except ValidationError as error:
                yield from explained(error, changes, key, kind)
                break


def rule_problems(study: Study, name: str) -> Iterator[Problem]:
    """What the study's own sections must obey, of the changed ones."""
    variant = study.variants[name]
    sections = {part: getattr(study, part).model_dump() | getattr(variant, part) for part in ("students", "finetuning")}
    phases = {part: Phase.model_validate(content) for part, content in sections.items()}
    views = ViewParams.model_validate(study.views.model_dump() | variant.views)
    changed = study.model_copy(update={"views": views, **phases, "models": changed_models(study, variant)})
    before = obeyed(study)
    for problem in obeyed(changed):
        if problem not in before:
            yield Problem(f"variants.{name}", f"{problem.key}: {problem.text}", problem.remedy)


def obeyed(study: Study) -> list[Problem]:
    """What is wrong with the sections that a variant may change."""
    models = sorted(varied_models(study))
    found = [problem for part in ("students", "finetuning") for problem in phase_problems(study, part)]
    found += [problem for model in models for problem in model_problems(study, model)]
    return [*found, *patch_problems(study, models)]


def varied_models(study: Study) -> set[str]:
    """The students whose variants the tables name."""
    named = [table.student for table in (study.tables.ablation, study.tables.epochs) if table]
    return {model for model in named if model in study.models}


def changed_models(study: Study, variant: Variant) -> dict[str, ModelParams]:
    return {
        model: ModelParams.model_validate(merged(params.model_dump(), variant.model))
        if model in varied_models(study)
        else params
        for model, params in study.models.items()
    }
