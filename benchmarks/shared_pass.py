"""What a shared pass saves: Table 3's rows of DeiT-Ti and S, trained by one loop, beside timm's own loop a row.

    PYTHONPATH=src:workflow python benchmarks/shared_pass.py                 # eight minutes of a CPU core
    PYTHONPATH=src:workflow python benchmarks/shared_pass.py --device cuda --batch 256 --group 64 --steps 100

The eight rows are those of params/imagenet.yaml: labels, soft, hard and token, at 224 px in bf16 autocast, taught by
RegNetY-16GF; weights are random, which costs the same. Smaller than in the paper, so that one core ends in minutes: a
batch of 8 views in mix groups of 4 (the paper: 1,024 in groups of 64), two steps a measurement, and 256 JPEGs of
500 x 375 pixels that the script makes. The second command has the sizes of one of four GPUs.

    pass, teacher asked     all rows by one `train_together`: views are made once, the teacher is asked once
    pass, teacher cached    the same, with a cache of all logits, whose writing is not counted
    separate, cached        each row by itself: our loop, the same cache
    timm                    each row by itself, as by timm's train.py: its model, optimiser, loader with prefetcher,
                            mixup and random erasing; the teacher asked at every step; our objectives. AdamW is fused,
                            as ours is. It has a process of its own, with kernels and malloc as timm leaves them.

Then what views cost students of a pass, by DeiT-Ti on labels, for which a step costs least. A bare step is plain
PyTorch on views that are on the device already: forward, loss, backward, optimiser.

A measurement goes from the first views of a step to those of another one, so no start of workers is in it. Every
repetition runs all variants, in an order of its own; a ratio is that of medians, beside the smallest and the largest of
the repetitions' own. On a CPU, time is the process's CPU time, of one thread; on a GPU, seconds.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import timm
import torch
from photographs import write_photographs
from plan.plan import Plan
from plan.studies import plan_study
from timm.data import FastCollateMixup, create_dataset, create_loader
from timm.data.auto_augment import posterize
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from deit.learn.objectives import objective_loss
from deit.learn.objectives.labels import labels_loss
from deit.learn.optimizers import optimizer_of
from deit.learn.recipes import Training
from deit.learn.run_state import TrainingRun
from deit.learn.teacher import Teacher, cached_teacher
from deit.learn.training import batches_of, set_up, train_together
from deit.networks.distributed import Place, set_up_torch
from deit.networks.models import create
from deit.networks.throughput import device_name, wait_for
from deit.see.datasets import Selected, training_images
from deit.see.loading import Keys, mix_groups
from deit.see.views import MixGroup, ViewStream, augment_operations, posterize_to_black
from deit.store.checkpoints import ResumeState
from deit.store.job import Execution, Job
from deit.teach.recipes import Caching
from deit.teach.teacher_logits import CachedTeacher, TeacherInTheLoop, logits_of, open_shards, packed, unpacked

STUDENTS, TEACHER, TEACHER_MODEL = ("deit-ti", "deit-s"), "regnety-16gf", "regnety_160"
SUPERVISION = ("labels", "soft", "hard", "token")
IMAGES = 256
ALIKE = 4
"""Students of the pass that tells what views cost."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--group", type=int, default=4, help="views that are mixed together, and shown to the teacher")
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps of a measurement")
    parser.add_argument("--workers", type=int, help="loading processes; 10 on a GPU, none on a CPU")
    parser.add_argument("--repetitions", type=int, default=5, help="of the rows; of the views' cost, twice as many")
    arguments = parser.parse_args()
    gpus = int(arguments.device == "cuda")
    workers = 10 * gpus if arguments.workers is None else arguments.workers
    execution = Execution(gpus=gpus, workers=workers, save_minutes=1e6)
    place = Place(set_up_torch(execution))
    plan = plan_study("imagenet")
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder) / "train", IMAGES)
        jobs = [shortened(plan, student, how, arguments, execution) for student in STUDENTS for how in SUPERVISION]
        stream = stream_of(jobs[0].resolved(), arguments.steps, folder)
        print(f"{date.today()}, {device_name(place.device)}, torch {torch.__version__}, timm {timm.__version__}")
        print(f"batch {arguments.batch}, mix groups of {arguments.group}, {arguments.steps} steps a measurement")
        with timm_process(jobs, arguments.steps, Path(folder) / "train", place.device) as timm_rows:
            rows = row_variants(plan, jobs, stream, place, Path(folder))
            rows["timm"] = lambda: timm_rows.submit(timm_seconds).result()
            print_rows(interleaved(rows, arguments.repetitions), len(jobs) * arguments.steps * arguments.batch)
        del rows
        alike = view_variants(jobs[0], stream, place)
        print_view_cost(interleaved(alike, 2 * arguments.repetitions), arguments.steps * arguments.batch)


