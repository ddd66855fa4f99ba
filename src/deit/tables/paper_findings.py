"""What a finding of the paper is: cells of a table, where it wants their differences, and over what it is averaged.

All of a claim is declared here and in the table's file, before any study runs: its comparisons, what their mean is
over, the threshold and the side. `python workflow power STUDY` prints it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from .titles import title

MARGIN = 0.5
"""Points of accuracy. Two methods that surely differ by less are called equal, and one that surely falls short of
another by less is called at least as good. The paper's gains that it calls an improvement are 0.5 to 2 points, the
standard deviation over seeds that it gives is 0.2."""
ONE_TEACHER = "Each teacher is one network, from which the students of all seeds learn: its own seed is not varied."
ALL_SIZES = "In a seed one teacher stands behind all sizes; the interval takes sizes as independent of each other."
Family = Literal["distillation", "training recipe"]
"""Findings that one question asks for, and that are corrected together for their number. A table's are of one family:
by design, never by results."""
Side = Literal["above", "within"]
"""Where a claim wants its difference: above the threshold, or nearer to zero than it."""

Place = tuple[str, str]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One comparison of a claim: a cell minus another, or (worse = None) a cell alone."""

    what: str
    better: Place
    worse: Place | None = None
    part: str = ""
    """Of the claim: the comparisons of a part are averaged, and each part is judged by its mean."""
    network: str = ""
    """Comparisons of one network, as pre-trained and as fine-tuned, share what a seed does; of two, they do not."""
    shared: bool = False
    """Whether a side of a single run is one network that all seeds of the other meet (a teacher)."""
    there: tuple[Place, Place] | None = None
    """The two cells of the paper's table whose difference stands beside, if they are others."""

    @property
    def places(self) -> tuple[str, ...]:
        """Rows and columns of its cells, one after another."""
        return self.better + (self.worse or ())


@dataclass(frozen=True)
class Layout:
    """What a table compares with what depends on its rows and columns."""

    places: Sequence[Place]
    """Of its numbers, in the table's order; it need not have one in each row of each column."""
    titles: Mapping[str, str] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    """Of Table 2's teachers: convnet or deit."""

    @cached_property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.places))

    @cached_property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for _, column in self.places))

    def rows_of(self, column: str) -> list[str]:
        return [row for row, of_column in self.places if of_column == column]

    def title(self, key: str) -> str:
        return title(key, self.titles)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding of the paper that a table can tell of."""

    key: str
    text: str
    pairs: Callable[[Layout], list[Pair]]
    over: str
    """What the comparisons of a part differ in, and their mean is over: sizes, resolutions."""
    each: str = ""
    """What its parts are, if it has several: the claim holds where the mean of each part does."""
    threshold: float = 0.0
    side: Side = "above"
    remark: str = ""
    of_teachers: bool = False
    """Whether it speaks of teachers, so that it matters how many networks stand behind each."""
    rows: tuple[str, ...] = ()
    """Where it is not empty, the finding is spoken of only if the table has any of these rows."""

    def is_of(self, rows: Sequence[str]) -> bool:
        """Whether a table with such rows can tell of it."""
        return not self.rows or not set(self.rows).isdisjoint(rows)

    @property
    def rule(self) -> str:
        """How it is judged: "mean over sizes and resolutions, for each head: above −0.5"."""
        bound = f"{self.threshold:g}".replace("-", "−")
        where = f"above {bound}" if self.side == "above" else f"within ±{bound}"
        return f"mean over {self.over}{f', for each {self.each}' if self.each else ''}: {where}"


def phases(layout: Layout) -> list[str]:
    return [phase for phase in ("pretrained", "finetuned") if phase in layout.columns]
