"""Soft distillation by its weight, temperature and reduction, beside none and beside hard distillation.

Table 3 of the paper has usual (soft) distillation no better than none. Its runs averaged the KL over the classes, which
divides the teacher's weight of 0.1 by their number. This table asks what is left of that row without the division, and
with more weight.
"""

from collections.abc import Iterator
from typing import Any

from deit.bounds import Mistake, Name, SomeNames
from deit.tables.asked import Runs, TableParams, Wanted
from deit.tables.checks import Checked, known_models, known_supervision
from deit.tables.definition import Definition
from deit.tables.paper_findings import Claim, Layout, Pair

PAPERS_WEIGHT = "0.1"
REDUCTIONS = {"batchmean": "summed", "mean": "averaged"}
"""The KL over the classes."""


class Soft(TableParams):
    """Soft distillation by its weight, temperature and reduction."""

    teacher: Name
    """The model from which all but the first row learn, itself trained from labels."""
    student: Name
    """Of all rows."""
    hard: Name
    """Name of the supervision by hard distillation; it and that by labels stand above the others."""
    rows: SomeNames
    """Names of supervisions of the losses `soft` and `standardised`, no two of them alike."""


def checks(params: Soft, study: Any) -> Checked:
    key = "tables.soft"
    yield from known_models(study, f"{key}.teacher", [params.teacher])
    yield from known_models(study, f"{key}.student", [params.student], "transformer")
    yield from known_supervision(study, f"{key}.hard", params.hard, "hard")
    seen: dict[str, str] = {}
    for name in params.rows:
        yield from known_supervision(study, f"{key}.rows", name)
        objective = study.supervision.get(name)
        if objective and objective.loss not in ("soft", "standardised"):
            text = f"'{name}' has the loss {objective.loss}, neither soft nor standardised"
            yield Mistake(f"{key}.rows", text, "take it away.", (f"supervision.{name}.loss",))
        elif objective and (other := seen.setdefault(row_of(objective), name)) != name:
            text = f"'{name}' is the same as '{other}'"
            yield Mistake(f"{key}.rows", text, "take one away.", (f"supervision.{name}", f"supervision.{other}"))


def row_of(objective: Any) -> str:
    """Its name by what it is, as claims ask for it: summed/0.1/3."""
    if objective.loss == "soft":
        return f"{REDUCTIONS[objective.reduction]}/{objective.weight:g}/{objective.temperature:g}"
    usual = objective.labels_weight == type(objective).model_fields["labels_weight"].default
    own_weight = "" if usual else f"/{objective.labels_weight:g}"
    return f"standardised/{objective.kl_weight:g}/{objective.temperature:g}{own_weight}"


def supervisions(params: Soft, runs: Runs) -> dict[str, str]:
    """Row -> name of the supervision, in the table's order."""
    named = {row_of(runs.study.supervision[name]): name for name in params.rows}
    return {"labels": runs.labels, "hard": params.hard} | named


def cells(params: Soft, runs: Runs) -> Wanted:
    low, _ = runs.resolutions
    return {
        (row, params.student, "class", runs.study.data.primary): runs.seeded(params.student, name, params.teacher, low)
        for row, name in supervisions(params, runs).items()
    }


def titles(params: Soft, runs: Runs) -> dict[str, str]:
    return {row: said(*row.split("/")) for row in supervisions(params, runs) if "/" in row}


def said(kind: str, weight: str, temperature: str, labels_weight: str = "") -> str:
    """KL summed, weight 0.1, temperature 3"""
    what = "logits standardised" if kind == "standardised" else f"KL {kind}"
    of_labels = f", labels {labels_weight}" if labels_weight else ""
    return f"{what}, weight {weight}, temperature {temperature}{of_labels}"


def summed(layout: Layout) -> Iterator[tuple[str, str, str]]:
    """(row, weight, temperature) of soft distillation with the KL summed over the classes, the paper's equation."""
    for row in layout.rows:
        kind, _, settings = row.partition("/")
        if kind == "summed":
            weight, _, temperature = settings.partition("/")
            yield row, weight, temperature


def summed_over_averaged(layout: Layout) -> list[Pair]:
    return [
        Pair(what=f"temperature {temperature}", better=(row, column), worse=(averaged, column))
        for column in layout.columns
        for row, weight, temperature in summed(layout)
        if weight == PAPERS_WEIGHT and (averaged := f"averaged/{weight}/{temperature}") in layout.rows
    ]


def hard_over_heavier(layout: Layout) -> list[Pair]:
    return [
        Pair(what=f"weight {weight}, temperature {temperature}", better=("hard", column), worse=(row, column))
        for column in layout.columns
        for row, weight, temperature in summed(layout)
        if float(weight) >= 0.5
    ]


TABLE = Definition(
    place=4,
    number="Soft distillation",
    caption="Soft distillation by its weight, temperature and reduction",
    heading="Soft distillation: weight, temperature and reduction",
    story="The same student, teacher and views; true labels are in the loss of every row. Usual (soft) distillation "
    "adds the KL divergence from the teacher’s softmax at a temperature. Equation 2 of the paper sums it over the "
    "classes; the original runs averaged it, which divides the teacher’s weight by their number. With standardised "
    "logits (Sun et al., 2024) the student need not match the range of the teacher’s.",
    about="Soft distillation by its weight, temperature and reduction, beside none and beside hard distillation.",
    called=titles,
    params=Soft,
    cells=cells,
    checks=checks,
    block="column",
    claims=(
        Claim(
            key="summed_over_averaged",
            text="At the paper’s weight, soft distillation with the KL summed over classes beats the same with it "
            "averaged: the division by their number takes away a gain.",
            pairs=summed_over_averaged,
            over="temperatures",
            of_teachers=True,
        ),
        Claim(
            key="hard_over_heavier_soft",
            text="Hard distillation beats soft distillation that is given half of the loss or more, KL summed.",
            pairs=hard_over_heavier,
            over="weights and temperatures",
            of_teachers=True,
        ),
    ),
)
