"""What a table's findings compare, computed from the scores behind its cells: a row a comparison."""

import math

import pandas as pd

from deit.tables.recipes import Table

from .blocks import estimate_of
from .cells import Cells
from .definition import definition, titles_of
from .paper_findings import Claim, Layout, Pair
from .scores import Scores, difference

COLUMNS = (
    "finding",  # key of a claim of the table
    "what",
    "better_row",
    "better_column",
    "worse_row",  # empty with worse_column where a cell stands alone
    "worse_column",
    "difference",  # better - worse, in the unit of the table
    "low",  # ends of the 95 % interval; empty with one seed
    "high",
    "df",  # of the spread over seeds: n - 1, or Welch's
    "pooled",  # trainings that the spread over seeds is taken over (blocks.py); empty = the difference's own
    "n",  # seeds, paired; 0 where the study lacks a side
    "images",  # empty where the numbers are of no images
    "paper",  # difference of the paper's two cells
    "threshold",
    "expected",  # where the claim wants the difference: above or below the threshold
    "p_above",  # one-sided p-value of being at most the threshold: small = above it
    "p_below",
    "shared",  # whether one network stands for all seeds of a side
)
TEXT = ("finding", "what", "better_row", "better_column", "worse_row", "worse_column", "expected")


def compare(recipe: Table, cells: Cells) -> pd.DataFrame:
    """The comparisons of all findings of which this table can tell."""
    places = list(cells.papers)
    layout = Layout(
        rows=list(dict.fromkeys(row for row, _ in places)),
        columns=list(dict.fromkeys(column for _, column in places)),
        titles=titles_of(recipe),
        families=recipe.options.get("families", {}),
    )
    rows = [
        comparison(recipe, claim, pair, cells)
        for claim in definition(recipe.table).claims
        if claim.is_of(recipe.rows)
        for pair in claim.pairs(layout)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def comparison(recipe: Table, claim: Claim, pair: Pair, cells: Cells) -> tuple:
    """One row of the frame."""
    places = [pair.better] + ([pair.worse] if pair.worse else [])
    theirs = [cells.papers.get(place, math.nan) for place in places]
    if pair.there:
        theirs = [cells.theirs(*place) for place in pair.there]
    paper = theirs[0] - theirs[1] if pair.worse else theirs[0]
    found: tuple = (*[math.nan] * 5, 0, None)
    tests, shared = (math.nan, math.nan), False
    if all(place in cells.scores for place in places):
        compared = pair_scores(recipe, claim, pair, cells)
        estimate, pooled = estimate_of(recipe, cells.scores, pair, compared)
        shared, counts = compared.shared, (len(compared.seeds), len(compared.images) or None)
        found = (estimate.mean, *estimate.interval(), estimate.df, pooled or math.nan, *counts)
        tests = estimate.p_above(pair.threshold), estimate.p_below(pair.threshold)
    names = (claim.key, pair.what, *pair.better, *(pair.worse or ("", "")))
    return (*names, *found, paper, pair.threshold, pair.expected, *tests, shared)


def pair_scores(recipe: Table, claim: Claim, pair: Pair, cells: Cells) -> Scores:
    """A pair's difference, seed by seed and image by image."""
    one = cells.scores[pair.better]
    if pair.worse is None:
        return one
    return difference(f"{recipe.table}, {claim.key}, {pair.what}", one, cells.scores[pair.worse], pair.shared)
