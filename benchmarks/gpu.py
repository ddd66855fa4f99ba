"""What one GPU does with the study `imagenet`: a table as CSV and Markdown, named after the card, in eight minutes.

    PYTHONPATH=src:workflow:tests python benchmarks/gpu.py --output benchmarks        # on a machine with a GPU
    PYTHONPATH=src:workflow:tests python benchmarks/gpu.py --output /tmp --quick      # two views a step, on any machine

Networks: images/s in training and in inference, by the project's own loop in bf16, on one mix group that is made once
(synthetic) and with the loader at work (loader-fed); convnets with channels_last and a compiled student beside them.
Then: writing a teacher's cache beside the teacher's bare forward passes; the students of one stream, separate and in a
pass; a miniature study from end to end. `--quick` shows that the script works; its numbers mean nothing. Sections
that would begin after `--minutes` are left out, and said to be.
"""

import argparse
import csv
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from cost.speeds import model_of
from measure_speeds import (
    FAR,
    a_second,
    answered_images_a_second,
    images_of,
    one_group,
    ready_run,
    share_of_one_device,
    trained_images_a_second,
    trainings,
    views_a_second,
)
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import copy_of_project, snakemake
from torch.utils.flop_counter import FlopCounterMode

from deit.learn.optimizers import optimizer_of
from deit.learn.run_state import TrainingRun
from deit.networks import models
from deit.networks.distributed import Place, set_up_torch
from deit.networks.recipes import Model
from deit.networks.throughput import device_name
from deit.see.datasets import ImageSet
from deit.see.loading import Keys, mix_groups
from deit.see.views import ViewStream
from deit.store.job import Execution, Job
from deit.teach.teacher_logits import TeacherInTheLoop, logits_of, write_epochs

CONVNETS = ("regnety-4gf", "regnety-8gf", "regnety-12gf", "regnety-16gf")
NETWORKS = (("deit-ti", 224), ("deit-s", 224), ("deit-b", 224), ("deit-b", 384), *((name, 224) for name in CONVNETS))
QUICK = (("deit-ti", 224), ("regnety-4gf", 224))
COMPILED, TEACHER, STUDENT = "deit-s", "regnety-16gf", "deit-ti"
PEAK_BF16 = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "L40S": 362e12,
}
"""Card, the more special name first -> dense bf16 operations a second. Source: NVIDIA's data sheet of each."""


class Row(NamedTuple):
    section: str
    what: str
    variant: str
    value: float
    unit: str


