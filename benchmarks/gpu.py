"""What one GPU does with this project's loop: a table as CSV and Markdown, named after the card, in five minutes.

    PYTHONPATH=src:workflow:tests python benchmarks/gpu.py --output benchmarks                       # on a GPU
    PYTHONPATH=src:workflow:tests python benchmarks/gpu.py --output benchmarks --sections steps pass
    PYTHONPATH=src:workflow:tests python benchmarks/gpu.py --output /tmp --device cpu                # anywhere

Sections, in this order, what decides first:

    steps     training on views that lie ready, in bf16: DeiT-S, B, Ti and RegNetY-16GF, each eager and as a graph
    small     a small study's step: DeiT of 6 layers at 32 pixels, alone, as a graph, and twelve in one pass
    pass      the students of one stream, taught in the loop, fed by the loader: separate and in one pass
    cache     writing a teacher's cache, beside its bare forward passes and its views
    compiled  `steps` of the DeiTs compiled, and as a graph of a compiled network; and by torch's own graphs
              (`mode="reduce-overhead"`), which hold the forward and backward pass but not the optimiser
    networks  all networks of `imagenet`: fed by the loader, in inference, convnets with channels first, too, and MFU
    study     a miniature study from end to end; where Snakemake is installed

Each measurement has a budget of seconds, and one that does not fit in what is left of `--minutes` is told and left out.
What fails takes its section along, not the others; the table has a row of it.
`--device cpu` shows that the script works: two views a step, compiled without a compiler; its numbers mean nothing.
"""

import argparse
import csv
import gc
import importlib.util
import itertools
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
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

from deit.learn.graph import WARM_UP
from deit.learn.optimizers import optimizer_of
from deit.learn.recipes import Training
from deit.learn.run_state import TrainingRun
from deit.networks import models
from deit.networks.distributed import Place, set_up_torch
from deit.networks.recipes import Model
from deit.networks.throughput import device_name
from deit.see.datasets import ImageSet
from deit.see.loading import Keys, mix_groups
from deit.see.views import ViewStream
from deit.store.job import Execution, Job
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import TeacherInTheLoop, logits_of

DECIDE = (("deit-s", (128, 256)), ("deit-b", (128, 256)), ("deit-ti", (128, 512)), ("regnety-16gf", (128, 256)))
"""Network -> views a step."""
WAYS = {
    "eager": {},
    "graph": {"graph": True},
    "compiled": {"compile": True},
    "compiled, graph": {"compile": True, "graph": True},
    "compiled, reduce-overhead": {"compile": True},
}
"""Way to compute a step -> what is asked of its execution."""
SMALL = {"timm": "deit_tiny_patch16_224", "arguments": {"embed_dim": 192, "depth": 6, "num_heads": 3, "patch_size": 4}}
SMALL_BATCH, SMALL_RUNS = 512, 12
CONVNETS = ("regnety-4gf", "regnety-8gf", "regnety-12gf", "regnety-16gf")
NETWORKS = (("deit-ti", 224), ("deit-s", 224), ("deit-b", 224), ("deit-b", 384), *((name, 224) for name in CONVNETS))
TEACHER, STUDENT = "regnety-16gf", "deit-ti"
MINIATURE = "regnety-4gf"
"""A convnet that a CPU can wait for."""
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
    until: float
    """By time.perf_counter: no measurement begins that would end later."""

    @property
    def jobs(self) -> dict[tuple[str, int], Job]:
        """Model and resolution -> a training."""
        return trainings(self.plan)

    @property
    def teacher(self) -> str:
        return MINIATURE if self.quick else TEACHER

    def affords(self, seconds: float) -> bool:
        """Whether a measurement that takes so long, on a host whose cores are slow, still fits."""
        return time.perf_counter() + seconds <= self.until


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu-<card>.csv and .md")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="without: all")
    parser.add_argument("--minutes", type=float, default=5, help="no measurement begins that would end later")
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement, after a warm-up")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a miniature, without meaning")
    arguments = parser.parse_args()
    quick = arguments.device == "cpu"
    if not (quick or torch.cuda.is_available()):
        raise SystemExit("benchmarks/gpu.py: torch finds no GPU here. Give --device cpu to see that the script works.")
    workers = 1 if quick else min(len(os.sched_getaffinity(0)), 16)
    execution = Execution(gpus=int(not quick), workers=workers, save_minutes=FAR)
    place = Place(set_up_torch(execution))
    plan, begun, rows = plan_study("imagenet"), time.perf_counter(), []
    until, seconds = begun + 60 * arguments.minutes, 0 if quick else arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, images_of(plan, Path(folder), own=False), place, execution, seconds, quick, until)
        for section in arguments.sections:
            for row in rows_of(section, bench):
                rows.append(row)
                print(*row[:3], f"{row.value:.4g} {row.unit}", file=sys.stderr, flush=True)
                write(arguments.output, rows, bench, time.perf_counter() - begun)


