"""How likely it is that the planned seeds of a study decide each claim, by the spread that an earlier study found.

    python workflow power [STUDY] [--from REPORT]

Prints the rule of each claim, as it is declared before the runs, and the seeds that a power of 80 % takes. REPORT is
the folder of an earlier study's report; without it, the published report of the same study, or of fashion-full. Power
is the probability of a verdict if the differences and their spread over seeds are as they were there, at the level that
Holm's correction leaves the first claim of its family. A claim that REPORT says nothing of has a dash.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from plan.runs import RunSettings
from plan.tables import cells_of, table_recipe
from study.params import load_study
from study.problem import ParamsError

from commands._power import MOST, Part, part_of, power, seeds_for
from commands._study import add_study, named_or_chosen
from commands.publish_report import PUBLISHED
from deit.store.frames import read_frame
from deit.tables.cells import KEYS
from deit.tables.comparisons import COLUMNS, TEXT, layout_of, parts
from deit.tables.definition import definition, own_place
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.recipes import Table
from deit.tables.student_t import quantile
from deit.tables.verdicts import UNITS, signed

USUAL = "fashion-full"


class Planned(NamedTuple):
    """A claim of which the study is to tell."""

    table: str
    claim: Claim
    parts: list[Part] | None
    """None where the earlier report says nothing of one."""
    seeds: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    parser.add_argument("--from", dest="report", type=Path, help="folder of the report whose spread is taken")
    arguments = parser.parse_args()
    study = named_or_chosen(arguments.study)
    report = arguments.report or next(PUBLISHED / name for name in (study, USUAL) if (PUBLISHED / name).is_dir())
    if not any(report.glob("*_comparisons.csv")):
        raise SystemExit(f"{report}: holds no comparisons of a report. Name another with --from.")
    try:
        settings = RunSettings(load_study(study))
    except ParamsError as error:
        raise SystemExit(f"Nothing was planned, because of params/:\n{error}") from None
    print(f"{study}, by the spread of {report}\n\n{text(list(planned(settings, report)))}")


def planned(settings: RunSettings, report: Path) -> Iterator[Planned]:
    """Every claim of the study's tables."""
    for table, cells in cells_of(settings).items():
        if not definition(table).claims:
            continue
        recipe, earlier = table_recipe(settings, table, cells), comparisons(report, table)
        layout = layout_planned(recipe, report)
        for claim in definition(table).claims:
            if claim.is_of(recipe.rows) and (of_parts := parts(claim, layout)):
                rows = earlier[earlier["finding"] == claim.key]
                found = [part_of(pairs, rows) for pairs in of_parts]
                known = [part for part in found if part]
                seeds = seeds_planned(recipe, [pair for pairs in of_parts for pair in pairs])
                yield Planned(table, claim, known if len(known) == len(found) else None, seeds)


def layout_planned(recipe: Table, report: Path) -> Layout:
    """Rows and columns as planned; of a table whose numbers stand in other places than its runs, as in the report."""
    places = [(cell.row, cell.column) for cell in recipe.cells]
    path = report / f"{recipe.table}.csv"
    if definition(recipe.table).behind is not own_place and path.exists():
        places = list(read_frame(path, text=KEYS)[list(KEYS)].itertuples(index=False, name=None))
    return layout_of(recipe, places)


def comparisons(report: Path, table: str) -> pd.DataFrame:
    """Those of a report; none where it lacks the table. An older one does not tell seeds from images."""
    path = report / f"{table}_comparisons.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = read_frame(path, text=TEXT)
    if "seed_error" not in rows:
        halves, several = (rows["high"] - rows["low"]) / 2, rows["n"] > 1
        rows["seed_error"] = halves / rows["df"].where(several, 1).map(lambda df: quantile(0.975, df))
        rows["image_error"] = 0.0
    return rows


def seeds_planned(recipe: Table, pairs: list[Pair]) -> int:
    """The seeds that a claim's comparisons have; a teacher's one network meets those of its students."""
    cells = {(cell.row, cell.column): len(set(cell.runs)) for cell in recipe.cells}
    counts = [
        (max if pair.shared else min)(cells[place] for place in (pair.better, pair.worse) if place in cells)
        for pair in pairs
        if {pair.better, pair.worse} & cells.keys()
    ]
    return min(counts or [count for count in cells.values() if count > 1] or [1])


def text(claims: list[Planned]) -> str:
    """A block a claim: its text, its rule, and in a line the seeds and the power."""
    families = Counter(definition(one.table).family for one in claims)
    lines = []
    for table, claim, of_parts, seeds in claims:
        count = families[definition(table).family]
        lines.append(f"{definition(table).number}: {claim.text}\n    {claim.rule}")
        if of_parts is None:
            lines.append(f"    {seeds_text(seeds)}: —\n")
            continue
        there = ", ".join(signed(part.gain, UNITS[definition(table).kind]) for part in of_parts)
        needed = seeds_for(claim, of_parts, count) or f"more than {MOST}"
        chance = 100 * power(claim, of_parts, seeds, count)
        lines.append(f"    {seeds_text(seeds)}: power {chance:.0f} % if it is {there} again; for 80 %: {needed}\n")
    return "\n".join(lines)


def seeds_text(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds != 1)}"
