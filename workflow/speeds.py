"""How fast a node is, from a table of speeds, and what follows for a job: what it waits for, and how long it takes.

The table (speeds.csv) has a row a speed with its source. A speed is *measured* by this project, *published* by the
paper or an *estimate*, whose source says how it is reckoned. `benchmarks/measure_speeds.py` measures all of them on a
node of yours. Where several rows fit, the first one counts.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deit.recipes import Caching, Job, StoringViews, Training

SPEEDS = Path(__file__).with_name("speeds.csv")
COLUMNS = ("what", "model", "resolution", "card", "precision", "value", "unit", "basis", "source")
UNITS = {
    "start": "seconds a job",
    "views": "views/s a core",
    "train": "images/s a GPU",
    "infer": "images/s a GPU",
}
BASES = ("measured", "published", "estimate")
REMEDY = "Measure your node: PYTHONPATH=src:workflow python benchmarks/measure_speeds.py STUDY --output FILE."


class Speed(NamedTuple):
    """A row of the table."""

    what: str
    model: str
    """As in the study, for training and inference. A second token costs less than 1 % (paper, Table 5)."""
    resolution: str
    card: str
    precision: str
    value: float
    unit: str
    basis: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:,.0f} ({self.basis})"


def model_of(job: Job) -> str:
    """The model of a training or of a teacher's cache: names are section/model/…"""
    return job.name.split("/")[1]


def read_speeds(path: Path) -> list[Speed]:
    """The rows of a table. Raises SystemExit that names file, line and remedy where it is not one."""
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: not a table of speeds ({error}). {REMEDY}") from error
    if tuple(header) != COLUMNS:
        raise SystemExit(f"{path}: its columns are {header}, not {list(COLUMNS)}. {REMEDY}")
    return [speed_of(row, f"{path}, line {line}") for line, row in enumerate(rows, 2)]


def speed_of(row: list[str], where: str) -> Speed:
    try:
        speed = Speed(*row)._replace(value=float(row[COLUMNS.index("value")]))
    except (TypeError, ValueError, IndexError) as error:
        raise SystemExit(f"{where}: not {len(COLUMNS)} columns with a number as value. {REMEDY}") from error
    if UNITS.get(speed.what) != speed.unit or speed.basis not in BASES or not speed.value > 0 or not speed.source:
        raise SystemExit(f"{where}: what and unit are one of {UNITS}, basis one of {BASES}; value > 0, with a source.")
    return speed


@dataclass(frozen=True)
class Pace:
    """How a job goes that shows `views` views to a network, or only makes them."""

    views: int
    gpus: int
    """Or processes without one."""
    cores: int
    """Of all its loading processes."""
    device: Speed | None
    """images/s of one GPU; None where none computes."""
    loader: Speed | None
    """views/s of one core; None where the views are stored already."""

    @property
    def device_rate(self) -> float:
        return self.gpus * self.device.value if self.device else float("inf")

    @property
    def loader_rate(self) -> float:
        return self.cores * self.loader.value if self.loader else float("inf")

    @property
    def limit(self) -> str:
        return "loader" if self.loader_rate < self.device_rate else "GPU"

    @property
    def fed(self) -> float:
        """How many GPUs its loader could keep busy."""
        return self.loader_rate / self.device.value if self.device else 0.0

    @property
    def seconds(self) -> float:
        return self.views / min(self.device_rate, self.loader_rate)

    @property
    def computing_seconds(self) -> float:
        """If nothing waited for the loader."""
        return self.views / self.device_rate if self.device else self.seconds


class Node:
    """What a node with a certain card does a second."""

    def __init__(self, speeds: list[Speed], card: str = ""):
        """`card` as it stands in the table; without, that of the first training in it. Raises SystemExit as needed."""
        cards = list(dict.fromkeys(speed.card for speed in speeds if speed.what == "train"))
        if not cards or card and card not in cards:
            raise SystemExit(f"--card {card}: the speeds are of {', '.join(cards) or 'no card'}. {REMEDY}")
        self.speeds, self.card = speeds, card or cards[0]

    def speed(self, what: str, model: str = "", resolution: int | str = "", precision: str = "") -> Speed | None:
        """The first row that fits; None where there is none. The loader's and the start's are those of any card."""
        key = (what, model, str(resolution), precision)
        of_card = what in ("train", "infer")
        fitting = (s for s in self.speeds if (s.what, s.model, s.resolution, s.precision) == key)
        return next((s for s in fitting if s.card == self.card or not of_card), None)

    def start_minutes(self) -> float:
        start = self.speed("start")
        return start.value / 60 if start else 0.0

    def pace(self, job: Job) -> Pace | None:
        """None for a job that shows no views to speak of, or whose speed is not in the table."""
        if job.kind not in VIEWS_OF:
            return None
        recipe, execution = job.resolved(), job.execution
        processes, stored = max(execution.gpus, 1) * execution.nodes, "views" in execution.folders
        loader = None if stored else self.speed("views", resolution=recipe.views.resolution)
        device = self.device_speed(job, recipe)
        if (loader is None and not stored) or (device is None and job.kind != "views"):
            return None
        return Pace(VIEWS_OF[job.kind](recipe), processes, processes * max(execution.workers, 1), device, loader)

    def device_speed(self, job: Job, recipe: Training | Caching | StoringViews) -> Speed | None:
        """Of the network that the job trains or asks."""
        if job.kind == "views":
            return None
        what = "train" if job.kind == "train" else "infer"
        precision = recipe.optimisation.precision if job.kind == "train" else recipe.precision
        return self.speed(what, model_of(job), recipe.views.resolution, precision)


def epoch_views(recipe: Training | Caching | StoringViews) -> int:
    return recipe.views.steps_per_epoch(recipe.data.images) * recipe.views.batch


VIEWS_OF: dict[str, Callable] = {
    "train": lambda recipe: recipe.optimisation.epochs * epoch_views(recipe),
    "cache": lambda recipe: (recipe.last_epoch + 1 - recipe.first_epoch) * epoch_views(recipe),
    "views": lambda recipe: recipe.epochs * epoch_views(recipe),
}
"""Kind of job -> the views that it makes or shows."""
