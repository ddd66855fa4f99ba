"""Epochs: accuracy over the length of the training (paper, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from deit.bounds import Name, SomeNames
from deit.tables.asked import Runs, TableParams, Wanted
from deit.tables.checks import Checked, Reference, known_models, known_supervision, length_checks, token_variants
from deit.tables.definition import Definition
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.recipes import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Epochs(TableParams):
    """Accuracy over the length of the training (paper, Figure 3)."""

    teacher: Name
    """Of the distilled rows; the paper's is RegNetY-16GF."""
    student: Name
    """Of all rows; the paper's is DeiT-B."""
    rows: Annotated[dict[Literal["labels", "soft", "hard", "token"], Name], Field(min_length=1)]
    """Method -> name of the supervision."""
    variants: SomeNames
    """Further lengths beside the study's own: variants of `students: {epochs: …}`."""


def checks(params: Epochs, study: Any) -> Checked:
    key = "tables.epochs"
    yield from known_models(study, f"{key}.teacher", [params.teacher])
    yield from known_models(study, f"{key}.student", [params.student], "transformer")
    for name in params.variants:
        yield Reference(f"{key}.variants", name, "variant")
    for row, name in params.rows.items():
        yield from known_supervision(study, f"{key}.rows.{row}", name, row)
        yield from token_variants(study, [params.student], name, "the student of the epochs figure")
    known = [name for name in params.rows.values() if name in study.supervision]
    students = [params.student] if params.student in study.models else []
    found = (length_checks(study, "epochs", students, name, params.variants) for name in known)
    yield from dict.fromkeys(wrong for each in found for wrong in each)


def cells(params: Epochs, runs: Runs) -> Wanted:
    """Rows: methods; columns: epochs of pre-training, the shortest first."""
    low, _ = runs.resolutions
    wanted: Wanted = {}
    for method, supervision in params.rows.items():
        row, head = ("token_fusion", "fusion") if method == "token" else (method, "class")
        lengths = [runs.seeded(params.student, supervision, params.teacher, low, v) for v in ("", *params.variants)]
        for group in sorted(lengths, key=lambda group: runs.phase(group[0]).epochs):
            wanted[row, str(runs.phase(group[0]).epochs), head, runs.study.data.primary] = group
    return wanted


def longest_over_shortest(*methods: str) -> Callable[[Layout], list[Pair]]:
    """The paper's difference is that of its own lengths, which may be others."""

    def pairs(layout: Layout) -> list[Pair]:
        shortest, longest = min(layout.columns, key=int), max(layout.columns, key=int)
        return [
            Pair(
                what=f"{layout.title(method)}, {shortest} → {layout.title(longest)}",
                better=(method, longest),
                worse=(method, shortest),
                part=layout.title(method),
                there=((method, "1000"), (method, "300")),
            )
            for method in methods
            if method in layout.rows and shortest != longest
        ]

    return pairs


def draw(recipe: Table, frame: pd.DataFrame) -> Figure:
    """Accuracy over the epochs of pre-training, a line a method; the paper's beside ours where it trained as long.

    Bars are 95 % intervals over seeds and images.
    """
    from matplotlib.figure import Figure

    from deit.tables import figures
    from deit.tables.titles import title

    sides = {"ours": "ours"} | ({"paper": "the paper"} if frame["paper"].notna().any() else {})
    with figures.own_style():
        figure = Figure(figsize=(4.2 * len(sides) + 0.8, 3.3), layout="constrained")
        panels = figure.subplots(1, len(sides), squeeze=False)[0]
        for axes, (source, heading) in zip(panels, sides.items(), strict=True):
            for row, of_row in frame[frame[source].notna()].groupby("row", sort=False):
                line = {
                    "color": figures.SUPERVISION[row.partition("_")[0]],
                    "marker": "o",
                    "ms": 4,
                    "elinewidth": 0.8,
                    "label": title(row),
                }
                bars = figures.half_interval(of_row) if source == "ours" else None
                axes.errorbar(of_row["column"].astype(int), of_row[source], bars, **line)
            axes.set(xscale="log", xlabel="epochs", title=heading)
            halves = figures.half_interval(frame) if source == "ours" else None
            figures.fit_height(axes, frame[source].dropna(), halves)
            figures.plain_ticks(axes)
            axes.set_xticks(sorted(set(frame["column"].astype(int))))
        figure.axes[0].set_ylabel("top-1 accuracy, %")
        lines = figure.axes[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=len(lines[0]))
    return figure


TABLE = Definition(
    place=8,
    number="Epochs",
    caption="Accuracy over the length of the training",
    heading="Accuracy over the length of the training",
    story="The same student trained for fewer and for more epochs, by each method (paper, Figure 3); the warm-up and "
    "the cosine span each training. The paper’s numbers are read off its figure, and so approximate.",
    about="Accuracy over the length of the training.",
    params=Epochs,
    cells=cells,
    checks=checks,
    block="table",
    claims=(
        Claim(
            key="longer_training",
            text="Hard distillation, with and without the token, goes on gaining from longer training.",
            pairs=longest_over_shortest("hard", "token_fusion"),
            over="seeds",
            each="method",
            of_teachers=True,
            remark="The paper’s differences: 300 → 1,000 epochs of ImageNet.",
            rows=("hard", "token_fusion"),
        ),
    ),
    draw=draw,
)
