"""What all plots share, and the training curves.

Their SVG is dark or light as the reader's browser is; the PNG, for notebooks and papers, is light.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.font_manager
import matplotlib.lines
import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .titles import title

INK, BRIGHT = "#1a1a1a", "#e4e2dd"
"""Of text and axes, on a light and on a dark page."""
ADAPTIVE = f"""<style>
svg {{ color: {INK} }} @media (prefers-color-scheme: dark) {{ svg {{ color: {BRIGHT} }} }}
</style>"""
STYLE = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # the second one has the alembic
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "savefig.bbox": "tight",
    "savefig.dpi": 200,
    "svg.hashsalt": "deit",  # the same figure makes the same bytes
}
# Colours that stand out on a light and on a dark page; with a marker.
FAMILIES = {"convnet": ("#7d7d7d", "s"), "deit": ("#c8701a", "o"), "deit-distilled": ("#3b7fc4", "^")}
SUPERVISION = {
    "labels": "#7d7d7d",
    "soft": "#a8861a",
    "hard": "#cf5526",
    "token": "#3b7fc4",
    "two-class-tokens": "#9367c0",
}
METRICS = {"loss": "training loss", "accuracy": "accuracy, %"}


@contextmanager
def own_style() -> Iterator[None]:
    """Our style on matplotlib's own defaults and fonts, whatever this user's matplotlibrc and font folders hold."""
    fonts = matplotlib.font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if font.fname.startswith(matplotlib.get_data_path())]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes <name>.png and <name>.svg; returns the path of the PNG."""
    svg, png = (Path(folder) / f"{name}.{kind}" for kind in ("svg", "png"))
    with own_style():
        figure.savefig(svg, metadata={"Date": None}, transparent=True)
        figure.savefig(png, facecolor="white")
    head, tag, rest = svg.read_text(encoding="utf-8").partition("<defs>")
    svg.write_text(head + ADAPTIVE + tag + rest.replace(INK, "currentColor"), encoding="utf-8")
    return png


def draw_family(axes: Axes, name: str, points: pd.DataFrame, spread: pd.Series | None) -> None:
    """The models of one family; bars are 95 % intervals over seeds and images."""
    colour, marker = FAMILIES[name]
    rates, accuracies = points["images_per_second"], points["accuracy"]
    bars = None if spread is None else spread.reindex(points.index)
    axes.errorbar(rates, accuracies, bars, color=colour, marker=marker, ms=4.5, lw=1, elinewidth=0.8, label=title(name))


def half_interval(cells: pd.DataFrame) -> pd.Series:
    """Half of the 95 % interval of each cell; nan with one seed."""
    return (cells["high"] - cells["low"]) / 2


def fit_height(axes: Axes, points: pd.Series, halves: pd.Series | None) -> None:
    """All points, and all bars but those longer than the points' range: intervals of two seeds must not flatten all."""
    if points.empty:
        return
    extent = points.max() - points.min()
    bars = pd.Series(0.0, points.index) if halves is None else halves.reindex(points.index).fillna(0.0)
    bars = bars.where(2 * bars <= extent, 0.0)
    low, high = (points - bars).min(), (points + bars).max()
    margin = axes.margins()[1] * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)


def plain_ticks(axes: Axes) -> None:
    """A logarithmic axis that spans less than a few decades reads better with plain numbers."""
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def training_curves(histories: pd.DataFrame) -> Figure:
    """Small multiples: a column a model, loss above accuracy, a line a run, coloured by supervision.

    `histories` has a row an epoch: panel, supervision, run, epoch and any of METRICS.
    """
    panels = dict.fromkeys(histories["panel"])
    metrics = [metric for metric in METRICS if metric in histories and histories[metric].notna().any()]
    with own_style():
        figure = Figure(figsize=(2.1 * max(len(panels), 2), 1.9 * len(metrics) + 0.5), layout="constrained")
        grid = figure.subplots(len(metrics), len(panels), squeeze=False, sharey="row")
        for column, panel in zip(grid.T, panels, strict=True):
            for axes, metric in zip(column, metrics, strict=True):
                draw_runs(axes, histories[histories["panel"] == panel], metric)
            column[0].set_title(panel)
            column[-1].set_xlabel("epoch")
        for axes, metric in zip(grid[:, 0], metrics, strict=True):
            axes.set_ylabel(METRICS[metric])
        known = dict.fromkeys(histories["supervision"])
        lines = [matplotlib.lines.Line2D([], [], color=SUPERVISION.get(name, INK)) for name in known]
        figure.legend(lines, list(known), loc="outside lower center", ncols=len(known))
    return figure


def draw_runs(axes: Axes, history: pd.DataFrame, metric: str) -> None:
    """A line a run, at the end of each epoch; a point where a run has one epoch only."""
    for (supervision, _), epochs in history.groupby(["supervision", "run"], sort=False):
        marker = "." if len(epochs) == 1 else ""
        axes.plot(
            epochs["epoch"] + 1,
            epochs[metric],
            color=SUPERVISION.get(supervision, INK),
            marker=marker,
            lw=1,
            alpha=0.8,
        )
    last = int(history["epoch"].max()) + 1
    axes.set_xlim(1 - 0.06 * last, 1.06 * last)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(min(4, last), integer=True))
    if last == 1:
        axes.set_xticks([1])
