"""The training loop: one for teachers, students and fine-tunings, on any number of processes, and after any crash.

Shapes: B views of one forward pass, C channels, H and W pixels, K classes. A batch is the views of one optimiser step
over all ranks; it is made of mix groups, of which each rank takes an equal share.
"""

import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from deit.learn.graph import hold
from deit.learn.objectives import objective_loss
from deit.learn.optimizers import optimizer_of, step_if
from deit.learn.run_state import Diverged, TrainingRun, refuse_nonfinite, refuse_unlike_ranks
from deit.learn.schedules import learning_rate
from deit.learn.teacher import Answers, Seen, Teacher
from deit.networks import models
from deit.networks.distributed import Place
from deit.networks.group_statistics import GroupStatistics
from deit.networks.start import start_from
from deit.see.loading import Keys, mix_groups
from deit.see.views import MixGroup, ViewStream
from deit.store import checkpoints
from deit.store.checkpoints import ResumeState
from deit.store.history import HISTORY, VALIDATION, epoch_line, log_file, run_log, validation_line, write_rows
from deit.store.interruption import StopRequest, noted_stop_signals, stop
from deit.store.job import Job
from deit.teach.recording import PassRecorder

SAVE, NOT_FINITE = 1, 255
"""What ranks tell each other before a step, beside the numbers of the stop signals, which lie between."""
ASK_EVERY = 4
"""Steps after which ranks ask one another for signals, and whether to save."""
AHEAD = 2
"""Steps that a GPU may be behind the host: their batches wait in its memory."""


def train(
    job: Job,
    stream: ViewStream,
    folder: Path | None,
    resume: ResumeState,
    place: Place,
    teacher: Teacher | None = None,
    initial: Path | None = None,
) -> None:
    """Trains a run and fills `folder` with weights.safetensors, config.json, history.csv and log.txt, on rank 0 only.

    `initial` is the file of the weights that a fine-tuning starts from. Goes on from the resume state where there is
    one, with the same weights in the end, bit for bit, as without the interruption. On SIGTERM or SIGUSR1 the state is
    saved before the next optimiser step and SystemExit raised, with the status 128 + signal. Raises SystemExit, too,
    where a step is not finite, a saved state is damaged, ranks differ or the disk is full.
    """
    with log_file(folder, job.name):
        run = set_up(job, stream, resume, place, teacher, initial)
        run.folder = folder
        with closing(train_together([run])) as ended_runs:
            for _ in ended_runs:
                if run.failure:
                    raise place.refusal(run.failure)
                write(run, folder)


def write(run: TrainingRun, folder: Path | None) -> None:
    """Writes what a run has learned, and how, on rank 0."""
    if run.place.writes:
        write_rows(folder / "history.csv", HISTORY, run.history)
        checkpoints.save_weights(folder / checkpoints.WEIGHTS, run.learned.state_dict())
        models.write_config(folder / models.CONFIG, run.recipe.model, run.recipe.data.mean, run.recipe.data.std)


