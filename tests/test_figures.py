"""Figures: no name covers another, a point or the edge; and they can be read on a light and on a dark page."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager
from matplotlib.text import Annotation, Text

from deit.tables import figures
from deit.tables.cells import COLUMNS
from deit.tables.each import accuracy_throughput
from deit.tables.recipes import Cell, Table

PUBLISHED = Path(__file__).parents[1] / "reports/published"
CROWDED = [
    ("deit-ti", 118415, 52.7),
    ("deit-s", 57392, 60.2),
    ("deit-b", 21998, 64.9),
    ("deit-b-finetuned", 6100, 62.8),
]
CROWDED += [("regnety-4gf", 58000, 60.3), ("regnety-8gf", 53345, 60.4), ("regnety-16gf", 51504, 60.6)]
CROWDED += [("deit-s-token", 57000, 60.4), ("deit-b-token", 21500, 65.0), ("deit-b-token-finetuned", 6050, 63.0)]


def family(row: str) -> str:
    return "convnet" if row.startswith("regnety") else "deit-distilled" if "token" in row else "deit"


def drawn(points: list[tuple[str, float, float]]) -> tuple:
    """The figure of points (row, images per second, accuracy), ours and the paper's alike."""
    cells = [
        (row, column, value, value - 20, value + 20, 5, 3, 1000, value, 0)
        for row, rate, accuracy in points
        for column, value in (("images_per_second", rate), ("accuracy", accuracy))
    ]
    recipe = Table(
        table="accuracy_throughput", cells=[Cell(row=row, column=family(row), runs=()) for row, *_ in points]
    )
    figure = accuracy_throughput.draw(recipe, pd.DataFrame(cells, columns=list(COLUMNS)))
    return figure, FigureCanvasAgg(figure)


@pytest.mark.parametrize("points", [CROWDED, CROWDED[:1]], ids=["crowded", "one"])
def test_no_name_covers_another_name_a_point_or_the_edge(points):
    figure, canvas = drawn(points)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in figure.axes:
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        assert len(names) == len(points)
        boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in names]
        for (one, box), (other, beside) in combinations(boxes, 2):
            assert not box.overlaps(beside), f"{one} covers {other}"
        for name, box in boxes:
            assert (
                axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            )
            for _, rate, accuracy in points:
                x, y = axes.transData.transform((rate, accuracy))
                assert not (box.x0 - 2 < x < box.x1 + 2 and box.y0 - 2 < y < box.y1 + 2), f"{name} covers a point"


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("page", ["#ffffff", "#16181b"], ids=["light", "dark"])
def test_colours_stand_out_on_a_light_and_on_a_dark_page(page):
    for name, colour in {**{key: value[0] for key, value in figures.FAMILIES.items()}, **figures.SUPERVISION}.items():
        dark, light = sorted((luminance(page), luminance(colour)))
        assert (light + 0.05) / (dark + 0.05) >= 3, name


def test_an_svg_has_no_ink_of_its_own_and_no_background(tmp_path):
    figures.save(drawn(CROWDED)[0], tmp_path, "points")
    svg = (tmp_path / "points.svg").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in svg and "currentColor" in svg
    assert svg.count(figures.INK) == 1 and "#ffffff" not in svg and "#000000" not in svg


def test_a_name_stands_nearest_to_its_own_point_where_there_is_room():
    figure, canvas = drawn([("deit-ti", 2536, 72.2), ("deit-ti-token", 2530, 74.5), ("deit-b", 292, 81.8)])
    canvas.draw()
    axes, renderer = figure.axes[0], canvas.get_renderer()
    ends = {text.get_text(): axes.transData.transform(text.xy) for text in axes.texts}
    for text in axes.texts:
        box = Text.get_window_extent(text, renderer)
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        nearest = min(ends, key=lambda name: abs(ends[name] - middle).sum())
        assert nearest == text.get_text()


def test_a_style_and_fonts_of_the_users_own_change_no_byte(tmp_path):
    figures.save(drawn(CROWDED)[0], tmp_path, "ours")
    foreign = {"text.usetex": True, "font.size": 44, "savefig.dpi": 30, "svg.fonttype": "none", "lines.linewidth": 9}
    foreign |= {"axes.formatter.use_locale": True, "axes.grid": True, "figure.dpi": 300, "savefig.format": "pdf"}
    with matplotlib.rc_context(foreign):
        fontManager.ttflist.insert(0, replace(fontManager.ttflist[0], fname="/nowhere/font.ttf", name="STIXGeneral"))
        figures.save(drawn(CROWDED)[0], tmp_path, "theirs")
    for kind in ("svg", "png"):
        assert (tmp_path / f"ours.{kind}").read_bytes() == (tmp_path / f"theirs.{kind}").read_bytes()
