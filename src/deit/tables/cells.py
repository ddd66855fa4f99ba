"""The cells of each table, computed from its inputs: ours, spread, the paper's and the difference."""

import statistics
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ..recipes import Cell, Table
from .predictions import Inputs

PAPER = Path(__file__).parent.parent / "paper"
COLUMNS = ("row", "column", "ours", "std", "n", "images", "paper", "difference")
DIMENSIONS = ("embedding_dimension", "heads", "layers")
GROUND_TRUTH = "ground_truth"

Computed = tuple[pd.DataFrame, list[str]]  # the frame, and facts for the notes below the table


def paper(table: str) -> pd.DataFrame:
    """The paper's numbers of a table, by row and column."""
    return pd.read_csv(PAPER / f"{table}.csv", index_col="row", dtype={"row": str}).astype(float)


def cell(
    row: str,
    column: str,
    values: Iterable[float],
    beside: pd.DataFrame,
    images: int | None = None,
    row_there: str | None = None,
    column_there: str | None = None,
) -> dict:
    """One row of a frame. `values` has one number a seed, none where the study lacks the cell.

    `beside` holds the paper's numbers, at the same row and column, or at `row_there` and `column_there`.
    """
    values = [float(value) for value in values]
    ours = statistics.fmean(values) if values else np.nan
    std = statistics.stdev(values) if len(values) > 1 else np.nan
    row_there, column_there = row if row_there is None else row_there, column if column_there is None else column_there
    known = row_there in beside.index and column_there in beside.columns
    theirs = beside.at[row_there, column_there] if known else np.nan
    return dict(zip(COLUMNS, (row, column, ours, std, len(values), images, theirs, ours - theirs), strict=True))


def frame(cells: Iterable[dict]) -> pd.DataFrame:
    return pd.DataFrame(list(cells), columns=list(COLUMNS))


def accuracy_cell(wanted: Cell, inputs: Inputs, beside: pd.DataFrame, column_there: str | None = None) -> dict:
    """Top-1 accuracy in percent over the seeds of a cell."""
    hits = [inputs.correct(run, wanted.evaluation_set, wanted.read) for run in wanted.runs]
    images = len(hits[0]) if hits else None
    return cell(
        wanted.row, wanted.column, [100 * hit.mean() for hit in hits], beside, images, column_there=column_there
    )


def accuracies(recipe: Table, inputs: Inputs) -> Computed:
    """Tables 2 and 3, the ablation and the epochs figure: an accuracy in each cell."""
    beside = paper(recipe.table)
    return frame(accuracy_cell(wanted, inputs, beside) for wanted in recipe.cells), []


def variants(recipe: Table, inputs: Inputs) -> Computed:
    """Table 1: a model's dimensions, parameters and throughput, as measured on the network itself.

    A row's model is the throughput's label of that name; `<row>-token` is its variant with a distillation token.
    """
    beside = paper("table_1")
    cells = []
    for row in recipe.rows:
        model = inputs.models.get(row)
        found = {name: measured(inputs, row, name) for name in DIMENSIONS}
        found["parameters"] = measured(inputs, row, "parameters")
        found["parameters_with_distillation_token"] = measured(inputs, f"{row}-token", "parameters")
        found["resolution"] = model.resolution if model else None
        found["images_per_second"] = measured(inputs, row, "images_per_second")
        cells += [cell(row, name, [] if value is None else [value], beside) for name, value in found.items()]
    return frame(cells), throughput_facts(inputs)


def measured(inputs: Inputs, label: str, column: str) -> float | None:
    """A number of throughput.csv; None where the label was not measured."""
    return inputs.throughput[column].get(label) if column in inputs.throughput else None


def throughput_facts(inputs: Inputs) -> list[str]:
    """On what, and how, images per second were measured."""
    facts = []
    for (device, precision), rows in (
        inputs.throughput.groupby(["device", "precision"]) if len(inputs.throughput) else ()
    ):
        batches = " and ".join(f"{batch:,}" for batch in sorted(rows["batch"].unique()))
        spread = 100 * (rows["std"] / rows["images_per_second"]).median()
        passes = "a single pass each" if np.isnan(spread) else f"a single pass varies by {spread:.0f} % (median)"
        facts.append(f"Throughput: inference in {precision} on {device}, batch {batches}; {passes}.")
    return facts + ["The paper’s throughput: fp32 on one V100 (16 GB), largest batch that fits, mean of 30 runs."]


def disagreement(recipe: Table, inputs: Inputs) -> Computed:
    """Table 4: the fraction of images on which two classifiers decide differently; symmetric.

    Each classifier has one cell (its row's name, its runs by seed, its head); `ground_truth` needs none.
    """
    upper = paper("table_4").reindex(columns=list(recipe.rows), index=list(recipe.rows))
    beside = upper.fillna(upper.T)
    classifiers = {wanted.row: wanted for wanted in recipe.cells if wanted.runs}
    images = next((len(inputs.images(c.runs[0], c.evaluation_set)) for c in classifiers.values()), None)
    cells = []
    for row, column in product(recipe.rows, recipe.rows):
        values = [0.0] if row == column else differing(inputs, classifiers, row, column)
        cells.append(cell(row, column, values, beside, images))
    return frame(cells), [
        "A pair is compared seed by seed, and averaged; a classifier of one seed is compared with every other."
    ]


