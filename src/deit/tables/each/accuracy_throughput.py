"""The paper's first figure: accuracy over throughput, of the networks of Table 5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deit.bounds import Mistake
from deit.tables.asked import Runs, TableParams, Wanted, family
from deit.tables.checks import Checked, reads_table_3
from deit.tables.definition import Definition, titles_of
from deit.tables.recipes import Table

from .table_5 import networks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs


def checks(params: TableParams, study: Any) -> Checked:
    yield from reads_table_3(study, "accuracy_throughput")
    if not study.tables.table_5:
        remedy = "add tables.table_5, or set tables.accuracy_throughput to null."
        yield Mistake("tables.accuracy_throughput", "draws the networks of table_5", remedy, ("tables.table_5",))


def cells(params: TableParams, runs: Runs) -> Wanted:
    """Rows: the networks of Table 5; columns: their families."""
    shown, primary = networks(runs.study.tables.table_5, runs), runs.study.data.primary
    return {(row, family(runs, group[0]), head, primary): group for row, head, group in shown}


def build(recipe: Table, inputs: Inputs) -> Computed:
    """The figure's points: a model's (a cell's row) accuracy and images per second; the cell's column is its family."""
    from deit.tables.cells import Cells, accuracy, measured, paper, throughput_facts

    found = Cells(paper("table_5").rename(columns={"imagenet": "accuracy"}))
    for wanted in recipe.cells:
        found.add(wanted.row, "images_per_second", measured(inputs, wanted.row, "images_per_second"))
        found.add(wanted.row, "accuracy", accuracy(wanted, inputs))
    return found, throughput_facts(inputs, found)


def draw(recipe: Table, frame: pd.DataFrame) -> Figure:
    """Accuracy over images per second, ours at the left, the paper's at the right; a line a family."""
    from matplotlib.figure import Figure

    from deit.tables import figures
    from deit.tables.labels import place_names
    from deit.tables.titles import title

    families = {cell.row: cell.column for cell in recipe.cells}
    titles, labelled = titles_of(recipe), []
    with figures.own_style():
        figure = Figure(figsize=(8.4, 3.5), layout="constrained")
        for axes, (source, heading) in zip(
            figure.subplots(1, 2), {"ours": "ours", "paper": "the paper (V100, ImageNet)"}.items(), strict=True
        ):
            points = frame.pivot(index="row", columns="column", values=source).reindex(families).dropna()
            accuracies = frame[frame["column"] == "accuracy"].set_index("row")
            spread = figures.half_interval(accuracies) if source == "ours" else None
            for name in dict.fromkeys(families.values()):
                members = points[[families[row] == name for row in points.index]].sort_values("images_per_second")
                figures.draw_family(axes, name, members, spread)
            axes.set(xscale="log", xlabel="images per second", title=heading)
            axes.margins(0.18, 0.14)
            figures.fit_height(axes, points["accuracy"], spread)
            figures.plain_ticks(axes)
            names = [
                (title(row, titles), *point) for row, point in points[["images_per_second", "accuracy"]].iterrows()
            ]
            labelled.append((axes, names))
        figure.axes[0].set_ylabel("top-1 accuracy, %")
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(figures.FAMILIES))
        for axes, names in labelled:
            place_names(axes, names, size=8, colour=figures.INK)
    return figure


TABLE = Definition(
    place=9,
    number="Figure",
    caption="Accuracy over throughput",
    heading="Accuracy over throughput",
    story="The paper’s first figure: what accuracy a model reaches at what speed, for convnets, DeiT and distilled "
    "DeiT.",
    about="The figure of accuracy over throughput, of Table 5's networks; `{}` is enough.",
    cells=cells,
    checks=checks,
    reads=("predictions", "throughput"),
    build=build,
    draw=draw,
)
