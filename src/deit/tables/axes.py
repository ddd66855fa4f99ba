"""Where the numbers of a finding stand on an axis that they share, for whoever draws them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .verdicts import Comparison, Finding

EDGE = 2.0
"""Percent of the axis that stay free at each end."""
WIDEST = 1.5
"""An interval is cut off so many ranges of the other numbers away from them: with two seeds it can be huge."""
TICKS = 5


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, in the unit of the finding."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """The place of a value in percent of the width; the nearer end, where it lies outside."""
        share = (value - self.low) / (self.high - self.low)
        return round(EDGE + (100 - 2 * EDGE) * min(max(share, 0.0), 1.0), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """At most five round numbers, zero among them where the axis reaches it."""
        step = round_step((self.high - self.low) / TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not less."""
    power = 10 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def axis_of(finding: Finding) -> Axis:
    """Holds zero, the thresholds and our numbers, and as much of the intervals and of the paper's as can be shown.

    Where the paper's training diverged, its difference is 77 points, beside which ours could not be told apart.
    """
    firm = {0.0, *(value for one in finding.comparisons for value in (*thresholds(one), one.ours))}
    firm = {value for value in firm if not math.isnan(value)}
    low, high = min(firm), max(firm)
    room = WIDEST * (high - low or 1.0)
    ends = [end for one in finding.comparisons for end in (one.low, one.high, one.paper) if not math.isnan(end)]
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    return Axis(low, high if high > low else low + 1.0)


def thresholds(comparison: Comparison) -> Iterator[float]:
    """Beyond which, or between which, the claim wants the difference."""
    yield comparison.threshold
    if comparison.side == "within":
        yield -comparison.threshold
