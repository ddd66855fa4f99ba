"""A table's cells, computed from its inputs: ours, its interval and spread, the paper's and the difference."""

from pathlib import Path

import numpy as np
import pandas as pd

from deit.store.frames import read_frame
from deit.tables.recipes import Cell, Table

from .predictions import Inputs
from .scores import Scores, seed_of

PAPER = Path(__file__).parent.parent / "paper"
COLUMNS = ("row", "column", "ours", "low", "high", "std", "n", "images", "paper", "difference")
UNSTEADY = 20
"""Percent by which a pass may vary, in the median, before networks cannot be compared: a machine with other work."""
KEYS = ("row", "column")
"""Of these columns, which are text; all others are numbers."""


def paper(table: str) -> pd.DataFrame:
    """The paper's numbers of a table, by row and column; none of a table that the paper does not have."""
    path = PAPER / f"{table}.csv"
    return read_frame(path, text=["row"]).set_index("row").astype(float) if path.exists() else pd.DataFrame()


class Cells:
    """A table's cells, in order, beside the paper's numbers; and the scores behind those that have some."""

    def __init__(self, beside: pd.DataFrame):
        self.beside = beside
        self.rows: list[tuple] = []
        self.papers: dict[tuple[str, str], float] = {}
        self.scores: dict[tuple[str, str], Scores] = {}

    def add(self, row: str, column: str, ours: Scores | float | None, there: tuple[str, str] | None = None) -> None:
        """One cell: scores over seeds, or a number that was measured once; None where the study lacks it.

        `there` is the row and column of the paper's number, if they are others.
        """
        theirs = self.theirs(*(there or (row, column)))
        numbers = summary(ours)
        self.rows.append((row, column, *numbers, theirs, numbers[0] - theirs))
        self.papers[row, column] = theirs
        if isinstance(ours, Scores):
            self.scores[row, column] = ours

    def theirs(self, row: str, column: str) -> float:
        """The paper's number in its own row and column; nan where it has none."""
        known = row in self.beside.index and column in self.beside.columns
        return float(self.beside.at[row, column]) if known else np.nan

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(COLUMNS))


def summary(ours: Scores | float | None) -> tuple:
    """Ours, low, high, std, n and images of a cell."""
    if not isinstance(ours, Scores):
        return (np.nan if ours is None else float(ours), np.nan, np.nan, np.nan, int(ours is not None), None)
    estimate, several = ours.estimate(), len(ours.seeds) > 1
    std = float(np.std(ours.by_seed(), ddof=1)) if several else np.nan
    return (estimate.mean, *estimate.interval(), std, len(ours.seeds), len(ours.images) or None)


Computed = tuple[Cells, list[str]]  # and facts for the notes below the table


def accuracy(wanted: Cell, inputs: Inputs) -> Scores | None:
    """Hits of a cell's runs; the cell shows their share in percent."""
    runs = tuple(dict.fromkeys(wanted.runs))
    if not runs:
        return None
    hits = np.stack([inputs.correct(run, wanted.evaluation_set, wanted.read) for run in runs])
    images = same_images(inputs, runs, wanted.evaluation_set)
    return Scores(seeds=tuple(map(seed_of, runs)), values=hits, images=images, scale=100)


def same_images(inputs: Inputs, runs: tuple[str, ...], evaluation_set: str) -> tuple[str, ...]:
    """The images on which all of these runs were evaluated."""
    first = inputs.images(runs[0], evaluation_set)
    for run in runs[1:]:
        if inputs.images(run, evaluation_set) != first:
            raise SystemExit(f"{runs[0]} and {run} were evaluated on different images. Give both the same set.")
    return first


def accuracies(recipe: Table, inputs: Inputs) -> Computed:
    """An accuracy in each cell."""
    cells = Cells(paper(recipe.table))
    for wanted in recipe.cells:
        cells.add(wanted.row, wanted.column, accuracy(wanted, inputs))
    return cells, []


def add_accuracies(found: Cells, recipe: Table, inputs: Inputs) -> None:
    """An accuracy in each cell, of a column that is an evaluation set, beside the paper's set that it stands for."""
    columns = recipe.options.get("paper_columns", {})
    for wanted in recipe.cells:
        there = wanted.row, columns.get(wanted.column, wanted.column)
        found.add(wanted.row, wanted.column, accuracy(wanted, inputs), there)


def measured(inputs: Inputs, label: str, column: str) -> float | None:
    """A number of throughput.csv; None where the label was not measured."""
    return inputs.throughput[column].get(label) if column in inputs.throughput else None


def throughput_facts(inputs: Inputs, cells: Cells) -> list[str]:
    """On what, and how, images per second were measured; the paper's, where they stand beside."""
    facts = []
    for (device, precision), rows in (
        inputs.throughput.groupby(["device", "precision"]) if len(inputs.throughput) else ()
    ):
        batches = " and ".join(f"{batch:,}" for batch in sorted(rows["batch"].unique()))
        spread = 100 * (rows["std"] / rows["images_per_second"]).median()
        passes = "a single pass each" if np.isnan(spread) else f"a single pass varies by {spread:.0f} % (median)"
        passes += ", which is too much to compare networks" if spread > UNSTEADY else ""
        facts.append(f"Throughput: inference in {precision} on {device}, batch {batches}; {passes}.")
    theirs = [value for (_, column), value in cells.papers.items() if column == "images_per_second"]
    if not np.isnan(theirs).all():
        facts.append("The paper’s throughput: fp32 on one V100 (16 GB), largest batch that fits, mean of 30 runs.")
    return facts
