"""What a finding of the paper is: cells of a table, and where it wants their difference. Tables have theirs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .titles import title

MARGIN = 0.5
"""Points of accuracy. Two methods that surely differ by less are called equal, and one that surely falls short of
another by less is called at least as good. The paper's gains that it calls an improvement are 0.5 to 2 points, the
standard deviation over seeds that it gives is 0.2."""
Family = Literal["distillation", "training recipe"]
"""Findings that one question asks for, and that are corrected together for their number. A table's are of one family:
by design, never by results."""

Place = tuple[str, str]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One comparison that a finding rests on: a cell minus another, or (worse = None) a cell alone."""

    what: str
    better: Place
    worse: Place | None = None
    threshold: float = 0.0
    expected: Literal["above", "below"] = "above"
    """On which side of the threshold the claim wants the difference."""
    shared: bool = False
    """Whether a side of a single run is one network that all seeds of the other meet (a teacher)."""
    there: tuple[Place, Place] | None = None
    """The two cells of the paper's table whose difference stands beside, if they are others."""


@dataclass(frozen=True)
class Layout:
    """What a table compares with what depends on its rows and columns."""

    rows: Sequence[str]
    columns: Sequence[str]
    titles: Mapping[str, str] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    """Of Table 2's teachers: convnet or deit."""

    def title(self, key: str) -> str:
        return title(key, self.titles)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding of the paper that a table can tell of."""

    key: str
    text: str
    pairs: Callable[[Layout], list[Pair]]
    remark: str = ""
    rows: tuple[str, ...] = ()
    """Where it is not empty, the finding is spoken of only if the table has any of these rows."""

    def is_of(self, rows: Sequence[str]) -> bool:
        """Whether a table with such rows can tell of it."""
        return not self.rows or not set(self.rows).isdisjoint(rows)


def bounds(margin: float) -> Iterator[tuple[float, Literal["above", "below"]]]:
    yield -margin, "above"
    yield margin, "below"


def phases(layout: Layout) -> list[str]:
    return [phase for phase in ("pretrained", "finetuned") if phase in layout.columns]
