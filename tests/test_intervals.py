"""The axis of a finding's plot."""

import math

import pytest

from deit.tables.axes import Axis, axis_of
from deit.tables.verdicts import Comparison, Finding


def finding(*numbers: tuple[float, float, float, float], threshold: float = 0.0, side="above") -> Finding:
    """Of comparisons (ours, low, high, paper)."""
    made = [
        Comparison(what="x", ours=ours, low=low, high=high, n=3, images=9, paper=paper, threshold=threshold, side=side)
        for ours, low, high, paper in numbers
    ]
    return Finding(
        key="k",
        table="t",
        claim="c",
        rule="r",
        verdict="undecided",
        comparisons=tuple(made),
        p_holds=0.5,
        p_contradicted=0.5,
        unit="points",
    )


def test_the_axis_holds_zero_thresholds_ours_the_papers_and_the_interval():
    axis = axis_of(finding((2.0, 1.0, 3.0, 4.0), threshold=0.5, side="within"))
    assert (axis.low, axis.high) == (-0.5, 4.0)
    assert axis.at(-0.5) == 2 and axis.at(4.0) == 98


def test_a_huge_interval_is_cut_off_and_does_not_squeeze_the_rest():
    axis = axis_of(finding((2.0, -90.0, 94.0, 1.0)))
    assert (axis.low, axis.high) == (-3.0, 5.0)
    assert not axis.holds(-90) and axis.at(-90) == 2


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_finding_of_zeros_or_one_seed_has_an_axis(value):
    axis = axis_of(finding((0.0, value, value, math.nan)))
    assert axis.low <= 0 < axis.high and axis.ticks()


def test_ticks_are_few_and_round():
    assert Axis(-3, 5).ticks() == [-2, 0, 2, 4]
    assert Axis(-0.013, 0.051).ticks() == [0, 0.02, 0.04]
    for high in (0.001, 0.7, 3.3, 12, 99):
        assert 2 <= len(Axis(-high / 3, high).ticks()) <= 6
