"""Ask a teacher about every view of some epochs of a stream: one file an epoch, and a manifest."""

import argparse
import logging
from pathlib import Path

from deit.commands import run
from deit.networks.distributed import set_up_torch
from deit.see.stored_views import open_stream
from deit.store.checkpoints import WEIGHTS
from deit.store.results import check_input, new_folder, read_job
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import load_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--views", type=Path, help="folder of the stored views; without, they are made on the way")
    parser.add_argument("--teacher", type=Path, required=True, help="run folder")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    data = check_input(arguments.data, job, "data")
    teacher = check_input(arguments.teacher, job, "teacher")

    recipe = job.resolved()
    net = load_teacher(teacher, recipe.model, recipe.data, set_up_torch(job.execution), recipe.precision)
    stream = open_stream(recipe, job.execution.data_root, arguments.views, data.json("manifest.json"))
    with new_folder(arguments.output, job, keep=True) as folder:
        write_epochs(folder, recipe, net, teacher.sha256[WEIGHTS], stream, job.execution)


if __name__ == "__main__":
    run(main)
