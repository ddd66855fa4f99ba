"""Rules between the params of a table and the rest of a study; each broken one gives its key and a remedy."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from deit.bounds import Mistake


class Reference(NamedTuple):
    """A name that a table gives, of something that the study must have; whoever reads the params looks it up."""

    key: str
    name: str
    what: Literal["model", "supervision", "variant"]


Checked = Iterator[Mistake | Reference]


def known_models(study: Any, key: str, names: Iterable[str], kind: str = "") -> Checked:
    """Models that there must be, all `convnet` or all `transformer` where a kind is given."""
    for name in names:
        yield Reference(key, name, "model")
        if kind and name in study.models and study.models[name].kind != kind:
            text = f"'{name}' is a {study.models[name].kind}"
            yield Mistake(key, text, f"name a {kind}.", (f"models.{name}.kind",))


def known_supervision(study: Any, key: str, name: str, loss: str = "") -> Checked:
    """A supervision that there must be, with the loss that its row is for, where one is given."""
    yield Reference(key, name, "supervision")
    if loss and name in study.supervision and (own := study.supervision[name].loss) != loss:
        text = f"'{name}' has the loss {own}, not {loss}"
        yield Mistake(key, text, f"name a supervision of the loss {loss}.", (f"supervision.{name}.loss",))


def length_checks(
    study: Any, table: str, students: Iterable[str], supervision: str, variants: Iterable[str]
) -> Checked:
    """Two trainings of one length would stand in one place of a table, and a student with epochs of its own in a row
    of another length.

    `variants` are the further lengths beside the study's own.
    """
    own = study.students.epochs
    for student in students:
        if (epochs := epochs_of(study, student, supervision)) not in (own, None):
            text = f"gives runs of tables.{table} {epochs} epochs in place of {own}"
            others = ("students.epochs", f"tables.{table}")
            yield Mistake(f"students.runs.{student}", text, "take that away.", others)
    lengths = {own: "the study itself"}
    for name in variants:
        if name in study.variants:
            length = study.variants[name].students.get("epochs", own)
            if length in lengths:
                text = f"'{name}' trains for {length} epochs, as {lengths[length]} does"
                others = (f"variants.{name}.students.epochs", "students.epochs")
                yield Mistake(f"tables.{table}.variants", text, "change one.", others)
            lengths[length] = f"'{name}'"


def epochs_of(study: Any, student: str, supervision: str) -> int | None:
    """None where what the params say of its runs is wrong, which is told of these keys."""
    from pydantic import ValidationError

    try:
        return study.phase("students", student, supervision).epochs
    except ValidationError:
        return None


def one_token(study: Any, key: str, supervision: str, what: str) -> Iterator[Mistake]:
    """A supervision without a distillation token, whose run is read by its only head."""
    if supervision in study.supervision and study.supervision[supervision].tokens == 2:
        text = f"'{supervision}' adds a second token, and {what} has none"
        yield Mistake(key, text, "name one without, as hard.", (f"supervision.{supervision}.loss",))


def token_variants(study: Any, names: Iterable[str], supervision: str, what: str) -> Iterator[Mistake]:
    """Models that need a variant with two tokens, if the supervision is of two."""
    if supervision in study.supervision and study.supervision[supervision].tokens == 2:
        yield from without_token(study.models, names, what)


def without_token(models: Any, names: Iterable[str], what: str) -> Iterator[Mistake]:
    """Models of these names without a variant that has a distillation token."""
    for name in names:
        if name in models and not models[name].timm_distilled:
            text = f"missing, and {what} needs a distillation token"
            remedy = "give timm's name of the variant that has one, as deit_tiny_distilled_patch16_224."
            yield Mistake(f"models.{name}.timm_distilled", text, remedy)


def reads_table_3(study: Any, table: str, students: Iterable[str] = (), what: str = "") -> Checked:
    """Of a table whose runs are those of Table 3's rows: that there is one, and what the students of both must be."""
    if third := study.tables.table_3:
        yield from token_variants(study, students, third.rows.get("token", ""), what)
    else:
        remedy = f"add tables.table_3, or set tables.{table} to null."
        yield Mistake(f"tables.{table}", "reads the runs of table_3", remedy, ("tables.table_3",))
