"""Measure images per second of every model of a study, one after another: throughput.csv."""

import argparse
import csv
import logging
from pathlib import Path

from deit.commands import run
from deit.networks.distributed import set_up_torch
from deit.networks.throughput import COLUMNS, measure
from deit.store.job import Job
from deit.store.results import new_folder, read_job

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    measure_throughput(read_job(arguments.recipe), arguments.output)


def measure_throughput(job: Job, output: Path) -> None:
    """Fills the folder `output`; one row a model."""
    recipe = job.resolved()
    device = set_up_torch(job.execution)
    with new_folder(output, job) as folder, (folder / "throughput.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for label, model in recipe.models.items():
            row = {"label": label, **measure(model, recipe.batch, recipe.repeats, device)}
            table.writerow(row)
            log.info("{label}: {images_per_second:.1f} ± {std:.1f} images/s, batch {batch}".format(**row))


if __name__ == "__main__":
    run(main)
