"""Make the views of a stream once, for all runs that see them."""

import argparse
from pathlib import Path

from deit.commands import run
from deit.datasets import read_manifest
from deit.results import check_input, new_folder, read_job
from deit.stored_views import open_stream, store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    check_input(arguments.data, job, "data")
    recipe = job.resolved()
    with new_folder(arguments.output, job) as folder:
        stream = open_stream(recipe, job.execution.data_root, manifest=read_manifest(arguments.data))
        store(folder, recipe, stream, job.execution)


if __name__ == "__main__":
    run(main)
