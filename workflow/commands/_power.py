"""How likely planned seeds decide a claim, if its differences and their spread are those of an earlier study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deit.tables.comparisons import PLACES
from deit.tables.paper_findings import Claim, Pair
from deit.tables.statistics import NORMAL
from deit.tables.student_t import quantile
from deit.tables.verdicts import LEVEL

DRAWS = 1000
"""Of the spread over seeds that a study would find."""
WANTED = 0.8
MOST = 200
"""Seeds; more are not looked for."""


@dataclass(frozen=True)
class Part:
    """What an earlier study says of a part of a claim: its mean, and what makes it uncertain."""

    gain: float
    spread: float
    """Standard deviation over seeds of one comparison."""
    image_error: float
    """Standard error of the mean as far as the choice of images makes it."""
    networks: int
    """Over which the planned study's mean is; their spreads add up."""
    df: float
    """Degrees of freedom of the spread with n seeds are this many times n - 1."""


def part_of(pairs: Sequence[Pair], rows: pd.DataFrame) -> Part | None:
    """A part as it is planned, by an earlier study's comparisons; None where that has none with several seeds.

    Where that has the mean of the very comparisons, by its spread. Else those of one network are taken to vary
    together, so their mean as much as each of them.
    """
    several = rows[rows["n"] > 1]
    rows = alike(pairs, several[several["better_row"] != ""])
    if rows.empty:
        return None
    same = len(pairs) > 1 and set(places_of(rows)) == set(map(padded, pairs))
    if same and "part" in rows:  # which older reports do not have
        means = several[(several["better_row"] == "") & (several["part"] == rows["part"].iloc[0])]
        if len(means) == 1:
            return part_of_mean(means.iloc[0])
    return part_of_singles(pairs, rows)


def part_of_singles(pairs: Sequence[Pair], rows: pd.DataFrame) -> Part:
    """By the spread of single comparisons."""
    networks = len({pair.network for pair in pairs})
    return Part(
        gain=float(rows["difference"].mean()),
        spread=math.sqrt((rows["seed_error"] ** 2 * rows["n"]).mean()),
        image_error=math.sqrt((rows["image_error"] ** 2).mean()),
        networks=networks,
        df=networks if len(pairs) > 1 else float((rows["df"] / (rows["n"] - 1)).mean()),
    )


def places_of(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """As PLACES names them."""
    return list(rows[list(PLACES)].itertuples(index=False, name=None))


def padded(pair: Pair) -> tuple[str, ...]:
    """Likewise; empty where it has no second cell."""
    return (*pair.places, "", "")[: len(PLACES)]


def part_of_mean(mean: pd.Series) -> Part:
    """What the same mean will be, over other seeds."""
    spread, df = float(mean["seed_error"] * math.sqrt(mean["n"])), float(mean["df"] / (mean["n"] - 1))
    return Part(
        gain=float(mean["difference"]), spread=spread, image_error=float(mean["image_error"]), networks=1, df=df
    )


def alike(pairs: Sequence[Pair], rows: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of a claim that are most like a part's: of the same cells, of the same rows, or else all."""
    for step in (1, 2):
        wanted = {padded(pair)[::step] for pair in pairs}
        found = rows[[places[::step] in wanted for places in places_of(rows)]]
        if len(found):
            return found
    return rows


def power(claim: Claim, parts: Sequence[Part], seeds: int, claims: int) -> float:
    """The probability of the verdict that the parts' means ask for; 0 with one seed.

    It holds where all parts do, which are taken as independent, and is contradicted where one is. The level is what
    Holm's procedure leaves the first of so many claims.
    """
    if seeds < 2:
        return 0.0
    level = LEVEL / claims
    if all(distance(claim, part) > 0 for part in parts):
        return math.prod(seen(claim, part, seeds, level) for part in parts)
    wrong = [part for part in parts if distance(claim, part) <= 0]
    return max(contradicted(claim, part, seeds, level / len(parts)) for part in wrong)


def seeds_for(claim: Claim, parts: Sequence[Part], claims: int) -> int | None:
    """The fewest seeds with a power of 80 %; None where MOST are too few."""
    if power(claim, parts, MOST, claims) < WANTED:
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(claim, parts, middle, claims) >= WANTED else (middle, high)
    return high


def distance(claim: Claim, part: Part) -> float:
    """From the threshold to the mean; positive on the side that the claim wants."""
    return part.gain - claim.threshold if claim.side == "above" else claim.threshold - abs(part.gain)


def seen(claim: Claim, part: Part, seeds: int, level: float) -> float:
    """The probability that the claim holds for a part."""
    if claim.side == "above":
        return float(beyond(part, seeds, level, part.gain - claim.threshold).mean())
    below, above = claim.threshold + part.gain, claim.threshold - part.gain
    both = beyond(part, seeds, level, below) + beyond(part, seeds, level, above) - 1
    return float(both.clip(min=0).mean())


def contradicted(claim: Claim, part: Part, seeds: int, level: float) -> float:
    """The probability that a part contradicts the claim."""
    sides = 1 if claim.side == "above" else 2
    return float(beyond(part, seeds, level / sides, -distance(claim, part)).mean())


def beyond(part: Part, seeds: int, level: float, gain: float) -> np.ndarray:
    """The probability that a one-sided test sees a mean so far beyond its threshold, by the spread found. (DRAWS,)"""
    df = part.df * (seeds - 1)
    seed_error = part.spread / math.sqrt(part.networks * seeds)
    error = math.hypot(seed_error, part.image_error)
    if error == 0:
        return np.full(DRAWS, float(gain > 0))
    found = seed_error * np.sqrt(np.random.default_rng(0).chisquare(df, DRAWS) / df)
    half_widths = np.hypot(quantile(1 - level, df) * found, NORMAL.inv_cdf(1 - level) * part.image_error)
    return np.array([NORMAL.cdf((gain - half) / error) for half in half_widths])