def shortened(plan: Plan, student: str, how: str, arguments: argparse.Namespace, execution: Execution) -> Job:
    """The job of a row with one epoch, of twice the steps that are measured.

    A loader makes groups of several steps at a time, and the measurement ends as if it went on.
    """
    low, _ = plan.settings.resolutions
    wanted = plan.settings.run(student, how, "" if how == "labels" else TEACHER, low, seed=0)
    job = plan.jobs[plan.runs[wanted]]
    recipe = job.resolved()
    views = {"batch": arguments.batch, "mix_group": arguments.group}
    views = recipe.views.model_copy(update=views | {"epoch_views": 2 * arguments.steps * arguments.batch})
    optimisation = recipe.optimisation.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    recipe = recipe.model_copy(update={"views": views, "optimisation": optimisation})
    return job.model_copy(update={"recipe": recipe.model_dump(mode="json"), "execution": execution})


class Enough(Exception):
    """The last views that are timed have come."""


class TimedStream(ViewStream):
    """A stream that ends a pass, and tells its time, when the first step's views and those after the last are there."""

    steps: int
    """Whose time is taken."""
    seconds = 0.0

    def finish_all(self, groups: list[MixGroup], device: torch.device) -> tuple[Tensor, Tensor]:
        first = int(groups[0].positions[0])
        if first == 0:
            self.seconds = now(device)
        if first == self.steps * self.recipe.batch:
            self.seconds = now(device) - self.seconds
            raise Enough
        return super().finish_all(groups, device)


def stream_of(recipe: Training, steps: int, folder: str) -> TimedStream:
    """Views of the photographs, as often as an epoch needs them; labels are two of ImageNet's."""
    split = {"images": IMAGES, "folder": "train"}
    data = type(recipe.data).model_validate(recipe.data.model_dump() | {"split": split, "classes": 2, "held_out": 0})
    shown = np.arange(recipe.views.epoch_views) % IMAGES
    stream = TimedStream(Selected(training_images(data, folder), shown), recipe.data, recipe.views, recipe.stream_seed)
    stream.steps = steps
    return stream


def now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    wait_for(device)
    return time.perf_counter()


def passed(runs: list[TrainingRun], teacher: Teacher | None = None) -> float:
    """Seconds of a pass over the stream's steps."""
    for run in runs:
        run.step, run.teacher = 0, teacher
    try:
        for _ in train_together(runs):
            raise RuntimeError("a run has ended before its measurement")
    except Enough:
        return runs[0].stream.seconds


def row_variants(
    plan: Plan, jobs: list[Job], stream: TimedStream, place: Place, folder: Path
) -> dict[str, Callable[[], float]]:
    """Functions that give the seconds of all rows, by our loop."""
    runs = [set_up(job, stream, ResumeState(folder / "none", job.digest), place, None, None) for job in jobs]
    caching = next(job.resolved() for job in plan.of_section("teacher_logits") if TEACHER in job.name)
    asked = TeacherInTheLoop(untrained_teacher(place.device), "bf16")
    cached = written_cache(caching, stream, jobs[1].resolved(), folder / "cache")
    return {
        "asked": lambda: passed(runs, asked),
        "cached": lambda: passed(runs, cached),
        "separate": lambda: sum(passed([run], cached) for run in runs),
    }


def untrained_teacher(device: torch.device) -> nn.Module:
    return timm.create_model(TEACHER_MODEL).to(device).eval().requires_grad_(False)


def written_cache(planned: Caching, stream: ViewStream, recipe: Training, folder: Path) -> CachedTeacher:
    """All logits of the epoch, as of a teacher in bf16; random ones."""
    changed = {"data": stream.data, "views": stream.recipe, "stream_seed": stream.seed, "keep": "dense"}
    caching = planned.model_copy(update=changed | {"first_epoch": 0, "last_epoch": 0})
    folder.mkdir()
    shards = open_shards(folder, caching, "", stream)
    for _ in shards.remaining:
        logits = torch.randn(stream.recipe.batch, stream.data.classes).bfloat16().float()
        shards.add({"epoch": unpacked(packed(logits, caching), caching)})
    shards.finish()
    return cached_teacher([folder], recipe.model_copy(update={"data": stream.data}), epochs=[0])


