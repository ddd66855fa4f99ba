"""Names beside the points of a plot, each where it covers no other name, no point and no line, if there is room."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

Name = tuple[str, float, float]
"""What stands beside a point, and the point's x and y in the units of the plot."""
DIRECTIONS = {(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)}
DISTANCES = (7, 13, 20, 28, 37, 47, 58, 70, 84, 100)
"""From point to name, in points of type."""
NEAR = 13
"""Up to this distance a name needs no line that leads to it."""
POINT, GAP = 4.0, 1.5
"""Half of a point, and what stays free around a name; in points of type."""
ON_LINE, NEARER = 15, 25
"""What it costs to cover a line, or to stand nearer to another point; as so much further away from its own."""
ALIGNED = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


class Box(NamedTuple):
    """In points of type, from the figure's lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def distance(self, other: "Box") -> float:
        across = max(self.left - other.right, other.left - self.right, 0)
        return float(np.hypot(across, max(self.bottom - other.top, other.bottom - self.top, 0)))

    def within(self, other: "Box") -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.bottom <= self.bottom and self.top <= other.top


def place_names(axes: Axes, names: Sequence[Name], size: float, colour: str) -> None:
    """Writes the names, each near its point and covering no point and no other name; call it when all else is drawn.

    Lines are covered, and other points neared, only where a name would stand much further away without.
    """
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()  # only then the layout is known
    unit = 72 / axes.figure.dpi
    points = [around(unit * axes.transData.transform((x, y))) for _, x, y in names]
    frame, lines, taken = Box(*(unit * axes.bbox.extents)), list(on_lines(axes, unit)), list(points)
    for name, point in zip(names, points, strict=True):
        shown = axes.text(0, 0, name[0], fontsize=size)
        extent = shown.get_window_extent(canvas.get_renderer())
        shown.remove()
        places = list(product(DISTANCES, sorted(DIRECTIONS, reverse=True)))
        boxes = [box_at(point, *place, unit * extent.width, unit * extent.height) for place in places]
        free = [i for i, box in enumerate(boxes) if box.within(frame) and not any(map(box.meets, taken))]
        costs = {i: places[i][0] + cost(boxes[i], point, points, lines) for i in free}
        best = min(costs, key=costs.__getitem__, default=0)
        taken.append(boxes[best])
        write(axes, name, *places[best], size, colour)


def cost(box: Box, own: Box, points: Sequence[Box], lines: Sequence[Box]) -> float:
    """Of what a place has against it, but for its distance."""
    nearer = any(box.distance(point) < box.distance(own) for point in points if point != own)
    return ON_LINE * any(map(box.meets, lines)) + NEARER * nearer


def around(point: np.ndarray) -> Box:
    x, y = point.tolist()
    return Box(x - POINT, y - POINT, x + POINT, y + POINT)


def on_lines(axes: Axes, unit: float) -> Iterator[Box]:
    """Small boxes along all lines of a plot, error bars included."""
    paths = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    for collection in axes.collections:
        paths += [collection.get_transform().transform(path.vertices) for path in collection.get_paths()]
    for path in paths:
        path = path[np.isfinite(path).all(axis=1)]  # of one seed, an error bar has no ends
        for start, end in zip(path, path[1:], strict=False):
            steps = 2 + int(unit * np.hypot(*(end - start)) / 2)
            for x, y in unit * np.linspace(start, end, steps):
                yield Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)


def box_at(point: Box, distance: float, direction: tuple[int, int], width: float, height: float) -> Box:
    """Of a name at a distance from the middle of a point, with the gap around it."""
    right, up = direction
    x, y = (point.left + point.right) / 2 + right * distance, (point.bottom + point.top) / 2 + up * distance
    left = x - {1: 0.0, 0: width / 2, -1: width}[right]
    bottom = y - {1: 0.0, 0: height / 2, -1: height}[up]
    return Box(left - GAP, bottom - GAP, left + width + GAP, bottom + height + GAP)


def write(axes: Axes, name: Name, distance: float, direction: tuple[int, int], size: float, colour: str) -> None:
    right, up = direction
    leads = {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 1, "shrinkB": POINT}
    text = axes.annotate(
        name[0],
        name[1:],
        xytext=(right * distance, up * distance),
        textcoords="offset points",
        ha=ALIGNED[right][0],
        va=ALIGNED[up][1],
        fontsize=size,
        color=colour,
        arrowprops=leads if distance > NEAR else None,
    )
    text.set_in_layout(False)  # it shall not move what it was placed beside
