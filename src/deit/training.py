"""The training loop: one for teachers, students and fine-tunings, on any number of processes, and after any crash.

Shapes: B views of one forward pass, C channels, H and W pixels, K classes. A batch is the views of one optimiser step
over all ranks; it is made of mix groups, of which a rank takes every `world`-th.
"""

import csv
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import checkpoints, models
from .checkpoints import ResumeState
from .distributed import Place
from .loading import Keys, mix_groups
from .losses import objective_loss
from .recipes import Job, Training
from .run_state import (
    Run,
    Teacher,
    refuse_nonfinite,
    refuse_unlike_ranks,
    remembered_stop_signals,
    save_where_due,
)
from .schedules import learning_rate
from .views import MixGroup, ViewStream

log = logging.getLogger(__name__)

HISTORY = ("epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second", "seconds", "skipped_steps")


def train(
    job: Job,
    stream: ViewStream,
    folder: Path | None,
    resume: ResumeState,
    place: Place,
    teacher: Teacher | None = None,
    initial: Path | None = None,
) -> None:
    """Trains a run and fills `folder` with weights.safetensors, history.csv and log.txt; only rank 0 needs a folder.

    `initial` is the file of the weights that a fine-tuning starts from. Goes on from the resume state where there is
    one, with the same weights in the end, bit for bit, as without the interruption. On SIGTERM or SIGUSR1 the state is
    saved before the next optimiser step and SystemExit raised, with the status 128 + signal. Raises SystemExit, too,
    where a step is not finite, a saved state is damaged, ranks differ or the disk is full.
    """
    run = set_up(job, stream, resume, place, teacher, initial)
    with log_file(folder), remembered_stop_signals(run):
        log.info("%s (%s): %d parameters, %s", job.name, job.digest, models.parameter_count(run.net), place)
        if saved := place.read_once(resume.read):
            run.restore(checkpoints.unpacked(saved)["state"])
            log.info("resumed after %d optimiser steps", run.step)
        refuse_unlike_ranks(run)
        groups = mix_groups(run.stream, remaining_keys(run), run.execution)
        for row in run.history:
            log.info(epoch_line(row, run))
        for epoch in range(run.step // run.stream.steps_per_epoch, run.recipe.optimisation.epochs):
            train_one_epoch(run, epoch, groups)
            finish_epoch(run, epoch)
            log.info(epoch_line(run.history[-1], run))
        if place.writes:
            write_history(folder / "history.csv", run.history)
            checkpoints.save_weights(folder / checkpoints.WEIGHTS, run.net.state_dict())


def set_up(
    job: Job, stream: ViewStream, resume: ResumeState, place: Place, teacher: Teacher | None, initial: Path | None
) -> Run:
    """The run before its first step: initialised from its seed, or with the weights in the file `initial`."""
    recipe = job.resolved()
    if stream.groups_per_batch % place.world:
        raise SystemExit(
            f"{place.world} processes cannot share the {stream.groups_per_batch} mix groups of a batch evenly: "
            "let execution's gpus x nodes divide them (views.batch / views.mix_group)."
        )
    torch.manual_seed(recipe.seed)
    net = models.create(recipe.model)
    if initial:
        models.load_weights(net, checkpoints.read_weights(initial))
    net.to(place.device).train(recipe.optimisation.train_mode)
    sums = torch.zeros(3, dtype=torch.float64, device=place.device)
    return Run(recipe, job.execution, place, stream, teacher, net, optimizer_of(net, recipe), sums, resume)


def optimizer_of(net: nn.Module, recipe: Training) -> torch.optim.Optimizer:
    """AdamW as in the paper, or SGD with Nesterov momentum; the learning rate is set at every step."""
    optimisation = recipe.optimisation
    groups = models.parameter_groups(net, optimisation.weight_decay)
    if optimisation.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True)
    sgd = torch.optim.SGD(groups, momentum=optimisation.momentum, nesterov=optimisation.momentum > 0, fused=True)
    if optimisation.momentum:  # made at the first step otherwise, which leaves it unset where it is skipped
        for parameter in net.parameters():
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def remaining_keys(run: Run) -> Keys:
    """The mix groups that this rank has still to see."""
    steps, place = run.stream.steps_per_epoch, run.place
    groups = range(place.rank, run.stream.groups_per_batch, place.world)
    return Keys(run.step, run.recipe.optimisation.epochs * steps, steps, groups)


def train_one_epoch(run: Run, epoch: int, groups: Iterator[MixGroup]) -> None:
    """The optimiser steps of an epoch that are still to be done.

    A step is the gradient of the mean loss over the whole batch, accumulated over forward passes and summed over ranks.
    A forward pass takes views (B, C, H, W), their mixed and smoothed targets (B, K) and what the teacher says of these
    very views: labels (B,), logits (B, K) or None.
    """
    recipe, place = run.recipe, run.place
    steps, sizes = range(run.step, (epoch + 1) * run.stream.steps_per_epoch), forward_sizes(run)
    for step in tqdm(steps, f"epoch {epoch}", leave=False, disable=None if place.writes else True):
        save_where_due(run)
        rate = learning_rate(recipe.optimisation, recipe.views.batch, step, run.stream.steps_per_epoch)
        sums, before = torch.zeros(2, device=place.device), [buffer.clone() for buffer in run.buffers]
        for part, size in enumerate(sizes):
            views, targets, answers = next_forward(run, epoch, list(islice(groups, size)))
            seed_stochastic_depth(recipe.seed, step, place.rank, part)
            share_batch_statistics(run, part, len(sizes))
            with torch.autocast(place.device.type, torch.bfloat16, enabled=recipe.optimisation.precision == "bf16"):
                logits = run.forward(views)
            loss = objective_loss(recipe.objective, logits, targets, answers) * (len(views) / recipe.views.batch)
            loss.backward()
            sums += torch.stack([loss.detach(), found(logits[0], targets)])
        sum_over_ranks(run, sums)
        update(run, rate, sums, before)