TIMM_ROWS: list["TimmRow"] = []
"""Of timm's process."""


def timm_process(jobs: list[Job], steps: int, folder: Path, device: torch.device) -> ProcessPoolExecutor:
    """A process that has the rows ready, to be trained by timm's loop."""
    return ProcessPoolExecutor(1, get_context("spawn"), begin_timm, (jobs, steps, folder, device))


def begin_timm(jobs: list[Job], steps: int, folder: Path, device: torch.device) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True  # as train.py
    teacher = untrained_teacher(device)
    for job in jobs:
        loader = timm_loader(job.resolved(), steps, folder, device, job.execution.workers)
        TIMM_ROWS.append(TimmRow(job.resolved(), steps, loader, teacher, device))


def timm_seconds() -> float:
    return sum(row.seconds() for row in TIMM_ROWS)


class TimmRow:
    """A row as timm's train.py trains it, with its teacher in the loop."""

    def __init__(self, recipe: Training, steps: int, loader: Iterable, teacher: nn.Module, device: torch.device):
        self.recipe, self.steps, self.loader, self.teacher, self.device = recipe, steps, loader, teacher, device
        model, optimisation = recipe.model, recipe.optimisation
        net = timm.create_model(model.timm, num_classes=model.classes, drop_path_rate=model.stochastic_depth)
        self.net = net.to(device).train()
        if recipe.objective.tokens == 2:
            self.net.set_distilled_training(True)
        decay, rate = optimisation.weight_decay, optimisation.learning_rate
        self.optimizer = create_optimizer_v2(self.net, opt="adamw", lr=rate, weight_decay=decay, fused=True)

    def seconds(self) -> float:
        """Of the steps of one pass over the loader."""
        for step, (views, targets) in enumerate(self.loader):
            if step == 0:
                start = now(self.device)
            if step == self.steps:
                return now(self.device) - start
            self.train(views, targets)
        raise RuntimeError("the loader has too few batches")

    def train(self, views: Tensor, targets: Tensor) -> None:
        """One step."""
        asked = self.recipe.objective.teacher_says
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.net(views)
        said = logits_of(self.teacher, views, "bf16") if asked else None
        heads = logits if isinstance(logits, tuple) else (logits,)
        loss = objective_loss(self.recipe.objective, heads, targets, said.argmax(1) if asked == "labels" else said)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def timm_loader(recipe: Training, steps: int, folder: Path, device: torch.device, workers: int) -> Iterable:
    """timm's batches (B, C, H, W) and targets (B, K); two more than steps, for the prefetcher is one ahead."""
    views, data = recipe.views, recipe.data
    dataset = create_dataset("", root=str(folder), is_training=True)
    dataset.reader.samples *= -(-(steps + 2) * views.batch // IMAGES)
    mixup = FastCollateMixup(
        mixup_alpha=views.mixup,
        cutmix_alpha=views.cutmix,
        prob=views.mix_probability,
        switch_prob=views.switch_probability,
        label_smoothing=views.label_smoothing,
        num_classes=data.classes,
    )
    loader = create_loader(
        dataset,
        (data.channels, views.resolution, views.resolution),
        views.batch,
        is_training=True,
        re_prob=views.erasing,
        re_mode="pixel",
        scale=views.scale,
        ratio=views.ratio,
        hflip=views.flip,
        color_jitter=None,
        auto_augment=views.randaugment,
        interpolation="bicubic",
        mean=data.mean,
        std=data.std,
        num_workers=workers,
        collate_fn=mixup,
        pin_memory=device.type == "cuda",
        device=device,
        persistent_workers=False,
    )
    for operation in augment_operations(dataset.transform):  # which Pillow 13 makes fail
        if operation.aug_fn is posterize:
            operation.aug_fn = posterize_to_black
    return loader


def view_variants(job: Job, stream: TimedStream, place: Place) -> dict[str, Callable[[], float]]:
    """Functions that give the seconds of several students alike: in a pass, and of bare steps; and of making views."""
    seeds = [job.recipe | {"seed": seed} for seed in range(ALIKE)]
    jobs = [job.model_copy(update={"recipe": recipe}) for recipe in seeds]
    runs = [set_up(each, stream, ResumeState(Path("none"), each.digest), place, None, None) for each in jobs]
    bare = bare_steps([each.resolved() for each in jobs], stream, place.device)
    return {
        "pass": lambda: passed(runs),
        "bare": bare,
        "again": bare,
        "views": lambda: views_alone(stream, place, job.execution),
    }


def views_alone(stream: TimedStream, place: Place, execution: Execution) -> float:
    """Seconds of making the views of the stream's steps."""
    keys = Keys(0, 2 * stream.steps, stream.steps_per_epoch, range(stream.groups_per_batch))
    try:
        with mix_groups(stream, keys, execution) as groups:
            for _ in batches_of(groups, stream, place, stream.groups_per_batch):
                pass
    except Enough:
        return stream.seconds


def bare_steps(recipes: list[Training], stream: TimedStream, device: torch.device) -> Callable[[], float]:
    """A function that trains networks on synthetic views as often as a measured pass does, and gives the seconds."""
    nets = [create(recipe.model).to(device).train() for recipe in recipes]
    optimizers = [optimizer_of(net, recipe.optimisation) for net, recipe in zip(nets, recipes, strict=True)]
    batch, classes, pixels = stream.recipe.batch, stream.data.classes, stream.recipe.resolution
    views = torch.randn(batch, stream.data.channels, pixels, pixels, device=device)
    targets = torch.full((batch, classes), 1 / classes, device=device)

    def train() -> float:
        start = now(device)
        for _ in range(stream.steps):
            for net, optimizer in zip(nets, optimizers, strict=True):
                with torch.autocast(device.type, torch.bfloat16):
                    logits = net(views)
                labels_loss(logits, targets).backward()
                optimizer.step()
                optimizer.zero_grad()
        return now(device) - start

    return train


Seconds = dict[str, list[float]]
"""Of each variant, one a repetition."""


def interleaved(variants: dict[str, Callable[[], float]], repetitions: int) -> Seconds:
    """Measures all variants in each repetition; a first round, which warms up, does not count."""
    seconds: Seconds = {name: [] for name in variants}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(variants), len(variants)):
            measured = variants[name]()
            if repetition:
                seconds[name].append(measured)
        print(f"repetition {repetition} of {repetitions}", file=sys.stderr)
    return seconds


