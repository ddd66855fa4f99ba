"""The state of a run on one rank, and how it outlives an interruption."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import models
from .checkpoints import ResumeState
from .distributed import Place
from .loading import STOP_SIGNALS
from .recipes import Execution, Training
from .teacher_logits import CachedTeacher, TeacherInTheLoop
from .views import ViewStream

log = logging.getLogger(__name__)

Teacher = CachedTeacher | TeacherInTheLoop


@dataclass
class Run:
    """One run on one rank; all ranks hold the same weights, sums and history."""

    recipe: Training
    execution: Execution
    place: Place
    stream: ViewStream
    teacher: Teacher | None
    net: nn.Module
    optimizer: torch.optim.Optimizer
    sums: Tensor
    """Of this epoch so far (2,) float64: the losses of its steps, and the views whose heavier label was found."""
    resume: ResumeState
    step: int = 0
    """Optimiser updates done."""
    seconds: float = 0.0
    """Spent on this epoch before the run was resumed."""
    history: tuple[dict[str, float], ...] = ()
    """One row an epoch."""

    def __post_init__(self) -> None:
        layers = [layer for layer in self.net.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self.batch_norms = [(layer, layer.momentum) for layer in layers]
        heads = models.TokenHeads(self.net)
        # A batch norm's momentum changes from pass to pass, and torch.compile would compile each anew.
        self.forward = torch.compile(heads) if self.execution.compile and not layers else heads
        self.stop_signal = 0
        self.started = self.saved = time.perf_counter()

    def save(self) -> None:
        """The resume state; rank 0 writes it for all."""
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "step": self.step,
            "seconds": self.epoch_seconds(),
            "history": self.history,
        }
        if self.place.writes:
            self.resume.save(state)
        self.saved = time.perf_counter()

    def restore(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sums.copy_(state["sums"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], tuple(state["history"])

    def epoch_seconds(self) -> float:
        return self.seconds + time.perf_counter() - self.started


def save_where_due(run: Run) -> None:
    """Saves the resume state when its time has come; ends the process where it was told to stop."""
    stop = run.place.largest_over_ranks(run.stop_signal)
    if stop or time.perf_counter() - run.saved > 60 * run.execution.save_minutes:
        run.save()
    if stop:
        run.place.largest_over_ranks(stop)  # rank 0 has saved when it gets here
        name = signal.Signals(stop).name
        log.warning("stopped by %s after %d steps: state saved, the same command goes on", name, run.step)
        raise SystemExit(128 + stop)


@contextmanager
def remembered_stop_signals(run: Run) -> Iterator[None]:
    """SIGTERM and SIGUSR1 are noted in `run.stop_signal` instead of ending the process."""

    def remember(number: int, frame: object) -> None:
        run.stop_signal = number

    before = {stop: signal.signal(stop, remember) for stop in STOP_SIGNALS}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
