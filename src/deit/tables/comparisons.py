"""What a table's findings compare, computed from the scores behind its cells: a row a comparison, and a row a mean.

A claim's comparisons fall into parts, and each part is judged by one row: by the mean over its comparisons, which
stands above them, or by the only one.
"""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from deit.tables.recipes import Table

from .blocks import estimate_of
from .cells import Cells
from .definition import definition, titles_of
from .paper_findings import Claim, Layout, Pair, Place
from .scores import Scores, common_seeds, difference, mean_of
from .statistics import Estimate, over_networks

COLUMNS = (
    "finding",  # key of a claim of the table
    "part",  # of the claim; empty where it has one
    "what",
    "decides",  # whether the part is judged by this row: the mean over its comparisons, or the only one
    "better_row",  # empty, as the next three, in a mean
    "better_column",
    "worse_row",  # empty with worse_column where a cell stands alone
    "worse_column",
    "difference",  # better - worse, in the unit of the table
    "low",  # ends of the 95 % interval; empty with one seed
    "high",
    "seed_error",  # standard error of the difference as far as seeds make it; empty with one seed
    "image_error",  # and as far as the choice of images makes it
    "df",  # of the spread over seeds: n - 1, or Welch's
    "pooled",  # trainings that the spread over seeds is taken over (blocks.py); empty = the difference's own
    "n",  # seeds, paired; 0 where the study lacks a side
    "images",  # empty where the numbers are of no images
    "paper",  # the paper's difference
    "threshold",
    "side",  # where the claim wants the difference: above the threshold, or within it of zero
    "p_holds",  # p-value of the difference not being there: small = the claim holds
    "p_contradicted",  # p-value of its being there: small = the claim is contradicted
)
PLACES = ("better_row", "better_column", "worse_row", "worse_column")
TEXT = ("finding", "part", "what", *PLACES, "side")
NOTHING = dict.fromkeys(COLUMNS[COLUMNS.index("difference") : COLUMNS.index("n")], math.nan)


def compare(recipe: Table, cells: Cells) -> pd.DataFrame:
    """The comparisons of all findings of which this table can tell."""
    rows = [
        row
        for claim in definition(recipe.table).claims
        if claim.is_of(recipe.rows)
        for pairs in parts(claim, layout_of(recipe, list(cells.papers)))
        for row in compared(recipe, claim, pairs, cells)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def layout_of(recipe: Table, places: Sequence[Place]) -> Layout:
    """`places` are those of the table's numbers, in their order."""
    return Layout(places, titles_of(recipe), recipe.options.get("families", {}))


def parts(claim: Claim, layout: Layout) -> list[list[Pair]]:
    """The comparisons of each part, in the claim's order."""
    found: dict[str, list[Pair]] = {}
    for pair in claim.pairs(layout):
        found.setdefault(pair.part, []).append(pair)
    return list(found.values())


def compared(recipe: Table, claim: Claim, pairs: Sequence[Pair], cells: Cells) -> Iterator[dict]:
    """The rows of a part: the mean, if there are several comparisons, and each of them."""
    scores = {pair: pair_scores(recipe, claim, pair, cells) for pair in pairs}
    papers = [paper(pair, cells) for pair in pairs]
    if len(pairs) > 1:
        what = ", ".join(filter(None, (pairs[0].part, f"mean over {claim.over}")))
        estimate, every = mean_estimate(claim, scores)
        yield row(claim, pairs[0], what=what, paper=sum(papers) / len(papers)) | measured(claim, estimate, every)
    for pair, theirs in zip(pairs, papers, strict=True):
        own, places = scores[pair], dict(zip(PLACES, pair.places, strict=False))
        estimate, pooled = estimate_of(recipe, cells.scores, pair, own) if own else (None, None)
        alone = {"decides": len(pairs) == 1, "pooled": pooled or math.nan} | places
        yield row(claim, pair, what=pair.what, paper=theirs) | alone | measured(claim, estimate, own)


def row(claim: Claim, pair: Pair, what: str, paper: float) -> dict:
    """A row of the frame that decides, and has no cells and no numbers of ours yet."""
    empty = dict.fromkeys(PLACES, "") | NOTHING | {"decides": True}
    declared = {"finding": claim.key, "part": pair.part, "threshold": claim.threshold, "side": claim.side}
    return empty | declared | {"what": what, "paper": paper}


def pair_scores(recipe: Table, claim: Claim, pair: Pair, cells: Cells) -> Scores | None:
    """A pair's difference, seed by seed and image by image; None where the study lacks a side."""
    one = cells.scores.get(pair.better)
    if pair.worse is None or one is None:
        return one
    other = cells.scores.get(pair.worse)
    return other and difference(f"{recipe.table}, {claim.key}, {pair.what}", one, other, pair.shared)


def paper(pair: Pair, cells: Cells) -> float:
    """The paper's difference; nan where it gives none."""
    if pair.there:
        return cells.theirs(*pair.there[0]) - cells.theirs(*pair.there[1])
    own = cells.papers.get(pair.better, math.nan)
    return own if pair.worse is None else own - cells.papers.get(pair.worse, math.nan)


def mean_estimate(claim: Claim, scores: dict[Pair, Scores | None]) -> tuple[Estimate | None, Scores | None]:
    """The mean over a part's comparisons, by the seeds that all have; (None, None) without one of them, or a seed."""
    known = [one for one in scores.values() if one]
    if len(known) < len(scores) or not (seeds := common_seeds(known)):
        return None, None
    networks: dict[str, list[Scores]] = {}
    for pair, one in zip(scores, known, strict=True):
        networks.setdefault(pair.network, []).append(one)
    every = mean_of(claim.key, known, seeds)
    shares = [len(group) / len(known) for group in networks.values()]
    of_networks = [mean_of(claim.key, group, seeds).estimate() for group in networks.values()]
    return over_networks(every.estimate(), of_networks, shares), every


def measured(claim: Claim, estimate: Estimate | None, scores: Scores | None) -> dict:
    """The numbers of a row; n = 0 where there are none."""
    if estimate is None or scores is None:
        return {"n": 0, "images": None, "p_holds": math.nan, "p_contradicted": math.nan}
    low, high = estimate.interval()
    holds, contradicted = p_values(claim, estimate)
    return {
        "difference": estimate.mean,
        "low": low,
        "high": high,
        "seed_error": estimate.seed_error,
        "image_error": estimate.image_error,
        "df": estimate.df,
        "n": len(scores.seeds),
        "images": len(scores.images) or None,
        "p_holds": holds,
        "p_contradicted": contradicted,
    }


def p_values(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """One-sided p-values of the claim being false, and of its being true; nan with one seed.

    That two are equal within a threshold takes two tests, of which the weaker counts (Schuirmann 1987); against it
    either would do, so the stronger counts twice.
    """
    if claim.side == "above":
        return estimate.p_above(claim.threshold), estimate.p_below(claim.threshold)
    within = estimate.p_above(-claim.threshold), estimate.p_below(claim.threshold)
    beyond = estimate.p_above(claim.threshold), estimate.p_below(-claim.threshold)
    return max(within), min(2 * min(beyond), 1.0)  # in this order nan stays nan
