"""The teacher of a run: what the objective asks, of a network in the loop or of caches, and once for all of a pass."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from deit.learn.recipes import Training
from deit.networks.distributed import Place
from deit.teach.teacher_logits import CachedTeacher, PartlyCachedTeacher, TeacherAnswer, TeacherInTheLoop

Teacher = CachedTeacher | TeacherInTheLoop | PartlyCachedTeacher


class Seen(NamedTuple):
    """The mix groups of a step that a rank takes, on the device; S views."""

    positions: Tensor
    """(S,) int64, on the CPU."""
    views: Tensor
    """(S, C, H, W) float32."""
    targets: Tensor
    """(S, K) float32, mixed and smoothed."""
    groups: int
    """Into which the views are cut."""


class Answers:
    """What teachers say of what is seen at a step; each teacher is asked once, when the first run needs it."""

    def __init__(self, epoch: int, seen: Seen, place: Place):
        self.epoch, self.seen, self.place = epoch, seen, place
        self.said: dict[int, TeacherAnswer] = {}
        self.sent: dict[tuple[int, str], Tensor] = {}

    def of(self, teacher: Teacher) -> TeacherAnswer:
        if id(teacher) not in self.said:
            seen = self.seen
            self.said[id(teacher)] = teacher.says(self.epoch, seen.positions, seen.views, seen.groups)
        return self.said[id(teacher)]

    def on_device(self, teacher: Teacher, what: Literal["labels", "logits"]) -> Tensor:
        """Labels (S,) or logits (S, K)."""
        key = id(teacher), what
        if key not in self.sent:
            self.sent[key] = self.place.sent(getattr(self.of(teacher), what))
        return self.sent[key]


def cached_teacher(
    folders: list[Path], run: Training, teacher: str = "", epochs: Iterable[int] | None = None
) -> CachedTeacher:
    """The caches of a run's teacher; `epochs` are those that they must hold, None for all of the run's.

    Raises SystemExit as CachedTeacher; `teacher` is as there.
    """
    needed = range(run.optimisation.epochs) if epochs is None else epochs
    return CachedTeacher(folders, run, needed, run.objective.teacher_says, run.hears, teacher)
