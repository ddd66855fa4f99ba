"""The teacher of a run: what the objective asks, of a network in the loop or of caches, and once for all of a pass."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from deit.learn.recipes import Training
from deit.teach.teacher_logits import CachedTeacher, PartlyCachedTeacher, TeacherAnswer, TeacherInTheLoop

Teacher = CachedTeacher | TeacherInTheLoop | PartlyCachedTeacher


class Seen(NamedTuple):
    """A mix group on the device."""

    positions: Tensor
    """(G,) int64, on the CPU."""
    views: Tensor
    """(G, C, H, W) float32."""
    targets: Tensor
    """(G, K) float32, mixed and smoothed."""


class Answers:
    """What teachers say of the mix groups of a step; each teacher is asked once, when the first run needs it."""

    def __init__(self, epoch: int, batch: list[Seen]):
        self.epoch, self.batch = epoch, batch
        self.said: dict[int, list[TeacherAnswer]] = {}

    def of(self, teacher: Teacher) -> list[TeacherAnswer]:
        """One answer a mix group."""
        if id(teacher) not in self.said:
            self.said[id(teacher)] = [teacher.says(self.epoch, seen.positions, seen.views) for seen in self.batch]
        return self.said[id(teacher)]


def cached_teacher(
    folders: list[Path], run: Training, teacher: str = "", epochs: Iterable[int] | None = None
) -> CachedTeacher:
    """The caches of a run's teacher; `epochs` are those that they must hold, None for all of the run's.

    Raises SystemExit as CachedTeacher; `teacher` is as there.
    """
    needed = range(run.optimisation.epochs) if epochs is None else epochs
    return CachedTeacher(folders, run, needed, run.objective.teacher_says, run.hears, teacher)