def train_together(
    runs: list[TrainingRun], recorders: Iterable[PassRecorder] = ()
) -> Generator[TrainingRun | PassRecorder, None, None]:
    """Trains runs of one stream, each from where it is; yields each when it has ended, with its `failure` if it failed.

    The views of a step are made once for all runs, and a teacher that several of them share is asked once. Each run
    does what it does alone, so its weights are the same, bit for bit. Recorders keep what their teachers say.
    """
    for run in runs:
        begin(run)
    runs, recorders = list(runs), list(recorders)
    ahead = [*runs, *recorders]
    place, stream, execution = ahead[0].place, ahead[0].stream, ahead[0].execution
    steps = range(min(one.step for one in ahead), max(one.end for one in ahead))
    count = stream.groups_per_batch // place.world
    share = range(place.rank * count, (place.rank + 1) * count)  # neighbours show the same images, decoded once
    keys = Keys(steps.start, steps.stop, stream.steps_per_epoch, share)
    with noted_stop_signals() as request, mix_groups(stream, keys, execution) as groups:
        batches = batches_of(groups, stream, place, count)
        for step in tqdm(steps, leave=False, disable=None if place.writes else True):
            yield from ended(runs, recorders)
            if not runs and not recorders:
                return
            if place.world == 1 or step % ASK_EVERY == 0:
                save_where_due(runs, recorders, request, step)
            seen = next(batches)
            said = Answers(step // stream.steps_per_epoch, seen, place)
            take_steps([run for run in runs if run.step == step and not run.failure], seen, said)
            for recorder in recorders:
                if recorder.step == step:
                    recorder.add(seen.positions, said.of(recorder.teacher))
        yield from ended(runs, recorders)


def begin(run: TrainingRun) -> None:
    """Goes on from the saved state of a run, if it has one."""
    run.log.info("%s: %d parameters, %s", run.name, models.parameter_count(run.net), run.place)
    if saved := run.place.read_once(run.resume.read):
        run.restore(checkpoints.unpacked(saved)["state"])
        run.log.info("resumed after %d optimiser steps", run.step)
    refuse_unlike_ranks(run)
    for number in range(len(run.history)):
        tell_epoch(run, number)
    show(run)


def ended(runs: list[TrainingRun], recorders: list[PassRecorder]) -> Iterator[TrainingRun | PassRecorder]:
    """Takes away and yields those that are finished or given up."""
    for among in (runs, recorders):
        for one in [one for one in among if one.step == one.end or one.failure]:
            among.remove(one)
            yield one


def save_where_due(runs: list[TrainingRun], recorders: list[PassRecorder], request: StopRequest, step: int) -> None:
    """Saves all states when their time has come; ends the process where it was told to stop, before this `step`.

    All ranks save and end at the same step. No state is saved that is not finite: its run is given up.
    """
    place = (runs or recorders)[0].place
    minutes = [60 * one.execution.save_minutes < time.perf_counter() - one.saved for one in (*runs, *recorders)]
    bad = any(run.finite.seen >= 0 for run in runs)
    told = place.largest_over_ranks(NOT_FINITE if bad else request.signal or SAVE * (place.writes and any(minutes)))
    if told:
        for run in runs:
            with given_up_where_diverged(run):
                run.save()
        for recorder in recorders:
            recorder.save()
    if SAVE < told < NOT_FINITE:
        failures = [run.failure for run in runs if run.failure]
        if failures:
            raise place.refusal("\n".join(failures))
        raise stop(told, step)


@contextmanager
def given_up_where_diverged(run: TrainingRun) -> Iterator[None]:
    """Notes why a run cannot go on, and lets others go on."""
    try:
        yield
    except Diverged as error:
        run.failure = str(error)
        run.log.error("%s: %s", run.name, error)


def batches_of(groups: Iterator[MixGroup], stream: ViewStream, place: Place, share: int) -> Iterator[Seen]:
    """This rank's mix groups of each step, on the device; a GPU fetches them beside the step before."""
    beside = torch.cuda.Stream(place.device) if place.device.type == "cuda" else None
    taken: deque[torch.cuda.Event] = deque()
    """The ends of the last steps."""
    while batch := list(islice(groups, share)):
        positions = torch.cat([group.positions for group in batch])
        with torch.cuda.stream(beside):
            seen = Seen(positions, *stream.finish_all(batch, place.device), share)
        if beside:
            torch.cuda.current_stream().wait_stream(beside)
            for tensor in (seen.views, seen.targets):
                tensor.record_stream(torch.cuda.current_stream())  # not to be freed before it was used there
        yield seen
        if beside:
            taken.append(torch.cuda.current_stream().record_event())
            if len(taken) > AHEAD:
                taken.popleft().synchronize()


def set_up(
    job: Job, stream: ViewStream, resume: ResumeState, place: Place, teacher: Teacher | None, initial: Path | None
) -> TrainingRun:
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
        begin_from(net, initial, job.name)
    net.to(place.device).train(recipe.optimisation.train_mode)
    sums = torch.zeros(3, dtype=torch.float64, device=place.device)
    optimizer = optimizer_of(net, recipe.optimisation)
    return TrainingRun(job.name, recipe, job.execution, place, stream, teacher, net, optimizer, sums, resume)


def begin_from(net: nn.Module, initial: Path, name: str) -> None:
    """Gives a network the weights in a file; the log says what had to be fitted, or begins anew.

    Raises SystemExit where they are not of such a network.
    """
    try:
        notes = start_from(net, checkpoints.read_weights(initial))
    except ValueError as error:
        raise SystemExit(f"{name}: cannot start from {initial}: {error}. Give weights of this network.") from None
    for note in notes:
        run_log(name).info("starts from given weights: %s", note)


def take_steps(runs: list[TrainingRun], seen: Seen, answers: Answers) -> None:
    """One optimiser step of each run, from what its rank sees; at the end of an epoch, its row of the history.

    Graphs are all launched before one is waited for: a GPU takes their steps beside each other.
    """
    of_runs = [(run, shown(run, seen, answers)) for run in runs]
    hold((run.graph, each) for run, each in of_runs if run.graph)
    for run, each in of_runs:
        take_step(run, each)
    for run in runs:
        if run.graph:
            run.graph.join()
    for run in runs:
        if run.step % run.steps_per_epoch == 0:
            with given_up_where_diverged(run):
                finish_epoch(run, run.step // run.steps_per_epoch - 1)


class Shown(NamedTuple):
    """All that differs from step to step, on the device, of the S views of a rank's share."""

    views: Tensor
    """(S, C, H, W)"""
    targets: Tensor
    """(S, K)"""
    teacher: Tensor | None
    """Labels (S,), logits (S, K) or nothing, as the objective asks."""
    words: Tensor
    """(L, S) int64, by which each of L layers drops: see networks/drops.py."""
    number: Tensor
    """() int64, of the step in its run."""
    rate: Tensor
    """(), the learning rate; float32 on a GPU, whose optimisers read no other, and float64 on a CPU."""


def shown(run: TrainingRun, seen: Seen, answers: Answers) -> Shown:
    """What a run is shown at its next step."""
    recipe, asked = run.recipe, run.recipe.objective.teacher_says
    rate = learning_rate(recipe.optimisation, recipe.views.batch, run.step, run.steps_per_epoch)
    number_type = torch.float32 if run.place.device.type == "cuda" else torch.float64
    words = run.drops.of_step(run.step, seen.positions.numpy() % recipe.views.batch)
    return Shown(
        views=seen.views,
        targets=seen.targets,
        teacher=answers.on_device(run.teacher, asked) if asked and run.teacher else None,
        words=run.place.sent(words),
        number=run.place.sent(torch.tensor(run.step)),
        rate=run.place.sent(torch.tensor(rate, dtype=number_type)),
    )


def take_step(run: TrainingRun, seen: Shown) -> None:
    """One optimiser step, as a graph where the run has one."""
    if run.graph:
        run.graph.launch(partial(step, run))
    else:
        step(run, seen)
    run.step += 1


def step(run: TrainingRun, seen: Shown) -> None:
    """The gradient of the mean loss over the whole batch, summed over forward passes and ranks, and an update by it.

    Asks the device for nothing: it does the same there at each step, whatever the numbers.
    """
    recipe, place = run.recipe, run.place
    sums = torch.zeros(2, device=place.device)
    run.statistics.note()
    for views, targets, teacher, words, groups in forward_passes(run, seen):
        run.drops.show(words)
        by_group = groups if run.normed else nullcontext()  # it looks at every call of torch's, which takes time
        with by_group, torch.autocast(place.device.type, torch.bfloat16, recipe.optimisation.precision == "bf16"):
            logits = run.forward(views)
        loss = objective_loss(recipe.objective, logits, targets, teacher) * (len(views) / recipe.views.batch)
        if run.reduction and groups.last:
            run.reduction.begin()
        loss.backward()
        sums += torch.stack([loss.detach(), found(logits[0], targets)])
    sum_over_ranks(run, sums)
    update(run, seen, sums)


def forward_passes(
    run: TrainingRun, seen: Shown
) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor, GroupStatistics]]:
    """Views (B, C, H, W), targets (B, K), what the teacher says, words (L, B) and groups of each forward pass."""
    share, size = run.stream.groups_per_batch // run.place.world, run.recipe.views.mix_group
    at_once = run.execution.groups_per_forward or share
    for first in range(0, share, at_once):
        groups = min(at_once, share - first)
        part = slice(first * size, (first + groups) * size)
        teacher = None if seen.teacher is None else seen.teacher[part]
        yield seen.views[part], seen.targets[part], teacher, seen.words[:, part], GroupStatistics(first, groups, share)


