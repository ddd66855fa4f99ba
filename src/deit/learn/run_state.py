"""The state of a run on one rank, and how it outlives an interruption."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from deit.learn.finite import FiniteSteps, Undoing, all_finite, tensors_in
from deit.learn.graph import step_graph
from deit.learn.recipes import Training
from deit.learn.reduction import GradientReduction
from deit.learn.schedules import learning_rate
from deit.learn.teacher import Teacher
from deit.networks import models
from deit.networks.distributed import Place
from deit.networks.drops import Drops
from deit.networks.validation import Validator
from deit.see.views import ViewStream
from deit.store.checkpoints import ResumeState
from deit.store.history import Row, run_log
from deit.store.job import Execution


class Diverged(Exception):
    """A run's numbers are not finite any more; says at which step, what stays, and what to do."""


@dataclass
class TrainingRun:
    """One run on one rank; all ranks hold the same weights, sums and history."""

    name: str
    recipe: Training
    execution: Execution
    place: Place
    stream: ViewStream
    teacher: Teacher | None
    net: nn.Module
    optimizer: torch.optim.Optimizer
    sums: Tensor
    """Of this epoch so far (3,) float64: the losses of its steps, the views whose heavier label was found, and how many
    steps were skipped, which do not count in the other two."""
    resume: ResumeState
    step: int = 0
    """Optimiser steps done or skipped."""
    seconds: float = 0.0
    """Spent on this epoch before the run was resumed."""
    history: tuple[Row, ...] = ()
    """One row an epoch."""
    validation: tuple[Row, ...] = ()
    """One row a look at images that are not learnt from."""
    folder: Path | None = None
    """Of the result to be, on rank 0."""

    def __post_init__(self) -> None:
        self.parameters = list(self.net.parameters())
        """Found once: to walk through a small network takes a hundredth of its step."""
        self.normed = any(isinstance(layer, _BatchNorm) and layer.training for layer in self.net.modules())
        """Whether it has batch norms that learn."""
        share = self.recipe.views.batch // self.place.world
        self.drops = Drops(self.net, self.recipe.seed, share, self.place.device)
        self.forward: Callable = models.TokenHeads(self.net)
        # torch.compile does not see that GroupStatistics replaces batch norm, and would normalise all groups together.
        if self.execution.compile and not self.normed:
            # Propagated, the hash of drops.py would be a product of 64 bits with an index of 32 in a kernel.
            self.forward = torch.compile(self.forward, options={"constant_and_index_propagation": False})
        self.finite = FiniteSteps(self.recipe.optimisation.skip_nonfinite_steps, self.place.device)
        self.statistics = Undoing(self.net.buffers() if self.normed else [])
        """What a forward pass alters."""
        decay = self.recipe.optimisation.ema_decay
        self.average = ModelEmaV3(self.net, decay) if decay else None
        """Of the weights after every step and, of a convnet, the batch statistics; begins as the initial ones."""
        self.averages = Undoing(self.average.module.state_dict().values()) if self.average else None
        self.reduction = GradientReduction(self.net) if self.place.world > 1 else None
        self.validator = None
        if self.place.writes and self.execution.validation:
            self.validator = Validator(
                self.recipe.data, self.recipe.optimisation.precision, self.execution, self.place.device
            )
        self.log = run_log(self.name)
        self.graph = step_graph(self.execution, self.optimizer, self.place, self.log)
        self.steps_per_epoch = self.stream.steps_per_epoch
        self.end = self.recipe.optimisation.epochs * self.steps_per_epoch
        """Steps of the whole run."""
        self.failure = ""
        """Why the run was given up, where it was."""
        self.started = self.saved = time.perf_counter()
        self.saved_step = -1

    @property
    def learned(self) -> nn.Module:
        """The network whose weights are published and whose accuracy is watched: the average, where there is one."""
        return self.average.module if self.average else self.net

    def numbers(self) -> dict:
        """All that the next steps are computed from."""
        numbers = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "sums": self.sums}
        return numbers | ({"average": self.average.module.state_dict()} if self.average else {})

    def save(self) -> None:
        """The resume state; rank 0 writes it for all, and all end where it cannot. Raises as `refuse_nonfinite`."""
        refuse_nonfinite(self)
        state = self.numbers() | {
            "step": self.step,
            "skipped": int(self.finite.skipped),
            "seconds": self.epoch_seconds(),
            "history": self.history,
            "validation": self.validation,
        }
        failure = None
        if self.place.writes:
            try:
                self.resume.save(state)
            except SystemExit as error:
                failure = error
        if self.place.largest_over_ranks(int(failure is not None)):
            raise self.place.refusal(str(failure))
        self.saved, self.saved_step = time.perf_counter(), self.step

    def restore(self, state: dict) -> None:
        """Goes on from a saved state. Raises SystemExit where other code has saved it, and it does not fit."""
        try:
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average:
                self.average.module.load_state_dict(state["average"])
            self.sums.copy_(state["sums"])
            self.finite.skipped.fill_(state["skipped"])
            self.step, self.seconds, self.history = state["step"], state["seconds"], tuple(state["history"])
            self.validation = tuple(state.get("validation", ()))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise self.place.refusal(
                f"{self.resume.path}: saved by other code than this, which cannot go on from it ({reason}). "
                "Check out the code that saved it, or delete the file to start the run afresh."
            ) from None
        self.saved_step = self.step

    def epoch_seconds(self) -> float:
        return self.seconds + time.perf_counter() - self.started


def refuse_unlike_ranks(run: TrainingRun) -> None:
    """Raises SystemExit where the ranks do not go on from the same step with the same numbers, bit for bit."""
    steps = run.place.numbers_of_all_ranks(run.step)
    if len(set(steps)) > 1 or len(set(run.place.numbers_of_all_ranks(fingerprint(run)))) > 1:
        raise run.place.refusal(
            f"{run.resume.folder}: the ranks would go on from steps {steps} and different weights, each from its own. "
            "Nothing was trained or changed. Try again; should it last, look for a node whose disk, memory or "
            "software differs."
        )


def fingerprint(run: TrainingRun) -> int:
    """The first 63 bits of a sha256 over the run's numbers; 0 for a rank that is alone."""
    if run.place.world == 1:
        return 0
    digest = hashlib.sha256()
    for tensor in tensors_in(run.numbers()):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def refuse_nonfinite(run: TrainingRun) -> None:
    """Raises Diverged, on all ranks, where a step or the state has numbers that are not finite; waits for the GPU."""
    if (fatal := run.finite.fatal_step()) >= 0:
        raise diverged(run, fatal, "the loss or its gradient is not finite", skipped=run.finite.allowed)
    if not all_finite(run.numbers()):
        raise diverged(run, run.step - 1, "the weights or the optimiser's state are not finite after it")


def diverged(run: TrainingRun, step: int, what: str, skipped: int = 0) -> Diverged:
    """What to raise for a run that cannot go on from a step, after so many that were skipped."""
    steps = run.steps_per_epoch
    what += f", and {skipped} such steps were skipped before" if skipped else ""
    rate = learning_rate(run.recipe.optimisation, run.recipe.views.batch, step, steps)
    saved = f"the last good state, after {run.saved_step} steps, stays" if run.saved_step >= 0 else "no state is saved"
    return Diverged(
        f"step {step} (epoch {step // steps}), learning rate {rate:.3g}: {what}. Nothing of it was kept; {saved} in "
        f"{run.resume.folder}. Lower optimisation's learning_rate, use precision: fp32, or let a few such steps be "
        "skipped with skip_nonfinite_steps."
    )
