"""What the file of a table says of it, deit/tables/each/<table>.py: all that belongs to that table alone.

A plan reads it, too. So what computes numbers or draws imports numpy, pandas and matplotlib when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .asked import Measured, Runs, TableParams, Wanted
from .checks import Checked
from .paper_findings import Claim, Family
from .recipes import Cell, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .cells import Computed
    from .predictions import Inputs


def accuracies(recipe: Table, inputs: Inputs) -> Computed:
    """An accuracy in each cell."""
    from . import cells

    return cells.accuracies(recipe, inputs)


def own_place(cell: Cell, row: str, column: str) -> bool:
    """Whether a cell of the recipe stands behind the number in a row and column: there it stands itself."""
    return (cell.row, cell.column) == (row, column)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A table or figure of the paper; most of it has a default, which is a table of accuracies."""

    # Words
    place: int
    """Where it stands in a report and in params: by this number, then by name."""
    number: str
    """Table 3."""
    caption: str
    heading: str
    """Of its notebook."""
    story: str
    """Below that: what is compared, in a paragraph."""
    about: str
    """What params/schema.json and docs/params.md say of its key."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Key of a row or column -> how it is called here; the study's own go first, those of titles.py last."""
    called: Callable[[Any, Runs], dict[str, str]] = lambda params, runs: {}
    """(params, runs of the study) -> titles that are known to the study alone."""

    # What it asks of a study
    params: type[TableParams] = TableParams
    cells: Callable[[Any, Runs], Wanted]
    """(params, runs of the study) -> the runs of each cell."""
    rows: Callable[[Any], Iterable[str]] | None = None
    """Of the params, where they are not those of the cells."""
    checks: Callable[[Any, Any], Checked]
    """(params, study) -> what is wrong."""
    reads: tuple[str, ...] = ("predictions",)
    """Of results: predictions, throughput, networks, tokens."""
    measured: Callable[[Any], Measured] = lambda params: Measured()
    """Of the params, whose images per second it shows."""
    of_networks: bool = False
    """Whether its rows are networks, of which their families tell convnets from DeiTs."""

    # Its numbers
    build: Callable[[Table, Inputs], Computed] = accuracies
    kind: Literal["accuracy", "fraction", "cosine"] = "accuracy"
    """Of the numbers in columns of no kind of their own (layout.KINDS)."""
    behind: Callable[[Cell, str, str], bool] = own_place
    """Whether a cell of the recipe stands behind the number in a row and column."""
    block: Literal["column", "table", ""] = ""
    """What of it is one design, whose trainings share the seeds (blocks.py)."""
    claims: tuple[Claim, ...] = ()
    """The paper's findings of which it can tell."""
    family: Family = "distillation"
    """Of its claims."""

    # How it is shown
    counted: bool = True
    """Whether its numbers are over seeds, which a note tells; if not, they are measured once."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Row -> part of the table, each under a rule; where it is empty, the networks' families part it."""
    guide: str = ""
    """How to read it, where the best of a column is not in bold; empty = it is."""
    draw: Callable[[Table, pd.DataFrame], Figure] | None = None
    """Of a figure."""


@cache
def definition(table: str) -> Definition:
    """The definition of a table by its name. Raises SystemExit where there is no such file."""
    if table not in names():
        raise SystemExit(f"{table}: no such table; {Path(__file__).parent / 'each'} has {', '.join(names())}.")
    return importlib.import_module(f"{__package__}.each.{table}").TABLE


@cache
def names() -> tuple[str, ...]:
    """The names of the files of tables, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("each/*.py") if path.stem != "__init__"))


def definitions() -> dict[str, Definition]:
    """Table -> definition, in the order of a report."""
    every = {name: definition(name) for name in names()}
    return dict(sorted(every.items(), key=lambda item: item[1].place))


def titles_of(recipe: Table) -> dict[str, str]:
    """Titles of a table that go before the common ones: its own, then those of the study."""
    return {**definition(recipe.table).titles, **recipe.options.get("titles", {})}


def caption(recipe: Table) -> tuple[str, str]:
    """(number, caption) of a table; the study's own caption, if it has one."""
    own = definition(recipe.table)
    return own.number, recipe.caption or own.caption
