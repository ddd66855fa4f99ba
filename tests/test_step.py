"""What the host asks of a device at a step: few operations outside the step's own, and no answer within it."""

import copy
import multiprocessing
from itertools import product
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    CPU,
    DEIT,
    REGNETY,
    STEPS,
    VIEWS,
    caching_of,
    stream_of,
    teacher_net,
    training_job,
)
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from deit.learn import training
from deit.learn.teacher import Answers, cached_teacher
from deit.store.checkpoints import ResumeState
from deit.store.job import Execution
from deit.teach import recording
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import TeacherInTheLoop, cast_once, logits_of, packed

A_BATCH, A_RUN = 40, 10
"""Operations, outside the step itself."""


class Operations(TorchDispatchMode):
    """Notes all operations but views of a tensor, which launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def set_up(job, root: Path, teacher=None) -> training.TrainingRun:
    return training.set_up(job, stream_of(job), ResumeState(root, job.digest), CPU, teacher, None)


def seen_by(a_run: training.TrainingRun) -> training.Seen:
    """The first batch."""
    stream = a_run.stream
    groups = (stream[0, 0, number] for number in range(stream.groups_per_batch))
    return next(training.batches_of(groups, stream, CPU, stream.groups_per_batch))


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("changes", [{"erasing": 1.0}, {"mix_probability": 0.5, "erasing": 0.5}])
def test_a_batch_is_finished_by_few_operations_whatever_its_groups_and_boxes(root, groups, changes):
    views = changes | {"batch": 8 * groups}
    a_run = set_up(training_job(root, views=views), root)
    made = [a_run.stream[0, 0, number] for number in range(groups)]
    with Operations() as operations:
        next(training.batches_of(iter(made), a_run.stream, CPU, groups))
    assert len(operations.names) <= A_BATCH, operations.names


@pytest.mark.parametrize(("loss", "keep"), [("labels", ""), ("token", "labels"), ("soft", "dense")])
def test_what_a_run_is_shown_takes_few_operations(tmp_path, root, loss, keep):
    job, teacher = training_job(root, loss, views={"batch": 64}), None
    if keep:
        (tmp_path / "cache").mkdir()
        write_epochs(
            tmp_path / "cache", caching_of(job, keep), teacher_net(REGNETY), "a" * 64, stream_of(job), Execution()
        )
        teacher = cached_teacher([tmp_path / "cache"], job.resolved())
    a_run = set_up(job, root, teacher)
    seen = seen_by(a_run)
    with Operations() as operations:
        training.shown(a_run, seen, Answers(0, seen, CPU))
    assert len(operations.names) <= A_RUN, operations.names


@pytest.mark.long
def test_a_step_asks_the_device_for_nothing(root):
    """In a process of its own: such tensors begin threads of torch's, after which no test here could fork ranks."""
    process = multiprocessing.get_context("spawn").Process(target=take_steps_without_numbers, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 0


def take_steps_without_numbers(root: Path) -> None:
    losses = ["labels", "soft", "hard", "token", "convnet"]
    for loss, precision, ema_decay in product(losses, ["fp32", "bf16"], [0.0, 0.9]):
        print(loss, precision, ema_decay, flush=True)
        take_a_step_without_numbers(root, loss, precision, ema_decay)


def take_a_step_without_numbers(root: Path, loss: str, precision: str, ema_decay: float) -> None:
    """torch raises where a number is asked for."""
    optimisation = {"precision": precision, "ema_decay": ema_decay, "clip_gradients": 1.0, "skip_nonfinite_steps": 1}
    model = {"model": REGNETY} if loss == "convnet" else {}
    job = training_job(root, "labels" if loss == "convnet" else loss, optimisation=optimisation, **model)
    a_run = set_up(job, root, TeacherInTheLoop(teacher_net(REGNETY), precision))
    seen = seen_by(a_run)
    shown = training.shown(a_run, seen, Answers(0, seen, CPU))
    fake, memo = FakeTensorMode(), {id(part): part for part in (a_run.stream, a_run.teacher, a_run.log)}
    with pytest.MonkeyPatch.context() as patch, FakeCopyMode(fake):
        patch.setitem(copy._deepcopy_dispatch, torch.Generator, lambda one, memo: one)
        without_numbers, shown = copy.deepcopy((a_run, shown), memo)
    with fake:
        training.step(without_numbers, shown)
        with pytest.raises(DataDependentOutputException):
            bool(without_numbers.sums[0])  # or this test shows nothing


def test_a_teacher_whose_weights_are_cast_once_says_the_same(root):
    job = training_job(root)
    stream = stream_of(job)
    views, _ = stream.finish(stream[0, 0, 0], CPU.device)
    for model in (DEIT, REGNETY):
        net = teacher_net(model)
        cast = cast_once(copy.deepcopy(net), "bf16")
        assert {weight.dtype for weight in cast.parameters()} == {torch.float32, torch.bfloat16}
        assert torch.equal(logits_of(cast, views, "bf16"), logits_of(net, views, "bf16"))
        assert cast_once(net, "fp32") is net and {weight.dtype for weight in net.parameters()} == {torch.float32}


def test_a_cache_is_copied_once_a_step(tmp_path, root, monkeypatch):
    copied, job = [], training_job(root, "soft")
    monkeypatch.setattr(recording, "packed", lambda *said: copied.append(len(said[0])) or packed(*said))
    (tmp_path / "cache").mkdir()
    caching = caching_of(job, "dense")
    write_epochs(tmp_path / "cache", caching, teacher_net(REGNETY), "a" * 64, stream_of(job), Execution())
    assert copied == [VIEWS["batch"]] * 2 * STEPS
