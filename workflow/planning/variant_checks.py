"""Rules of variants and of the tables that compare them; each broken one gives its key and a remedy."""

from collections.abc import Iterator

from pydantic import ValidationError

from deit.recipes import Recipe
from planning.checks import Problem, model_problems, phase_problems, token_problems, unknown
from planning.runs import merged
from planning.study import Ablation, Epochs, ModelParams, Phase, Study, Variant, ViewParams

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
                detail = error.errors()[0]
                field = ".".join(map(str, detail["loc"]))
                yield f"{key}.{field}", f"{detail['msg'].lower()}, found {detail['input']!r}; correct it."
                break


def rule_problems(study: Study, name: str) -> Iterator[Problem]:
    """What the study's own sections must obey, of the changed ones."""
    variant = study.variants[name]
    sections = {part: getattr(study, part).model_dump() | getattr(variant, part) for part in ("students", "finetuning")}
    phases = {part: Phase.model_validate(content) for part, content in sections.items()}
    views = ViewParams.model_validate(study.views.model_dump() | variant.views)
    changed = study.model_copy(update={"views": views, **phases, "models": changed_models(study, variant)})
    for part in phases:
        yield from ((f"variants.{name}: {key}", text) for key, text in phase_problems(changed, part))
    for model in varied_models(study):
        yield from ((f"variants.{name}: {key}", text) for key, text in model_problems(changed, model))


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
    yield from unknown(f"{key}.supervision", table.supervision, study.supervision, "supervision")
    if table.supervision in study.supervision and study.supervision[table.supervision].teacher_says:
        yield f"{key}.supervision", f"'{table.supervision}' takes a teacher; name one that learns from labels alone."
    if table.supervision in study.supervision:
        yield from token_problems(
            study, [table.student], study.supervision[table.supervision], "the ablation's student"
        )
    for row, variant in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", variant, study.variants, "variant")
        if row == "baseline":
            yield f"{key}.rows.baseline", "is the study's own recipe, and stands there already; rename the row."
        if variant in study.variants and not table.finetuned and not study.variants[variant].changes_pretraining:
            yield f"{key}.rows.{row}", f"'{variant}' changes fine-tuning alone; set tables.ablation.finetuned: true."


def epochs_problems(study: Study, table: Epochs) -> Iterator[Problem]:
    key = "tables.epochs"
    for name in table.variants:
        yield from unknown(f"{key}.variants", name, study.variants, "variant")
    for row, name in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", name, study.supervision, "supervision")
        if name not in study.supervision:
            continue
        if (loss := study.supervision[name].loss) != row:
            yield f"{key}.rows.{row}", f"'{name}' has the loss {loss}, not {row}."
        yield from token_problems(study, [table.student], study.supervision[name], "the student of the epochs figure")
    known = [name for name in table.rows.values() if name in study.supervision]
    yield from dict.fromkeys(problem for name in known for problem in length_problems(study, table, name))


def length_problems(study: Study, table: Epochs, supervision: str) -> Iterator[Problem]:
    """Two trainings of one length would stand in one cell, and rows of other lengths not below each other."""
    own = study.phase("students", table.student, supervision).epochs
    if own != study.students.epochs:
        key = f"students.runs.{table.student}"
        yield key, f"gives runs of tables.epochs {own} epochs in place of {study.students.epochs}; take that away."
    lengths = {own: "the study itself"}
    for name in table.variants:
        if name in study.variants:
            length = study.variants[name].students.get("epochs", own)
            if length in lengths:
                text = f"'{name}' trains for {length} epochs, as {lengths[length]} does; change one."
                yield "tables.epochs.variants", text
            lengths[length] = f"'{name}'"
