"""TensorBoard's event files of a study: the curves of all trainings, under way or finished.

    python workflow event-files [STUDY] && tensorboard --logdir results/STUDY/tensorboard

Reads history.csv and validation.csv of each planned training, and changes no result. Give the command again to add what
has been trained meanwhile. No other part of the workflow needs tensorboard.
"""

import argparse
import csv
import shutil
from pathlib import Path

from commands._study import add_study, named_or_chosen

CURVES = {"history.csv": "training", "validation.csv": "validation"}
"""File of a run -> where TensorBoard shows its columns."""
AXIS = ("epoch", "step")


def write_events(study: Path) -> list[Path]:
    """Writes the curves of every training in plan.csv that has any; returns their folders. Former ones are replaced.

    Raises SystemExit where the study was never started, or tensorboard is not installed.
    """
    if not (study / "plan.csv").exists():
        raise SystemExit(f"{study}/plan.csv is missing: nothing was started yet. Known studies are in params/.")
    with (study / "plan.csv").open(encoding="utf-8") as file:
        trainings = [row for row in csv.DictReader(file) if row["kind"] == "train"]
    shutil.rmtree(study / "tensorboard", ignore_errors=True)
    folders = []
    for row in trainings:
        folder = Path(row["folder"])
        source = folder if (folder / "provenance.json").exists() else folder.with_name(f"{folder.name}.partial")
        curves = {panel: rows_of(source / name) for name, panel in CURVES.items()}
        if any(curves.values()):
            folders.append(study / "tensorboard" / row["phase"] / f"{row['name']}-{row['digest']}")
            write_curves(curves, folders[-1], (source / "history.csv").stat().st_mtime)
    return folders


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_curves(curves: dict[str, list[dict[str, str]]], folder: Path, end: float) -> None:
    """Each column over the optimiser steps; the last epoch ended at the time `end`, in seconds since 1970."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SystemExit("tensorboard is not installed: pip install --requirement requirements.txt") from None
    left = sum(float(row["seconds"]) for row in curves["training"])
    times = {row["step"]: end - (left := left - float(row["seconds"])) for row in curves["training"]}
    with SummaryWriter(folder) as writer:
        for panel, rows in curves.items():
            for row in rows:
                for column, value in row.items():
                    if column not in AXIS and value:
                        tag, step = f"{panel}/{column}", int(row["step"])
                        writer.add_scalar(tag, float(value), step, walltime=times.get(row["step"], end))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    study = Path("results") / named_or_chosen(parser.parse_args().study)
    print(f"{len(write_events(study))} trainings: tensorboard --logdir {study}/tensorboard")