def found(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of the views (B, K) get the heavier label of their mixed target, which is how `accuracy` is counted."""
    return (logits.argmax(1) == targets.argmax(1)).sum()


def sum_over_ranks(run: TrainingRun, sums: Tensor) -> None:
    """Gradients and sums of the whole batch; running batch statistics become the mean of the ranks'."""
    if not run.reduction:
        return
    statistics = [buffer for buffer in run.net.buffers() if buffer.is_floating_point()]
    run.place.sum_over_ranks([sums, *statistics])
    run.reduction.finish()
    if statistics:
        torch._foreach_div_(statistics, run.place.world)


def update(run: TrainingRun, seen: Shown, sums: Tensor) -> None:
    """One optimiser step, from the gradients and `sums` (loss, found) of the whole batch.

    Where they are not finite, weights and optimiser stay as they are, and batch statistics and average as they were.
    """
    gradients = [parameter.grad for parameter in run.parameters if parameter.grad is not None]
    good = run.finite.judge(seen.number, sums[0], gradients)
    step_if(good, run.optimizer, seen.rate, run.recipe.optimisation.clip_gradients)
    run.statistics.undo_unless(good)
    if run.average and run.averages:
        run.averages.note()
        run.average.update(run.net)
        run.averages.undo_unless(good)
    run.sums += torch.cat([torch.where(good, sums, 0), ~good[None]])


def finish_epoch(run: TrainingRun, epoch: int) -> None:
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
    tell_epoch(run, epoch)
    validate_where_due(run, epoch)
    show(run)
    run.started, run.seconds = time.perf_counter(), 0.0


def tell_epoch(run: TrainingRun, epoch: int) -> None:
    run.log.info(epoch_line(run.history, epoch, run.recipe.optimisation.epochs))


def validate_where_due(run: TrainingRun, epoch: int) -> None:
    """Every few epochs, and after the last, adds the accuracy on images that are not learnt from; on rank 0 alone."""
    epochs = run.recipe.optimisation.epochs
    if run.validator and ((epoch + 1) % run.execution.validate_epochs == 0 or epoch + 1 == epochs):
        row = {"epoch": epoch, "step": run.step, **run.validator.accuracies(run.learned)}
        run.validation = (*run.validation, row)
        run.log.info(validation_line(row, epochs))


def show(run: TrainingRun) -> None:
    """Writes what is known so far into the folder of the result to be, for those who watch."""
    if run.folder:
        write_rows(run.folder / "history.csv", HISTORY, run.history)
    if run.folder and run.validation:
        write_rows(run.folder / "validation.csv", VALIDATION, run.validation)
