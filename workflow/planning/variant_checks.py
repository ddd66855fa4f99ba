"""Rules of variants and of the tables that compare them; each broken one gives its key and a remedy."""

from collections.abc import Iterator

from pydantic import ValidationError

from deit.recipes import Recipe
from planning.checks import Problem, phase_problems, unknown
from planning.runs import merged
from planning.study import Ablation, Epochs, ModelParams, Phase, Study, ViewParams

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
    changed = study.model_copy(update={"views": views, **phases})
    for part in phases:
        yield from ((f"variants.{name}: {key}", text) for key, text in phase_problems(changed, part))


def ablation_problems(study: Study, table: Ablation) -> Iterator[Problem]:
    key = "tables.ablation"
    yield from unknown(f"{key}.supervision", table.supervision, study.supervision, "supervision")
    if table.supervision in study.supervision and study.supervision[table.supervision].teacher_says:
        yield f"{key}.supervision", f"'{table.supervision}' takes a teacher; name one that learns from labels alone."
    for row, variant in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", variant, study.variants, "variant")
        if row == "baseline":
            yield f"{key}.rows.baseline", "is the study's own recipe, and stands there already; rename the row."
        if variant in study.variants and not table.finetuned and not study.variants[variant].changes_pretraining:
            yield f"{key}.rows.{row}", f"'{variant}' changes fine-tuning alone; set tables.ablation.finetuned: true."


def epochs_problems(study: Study, table: Epochs) -> Iterator[Problem]:
    key = "tables.epochs"
    for row, name in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", name, study.supervision, "supervision")
        if name in study.supervision and (loss := study.supervision[name].loss) != row:
            yield f"{key}.rows.{row}", f"'{name}' has the loss {loss}, not {row}."
    lengths = {study.students.epochs: "the study itself"}
    for name in table.variants:
        yield from unknown(f"{key}.variants", name, study.variants, "variant")
        if name not in study.variants:
            continue
        length = study.variants[name].students.get("epochs", study.students.epochs)
        if length in lengths:
            yield f"{key}.variants", f"'{name}' trains for {length} epochs, as {lengths[length]} does; change one."
        lengths[length] = f"'{name}'"
