"""The main findings as one figure: ours with its interval and the paper's gain, a row a comparison."""

import math
from collections.abc import Sequence

import matplotlib.lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import INK, own_style
from .verdicts import Comparison, Finding

MAIN = (
    "hard_over_none",
    "hard_over_soft",
    "token_over_hard",
    "distillation_over_class",
    "convnets_teach_better",
)
"""Keys of the claims that the figure shows, in this order: what Tables 2 and 3 say is better than something else."""
COLOURS = {"holds": "#2f8a4c", "contradicted": "#c4452a", "undecided": "#7d7d7d"}
PAPER = "#3b7fc4"
PALE = 0.45
"""Of what stands below the mean that decides."""
ROW = 0.23  # inches
LEFT = -0.2  # of the width of the axes, where claims begin


def forest(found: Sequence[Finding]) -> Figure | None:
    """A block a finding, coloured by its verdict and pale below its mean; None where the study has no such finding."""
    by_key = {finding.key: finding for finding in found if finding.comparisons}
    shown = [by_key[key] for key in MAIN if key in by_key]
    if not shown:
        return None
    rows = sum(len(finding.comparisons) + 2 for finding in shown) - 1
    with own_style():
        figure = Figure(figsize=(7.4, ROW * rows + 0.9), layout="constrained")
        axes, row, names = figure.subplots(), 0, {}
        for finding in shown:
            draw_finding(axes, row, finding)
            names |= {row + 1 + i: comparison.what for i, comparison in enumerate(finding.comparisons)}
            row += len(finding.comparisons) + 2
        frame(axes, shown, names, rows)
        figure.legend(handles=legend(shown), loc="outside lower center", ncols=2)
    return figure


def draw_finding(axes: Axes, row: int, finding: Finding) -> None:
    """The claim and its verdict in a row, its comparisons in the rows below, on a line at zero."""
    colour, across = COLOURS[finding.verdict], axes.get_yaxis_transform()
    axes.text(LEFT, row, finding.claim, transform=across, va="center")
    axes.text(1, row, finding.verdict, transform=across, va="center", ha="right", color=colour)
    axes.vlines(0, row + 0.5, row + len(finding.comparisons) + 0.5, color=INK, lw=0.8, zorder=0)
    for below, comparison in enumerate(finding.comparisons, row + 1):
        shade = 1.0 if comparison.decides else PALE
        bar = {"color": colour, "marker": "o", "ms": 4.5, "lw": 1.4, "alpha": shade}
        axes.errorbar(comparison.ours, below, xerr=sides(comparison), **bar)
        axes.plot(comparison.paper, below, "x", color=PAPER, ms=5.5, mew=1.4, alpha=shade)


def sides(comparison: Comparison) -> list[list[float]] | None:
    """How far the interval reaches to the left and to the right; None with one seed."""
    if math.isnan(comparison.low):
        return None
    return [[comparison.ours - comparison.low], [comparison.high - comparison.ours]]


def frame(axes: Axes, shown: Sequence[Finding], names: dict[int, str], rows: int) -> None:
    """Names and limits: intervals that are much wider than the numbers are cut off."""
    numbers = [value for finding in shown for one in finding.comparisons for value in (one.ours, one.paper, 0.0)]
    numbers = [value for value in numbers if not math.isnan(value)]
    room = 0.35 * (max(numbers) - min(numbers) or 1.0)
    axes.set_xlim(min(numbers) - room, max(numbers) + room)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_yticks(list(names), list(names.values()), fontsize=9)
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("difference, points of accuracy")


def legend(shown: Sequence[Finding]) -> list[matplotlib.lines.Line2D]:
    """What the marks are; the paper's only where it has a difference."""
    line, ours = matplotlib.lines.Line2D, "ours, with its 95 % interval over seeds and images"
    marks = [line([], [], color=INK, marker="o", ms=4.5, lw=1.4, label=ours)]
    if not all(math.isnan(one.paper) for finding in shown for one in finding.comparisons):
        marks.append(line([], [], color=PAPER, marker="x", ms=5.5, mew=1.4, ls="", label="the paper, on ImageNet"))
    return marks
