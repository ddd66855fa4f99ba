"""Whether the paper's findings hold in a study: each a claim, its comparisons with intervals, and a verdict."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "contradicted", "undecided", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One of the comparisons that a finding rests on: a cell minus another, or a cell alone."""

    what: str
    """What is compared, as people read it; the unit is that of the table."""
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
    side: Literal["above", "below", "within"]
    """Where the claim wants the difference: above or below the threshold, or nearer to zero than it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding of the paper, and what the study says of it."""

    claim: str
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    """Those that were measured; none where the verdict is `not measured`."""
    remark: str = ""
    """What to keep in mind."""
    p_holds: float
    """Corrected p-value of the claim's contrary, all comparisons together: small = the claim holds. nan = no test."""
    p_contradicted: float
    """Corrected p-value of the claim: small = it is contradicted. nan = no test."""
    unit: str
    """Of the comparisons: points (of accuracy, in percent), fraction (of images) or cosine."""

    @property
    def p(self) -> float:
        """The smaller of the two: the corrected p-value behind the verdict."""
        return min(self.p_holds, self.p_contradicted)
