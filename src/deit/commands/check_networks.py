"""Build every network of a study without weights, and refuse what cannot do what the study asks: networks.csv."""

import argparse
import csv
import logging
from pathlib import Path

from deit.commands import run
from deit.networks.check import COLUMNS, Unfit, check
from deit.store.job import Job
from deit.store.results import new_folder, read_job

log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_networks(read_job(arguments.recipe), arguments.output)


def check_networks(job: Job, output: Path) -> None:
    """Fills the folder `output`, one row a network; raises SystemExit that names every network that is unfit."""
    networks, rows, refused = job.resolved().networks, [], []
    for name, network in networks.items():
        try:
            rows.append(check(name, network, networks.get(network.initial)))
            log.info(
                "{network}: {parameters:,} parameters, {multiply_adds:,} multiply-adds an image".format(**rows[-1])
            )
        except Unfit as error:
            refused.append(str(error))
    if refused:
        raise SystemExit("\n".join(refused))
    with new_folder(output, job) as folder, (folder / "networks.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    run(main)