def rows_of(section: str, bench: Bench) -> Iterator[Row]:
    """What a section measures, up to what fails in it."""
    try:
        yield from SECTIONS[section](bench)
    except Exception as error:
        traceback.print_exc()
        yield Row(section, "", f"failed, {type(error).__name__}: {str(error).partition(chr(10))[0]}", 0, "")


def left_out(section: str, what: str, variant: str, budget: float) -> Row:
    return Row(section, what, f"{variant}: left out, its {budget:.0f} s do not fit", 0, "")


# Steps on views that lie ready ----------------------------------------------------------------------------------------


def steps(bench: Bench) -> Iterator[Row]:
    """Each network, at each of its batches, in each way that needs no compiler."""
    for model, batches in [(STUDENT, (2,))] if bench.quick else DECIDE:
        for batch, way in itertools.product(batches, ("eager", "graph")):
            yield from ready_steps(bench, "steps", model, batch, way, budget=15)


def compiled(bench: Bench) -> Iterator[Row]:
    """Each network but the convnet, whose batch norm is not compiled, at its larger batch, in each compiled way."""
    for model, batches in [(STUDENT, (2,))] if bench.quick else DECIDE:
        if model not in CONVNETS:
            for way in [way for way in WAYS if "compiled" in way]:
                yield from ready_steps(bench, "compiled", model, batches[-1], way, budget=90)


def ready_steps(bench: Bench, section: str, model: str, batch: int, way: str, budget: float) -> Iterator[Row]:
    """Images/s of one network, batch and way, where the seconds of the budget are left; MFU where the peak is known."""
    what = f"{model} 224, {batch} a step"
    if not bench.affords(budget):
        yield left_out(section, what, way, budget)
        return
    start = time.perf_counter()
    runs = [one_way(bench, share_of_one_device(bench.jobs[model, 224], bench.place.device), batch, way)]
    speed = ready_images_a_second(bench, runs)
    yield Row(section, what, way, speed, "images/s")
    if "compiled" in way:
        yield Row(section, what, f"{way}: all of the measurement", time.perf_counter() - start, "s")
    if peak := peak_of(device_name(bench.place.device)):
        flops = 3 * operations_a_view(runs[0].recipe.model) * speed
        yield Row(section, what, f"{way}, MFU", 100 * flops / peak, "%")
    forget(bench, runs)


def one_way(bench: Bench, recipe: Training, batch: int, way: str) -> TrainingRun:
    """A run with so many views a step, before its first one, whose steps are computed in one of the ways."""
    group = min(recipe.views.mix_group, batch)
    views = recipe.views.model_copy(update={"batch": batch, "mix_group": group})
    execution = bench.execution.model_copy(update=WAYS[way])
    run = ready_run(recipe.model_copy(update={"views": views}), bench.images, bench.place, execution)
    if execution.compile and bench.quick:  # writing kernels takes most of a minute; a test tells that they are right
        run.forward = torch.compile(models.TokenHeads(run.net), backend="eager")
    elif way == "compiled, reduce-overhead":
        run.forward = torch.compile(models.TokenHeads(run.net), mode="reduce-overhead")
    return run


