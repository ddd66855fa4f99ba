"""Predictions -> the paper's tables, ours beside the paper's; numbers as the paper gives them (accuracy in percent).

A table's *frame* is tidy, one row a cell: row, column, ours (mean over seeds), low and high (95 % interval over seeds
and images; empty with one seed), std (sample standard deviation over seeds), n (seeds), images (evaluated), paper,
difference (ours - paper); what does not exist is empty. Its *comparisons* are what the paper's findings compare, one
row a comparison, with the columns of comparisons.py.

The recipe's `options`: `decimals` that are shown; `titles`, key of a row, column or evaluation set -> how the table
calls it; `families` (Tables 2, 3, 5), row -> what its network is, convnet, deit or deit-distilled; `paper_columns`
(Table 5), evaluation set -> column of paper/table_5.csv.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deit.store.frames import read_frame
from deit.store.results import read_job, read_result
from deit.tables.recipes import Table

from .blocks import note
from .cells import KEYS
from .comparisons import COLUMNS as COMPARED
from .comparisons import TEXT, compare
from .definition import definition
from .layout import STYLE, notes, table_html, table_latex
from .predictions import Inputs


@dataclass(frozen=True)
class PaperTable:
    """A computed table; everything that shows it needs only this."""

    recipe: Table
    frame: pd.DataFrame
    comparisons: pd.DataFrame
    notes: Sequence[str]

    @property
    def name(self) -> str:
        return self.recipe.table

    def _repr_html_(self) -> str:
        """How a notebook displays it."""
        return f"<style>{STYLE}</style>" + table_html(self.recipe, self.frame, self.notes)


def compute(recipe_path: str | Path, folders: Iterable[str | Path]) -> PaperTable:
    """The table of a recipe file, from the result folders that it is made from.

    Raises SystemExit with one message where an input lacks what the recipe names.
    """
    recipe = read_job(Path(recipe_path)).resolved()
    cells, facts = definition(recipe.table).build(recipe, Inputs(folders))
    frame, comparisons = cells.frame(), compare(recipe, cells)
    below = [*notes(recipe, frame), *facts, *note(comparisons["pooled"].dropna().astype(int))]
    return PaperTable(recipe, frame, comparisons, below)


def save(table: PaperTable, folder: str | Path) -> None:
    """Writes <table>.csv (the frame), <table>.tex and notes.json into a folder.

    A table of which the paper's findings compare some cells also gets <table>_comparisons.csv.
    """
    folder = Path(folder)
    for name, frame in ((table.name, table.frame), (f"{table.name}_comparisons", table.comparisons)):
        if len(frame) or name == table.name:
            frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.8g", lineterminator="\n")
    (folder / f"{table.name}.tex").write_text(table_latex(table.recipe, table.frame, table.notes), encoding="utf-8")
    (folder / "notes.json").write_text(json.dumps(table.notes, indent=1, ensure_ascii=False), encoding="utf-8")


def load(folder: str | Path) -> PaperTable:
    """The table that `save` wrote into a finished result folder."""
    result = read_result(Path(folder))
    recipe = result.job.resolved()
    frame = read_frame(result.file(f"{recipe.table}.csv"), text=KEYS)
    comparisons = pd.DataFrame(columns=list(COMPARED))
    if (name := f"{recipe.table}_comparisons.csv") in result.sha256:
        comparisons = read_frame(result.file(name), text=TEXT)
    return PaperTable(recipe, frame, comparisons, result.json("notes.json"))


def draw(table: PaperTable, folder: str | Path) -> Path | None:
    """Draws a table that is a figure, as <table>.png and .svg; the PNG's path, None for other tables."""
    if (figure := definition(table.name).draw) is None:
        return None
    from . import figures  # matplotlib costs half a second, and most tables draw nothing

    return figures.save(figure(table.recipe, table.frame), Path(folder), table.name)


def metrics(tables: Iterable[PaperTable]) -> dict[str, dict]:
    """Table -> row -> column -> ours, the mean over seeds; in percent (Table 4 too), but for counts, im/s, cosines."""
    found: dict[str, dict] = {}
    for table in tables:
        scale = 100 if definition(table.name).kind == "fraction" else 1
        for cell in table.frame.itertuples():
            if not math.isnan(cell.ours):
                found.setdefault(table.name, {}).setdefault(cell.row, {})[cell.column] = round(scale * cell.ours, 4)
    return found
