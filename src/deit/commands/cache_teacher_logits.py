"""Ask a teacher about every view of some epochs of a stream: one file an epoch, and a manifest."""

import argparse
import logging
from pathlib import Path

from deit.datasets import training_images
from deit.distributed import set_up_torch
from deit.results import check_input, new_folder, read_job
from deit.teacher_logits import load_teacher, weights_digest, write_epochs
from deit.views import ViewStream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="run folder")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = read_job(arguments.recipe)
    check_input(arguments.data, job, "data")
    check_input(arguments.teacher, job, "teacher")

    recipe = job.resolved()
    teacher = load_teacher(arguments.teacher, recipe.model, set_up_torch(job.execution))
    images = training_images(recipe.data, job.execution.data_root)
    stream = ViewStream(images, recipe.data, recipe.views, recipe.stream_seed)
    with new_folder(arguments.output, job) as folder:
        write_epochs(folder, recipe, teacher, weights_digest(arguments.teacher), stream, job.execution)


if __name__ == "__main__":
    main()