@dataclass(frozen=True)
class Bench:
    """What all sections measure with."""

    plan: Plan
    images: ImageSet
    place: Place
    execution: Execution
    seconds: float
    quick: bool

    @property
    def jobs(self) -> dict[tuple[str, int], Job]:
        """Model and resolution -> a training."""
        return trainings(self.plan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu-<card>.csv and .md")
    parser.add_argument("--minutes", type=float, default=6, help="no section begins later")
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement, after a warm-up")
    parser.add_argument("--quick", action="store_true", help="tiny counts, without a GPU too; the numbers mean nothing")
    arguments = parser.parse_args()
    if not (arguments.quick or torch.cuda.is_available()):
        raise SystemExit("benchmarks/gpu.py: torch finds no GPU here. Give --quick to see that the script works.")
    execution = Execution(
        gpus=int(torch.cuda.is_available()),
        workers=1 if arguments.quick else min(len(os.sched_getaffinity(0)), 16),
        save_minutes=FAR,
    )
    place = Place(set_up_torch(execution))
    plan, begun, rows = plan_study("imagenet"), time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        images = images_of(plan, Path(folder), own=False)
        bench = Bench(plan, images, place, execution, 0 if arguments.quick else arguments.seconds, arguments.quick)
        for section in (networks, compiled, cache_writing, students_of_one_stream, miniature_study):
            if time.perf_counter() - begun > 60 * arguments.minutes:
                rows.append(Row(section.__name__, "left out", "no time", 0, ""))
                continue
            for row in section(bench):
                rows.append(row)
                print(*row[:3], f"{row.value:.4g} {row.unit}", file=sys.stderr, flush=True)
            write(arguments.output, rows, bench, time.perf_counter() - begun)


# Networks -------------------------------------------------------------------------------------------------------------


def networks(bench: Bench) -> Iterator[Row]:
    """Training and inference of every network; convnets with channels_last too."""
    for model, resolution in QUICK if bench.quick else NETWORKS:
        recipe = share_of_one_device(bench.jobs[model, resolution], bench.place.device)
        run, name = ready_run(recipe, bench.images, bench.place, bench.execution), f"{model} {resolution}"
        group = one_group(run)
        trained = trained_images_a_second([run], itertools.repeat(group), bench.seconds)
        yield Row("networks", name, "train, synthetic", trained, "images/s")
        fed = loader_fed_images_a_second(bench, [ready_run(recipe, bench.images, bench.place, bench.execution)])
        yield Row("networks", name, "train, loader-fed", fed, "images/s")
        if model in CONVNETS:
            yield from channels_last(bench, run, name)
        answered = answered_images_a_second(run, group, bench.seconds)
        yield Row("networks", name, "infer, synthetic", answered, "images/s")
        yield from utilisation(bench, recipe.model, name, {"train": trained, "infer": answered})


def loader_fed_images_a_second(bench: Bench, runs: list[TrainingRun]) -> float:
    """Of steps on the views that the loader makes meanwhile, a batch for all of these runs, which are of one stream."""
    stream = runs[0].stream
    keys = Keys(0, runs[0].end, stream.steps_per_epoch, range(stream.groups_per_batch))
    with mix_groups(stream, keys, bench.execution) as groups:
        return trained_images_a_second(runs, groups, 2 * bench.seconds)


def channels_last(bench: Bench, run: TrainingRun, name: str) -> Iterator[Row]:
    """The same network with its numbers laid out pixel by pixel; afterwards it is as it was."""
    group, heads = one_group(run), run.forward
    run.net.to(memory_format=torch.channels_last)
    run.optimizer = optimizer_of(run.net, run.recipe.optimisation)  # its moments lie as the weights do
    run.forward = lambda views: heads(views.contiguous(memory_format=torch.channels_last))
    run.step = 0
    trained = trained_images_a_second([run], itertools.repeat(group), bench.seconds)
    yield Row("networks", name, "train, channels_last", trained, "images/s")
    net, (views, _) = run.net.eval(), run.stream.finish(group, bench.place.device)
    views = views.contiguous(memory_format=torch.channels_last)
    precision = run.recipe.optimisation.precision
    answered = a_second(lambda: logits_of(net, views, precision), len(views), run, bench.seconds)
    yield Row("networks", name, "infer, channels_last", answered, "images/s")
    run.net.to(memory_format=torch.contiguous_format)


def utilisation(bench: Bench, model: Model, name: str, speeds: dict[str, float]) -> Iterator[Row]:
    """The operations of a view's forward pass, and MFU: in parts of the card's peak, where that is known.

    A step is taken for three forward passes, as is usual, since torch counts the gradients of grouped convolutions more
    than once.
    """
    forward = operations_a_view(model)
    yield Row("networks", name, "operations of a forward pass", forward / 1e9, "GFLOP/image")
    if peak := peak_of(device_name(bench.place.device)):
        for what, passes in (("train", 3), ("infer", 1)):
            yield Row("networks", name, f"{what}, MFU", 100 * passes * forward * speeds[what] / peak, "%")


def operations_a_view(model: Model) -> int:
    """Of a forward pass, by torch.utils.flop_counter: matrix products and convolutions, a multiply-add as two."""
    with torch.device("meta"):
        net = models.create(model).eval()
        view = torch.empty(1, model.channels, model.resolution, model.resolution)
        with FlopCounterMode(display=False) as counter:
            models.token_logits(net, view)
    return counter.get_total_flops()


def peak_of(card: str) -> float | None:
    return next((peak for name, peak in PEAK_BF16.items() if all(word in card for word in name.split())), None)


def compiled(bench: Bench) -> Iterator[Row]:
    """A student by torch.compile; without its first steps, whose seconds are a row."""
    model, resolution = QUICK[0] if bench.quick else (COMPILED, 224)
    recipe = share_of_one_device(bench.jobs[model, resolution], bench.place.device)
    run = ready_run(recipe, bench.images, bench.place, bench.execution.model_copy(update={"compile": True}))
    if bench.quick:  # writing kernels takes most of a minute; that they are right is a test's matter
        run.forward = torch.compile(models.TokenHeads(run.net), backend="eager")
    start, groups = time.perf_counter(), itertools.repeat(one_group(run))
    speed = trained_images_a_second([run], groups, bench.seconds)
    yield Row("compiled", f"{model} {resolution}", "train, synthetic, compiled", speed, "images/s")
    seconds = time.perf_counter() - start - bench.seconds
    yield Row("compiled", f"{model} {resolution}", "compiling and the first steps", seconds, "s")


# The teacher's cache --------------------------------------------------------------------------------------------------


def cache_writing(bench: Bench) -> Iterator[Row]:
    """Writing a cache; its teacher's forward passes alone and its views alone, of which the slower is the bound."""
    job = next(job for job in bench.plan.of_section("teacher_logits") if model_of(job) == TEACHER)
    caching, execution = job.resolved(), bench.execution
    group = 2 if bench.quick else caching.views.mix_group
    steps = 1 if bench.quick else len(bench.images) * caching.views.repeats // group
    views = caching.views.model_copy(update={"batch": group, "mix_group": group, "epoch_views": group * steps})
    epochs = 1 if bench.quick else 8
    caching = caching.model_copy(update={"views": views, "first_epoch": 0, "last_epoch": epochs - 1})
    net = models.create(caching.model).to(bench.place.device).eval().requires_grad_(False)
    stream = ViewStream(bench.images, caching.data, views, caching.stream_seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_epochs(Path(folder), caching, net, "0" * 64, stream, execution)
        written = epochs * steps * group / (time.perf_counter() - start)
    shown, _ = stream.finish(stream[0, 0, 0], bench.place.device)
    run = ready_run(
        share_of_one_device(bench.jobs[STUDENT, 224], bench.place.device), bench.images, bench.place, execution
    )
    bare = a_second(lambda: logits_of(net, shown, caching.precision), group, run, bench.seconds)
    made = views_a_second(stream, execution.workers, bench.seconds)
    for variant, speed in (("cache written", written), ("bare forward", bare), ("its views alone", made)):
        yield Row("cache", f"{TEACHER} 224, {caching.keep}", variant, speed, "images/s")
    yield Row("cache", f"{TEACHER} 224, {caching.keep}", "written / slower bound", written / min(bare, made), "")


# Students of one stream -----------------------------------------------------------------------------------------------


def students_of_one_stream(bench: Bench) -> Iterator[Row]:
    """Runs that see the same views, their teacher in the loop: views that all of them are trained on, a second.

    Separate: one after another, each with its own loader and its own questions to the teacher. In a pass: each view is
    made once and the teacher asked once for all of them.
    """
    jobs = [job for job in bench.plan.of_section("students") if model_of(job) == STUDENT]
    what, model = f"{len(jobs)} {STUDENT}", bench.jobs[TEACHER, 224].resolved().model
    net = models.create(model).to(bench.place.device).eval().requires_grad_(False)  # random weights cost the same
    teacher = TeacherInTheLoop(net, jobs[0].resolved().optimisation.precision)
    students = [student(bench, job, teacher) for job in jobs]
    alone = 1 / sum(1 / loader_fed_images_a_second(bench, [run]) for run in students)
    yield Row("one stream", what, "separate", alone, "views/s")
    together = loader_fed_images_a_second(bench, [student(bench, job, teacher) for job in jobs])
    yield Row("one stream", what, "in a pass", together, "views/s")
    yield Row("one stream", what, "in a pass / separate", together / alone, "")


def student(bench: Bench, job: Job, teacher: TeacherInTheLoop) -> TrainingRun:
    """A run before its first step; it asks the teacher, where its objective needs one, about every view."""
    recipe = share_of_one_device(job, bench.place.device)
    return ready_run(recipe, bench.images, bench.place, bench.execution, teacher)


# A miniature study ----------------------------------------------------------------------------------------------------


def miniature_study(bench: Bench) -> Iterator[Row]:
    """`smoke` with every job that computes on the GPU, from end to end in a clone; quick: only planned."""
    with tempfile.TemporaryDirectory() as folder:
        project = copy_of_project(Path(folder) / "clone")
        with (project / "params/smoke.yaml").open("a", encoding="utf-8") as params:
            gpus = int(bench.place.device.type == "cuda")
            params.write(f"execution: {{default: {{gpus: {gpus}}}, data: {{gpus: 0}}, tables: {{gpus: 0}}}}\n")
        start = time.perf_counter()
        output = snakemake(project, *(["-n"] if bench.quick else []), "--", "all_tables")
        seconds = time.perf_counter() - start
    jobs = re.findall(r"^total\s+(\d+)$", output, re.MULTILINE)
    yield Row("study", f"smoke, {jobs[-1]} jobs", "planned only" if bench.quick else "end to end", seconds, "s")


# The table ------------------------------------------------------------------------------------------------------------


def write(folder: Path, rows: list[Row], bench: Bench, seconds: float) -> None:
    """gpu-<card>.csv and .md in the folder: all rows so far, and what they were measured on."""
    card = device_name(bench.place.device)
    stem = re.sub(r"[^a-z0-9]+", "-", f"gpu-{card}".lower()).strip("-") + ("-quick" if bench.quick else "")
    with (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("card", *Row._fields))
        table.writerows((card, *row[:3], f"{row.value:.4g}", row.unit) for row in rows)
    how = f"benchmarks/gpu.py, torch {torch.__version__}, {bench.execution.workers} loading processes, {seconds:.0f} s."
    lines = [
        f"# {card}" + (": quick, the numbers mean nothing" if bench.quick else ""),
        "",
        f"{how} {about_mfu(card)}",
        "",
        "| section | what | variant | value | unit |",
        "|---|---|---|---|---|",
        *(f"| {row.section} | {row.what} | {row.variant} | {row.value:,.4g} | {row.unit} |" for row in rows),
    ]
    (folder / f"{stem}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def about_mfu(card: str) -> str:
    if peak := peak_of(card):
        counted = "operations by torch.utils.flop_counter, a step as three forward passes"
        return f"MFU: {counted}, over {peak / 1e12:.0f} TFLOP/s (NVIDIA's data sheet, dense bf16)."
    return "No MFU: this device's peak is not in the script."


if __name__ == "__main__":
    main()
