"""What a cached teacher costs: a hard-distilled student that reads the cache, beside the same student on labels alone
and beside the teacher in the loop; and what a view of the stream costs, beside timm's bare transform.

    PYTHONPATH=src:workflow python benchmarks/cached_teacher.py [--repetitions 7] [--steps 24]

The student, teacher, images and views are those of params/fashion.yaml; their weights are random, which costs the same.
Every repetition runs all variants one after another, in an order of its own, so that what else the machine does meets
all of them; a ratio is the median of the repetitions' ratios. The time is the CPU time of this process, one thread.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plan.plan import Plan
from plan.studies import plan_study

from deit.learn.recipes import Training
from deit.learn.teacher import Teacher, cached_teacher
from deit.learn.training import set_up, train_together
from deit.networks.distributed import Place, set_up_torch
from deit.networks.models import create, load_weights
from deit.see.datasets import training_images
from deit.see.views import ViewStream, epoch_order, training_transform
from deit.store.checkpoints import WEIGHTS, ResumeState, read_weights, save_weights
from deit.store.job import Execution, Job
from deit.store.results import file_digest
from deit.teach.recipes import Caching
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import TeacherInTheLoop, cast_once

STUDENT, TEACHER = "deit-ti", "regnety-16gf"
EXECUTION = Execution(threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps of one measurement")
    arguments = parser.parse_args()
    place = Place(set_up_torch(EXECUTION))
    plan = plan_study("fashion")
    labels, hard = (shortened(student(plan, supervision), arguments.steps) for supervision in ("labels", "hard"))
    recipe = hard.resolved()
    images = training_images(recipe.data, plan.study.data.root)
    stream = ViewStream(images, recipe.data, recipe.views, recipe.stream_seed)
    with tempfile.TemporaryDirectory() as folder:
        caching, run = written_teacher(plan, hard, stream, Path(folder), place)
        variants = {
            "labels": lambda: trained(labels, stream, place, None),
            "again": lambda: trained(labels, stream, place, None),
            "cache": lambda: trained(hard, stream, place, cached_teacher([run], recipe, file_digest(run / WEIGHTS))),
            "loop": lambda: trained(hard, stream, place, asked(run / WEIGHTS, caching, place)),
            "stream": lambda: streamed(stream),
            "bare": lambda: transformed(stream),
        }
        seconds = interleaved(variants, arguments.repetitions)
    print_table(seconds, recipe, arguments.steps)


def student(plan: Plan, supervision: str) -> Job:
    """The job of the student at the lower resolution."""
    wanted = plan.settings.run(STUDENT, supervision, TEACHER, plan.study.resolutions.pretraining, seed=0)
    return plan.jobs[plan.runs[wanted]]


def shortened(job: Job, steps: int) -> Job:
    """A training with one epoch of so many steps."""
    recipe = job.resolved()
    views = recipe.views.model_copy(update={"epoch_views": steps * recipe.views.batch})
    optimisation = recipe.optimisation.model_copy(update={"epochs": 1})
    recipe = recipe.model_copy(update={"views": views, "optimisation": optimisation})
    return job.model_copy(update={"recipe": recipe.model_dump(mode="json"), "execution": EXECUTION})


def written_teacher(plan: Plan, hard: Job, stream: ViewStream, folder: Path, place: Place) -> tuple[Caching, Path]:
    """A teacher with random weights and its labels of the epoch, both in `folder`."""
    views = hard.resolved().views
    caches = [job.resolved() for job in plan.of_section("teacher_logits") if TEACHER in job.name]
    planned = next(caching for caching in caches if caching.views.resolution == views.resolution)
    changed = {"views": views, "first_epoch": 0, "last_epoch": 0, "keep": "labels"}
    caching = planned.model_copy(update=changed)
    torch.manual_seed(0)
    save_weights(folder / WEIGHTS, create(caching.model).state_dict())
    net = teacher_of(folder / WEIGHTS, caching, place)
    write_epochs(folder, caching, net, file_digest(folder / WEIGHTS), stream, EXECUTION)
    return caching, folder


def teacher_of(weights: Path, caching: Caching, place: Place) -> torch.nn.Module:
    net = create(caching.model)
    load_weights(net, read_weights(weights))
    return cast_once(net.to(place.device).eval().requires_grad_(False), caching.precision)


def asked(weights: Path, caching: Caching, place: Place) -> TeacherInTheLoop:
    return TeacherInTheLoop(teacher_of(weights, caching, place), caching.precision)


def trained(job: Job, stream: ViewStream, place: Place, teacher: Teacher | None) -> Callable[[], None]:
    """The one epoch of a run that is set up."""
    run = set_up(job, stream, ResumeState(Path("unused"), job.digest), place, teacher, None)
    return lambda: list(train_together([run]))


def streamed(stream: ViewStream) -> Callable[[], None]:
    """The epoch's views, finished, and nothing done with them."""

    def make() -> None:
        for step in range(stream.steps_per_epoch):
            for group in range(stream.groups_per_batch):
                stream.finish(stream[0, step, group], torch.device("cpu"))

    return make


def transformed(stream: ViewStream) -> Callable[[], None]:
    """The same images through timm's training transform, one by one and unseeded, stacked into the same groups."""
    transform = training_transform(stream.data, stream.recipe)
    order = epoch_order(stream.seed, 0, len(stream.images))

    def make() -> None:
        for step in range(stream.steps_per_epoch):
            for group in range(stream.groups_per_batch):
                shown = order[stream.positions(step, group) // stream.recipe.repeats].tolist()
                torch.stack([transform(stream.images.image(index)) for index in shown])

    return make


def interleaved(variants: dict[str, Callable[[], Callable[[], None]]], repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of every variant, one a repetition; a first round, which warms up, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(variants), len(variants)):
            measured = variants[name]()
            start = time.process_time()
            measured()
            if repetition:
                seconds[name].append(time.process_time() - start)
        print(f"repetition {repetition} of {repetitions}", file=sys.stderr)
    return seconds


def print_table(seconds: dict[str, list[float]], recipe: Training, steps: int) -> None:
    views = steps * recipe.views.batch
    print(f"{STUDENT} taught by {TEACHER}, fashion, {recipe.views.resolution} px, batch {recipe.views.batch}, CPU time")
    print(f"{steps} steps a measurement, n = {len(seconds['labels'])} interleaved repetitions\n")
    print(f"{'':44}{'median':>8}{'smallest':>10}{'largest':>9}")
    for label, name, other in (
        ("labels / labels, the noise", "again", "labels"),
        ("hard distillation, cache / labels", "cache", "labels"),
        ("hard distillation, cache / teacher in the loop", "cache", "loop"),
        ("teacher in the loop / labels", "loop", "labels"),
        ("view of the stream / timm's bare transform", "stream", "bare"),
    ):
        ratios = [one / two for one, two in zip(seconds[name], seconds[other], strict=True)]
        print(f"{label:44}{statistics.median(ratios):8.3f}{min(ratios):10.3f}{max(ratios):9.3f}")
    print()
    for label, name in (("labels", "labels"), ("cache", "cache"), ("teacher in the loop", "loop")):
        print(f"{label + ', ms a step':44}{1e3 * statistics.median(seconds[name]) / steps:8.1f}")
    for label, name in (("stream", "stream"), ("timm's bare transform", "bare")):
        print(f"{label + ', us a view':44}{1e6 * statistics.median(seconds[name]) / views:8.1f}")


if __name__ == "__main__":
    main()
