"""Measure the speeds of this node that `python workflow cost` reckons with; two minutes on a GPU.

    PYTHONPATH=src:workflow python benchmarks/measure_speeds.py imagenet --output workflow/cost/speeds.csv

What is measured: views/s a core at each resolution, by the study's own loader; images/s of each of its models on one
device in training and in inference, by its own loop, on one mix group of views that is made once; and the seconds that
a job takes to start. On a GPU a step has the batch of one of the run's GPUs; without one that of a study which asks for
none, else two views, which tells little more than that the script works. What is not in the figures: the sum over
ranks, the file system.
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from cost.speeds import COLUMNS, UNITS, Speed, model_of
from PIL import Image, ImageFilter
from plan.plan import Plan
from plan.studies import plan_study

from deit.learn.recipes import Training
from deit.learn.run_state import TrainingRun
from deit.learn.teacher import Teacher
from deit.learn.training import Answers, batches_of, set_up, take_steps
from deit.networks.distributed import Place, set_up_torch
from deit.networks.throughput import device_name, wait_for
from deit.see.datasets import ImageSet, training_images
from deit.see.image_files import FolderImages
from deit.see.loading import GROUPS_AT_A_TIME, Keys, mix_groups
from deit.see.recipes import Split
from deit.see.views import MixGroup, ViewStream
from deit.store.checkpoints import ResumeState
from deit.store.job import Execution, Job
from deit.teach.teacher_logits import logits_of

PHOTOGRAPHS, PIXELS = 400, (500, 375)
CPU = torch.device("cpu")
FAR = 10_000
"""Epochs, and minutes between two saves, that no measurement reaches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--output", type=Path, required=True, help="the CSV file, for `python workflow cost --speeds`")
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement, after a warm-up")
    parser.add_argument("--workers", type=int, help="of the loader; without, one a core. 0: CPU time of one process")
    parser.add_argument("--own-images", action="store_true", help="the study's instead of drawn ones; lists them first")
    parser.add_argument("--models", nargs="*", help="names in the study; without the flag all, none after it: none")
    arguments = parser.parse_args()
    plan = plan_study(arguments.study)
    if unknown := set(arguments.models or ()) - plan.study.models.keys():
        raise SystemExit(f"--models {' '.join(sorted(unknown))}: {arguments.study} has {', '.join(plan.study.models)}.")
    execution = Execution(gpus=int(torch.cuda.is_available()), save_minutes=FAR)
    place = Place(set_up_torch(execution))
    with tempfile.TemporaryDirectory() as folder, arguments.output.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        images = images_of(plan, Path(folder), arguments.own_images)
        for speed in speeds_of_node(plan, images, place, execution, arguments):
            source = f"benchmarks/measure_speeds.py {arguments.study}, torch {torch.__version__}, {speed.source}"
            table.writerow(speed._replace(value=f"{speed.value:.4g}", source=source))
            file.flush()
            print(*speed[:5], f"{speed.value:.4g} {speed.unit}", file=sys.stderr, flush=True)


def speeds_of_node(
    plan: Plan, images: ImageSet, place: Place, execution: Execution, arguments: argparse.Namespace
) -> Iterator[Speed]:
    """The rows of the table; their source is how each was measured."""
    card = device_name(place.device)
    yield measured("start", "", "", card, "", start_seconds(place.device), "imports and the device's start")
    jobs = trainings(plan)
    yield from speeds_of_loader(plan, images, arguments)
    for (model, resolution), job in jobs.items():
        if arguments.models is None or model in arguments.models:
            recipe = share_of_one_device(job, place.device)
            run = ready_run(recipe, images, place, execution)
            group = one_group(run)
            key = (model, resolution, card, recipe.optimisation.precision)
            speed = trained_images_a_second([run], itertools.repeat(group), arguments.seconds)
            yield measured("train", *key, speed, f"{recipe.views.batch} views a step")
            speed = answered_images_a_second(run, group, arguments.seconds)
            yield measured("infer", *key, speed, f"{recipe.views.mix_group} views a forward pass")