def ready_images_a_second(bench: Bench, runs: list[TrainingRun]) -> float:
    """Of steps on one mix group that was made once, after those that warm up and capture graphs."""
    groups = itertools.repeat(one_group(runs[0]))
    for _ in range(WARM_UP if any(run.graph for run in runs) else 0):
        trained_images_a_second(runs, groups, 0)
    return trained_images_a_second(runs, groups, bench.seconds)


def forget(bench: Bench, runs: list[TrainingRun]) -> None:
    """Gives the memory of runs back before the next measurement."""
    runs.clear()
    torch.compiler.reset()
    gc.collect()
    if bench.place.device.type == "cuda":
        torch.cuda.empty_cache()


def small(bench: Bench) -> Iterator[Row]:
    """Student views/s of a network so small that the host's launches take all of the time."""
    recipe = share_of_one_device(bench.jobs[STUDENT, 224], bench.place.device)
    model = recipe.model.model_copy(update=SMALL | {"resolution": 32, "classes": 10})
    views = recipe.views.model_copy(update={"resolution": 32})
    data = recipe.data.model_copy(update={"classes": 10})
    recipe = recipe.model_copy(update={"model": model, "views": views, "data": data})
    batch, many = (2, 2) if bench.quick else (SMALL_BATCH, SMALL_RUNS)
    for count, way in itertools.product((1, many), ("eager", "graph")):
        what, budget = f"DeiT of 6 layers at 32, width 192, {batch} a step", 5 + 2 * count
        variant = f"{way}, {count} in a pass" if count > 1 else way
        if not bench.affords(budget):
            yield left_out("small", what, variant, budget)
            continue
        runs = [one_way(bench, recipe, batch, way) for _ in range(count)]
        yield Row("small", what, variant, count * ready_images_a_second(bench, runs), "student views/s")
        forget(bench, runs)


# All networks ---------------------------------------------------------------------------------------------------------


def networks(bench: Bench) -> Iterator[Row]:
    """Training and inference of every network; of convnets in the other layout, too."""
    for model, resolution in [(MINIATURE, 224)] if bench.quick else NETWORKS:
        if not bench.affords(15):
            yield left_out("networks", f"{model} {resolution}", "all", 15)
            continue
        recipe = share_of_one_device(bench.jobs[model, resolution], bench.place.device)
        run, name = ready_run(recipe, bench.images, bench.place, bench.execution), f"{model} {resolution}"
        group = one_group(run)
        trained = trained_images_a_second([run], itertools.repeat(group), bench.seconds)
        yield Row("networks", name, "train, synthetic", trained, "images/s")
        fed = loader_fed_images_a_second(bench, [ready_run(recipe, bench.images, bench.place, bench.execution)])
        yield Row("networks", name, "train, loader-fed", fed, "images/s")
        if model in CONVNETS:
            yield from channels_first(bench, recipe, name)
        answered = answered_images_a_second(run, group, bench.seconds)
        yield Row("networks", name, "infer, synthetic", answered, "images/s")
        yield from utilisation(bench, recipe.model, name, {"train": trained, "infer": answered})


def loader_fed_images_a_second(bench: Bench, runs: list[TrainingRun]) -> float:
    """Of steps on the views that the loader makes meanwhile, a batch for all of these runs, which are of one stream."""
    stream = runs[0].stream
    keys = Keys(0, runs[0].end, stream.steps_per_epoch, range(stream.groups_per_batch))
    with mix_groups(stream, keys, bench.execution) as groups:
        for _ in range(WARM_UP if any(run.graph for run in runs) else 0):
            trained_images_a_second(runs, groups, 0)
        return trained_images_a_second(runs, groups, 2 * bench.seconds)


def channels_first(bench: Bench, recipe: Training, name: str) -> Iterator[Row]:
    """The same network as torch lays it out; the project's own have channels last."""
    run = ready_run(recipe, bench.images, bench.place, bench.execution)
    run.net.to(memory_format=torch.contiguous_format)
    run.optimizer = optimizer_of(run.net, run.recipe.optimisation)  # its moments lie as the weights do
    group = one_group(run)
    trained = trained_images_a_second([run], itertools.repeat(group), bench.seconds)
    yield Row("networks", name, "train, channels first", trained, "images/s")
    answered = answered_images_a_second(run, group, bench.seconds)
    yield Row("networks", name, "infer, channels first", answered, "images/s")


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


