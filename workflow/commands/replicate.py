"""A fresh run's report beside the published one: each cell equal, within the interval, or outside of it.

    python workflow replicate [STUDY]

Compares reports/<study>/ with reports/published/<study>/. Two independent runs of n and m seeds differ by chance:
within t * s * sqrt(1/n + 1/m) in 95 of 100 cases, where s is the published standard deviation over seeds and t is
Student's with n - 1 degrees of freedom. All students of a teacher share it, so where a teacher comes out otherwise,
as on another CPU, they move together by more than their seeds tell. Of many cells some lie beyond that by chance, so
a cell is *outside* only where it also lies beyond the interval corrected for the number of cells (Bonferroni); then
the exit status is 1. With one seed s is unknown, and the cell says so. Images per second are measurements of a
machine, and are not judged. The last line names the machines of both reports where they are of other models.
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from commands._study import add_study, named_or_chosen
from commands.publish_report import PUBLISHED
from deit.store.frames import read_frame
from deit.tables.cells import KEYS
from deit.tables.definition import definitions
from deit.tables.layout import kind
from deit.tables.student_t import quantile

STATES = ("equal", "within", "beyond", "outside", "one seed", "measured", "missing")
MEANING = {
    "equal": "the same to the last digit that is stored",
    "within": "within the interval of a difference between two runs",
    "beyond": "beyond its own 95 % interval, as 1 in 20 is by chance, and within the corrected one",
    "outside": "outside the interval that is corrected for the number of cells",
    "one seed": "of one seed: what another seed or machine moves is unknown",
    "measured": "images per second, not judged",
    "missing": "in one of the two reports only",
}
LEVEL = 0.975
KERNELS = "docs/report.md#the-same-numbers-on-an-amd-cpu"


@dataclass(frozen=True)
class Replicated:
    """A cell of both reports."""

    table: str
    row: str
    column: str
    published: float
    fresh: float
    margin: float
    """Half of the 95 % interval of the difference; nan where it is unknown."""
    state: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    study = named_or_chosen(parser.parse_args().study)
    fresh, published = Path("reports", study), PUBLISHED / study
    cells = compare(fresh, published)
    print(text(cells))
    print("\n".join(verdicts_that_changed(fresh, published) + other_machines(fresh, published)))
    sys.exit(any(cell.state == "outside" for cell in cells))


def compare(fresh: Path, published: Path) -> list[Replicated]:
    """Every cell of the tables that both folders hold. Raises SystemExit where a folder holds no report."""
    for folder, remedy in ((fresh, "Run snakemake all_tables first"), (published, "Name a study that is published")):
        if not (folder / "metrics.json").exists():
            raise SystemExit(f"{folder}: no report there. {remedy}.")
    pairs = [
        pd.concat({"fresh": frame(fresh, name), "published": frame(published, name)}, axis=1) for name in definitions()
    ]
    both = pd.concat(dict(zip(definitions(), pairs, strict=True)))
    both = both[both[("fresh", "ours")].notna() | both[("published", "ours")].notna()]
    judged = max((both[("published", "n")] > 1).sum(), 1)
    return [cell(key, row["fresh"], row["published"], judged) for key, row in both.iterrows()]


def frame(report: Path, table: str) -> pd.DataFrame:
    """ours, std and n by row and column; empty where the report has no such table, or repeats another's cells."""
    path = report / f"{table}.csv"
    if table == "accuracy_throughput" or not path.exists():
        index = pd.MultiIndex.from_arrays([[], []], names=["row", "column"])
        return pd.DataFrame({name: pd.Series(dtype=float) for name in ("ours", "std", "n")}, index=index)
    cells = read_frame(path, text=KEYS).set_index(list(KEYS))
    return cells[["ours", "std", "n"]].astype(float)


def cell(key: tuple[str, str, str], fresh: pd.Series, published: pd.Series, judged: int) -> Replicated:
    """`key` is table, row and column; the correction is for `judged` cells, those whose spread is known."""
    table, row, column = key
    difference = abs(fresh["ours"] - published["ours"])
    freedom = 0 if math.isnan(published["n"]) else int(published["n"]) - 1
    spread = published["std"] * math.sqrt(1 / published["n"] + 1 / fresh["n"]) if freedom > 0 else math.nan
    margin = spread * quantile(LEVEL, freedom) if freedom > 0 else math.nan
    if math.isnan(difference):
        state = "missing"
    elif kind(table, column) == "rate":
        state = "measured"
    elif difference == 0:
        state = "equal"
    elif kind(table, column) in ("dimension", "count"):
        state = "outside"
    elif math.isnan(margin):
        state = "one seed"
    elif difference <= margin:
        state = "within"
    else:
        corrected = spread * quantile(1 - (1 - LEVEL) / judged, freedom)
        state = "beyond" if difference <= corrected else "outside"
    return Replicated(table, row, column, published["ours"], fresh["ours"], margin, state)


def text(cells: list[Replicated]) -> str:
    """A line a cell that is not equal, and how many there are of each state."""
    lines = [f"{'table':<15}{'row':<34}{'column':<27}{'published':>11}{'fresh':>11}{'difference':>12}  95 %"]
    for one in cells:
        if one.state != "equal":
            margin = "" if math.isnan(one.margin) else f"±{one.margin:.4g}"
            numbers = f"{one.published:>11.6g}{one.fresh:>11.6g}{one.fresh - one.published:>+12.4g}  {margin:<9}"
            lines.append(f"{one.table:<15}{one.row:<34}{one.column:<27}{numbers} {one.state}")
    counts = Counter(one.state for one in cells)
    lines += ["", f"{len(cells)} cells:"]
    return "\n".join(lines + [f"{counts[state]:6d}  {state}: {MEANING[state]}" for state in STATES if counts[state]])


def verdicts_that_changed(fresh: Path, published: Path) -> list[str]:
    """A line a claim that both reports judge by the same rule, and judge differently; how many by another rule."""
    ours, theirs = claims(fresh), claims(published)
    both = [(ours[key], theirs[key]) for key in theirs if key in ours]
    alike = [(one, other) for one, other in both if one["rule"] == other["rule"]]
    changed = [(one, other) for one, other in alike if one["verdict"] != other["verdict"]]
    lines = [f"  {one['claim']} published: {other['verdict']}; fresh: {one['verdict']}" for one, other in changed]
    if others := len(both) - len(alike):
        lines.append(f"{others} claims are judged by another rule than the published ones, and are not compared.")
    return [f"{len(changed)} of {len(alike)} verdicts changed{':' if changed else '.'}", *lines]


def other_machines(fresh: Path, published: Path) -> list[str]:
    """A line where the two reports are of other models of CPU or GPU, whose kernels give other last bits."""
    ours, theirs = machines(fresh), machines(published)
    line = f"Published: {theirs}; fresh: {ours}. Other kernels give other last bits: {KERNELS}"
    return [line] if ours != theirs else []


def machines(report: Path) -> str:
    """The models of CPU and GPU behind a report, in alphabetical order, whatever the number of cores."""
    made = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(report.glob("provenance-*.json"))]
    return " and ".join(sorted({re.sub(r", \d+ cores", "", name) for one in made for name in one["machines"]}))


def claims(report: Path) -> dict[tuple[str, str], dict]:
    """(table, key) -> the record of a claim; empty where the report has none."""
    path = report / "claims.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {(one["table"], one["key"]): one for one in records}
