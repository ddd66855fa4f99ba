"""Whether the paper's findings hold in a study: each a claim, its comparisons with intervals, and a verdict.

A claim is judged by the mean over its comparisons, over sizes say; they stand below it, and decide nothing. Where it
has several parts it holds where even the least of their means does (an intersection-union test: the largest of the
p-values), and is contradicted where one of them is (the smallest p-value, times their number). Holm's procedure then
corrects both p-values for the number of findings of a family: those on distillation, which the paper is about, and
apart from them those on the training recipe, of the ablation.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from .definition import definition, definitions, titles_of
from .paper_findings import ALL_SIZES, ONE_TEACHER, Claim, Family, Place, Side
from .recipes import Table
from .titles import title

LEVEL = 0.05
"""At most the probability that any claim of a family is wrongly said to hold; and that any is wrongly contradicted."""
MANY = 4
"""More comparisons than these are counted in a remark, not named."""
Unit = Literal["points", "fraction", "cosine"]
UNITS: dict[str, Unit] = {"accuracy": "points", "fraction": "fraction", "cosine": "cosine"}
"""Kind of a table's numbers -> unit of their differences."""
DECIMALS = {"points": 1, "fraction": 3, "cosine": 3}

Verdict = Literal["holds", "contradicted", "undecided", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A cell minus another, a cell alone, or the mean over several such."""

    what: str
    """What is compared, as people read it."""
    places: tuple[Place, ...] = ()
    """Of its two cells in the table, or of its one; of none where it is a mean."""
    decides: bool = True
    """Whether the claim, or a part of it, is judged by this: by the mean, or by the only comparison."""
    ours: float
    low: float
    """Lower end of the 95 % interval over seeds and images; nan with one seed. Not corrected for their number."""
    high: float
    n: int
    """Seeds, paired."""
    images: int | None
    """Test images, the same on both sides; None where the numbers are of no images (cosines)."""
    paper: float
    """The paper's difference; nan where it gives none."""
    threshold: float
    side: Side
    seed_error: float = math.nan
    """Standard error as far as seeds make it; nan with one seed."""
    image_error: float = math.nan
    df: float = math.nan
    """Degrees of freedom of `seed_error`."""
    p_holds: float = math.nan
    """Not corrected, as `p_contradicted`."""
    p_contradicted: float = math.nan

    def text(self, unit: Unit) -> str:
        """+1.2 [+0.4, +2.0], 5 seeds (paper +1.1)"""
        several = f" [{signed(self.low, unit)}, {signed(self.high, unit)}], {self.n} seeds"
        paper = "" if math.isnan(self.paper) else f" (paper {signed(self.paper, unit)})"
        return f"{self.what} {signed(self.ours, unit)}{', one seed' if math.isnan(self.low) else several}{paper}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim of the paper, and what the study says of it."""

    key: str
    """Its name among the table's claims, and in the column `finding` of <table>_comparisons.csv."""
    table: str
    """The table that tells of it."""
    claim: str
    rule: str
    """How it is judged, as it was declared before the runs."""
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    """Those that were measured, each mean before what it is of; none where the verdict is `not measured`."""
    remark: str = ""
    """What to keep in mind."""
    p_holds: float
    """Corrected p-value of the claim being false: small = it holds. nan where any part has one seed."""
    p_contradicted: float
    """Corrected p-value of the claim being true: small = it is contradicted. nan where all parts have one seed."""
    unit: Unit
    """Of the comparisons: points (of accuracy, in percent), fraction (of images) or cosine."""

    @property
    def family(self) -> Family:
        """Of the findings that it is corrected with."""
        return definition(self.table).family

    @property
    def evidence(self) -> tuple[str, ...]:
        """The comparisons as text."""
        return tuple(comparison.text(self.unit) for comparison in self.comparisons)

    @property
    def p(self) -> float:
        """The smaller of the two, the corrected p-value behind the verdict; nan where there is none."""
        return min((p for p in (self.p_holds, self.p_contradicted) if not math.isnan(p)), default=math.nan)


def signed(value: float, unit: Unit) -> str:
    """With its sign, and one place more where that would be rounded away: a bound beside zero is on one side of it."""
    text = f"{abs(value):.{DECIMALS[unit]}f}"
    if float(text) == 0 and value:
        text = f"{abs(value):.{DECIMALS[unit] + 1}f}"
    return ("" if float(text) == 0 else "−" if value < 0 else "+") + text


def p_value(p: float) -> str:
    """With its sign of comparison; as many digits as tell on which side of the level it is."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.{3 if abs(p - LEVEL) < 0.1 * LEVEL else 2}g}"


def findings(tables: Iterable) -> list[Finding]:
    """The paper's findings of which these tables (PaperTable) can tell, by family, each corrected for its number."""
    order = list(definitions())
    order.sort(key=lambda name: name != "table_3")  # what the paper is about
    raw = [
        judged(table.recipe, claim, table.comparisons[table.comparisons["finding"] == claim.key])
        for table in sorted(tables, key=lambda table: order.index(table.name))
        for claim in definition(table.name).claims
        if claim.is_of(table.recipe.rows)
    ]
    families = dict.fromkeys(finding.family for finding in raw)
    return [one for family in families for one in corrected([other for other in raw if other.family == family])]


def corrected(raw: list[Finding]) -> list[Finding]:
    """A family's p-values corrected for the number of its findings, and the verdicts that follow."""
    holds = holm([finding.p_holds for finding in raw])
    against = holm([finding.p_contradicted for finding in raw])
    return [
        replace(finding, p_holds=one, p_contradicted=other, verdict=verdict(finding, one, other))
        for finding, one, other in zip(raw, holds, against, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the least p-value times their number, the next times one less, and so on.

    nan, a test that was not made, does not count and stays.
    """
    order = sorted((p, number) for number, p in enumerate(p_values) if not math.isnan(p))
    found, least = [math.nan] * len(p_values), 0.0
    for rank, (p, number) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        found[number] = least
    return found


def verdict(finding: Finding, p_holds: float, p_contradicted: float) -> Verdict:
    if not finding.comparisons:
        return "not measured"
    if p_holds <= LEVEL:
        return "holds"
    return "contradicted" if p_contradicted <= LEVEL else "undecided"


def judged(recipe: Table, claim: Claim, rows: pd.DataFrame) -> Finding:
    """A claim with the p-values of all its parts together, not yet corrected.

    Where a part was not measured, the others may contradict the claim, but it cannot hold.
    """
    decisive = rows[rows["decides"].astype(bool)]
    against = decisive["p_contradicted"]
    return Finding(
        key=claim.key,
        table=recipe.table,
        claim=claim.text,
        rule=claim.rule,
        verdict="undecided",
        comparisons=tuple(map(shown, rows[rows["n"] > 0].itertuples())),
        remark=" ".join(filter(None, remarks(claim, rows, recipe))),
        p_holds=float(decisive["p_holds"].max(skipna=False)) if len(decisive) else math.nan,
        p_contradicted=float(against.count() * against.min()),
        unit=UNITS[definition(recipe.table).kind],
    )


def shown(row: Any) -> Comparison:
    """A row of the comparisons' frame."""
    places = [(row.better_row, row.better_column), (row.worse_row, row.worse_column)]
    return Comparison(
        what=row.what,
        places=tuple(place for place in places if any(place)),
        decides=bool(row.decides),
        ours=row.difference,
        low=row.low,
        high=row.high,
        n=int(row.n),
        images=None if pd.isna(row.images) else int(row.images),
        paper=row.paper,
        threshold=row.threshold,
        side=row.side,
        **{name: getattr(row, name) for name in ("seed_error", "image_error", "df", "p_holds", "p_contradicted")},
    )


def remarks(claim: Claim, rows: pd.DataFrame, recipe: Table) -> Iterable[str]:
    """What to keep in mind: the claim's own remark, and what of it is measured with one seed, or not at all."""
    yield claim.remark
    if claim.of_teachers and "teacher_a_seed" not in recipe.options:
        yield ONE_TEACHER
    elif claim.of_teachers and (given := recipe.options.get("given_teachers")):
        yield f"{', '.join(title(name, titles_of(recipe)) for name in given)}: one given network teaches all seeds."
    if "teacher_a_seed" in recipe.options and "sizes" in claim.over:
        yield ALL_SIZES
    means = rows["better_row"] == ""
    single = rows[~means]
    every, missing, one_seed = names(single), names(single[single["n"] == 0]), names(single[single["n"] == 1])
    if missing == every:
        yield "The study does not have these numbers."
        return
    if missing:
        yield f"Not measured: {listed(missing, every)}."
    elif (rows["n"][means] == 0).any():
        yield "There is no mean, as no seed is common to all."
    if one_seed:
        which = "" if len(one_seed) == len(every) - len(missing) else f" in {listed(one_seed, every)}"
        yield f"One seed{which}: how much another seed, or another machine, would change is unknown."


def names(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["what"]))


def listed(some: list[str], every: list[str]) -> str:
    return ", ".join(some) if len(some) <= MANY else f"{len(some)} of {len(every)} comparisons"
