"""Rules of variants and of the tables that compare them; each broken one gives its key and a remedy."""

from collections.abc import Iterator

from pydantic import ValidationError

from deit.bounds import Recipe
from study.checks import (
    loss_problems,
    model_problems,
    patch_problems,
    phase_problems,
    token_problems,
    unknown_supervision,
)
from study.problem import Problem, unknown
from study.study import Ablation, Epochs, ModelParams, Phase, Study, Variant, ViewParams, merged
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
    if study.tables.ablation:
        yield from ablation_problems(study, study.tables.ablation)
    if study.tables.epochs:
        yield from epochs_problems(study, study.tables.epochs)


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


def ablation_problems(study: Study, table: Ablation) -> Iterator[Problem]:
    key = "tables.ablation"
    yield from unknown_supervision(study, f"{key}.supervision", table.supervision)
    if table.supervision in study.supervision and study.supervision[table.supervision].teacher_says:
        text, others = f"'{table.supervision}' takes a teacher", (f"supervision.{table.supervision}.loss",)
        yield Problem(f"{key}.supervision", text, "name one that learns from labels alone.", others)
    if table.supervision in study.supervision:
        yield from token_problems(
            study, [table.student], study.supervision[table.supervision], "the ablation's student"
        )
    for row, variant in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", variant, study.variants, "variant", "variants")
        if row == "baseline":
            yield Problem(
                f"{key}.rows.baseline", "is the study's own recipe, and stands there already", "rename the row."
            )
        if variant in study.variants and not table.finetuned and not study.variants[variant].changes_pretraining:
            text, others = f"'{variant}' changes fine-tuning alone", (f"{key}.finetuned", f"variants.{variant}")
            yield Problem(f"{key}.rows.{row}", text, "set tables.ablation.finetuned: true.", others)


def epochs_problems(study: Study, table: Epochs) -> Iterator[Problem]:
    key = "tables.epochs"
    for name in table.variants:
        yield from unknown(f"{key}.variants", name, study.variants, "variant", "variants")
    for row, name in table.rows.items():
        yield from unknown_supervision(study, f"{key}.rows.{row}", name)
        if name not in study.supervision:
            continue
        yield from loss_problems(study, f"{key}.rows.{row}", name, row)
        yield from token_problems(study, [table.student], study.supervision[name], "the student of the epochs figure")
    known = [name for name in table.rows.values() if name in study.supervision]
    yield from dict.fromkeys(problem for name in known for problem in length_problems(study, table, name))


def length_problems(study: Study, table: Epochs, supervision: str) -> Iterator[Problem]:
    """Two trainings of one length would stand in one cell, and rows of other lengths not below each other."""
    own = study.phase("students", table.student, supervision).epochs
    if own != study.students.epochs:
        key = f"students.runs.{table.student}"
        text = f"gives runs of tables.epochs {own} epochs in place of {study.students.epochs}"
        yield Problem(key, text, "take that away.", ("students.epochs", "tables.epochs"))
    lengths = {own: "the study itself"}
    for name in table.variants:
        if name in study.variants:
            length = study.variants[name].students.get("epochs", own)
            if length in lengths:
                text = f"'{name}' trains for {length} epochs, as {lengths[length]} does"
                others = (f"variants.{name}.students.epochs", "students.epochs")
                yield Problem("tables.epochs.variants", text, "change one.", others)
            lengths[length] = f"'{name}'"