def differing(inputs: Inputs, classifiers: dict[str, Cell], row: str, column: str) -> list[float]:
    """The fraction of images on which two classifiers differ, one a pair of seeds."""
    if GROUND_TRUTH in (row, column):
        one = classifiers.get(column if row == GROUND_TRUTH else row)
        return [float(1 - inputs.correct(run, one.evaluation_set, one.read).mean()) for run in one.runs] if one else []
    if not {row, column} <= set(classifiers):
        return []
    one, other = classifiers[row], classifiers[column]
    return [pair_differs(inputs, (a, one), (b, other)) for a, b in seed_pairs(one, other)]


def seed_pairs(one: Cell, other: Cell) -> list[tuple[str, str]]:
    """Runs of the same seed; a classifier with a single run meets every run of the other."""
    if 1 not in (len(one.runs), len(other.runs)) and len(one.runs) != len(other.runs):
        raise SystemExit(
            f"table_4: {one.row} has {len(one.runs)} runs, {other.row} {len(other.runs)}. Give both the same seeds."
        )
    count = max(len(one.runs), len(other.runs))
    return list(zip((one.runs * count)[:count], (other.runs * count)[:count], strict=True))


def pair_differs(inputs: Inputs, one: tuple[str, Cell], other: tuple[str, Cell]) -> float:
    """The fraction of images on which two runs decide differently."""
    (a, first), (b, second) = one, other
    if inputs.images(a, first.evaluation_set) != inputs.images(b, second.evaluation_set):
        raise SystemExit(f"{a} and {b} were evaluated on different images. Give both the same evaluation set.")
    decided = (
        inputs.decisions(a, first.evaluation_set, first.read),
        inputs.decisions(b, second.evaluation_set, second.read),
    )
    return float((decided[0] != decided[1]).mean())


def throughput_and_accuracy(recipe: Table, inputs: Inputs) -> Computed:
    """Table 5: images per second, and an accuracy for each evaluation set (a cell's column)."""
    beside, columns = paper("table_5"), recipe.options.get("paper_columns", {})
    cells = [rate_cell(row, inputs, beside) for row in recipe.rows]
    cells += [
        accuracy_cell(wanted, inputs, beside, columns.get(wanted.column, wanted.column)) for wanted in recipe.cells
    ]
    return frame(cells), throughput_facts(inputs)


def rate_cell(row: str, inputs: Inputs, beside: pd.DataFrame) -> dict:
    rate = measured(inputs, row, "images_per_second")
    return cell(row, "images_per_second", [] if rate is None else [rate], beside)


def accuracy_over_throughput(recipe: Table, inputs: Inputs) -> Computed:
    """The figure's points: a model's (a cell's row) accuracy and images per second; the cell's column is its family."""
    beside = paper("table_5").rename(columns={"imagenet": "accuracy"})
    cells = []
    for wanted in recipe.cells:
        point = wanted.model_copy(update={"column": "accuracy"})
        cells += [rate_cell(wanted.row, inputs, beside), accuracy_cell(point, inputs, beside)]
    return frame(cells), throughput_facts(inputs)


def token_cosines(recipe: Table, inputs: Inputs) -> Computed:
    """Token analysis: cosine of the two input tokens and of their embeddings after each layer, averaged over seeds.

    A cell's row is the student, its column `token` or the control `two_class_tokens`. A frame's row is `input` or
    `layer_<n>`, its column `<student>/token` or `<student>/two_class_tokens`. The paper gives one number for the input
    and one for the last layer, not saying for which size.
    """
    beside = paper("token_analysis")
    cells, images = [], set()
    for wanted in recipe.cells:
        column, kind = f"{wanted.row}/{wanted.column}", wanted.column
        compared = [token_comparison(inputs, run) for run in wanted.runs]
        images |= {comparison["images"] for comparison in compared}
        cosines = [comparison["input_cosine"] for comparison in compared]
        cells.append(cell("input", column, cosines, beside, row_there=kind, column_there="input"))
        layers = list(zip(*(comparison["layers"] for comparison in compared), strict=True))
        for depth, cosines in enumerate(layers, 1):
            there = "last" if depth == len(layers) else ""
            cells.append(cell(f"layer_{depth}", column, cosines, beside, row_there=kind, column_there=there))
    averaged = " or ".join(f"{count:,}" for count in sorted(images))
    return frame(cells), [f"Embeddings: average over {averaged or 'no'} evaluation images."]


def token_comparison(inputs: Inputs, run: str) -> dict:
    """What the `tokens` job said of a run."""
    if run not in inputs.tokens:
        raise SystemExit(f"{run}: none of the table's inputs compares the tokens of this run.")
    return inputs.tokens[run]


BUILDERS: dict[str, Callable[[Table, Inputs], Computed]] = {
    "table_1": variants,
    "table_2": accuracies,
    "table_3": accuracies,
    "table_4": disagreement,
    "ablation": accuracies,
    "epochs": accuracies,
    "table_5": throughput_and_accuracy,
    "token_analysis": token_cosines,
    "accuracy_throughput": accuracy_over_throughput,
}