def print_rows(seconds: Seconds, views: int) -> None:
    """`views` is how many views students saw in a measurement."""
    print(f"\nn = {len(seconds['timm'])}\n\n| eight rows | ms a student's view | views/s |\n|---|---|---|")
    for label, name in (
        ("pass, teacher asked", "asked"),
        ("pass, teacher cached", "cached"),
        ("separate, cached", "separate"),
        ("timm, teacher in the loop", "timm"),
    ):
        each = statistics.median(seconds[name]) / views
        print(f"| {label} | {1e3 * each:.1f} | {1 / each:.1f} |")
    print("\n| speed | ratio of medians | smallest to largest |\n|---|---|---|")
    for label, name, other in (
        ("pass, teacher asked / timm", "timm", "asked"),
        ("pass, teacher cached / timm", "timm", "cached"),
        ("pass, teacher cached / separate, cached", "separate", "cached"),
    ):
        ratios = [one / two for one, two in zip(seconds[name], seconds[other], strict=True)]
        ratio = statistics.median(seconds[name]) / statistics.median(seconds[other])
        print(f"| {label} | {ratio:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")


def print_view_cost(seconds: Seconds, views: int) -> None:
    """`views` is how many views one student saw in a measurement."""
    whole, bare, again, made = (np.array(seconds[name]) for name in ("pass", "bare", "again", "views"))
    print(f"\nn = {len(bare)}; a bare step of DeiT-Ti takes {1e3 * np.median(bare) / ALIKE / views:.1f} ms a view\n")
    print("| in per cent of a student's bare step | median | quartiles |\n|---|---|---|")
    for label, part in (
        ("making the views, once for all students", ALIKE * made / bare),
        (f"what a student of {ALIKE} takes beside that and its bare step", (whole - made) / bare - 1),
        ("a bare step again: the noise", again / bare - 1),
    ):
        low, median, high = np.percentile(100 * part, (25, 50, 75))
        print(f"| {label} | {median:.1f} | {low:.1f} to {high:.1f} |")


if __name__ == "__main__":
    main()
