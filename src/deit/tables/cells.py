"""The cells of each table, computed from its inputs: ours, its interval and spread, the paper's and the difference."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from deit.store.frames import read_frame
from deit.tables.recipes import Cell, Table

from .predictions import Inputs
from .scores import Scores, paired_seeds, seed_of

PAPER = Path(__file__).parent.parent / "paper"
COLUMNS = ("row", "column", "ours", "low", "high", "std", "n", "images", "paper", "difference")
KEYS = ("row", "column")
"""Of these columns, which are text; all others are numbers."""
DIMENSIONS = ("embedding_dimension", "heads", "layers")
GROUND_TRUTH = "ground_truth"


def paper(table: str) -> pd.DataFrame:
    """The paper's numbers of a table, by row and column."""
    return read_frame(PAPER / f"{table}.csv", text=["row"]).set_index("row").astype(float)


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
    """Tables 2 and 3, the ablation and the epochs figure: an accuracy in each cell."""
    cells = Cells(paper(recipe.table))
    for wanted in recipe.cells:
        cells.add(wanted.row, wanted.column, accuracy(wanted, inputs))
    return cells, []


def variants(recipe: Table, inputs: Inputs) -> Computed:
    """Table 1: a model's dimensions, parameters, operations and throughput, as measured on the network itself.

    A row's model is the throughput's label of that name; `<row>-token` is its variant with a distillation token.
    """
    cells = Cells(paper("table_1"))
    for row in recipe.rows:
        model = inputs.models.get(row)
        found = {name: measured(inputs, row, name) for name in DIMENSIONS}
        found["parameters"] = measured(inputs, row, "parameters")
        found["parameters_with_distillation_token"] = measured(inputs, f"{row}-token", "parameters")
        found["resolution"] = model.resolution if model else None
        network = inputs.networks.get(f"{row}/{model.resolution}") if model else None
        found["multiply_adds"] = network["multiply_adds"] if network else None
        found["images_per_second"] = measured(inputs, row, "images_per_second")
        for name, value in found.items():
            cells.add(row, name, value)
    return cells, throughput_facts(inputs)


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
    cells = Cells(upper.fillna(upper.T))
    classifiers = {wanted.row: wanted for wanted in recipe.cells if wanted.runs}
    for row, column in product(recipe.rows, recipe.rows):
        cells.add(row, column, 0.0 if row == column else disagreements(inputs, classifiers, row, column))
    return cells, [
        "A pair is compared seed by seed, and averaged; a classifier of one seed is compared with every other."
    ]


def disagreements(inputs: Inputs, classifiers: dict[str, Cell], row: str, column: str) -> Scores | None:
    """Whether two classifiers decide differently, for each pair of seeds and image."""
    if GROUND_TRUTH in (row, column):
        one = classifiers.get(column if row == GROUND_TRUTH else row)
        hits = accuracy(one, inputs) if one else None
        return Scores(seeds=hits.seeds, values=~hits.values, images=hits.images) if hits else None
    if not {row, column} <= set(classifiers):
        return None
    one, other = decided(classifiers[row], inputs), decided(classifiers[column], inputs)
    if one.images != other.images:
        raise SystemExit(f"table_4: {row} and {column} were evaluated on different images. Give both the same set.")
    seeds = paired_seeds(f"table_4: {row}, {column}", one.seeds, other.seeds, shared=True)
    single = len(seeds) > 1 and 1 in (len(one.seeds), len(other.seeds))
    return Scores(seeds=seeds, values=one.of(seeds) != other.of(seeds), images=one.images, shared=single)


def decided(classifier: Cell, inputs: Inputs) -> Scores:
    """The decisions of a classifier's runs, a class number for each seed and image."""
    runs = tuple(dict.fromkeys(classifier.runs))
    found = np.stack([inputs.decisions(run, classifier.evaluation_set, classifier.read) for run in runs])
    images = same_images(inputs, runs, classifier.evaluation_set)
    return Scores(seeds=tuple(map(seed_of, runs)), values=found, images=images)


def throughput_and_accuracy(recipe: Table, inputs: Inputs) -> Computed:
    """Table 5: images per second, and an accuracy for each evaluation set (a cell's column)."""
    cells, columns = Cells(paper("table_5")), recipe.options.get("paper_columns", {})
    for row in recipe.rows:
        cells.add(row, "images_per_second", measured(inputs, row, "images_per_second"))
    for wanted in recipe.cells:
        there = wanted.row, columns.get(wanted.column, wanted.column)
        cells.add(wanted.row, wanted.column, accuracy(wanted, inputs), there)
    return cells, throughput_facts(inputs)


def accuracy_over_throughput(recipe: Table, inputs: Inputs) -> Computed:
    """The figure's points: a model's (a cell's row) accuracy and images per second; the cell's column is its family."""
    cells = Cells(paper("table_5").rename(columns={"imagenet": "accuracy"}))
    for wanted in recipe.cells:
        cells.add(wanted.row, "images_per_second", measured(inputs, wanted.row, "images_per_second"))
        cells.add(wanted.row, "accuracy", accuracy(wanted, inputs))
    return cells, throughput_facts(inputs)


def token_cosines(recipe: Table, inputs: Inputs) -> Computed:
    """Token analysis: cosine of the two input tokens and of their embeddings after each layer, averaged over seeds.

    A cell's row is the student, its column `token` or the control `two_class_tokens`. A frame's row is `input` or
    `layer_<n>`, its column `<student>/token` or `<student>/two_class_tokens`. The paper gives one number for the input
    and one for the last layer, not saying for which size.
    """
    cells, images = Cells(paper("token_analysis")), set()
    for wanted in recipe.cells:
        column, kind = f"{wanted.row}/{wanted.column}", wanted.column
        compared = [token_comparison(inputs, run) for run in wanted.runs]
        seeds = tuple(map(seed_of, wanted.runs))
        images |= {comparison["images"] for comparison in compared}
        layers = zip(*([comparison["input_cosine"], *comparison["layers"]] for comparison in compared), strict=True)
        cosines = [Scores(seeds=seeds, values=np.array(layer)) for layer in layers] or [None]
        for depth, layer in enumerate(cosines):
            there = "input" if depth == 0 else "last" if depth == len(cosines) - 1 else ""
            cells.add(f"layer_{depth}" if depth else "input", column, layer, (kind, there))
    averaged = " or ".join(f"{count:,}" for count in sorted(images))
    return cells, [f"Embeddings: average over {averaged or 'no'} evaluation images."]


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
