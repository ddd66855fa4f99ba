"""What a run tells of its epochs: history.csv, the lines of its log, and the log of its own."""

import csv
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HISTORY = ("epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second", "seconds", "skipped_steps")
Row = dict[str, float]
"""One epoch, by the columns above. `accuracy` is that of the class head on the training views, which are mixed."""

VALIDATION = ("epoch", "step", "images", "class", "distillation", "fusion", "seconds")
"""One look at images that are not learnt from: their number, and the accuracy of each reading that the run has."""

log = logging.getLogger(__name__)


def run_log(name: str) -> logging.LoggerAdapter:
    """What one of several runs of a process has to say, for its own log alone."""
    return logging.LoggerAdapter(log, {"run": name})


@contextmanager
def log_file(folder: Path | None, name: str) -> Iterator[None]:
    """What this package logs goes to log.txt of the folder too, if there is a folder; not what other runs say."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8") if folder else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(lambda record: getattr(record, "run", name) == name)
    package = logging.getLogger(__package__)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()


def epoch_line(history: tuple[Row, ...], number: int, epochs: int) -> str:
    """The log's line of an epoch of a run that has this many."""
    row = history[number]
    left = (epochs - 1 - row["epoch"]) * sum(past["seconds"] for past in history) / len(history)
    parts = (
        f"epoch {row['epoch'] + 1}/{epochs}",
        f"loss {row['loss']:.4f}",
        f"accuracy on mixed views {100 * row['accuracy']:.2f} %",
        f"learning rate {row['learning_rate']:.2e}",
        f"{row['images_per_second']:.0f} im/s",
        f"{left // 3600:.0f} h {left % 3600 // 60:.0f} min {left % 60:.0f} s left",
        *([f"{row['skipped_steps']} steps skipped: not finite"] if row["skipped_steps"] else []),
    )
    return "  ".join(parts)


def validation_line(row: Row, epochs: int) -> str:
    """The log's line of a look at other images, of a run that has so many epochs."""
    readings = ", ".join(f"{how} {100 * row[how]:.2f} %" for how in ("class", "distillation", "fusion") if how in row)
    return f"epoch {row['epoch'] + 1}/{epochs}  validation accuracy {readings}  on {row['images']} images"


def write_rows(path: Path, columns: tuple[str, ...], rows: tuple[Row, ...]) -> None:
    """As CSV, replacing the file at once: whoever watches a training reads it at any time."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)