def speeds_of_loader(plan: Plan, images: ImageSet, arguments: argparse.Namespace) -> Iterator[Speed]:
    """views/s a core at each resolution and interpolation."""
    workers = len(os.sched_getaffinity(0)) if arguments.workers is None else arguments.workers
    how = f"{workers} processes" if workers else "CPU time of one process"
    recipes = [job.resolved() for job in plan.jobs.values() if job.kind == "train"]
    kinds = {(recipe.views.interpolation or "", recipe.views.resolution): recipe for recipe in recipes}
    for kind, recipe in kinds.items():
        speed = views_a_second(stream_of(recipe, images), workers, arguments.seconds) / max(workers, 1)
        yield measured("views", *kind, device_name(CPU), "", speed, how)


def measured(what: str, model: str, resolution: int | str, card: str, precision: str, value: float, how: str) -> Speed:
    return Speed(what, model, str(resolution), card, precision, value, UNITS[what], "measured", how)


def trainings(plan: Plan) -> dict[tuple[str, int], Job]:
    """Model and resolution -> one of its trainings."""
    jobs: dict[tuple, Job] = {}
    for job in plan.jobs.values():
        if job.kind == "train":
            jobs.setdefault((model_of(job), job.recipe["views"]["resolution"]), job)
    return jobs


# Views ----------------------------------------------------------------------------------------------------------------


def images_of(plan: Plan, folder: Path, own: bool) -> ImageSet:
    """The study's images where they are asked for or come with it; else drawn ones of ImageNet's usual size."""
    data = plan.settings.training_data("")
    if own or data.reader == "idx":
        return training_images(data, plan.study.data.root)
    draw_photographs(folder / "drawn" / "class")
    return FolderImages(Split(images=PHOTOGRAPHS, folder="drawn"), data, folder, "drawn")


def draw_photographs(folder: Path) -> None:
    """JPEGs of 500 x 375 pixels and about 100 kB, as ImageNet's usually are: large shapes under fine grain."""
    folder.mkdir(parents=True)
    for number in range(PHOTOGRAPHS):
        draw = np.random.default_rng(number)
        shapes = Image.fromarray(draw.integers(256, size=(8, 10, 3), dtype=np.uint8)).resize(PIXELS, Image.BICUBIC)
        grain = Image.fromarray(draw.integers(256, size=(*PIXELS[::-1], 3), dtype=np.uint8))
        mixed = Image.blend(shapes, grain.filter(ImageFilter.GaussianBlur(0.7)), 0.65)
        mixed.save(folder / f"{number}.jpeg", quality=90)


