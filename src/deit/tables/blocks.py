"""How much seeds move the difference of two trainings, judged by all trainings that share the seeds.

The trainings of a table's column are a randomised block design (Fisher 1935; Montgomery, Design and Analysis of
Experiments): trainings are its treatments, and a seed, which all share with its initialisation and views, is a block.
What a seed does to all alike cancels in a difference. What is left of a training is its deviation from the others of
the same seed; with their median, one that diverges does not count. The difference's variance is the sum of the two
trainings' own, with the degrees of freedom of Welch and Satterthwaite (Biometrika 1938 and 1947, Biometrics 1946):
between S - 1 and 2 (S - 1) for S seeds, where the difference alone has S - 1.

Assumed: but for what a seed does to all, trainings vary independently. They may vary unequally, so their spreads are
not pooled into the textbook's one residual mean square with (M - 1)(S - 1) degrees of freedom for M trainings. That is
exact where all vary alike. Where the two compared have three times the standard deviation of the others, its tests at
0.25 % are wrong in 3 to 10 of 100 studies, and still in up to 7 if an F test at 1 % sends those that stand out back to
their own spread: with so few seeds it has no power. The rule here is wrong in at most 0.3 (tests/test_blocks.py). Two
that vary together get too wide an interval; two with a correlation of -0.5 are at 5 % wrong in 4 to 6 of 100 studies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from deit.tables.recipes import Cell, Table

from .definition import definition
from .paper_findings import Pair, Place
from .scores import Scores, seed_of
from .statistics import Estimate

LEAST = 4
"""Trainings. The median of fewer others than three is no protection against one that diverges."""


def estimate_of(recipe: Table, cells: Mapping[Place, Scores], pair: Pair, own: Scores) -> tuple[Estimate, int | None]:
    """A pair's difference, and over how many trainings its spread over seeds is taken; None = the pair's own spread.

    `own` is the difference itself, whose images decide what the choice of images adds.
    """
    found, hits = own.estimate(), design(recipe, cells, pair, own)
    if len(hits) < LEAST:
        return found, None
    error, df = spread(hits)
    return replace(found, seed_error=own.scale * float(error) / len(own.images), df=float(df)), len(hits)


def design(recipe: Table, cells: Mapping[Place, Scores], pair: Pair, own: Scores) -> np.ndarray:
    """Hits of a pair's two trainings, then of all others of its design, by the pair's seeds (M, S); empty without one.

    A training counts once: the pair's by the heads that are compared, others that have two by both heads together.
    """
    members = {(cell.row, cell.column): cell for cell in recipe.cells if belongs(recipe.table, cell, pair)}
    if pair.worse not in members or len(own.seeds) < 2 or own.shared:
        return np.empty((0, 0))
    sides = pair.better, pair.worse
    hits: dict[frozenset[str], np.ndarray] = {}
    for place, cell in sorted(members.items(), key=lambda item: (item[0] not in sides, item[1].read != "fusion")):
        scores, runs = cells.get(place), frozenset(run for run in cell.runs if seed_of(run) in own.seeds)
        if scores and runs in hits and place in sides:
            return np.empty((0, 0))  # two heads of one training
        if scores and set(own.seeds) <= set(scores.seeds) and scores.images == own.images:
            hits.setdefault(runs, scores.of(own.seeds).sum(axis=1))
    return np.array(list(hits.values()))


def belongs(table: str, cell: Cell, pair: Pair) -> bool:
    """Whether a cell is of the design of a pair's better side."""
    block = definition(table).block
    return block == "table" or (block == "column" and cell.column == pair.better[1])


def spread(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the difference of the first two trainings' means, and its degrees of freedom (...).

    `numbers`: a training a row, a seed a column (..., M, S). Of whole numbers, such as hits, nothing is rounded.
    """
    seeds = numbers.shape[-1]
    one, other = variance(numbers, 0), variance(numbers, 1)
    alike = np.ones_like(one)  # where nothing varies
    df = (seeds - 1) * np.divide((one + other) ** 2, one**2 + other**2, out=alike, where=one + other > 0)
    return np.sqrt((one + other) / seeds), df


def variance(numbers: np.ndarray, row: int) -> np.ndarray:
    """Of a training's deviation from the median of the others of its seed: what moves all alike is none (...)."""
    deviation = numbers[..., row, :] - np.median(np.delete(numbers, row, axis=-2), axis=-2)
    seeds = deviation.shape[-1]
    centred = seeds * deviation - deviation.sum(axis=-1, keepdims=True)
    return np.asarray(np.square(centred).sum(axis=-1) / seeds**2 / (seeds - 1))


def note(pooled: Iterable[int]) -> list[str]:
    """Below a table: what its differences rest on, if some rest on more trainings than the two compared."""
    counts = sorted(set(pooled))
    if not counts:
        return []
    trainings = " or ".join(map(str, counts))
    return [
        f"Findings: where two trainings are compared, the spread over seeds is that of both, each measured from the "
        f"median of the other trainings of its seed ({trainings} in all; Welch’s t). This assumes that, apart from "
        f"what a seed does to all of them, trainings vary independently."
    ]