# The teacher's cache --------------------------------------------------------------------------------------------------


def cache_writing(bench: Bench) -> Iterator[Row]:
    """Writing a cache; its teacher's forward passes alone and its views alone, of which the slower is the bound."""
    if not bench.affords(25):
        yield left_out("cache", f"{bench.teacher} 224", "all", 25)
        return
    job = next(job for job in bench.plan.of_section("teacher_logits") if model_of(job) == bench.teacher)
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
        yield Row("cache", f"{bench.teacher} 224, {caching.keep}", variant, speed, "images/s")
    yield Row("cache", f"{bench.teacher} 224, {caching.keep}", "written / slower bound", written / min(bare, made), "")


# Students of one stream -----------------------------------------------------------------------------------------------


def students_of_one_stream(bench: Bench) -> Iterator[Row]:
    """Runs that see the same views, their teacher in the loop: views that all of them are trained on, a second.

    Separate: one after another, each with its own loader and its own questions to the teacher. In a pass: each view is
    made once and the teacher asked once for all of them.
    """
    if not bench.affords(45):
        yield left_out("pass", STUDENT, "all", 45)
        return
    jobs = [job for job in bench.plan.of_section("students") if model_of(job) == STUDENT]
    jobs = jobs[:2] if bench.quick else jobs
    what, model = f"{len(jobs)} {STUDENT}", bench.jobs[bench.teacher, 224].resolved().model
    net = models.create(model).to(bench.place.device).eval().requires_grad_(False)  # random weights cost the same
    teacher = TeacherInTheLoop(net, jobs[0].resolved().optimisation.precision)
    students = [student(bench, job, teacher) for job in jobs]
    alone = 1 / sum(1 / loader_fed_images_a_second(bench, [run]) for run in students)
    yield Row("pass", what, "separate", alone, "views/s")
    for way in ("eager", "graph"):
        together = loader_fed_images_a_second(bench, [student(bench, job, teacher, way) for job in jobs])
        yield Row("pass", what, f"in a pass, {way}", together, "views/s")
        yield Row("pass", what, f"in a pass, {way} / separate", together / alone, "")


def student(bench: Bench, job: Job, teacher: TeacherInTheLoop, way: str = "eager") -> TrainingRun:
    """A run before its first step; it asks the teacher, where its objective needs one, about every view."""
    recipe = share_of_one_device(job, bench.place.device)
    execution = bench.execution.model_copy(update=WAYS[way])
    return ready_run(recipe, bench.images, bench.place, execution, teacher)


# A miniature study ----------------------------------------------------------------------------------------------------


def miniature_study(bench: Bench) -> Iterator[Row]:
    """`smoke` with every job that computes on the GPU, from end to end in a clone; quick: only planned."""
    if not (bench.affords(60) and importlib.util.find_spec("snakemake")):
        yield left_out("study", "smoke", "no Snakemake here, or no time", 60)
        return
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


SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "steps": steps,
    "small": small,
    "pass": students_of_one_stream,
    "cache": cache_writing,
    "compiled": compiled,
    "networks": networks,
    "study": miniature_study,
}


# The table ------------------------------------------------------------------------------------------------------------


def write(folder: Path, rows: list[Row], bench: Bench, seconds: float) -> None:
    """gpu-<card>.csv and .md in the folder: all rows so far, and what they were measured on."""
    card = device_name(bench.place.device)
    stem = re.sub(r"[^a-z0-9]+", "-", f"gpu-{card}".lower()).strip("-") + ("-miniature" if bench.quick else "")
    with (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("card", *Row._fields))
        table.writerows((card, *row[:3], f"{row.value:.4g}", row.unit) for row in rows)
    how = f"benchmarks/gpu.py, torch {torch.__version__}, {bench.execution.workers} loading processes, {seconds:.0f} s."
    lines = [
        f"# {card}" + (": a miniature, the numbers mean nothing" if bench.quick else ""),
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
