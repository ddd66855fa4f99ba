"""Make the views of a stream once, for all runs that see them."""

import argparse
import logging
from pathlib import Path

from deit.commands import run
from deit.see.stored_views import open_stream, store
from deit.store.results import check_input, new_folder, read_job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    data = check_input(arguments.data, job, "data")
    recipe = job.resolved()
    with new_folder(arguments.output, job, keep=True) as folder:
        stream = open_stream(recipe, job.execution.data_root, manifest=data.json("manifest.json"))
        store(folder, recipe, stream, job.execution)


if __name__ == "__main__":
    run(main)
