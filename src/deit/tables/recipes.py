"""What is said of a table, its cells, and the page that gathers all."""

from typing import Annotated, Any, Literal

from deit.bounds import AsList, Recipe
from deit.store.job import JobRecipe

READ = ("predictions", "throughput", "networks", "tokens")
"""Sections of the results from which tables are made."""


class Cell(Recipe):
    """One cell of a table: the runs it averages over, one a seed, and the head through which they are read."""

    row: str
    column: str
    runs: Annotated[tuple[str, ...], AsList]
    """Names of runs; empty = the study does not have this cell."""
    read: Literal["class", "distillation", "fusion", "fusion_logits"] = "class"
    evaluation_set: str = ""


class Table(JobRecipe, kind="table"):
    """One table or figure of the paper."""

    table: str
    """Name of its file in deit/tables/each."""
    caption: str = ""
    rows: Annotated[tuple[str, ...], AsList] = ()
    columns: Annotated[tuple[str, ...], AsList] = ()
    cells: Annotated[tuple[Cell, ...], AsList] = ()
    options: dict[str, Any] = {}
    """Numbers, words, lists and dictionaries of words, by the table's own names."""

    @property
    def module(self) -> str:
        """Dotted name of the module that defines it."""
        return f"deit.tables.each.{self.table}"


class Report(JobRecipe, kind="report"):
    """The page that gathers all tables of a study."""

    study: str
    title: str
    description: str
    data: str
    evaluation_sets: dict[str, str]
    """Name -> title."""
    seeds: dict[str, list[int]]
    """Student -> seeds."""
    streams: Literal["shared", "per-seed"]
    """Whether the seeds of a run see the same views."""
    teachers: Literal["per-seed"] | None = None
    """Whether students of each seed have teachers of their own."""