def stream_of(recipe: Training, images: ImageSet) -> ViewStream:
    """The stream of a recipe; an epoch shows no more than there is."""
    batch = recipe.views.batch
    shown = batch * (len(images) * recipe.views.repeats // batch)
    views = recipe.views.model_copy(update={"epoch_views": shown})
    return ViewStream(images, recipe.data, views, recipe.stream_seed)


def views_a_second(stream: ViewStream, workers: int, seconds: float) -> float:
    """Of all loading processes together; of this process alone, by its CPU time, where there are none."""
    steps = stream.steps_per_epoch
    keys = Keys(0, FAR * steps, steps, range(stream.groups_per_batch))
    clock = time.perf_counter if workers else time.process_time
    with mix_groups(stream, keys, Execution(workers=workers)) as groups:
        list(itertools.islice(groups, GROUPS_AT_A_TIME * (2 * workers + 1)))  # what is prepared ahead while they start
        done, start, round_ = 0, clock(), GROUPS_AT_A_TIME * max(workers, 1)
        while clock() - start < seconds or not done:  # in rounds, as the processes deliver in turn, maybe all at once
            done += sum(len(group.positions) for group in itertools.islice(groups, round_))
        return done / (clock() - start)


# Networks -------------------------------------------------------------------------------------------------------------


def share_of_one_device(job: Job, device: torch.device) -> Training:
    """The training as one of its GPUs does it: its part of each batch. Without the GPUs that it asks for: two views."""
    recipe, world = job.resolved(), max(job.execution.gpus * job.execution.nodes, 1)
    as_planned = device.type == "cuda" or not job.execution.gpus
    group = recipe.views.mix_group if as_planned else 2
    batch = recipe.views.batch // world if as_planned else group
    views = recipe.views.model_copy(update={"batch": batch, "mix_group": group})
    optimisation = recipe.optimisation.model_copy(update={"epochs": FAR})
    return recipe.model_copy(update={"views": views, "optimisation": optimisation})


def ready_run(
    recipe: Training, images: ImageSet, place: Place, execution: Execution, teacher: Teacher | None = None
) -> TrainingRun:
    """A run before its first step, whose epochs have ten steps, where the images suffice; without a GPU, one."""
    batch, shown = recipe.views.batch, len(images) * recipe.views.repeats
    steps = min(10, shown // batch) if place.device.type == "cuda" else 1
    views = recipe.views.model_copy(update={"epoch_views": steps * batch})
    recipe = recipe.model_copy(update={"views": views})
    if teacher is None:  # nobody to ask: as from labels alone
        recipe = recipe.model_copy(update={"objective": recipe.objective.model_copy(update={"loss": "labels"})})
    job = Job(kind="train", name="measured", recipe=recipe.model_dump(mode="json"), behaviour={}, execution=execution)
    stream = ViewStream(images, recipe.data, views, recipe.stream_seed)
    run = set_up(job, stream, ResumeState(Path("unused"), job.digest), place, teacher, None)
    run.steps_per_epoch = run.end  # what is done once an epoch would be much of so few steps
    return run


def one_group(run: TrainingRun) -> MixGroup:
    """A mix group of the run's stream, as its loader hands it over."""
    without_workers = run.execution.model_copy(update={"workers": 0})
    with mix_groups(run.stream, Keys(0, 1, 1, range(1)), without_workers) as groups:
        return next(groups)


def trained_images_a_second(runs: list[TrainingRun], groups: Iterator[MixGroup], seconds: float) -> float:
    """Of optimiser steps of the project's own loop: images that each of these runs, of one stream, is trained on."""
    stream, place = runs[0].stream, runs[0].place
    batches = batches_of(groups, stream, place, stream.groups_per_batch)

    def epoch() -> None:
        for batch in itertools.islice(batches, stream.steps_per_epoch):
            said = Answers(runs[0].step // stream.steps_per_epoch, batch, place)
            take_steps(runs, batch, said)

    return a_second(epoch, stream.views_per_epoch, runs[0], seconds)


def answered_images_a_second(run: TrainingRun, group: MixGroup, seconds: float) -> float:
    """Of the network in evaluation mode, asked as a teacher is: one mix group a forward pass."""
    net, (views, _) = run.net.eval(), run.stream.finish(group, run.place.device)
    precision = run.recipe.optimisation.precision
    return a_second(lambda: logits_of(net, views, precision), len(views), run, seconds)


def a_second(work: Callable[[], object], images: int, run: TrainingRun, seconds: float) -> float:
    """Images a second of `work`, which handles so many, after a warm-up; without a GPU by this process's CPU time,
    of which others of the machine take none."""
    clock = time.perf_counter if run.place.device.type == "cuda" else time.process_time
    work()
    wait_for(run.place.device)
    done, start = 0, clock()
    while not done or clock() - start < seconds:
        work()
        wait_for(run.place.device)
        done += images
    return done / (clock() - start)


# The node -------------------------------------------------------------------------------------------------------------


def start_seconds(device: torch.device) -> float:
    """Of a new process until it could begin to compute: Python, the imports, the GPU's context."""
    program = f"import torch, deit.commands.train; torch.zeros(1, device={device.type!r})"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
