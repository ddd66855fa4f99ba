"""How fast a node is, from a table of speeds, and what follows for a job: what it waits for, and how long it takes.

The table (speeds.csv) has a row a speed with its source. A speed is *measured* by this project, *published* by the
paper or an *estimate*, whose source says how it is reckoned. `benchmarks/measure_speeds.py` measures all of them on a
node of yours. Where several rows fit, the first one counts.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deit.learn.recipes import Training
from deit.see.recipes import StoringViews
from deit.store.job import Job
from deit.teach.recipes import Caching

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
    """As in the study, for training and inference. A second token costs less than 1 % (paper, Table 5). Of views, their
    interpolation where it is not bicubic."""
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
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: not a table of speeds ({error}). {REMEDY}") from error
    if tuple(header) != COLUMNS:
        raise SystemExit(f"{path}: its columns are {header}, not {list(COLUMNS)}. {REMEDY}")
    return [speed_of(row, f"{path}, line {line}") for line, row in enumerate(rows, 2)]


def speed_of(row: list[str], where: str) -> Speed:
    try:
        *network, value, unit, basis, source = row
        what, model, resolution, card, precision = network
        speed = Speed(what, model, resolution, card, precision, float(value), unit, basis, source)
    except ValueError as error:
        raise SystemExit(f"{where}: not {len(COLUMNS)} columns with a number as value. {REMEDY}") from error
    if UNITS.get(speed.what) != speed.unit or speed.basis not in BASES or not speed.value > 0 or not speed.source:
        raise SystemExit(f"{where}: what and unit are one of {UNITS}, basis one of {BASES}; value > 0, with a source.")
    return speed


class Workload(NamedTuple):
    """Views that a network is trained or asked on."""

    views: int
    speed: Speed
    """images/s of one GPU."""


@dataclass(frozen=True)
class Pace:
    """How a job goes that makes `views` views, each once, and shows them to networks: none, one, or all of a pass."""

    views: int
    gpus: int
    """Or processes without one."""
    cores: int
    """Of all its loading processes."""
    networks: tuple[Workload, ...]
    loader: Speed | None
    """views/s of one core; None where the views are stored already."""

    @property
    def gpu_seconds(self) -> float:
        """Of one GPU for all networks."""
        return sum(load.views / load.speed.value for load in self.networks)

    @property
    def loader_seconds(self) -> float:
        return self.views / (self.cores * self.loader.value) if self.loader else 0.0

    @property
    def limit(self) -> str:
        return "loader" if self.loader_seconds > self.gpu_seconds / self.gpus else "GPU"

    @property
    def gpus_fed(self) -> float:
        """How many GPUs its loader could keep busy; any number, where it makes nothing."""
        return self.gpu_seconds / self.loader_seconds if self.loader else float("inf")

    @property
    def seconds(self) -> float:
        """Of what is slower. Runs of a pass that differ in length are taken as if they went alike to the end."""
        return max(self.loader_seconds, self.gpu_seconds / self.gpus)

    @property
    def computing_seconds(self) -> float:
        """If nothing waited for the loader."""
        return self.gpu_seconds / self.gpus if self.networks else self.seconds

    @property
    def device(self) -> str:
        """Views/s that one GPU brings through all networks."""
        bases = dict.fromkeys(load.speed.basis for load in self.networks)
        return f"{self.views / self.gpu_seconds:,.0f} ({', '.join(bases)})" if self.networks else ""

    @property
    def speeds(self) -> set[Speed]:
        """All that it rests on."""
        return {load.speed for load in self.networks} | ({self.loader} if self.loader else set())


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

    def pace(self, job: Job, members: Sequence[Job] = ()) -> Pace | None:
        """None for a job that shows no views to speak of, or where a speed is not in the table.

        `members` are the runs and caches that a pass makes: trainings, and teachers that are asked.
        """
        parts = [(part, part.resolved()) for part in members or [job]]
        if any(part.kind not in VIEWS_OF for part, _ in parts):
            return None
        processes, stored = max(job.execution.gpus, 1) * job.execution.nodes, "views" in job.execution.folders
        seen = parts[0][1].views
        loader = None if stored else self.speed("views", seen.interpolation or "", seen.resolution)
        views = [VIEWS_OF[part.kind](recipe) for part, recipe in parts]
        speeds = [self.device_speed(*part) for part in parts if part[0].kind != "views"]
        if (loader is None and not stored) or None in speeds:
            return None
        networks = tuple(map(Workload, views, speeds))
        return Pace(max(views), processes, processes * max(job.execution.workers, 1), networks, loader)

    def device_speed(self, job: Job, recipe: Training | Caching) -> Speed | None:
        """Of the network that the job trains or asks."""
        if isinstance(recipe, Training):
            return self.speed("train", model_of(job), recipe.views.resolution, recipe.optimisation.precision)
        return self.speed("infer", model_of(job), recipe.views.resolution, recipe.precision)


def epoch_views(recipe: Training | Caching | StoringViews) -> int:
    return recipe.views.steps_per_epoch(recipe.data.images) * recipe.views.batch


VIEWS_OF: dict[str, Callable] = {
    "train": lambda recipe: recipe.optimisation.epochs * epoch_views(recipe),
    "cache": lambda recipe: (recipe.last_epoch + 1 - recipe.first_epoch) * epoch_views(recipe),
    "views": lambda recipe: recipe.epochs * epoch_views(recipe),
}
"""Kind of job -> the views that it makes or shows."""