def forward_sizes(run: Run) -> list[int]:
    """The number of mix groups in each forward pass of a step on this rank.

    A network with batch statistics always takes one mix group, as on each GPU of the original runs: else its result
    would depend on how many GPUs there are.
    """
    share = run.stream.groups_per_batch // run.place.world
    size = 1 if run.batch_norms else run.execution.groups_per_forward or share
    return [min(size, share - first) for first in range(0, share, size)]


def next_forward(run: Run, epoch: int, groups: list[MixGroup]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Views (B, C, H, W), targets (B, K) and the teacher's answers (B,) or (B, K) of the mix groups, on the device."""
    device = run.place.device
    views, targets = zip(*(run.stream.finish(group, device) for group in groups), strict=True)
    answers = None
    if run.teacher:
        said = [run.teacher.answers(epoch, group.positions, seen) for group, seen in zip(groups, views, strict=True)]
        answers = torch.cat(said).to(device, non_blocking=True)
    return torch.cat(views), torch.cat(targets), answers


def seed_stochastic_depth(seed: int, step: int, rank: int, part: int) -> None:
    """Makes the paths that a forward pass drops a function of these four, and not of what was computed before."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank, part)).generate_state(1, np.uint64)[0]))


def share_batch_statistics(run: Run, part: int, parts: int) -> None:
    """Sets the momenta of batch norms so that a step moves their running statistics once, towards its groups' mean.

    With rate r = momentum / parts, pass i of n weighs r / (1 - (n - 1 - i) r): by the end each pass has the weight r
    and the statistics before the step have 1 - momentum, however many passes and (by their mean) ranks there are.
    """
    for layer, momentum in run.batch_norms:
        rate = momentum / parts
        layer.momentum = rate / (1 - (parts - 1 - part) * rate)


def found(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of the views (B, K) get the heavier label of their mixed target, which is how `accuracy` is counted."""
    return (logits.argmax(1) == targets.argmax(1)).sum()


def sum_over_ranks(run: Run, sums: Tensor) -> None:
    """Gradients and sums of the whole batch; running batch statistics become the mean of the ranks'."""
    if run.place.world == 1:
        return
    gradients = [parameter.grad for parameter in run.net.parameters() if parameter.grad is not None]
    statistics = [buffer for buffer in run.net.buffers() if buffer.is_floating_point()]
    run.place.sum_over_ranks([*gradients, sums, *statistics])
    for buffer in statistics:
        buffer /= run.place.world


def update(run: Run, rate: float, sums: Tensor, before: list[Tensor]) -> None:
    """One optimiser step, from the gradients and `sums` (loss, found) of the whole batch.

    Where they are not finite, weights and optimiser stay as they are, and the batch statistics as they were `before`.
    """
    gradients = [parameter.grad for parameter in run.net.parameters() if parameter.grad is not None]
    good = run.finite.judge(run.step, sums[0], gradients)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.found_inf = (~good).float()  # how torch's GradScaler lets a fused optimiser leave a step out
    run.optimizer.step()
    run.optimizer.zero_grad()
    for buffer, old in zip(run.buffers, before, strict=True):
        buffer.copy_(torch.where(good, buffer, old))
    run.sums += torch.cat([torch.where(good, sums, 0), ~good[None]])
    run.step += 1


def finish_epoch(run: Run, epoch: int) -> None:
    """Adds the epoch's row to the history; here, once an epoch, the GPU is waited for."""
    refuse_nonfinite(run)
    recipe, steps = run.recipe, run.stream.steps_per_epoch
    loss, correct, skipped = run.sums.tolist()
    seconds, views = run.epoch_seconds(), run.stream.views_per_epoch
    rate = learning_rate(recipe.optimisation, recipe.views.batch, run.step - 1, steps)
    done = (steps - skipped) / steps or math.nan
    means = (loss / steps / done, correct / views / done)
    row = (epoch, run.step, *means, rate, views / seconds, seconds, int(skipped))
    run.history = (*run.history, dict(zip(HISTORY, row, strict=True)))
    run.sums.zero_()
    run.started, run.seconds = time.perf_counter(), 0.0


def epoch_line(row: dict[str, float], run: Run) -> str:
    """The log's line of an epoch. Its accuracy is that of the class head on the training views, which are mixed."""
    epochs = run.recipe.optimisation.epochs
    left = (epochs - 1 - row["epoch"]) * sum(past["seconds"] for past in run.history) / len(run.history)
    parts = (
        f"epoch {row['epoch'] + 1}/{epochs}",
        f"loss {row['loss']:.4f}",
        f"accuracy on mixed views {100 * row['accuracy']:.2f} %",
        f"learning rate {row['learning_rate']:.2e}",
        f"{row['images_per_second']:.0f} im/s",
        f"{left // 3600:.0f} h {left % 3600 // 60:.0f} min {left % 60:.0f} s left",
        *([f"{row['skipped_steps']} steps skipped: not finite"] if row["skipped_steps"] else []),
    )
    return "  ".join(parts)


def write_history(path: Path, rows: tuple[dict[str, float], ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def log_file(folder: Path | None) -> Iterator[None]:
    """What this package logs goes to log.txt of the folder too, if there is a folder."""
    handler = logging.FileHandler(folder / "log.txt") if folder else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    package = logging.getLogger(__package__)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()
