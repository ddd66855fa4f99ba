"""A cache in the making: what a teacher says of each step of a stream, in a job of its own or while students train."""

import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deit.networks.distributed import Place
from deit.see.loading import Keys, mix_groups
from deit.see.views import ViewStream
from deit.store.checkpoints import WEIGHTS
from deit.store.interruption import saved_steps
from deit.store.job import Execution, Job
from deit.store.shards import ShardFolder
from deit.teach.recipes import Caching
from deit.teach.teacher_logits import (
    OnItsWay,
    PartlyCachedTeacher,
    TeacherAnswer,
    TeacherInTheLoop,
    differs_of,
    open_shards,
    packed,
    record_type,
    unpacked,
)


class Recorder:
    """Puts what a teacher says into the shards of its cache, step by step."""

    def __init__(self, caching: Caching, shards: ShardFolder | None):
        """`shards` as far as they are there; None where another rank has them."""
        self.caching, self.shards = caching, shards
        self.on_its_way: tuple[Tensor, OnItsWay] | None = None

    def add(self, positions: Tensor, said: TeacherAnswer) -> None:
        """Keeps what the teacher says of mix groups of the next step, at positions (S,) of the epoch.

        It is read from the device a step later: a GPU has work while the host waits for its answer.
        """
        content = OnItsWay(packed(said.logits, self.caching))
        self.keep()
        self.on_its_way = positions % self.caching.views.batch, content

    def keep(self) -> None:
        """Puts the last step's records, which have arrived meanwhile, into the shards; all ranks do so together."""
        if self.on_its_way is None:
            return
        positions, content = self.on_its_way
        batch, self.on_its_way = np.empty(self.caching.views.batch, record_type(self.caching)), None
        for places, part in self.of_all_ranks(positions, content.arrived()):
            batch[places.numpy()] = unpacked(part, self.caching)
        if self.shards:
            self.shards.add({"epoch": batch})

    def of_all_ranks(self, positions: Tensor, content: Tensor) -> list[tuple[Tensor, ...]]:
        """Each rank's positions in the batch, and the bytes of their records."""
        return [(positions, content)]

    def save(self) -> None:
        self.keep()
        if self.shards:
            self.shards.save()

    def finish(self) -> None:
        self.keep()
        if self.shards:
            self.shards.finish()


def write_epochs(
    folder: Path, caching: Caching, net: nn.Module, teacher: str, stream: ViewStream, execution: Execution
) -> None:
    """Fills `folder` with the epochs of `caching`, first to last, and a manifest; goes on with what is there of them.

    `net` is the teacher on its device, `teacher` the sha256 of its weights. Raises SystemExit, with all that was asked
    so far saved, on SIGTERM or SIGUSR1.
    """
    shards = open_shards(folder, caching, teacher, stream, differs_of(net))
    recorder, asked = Recorder(caching, shards), TeacherInTheLoop(net, caching.precision)
    device, steps, first = next(net.parameters()).device, shards.steps_per_epoch, caching.first_epoch
    keys = Keys(first * steps + shards.steps, first * steps + shards.end, steps, range(stream.groups_per_batch))
    with mix_groups(stream, keys, execution) as groups:
        for _ in saved_steps(shards.remaining, recorder.save, execution.save_minutes):
            batch = list(islice(groups, stream.groups_per_batch))
            positions = torch.cat([group.positions for group in batch])
            views, _ = stream.finish_all(batch, device)
            recorder.add(positions, asked.says(first, positions, views, len(batch)))
    recorder.finish()


class PassRecorder(Recorder):
    """The recorder of a pass, which has one on every rank: rank 0 writes the records of all."""

    failure = ""
    """As a run has one; but a recorder fails with all of the pass, or not at all."""

    def __init__(
        self,
        job: Job,
        folder: Path | None,
        teacher: PartlyCachedTeacher,
        stream: ViewStream,
        place: Place,
        sha256: dict[str, str],
    ):
        """`job` makes the cache; only rank 0 needs a folder, whose content it goes on with. `sha256` is of the teacher
        run's files."""
        caching = job.resolved()
        differs = differs_of(teacher.in_the_loop.net) if teacher.in_the_loop else []
        shards = open_shards(folder, caching, sha256[WEIGHTS], stream, differs) if place.writes else None  # pyrefly: ignore[bad-argument-type]
        super().__init__(caching, shards)
        self.name, self.execution = job.name, job.execution
        self.teacher, self.stream, self.place = teacher, stream, place
        first, epochs = caching.first_epoch, caching.last_epoch + 1 - caching.first_epoch
        done = place.largest_over_ranks(shards.steps if shards else 0)
        self.step = first * stream.steps_per_epoch + done
        """Steps of the stream that are recorded, and those before the cache's first epoch."""
        self.end = (first + epochs) * stream.steps_per_epoch
        self.saved = time.perf_counter()

    def add(self, positions: Tensor, said: TeacherAnswer) -> None:
        """Of this rank's mix groups."""
        super().add(positions, said)
        self.step += 1
        if self.step == self.end:
            self.keep()  # now, with all ranks: rank 0 finishes alone

    def of_all_ranks(self, positions: Tensor, content: Tensor) -> list[tuple[Tensor, ...]]:
        return self.place.of_all_ranks(positions, content)

    def save(self) -> None:
        super().save()
        self.saved = time.perf_counter()
