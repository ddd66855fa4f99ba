"""A cache in the making: what a teacher says of each step of a stream, as a job of its own or while students train."""

import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deit.networks.distributed import Place
from deit.see.loading import Keys, mix_groups
from deit.see.views import ViewStream
from deit.store.interruption import saved_steps
from deit.store.job import Execution
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
    """A cache that grows with the steps of a stream; rank 0 writes the records of all ranks."""

    failure = ""
    """As a run has one; but a recorder fails with all of its job, or not at all."""

    def __init__(
        self,
        caching: Caching,
        execution: Execution,
        folder: Path | None,
        teacher: PartlyCachedTeacher,
        stream: ViewStream,
        place: Place,
        weights: str,
        name: str = "",
    ):
        """Only rank 0 needs a folder, whose content it goes on with; `weights` is the sha256 of the teacher's.

        `name` is the job's that makes the cache.
        """
        self.caching, self.execution, self.name = caching, execution, name
        self.teacher, self.stream, self.place = teacher, stream, place
        differs = differs_of(teacher.in_the_loop.net) if teacher.in_the_loop else []
        self.shards = open_shards(folder, caching, weights, stream, differs) if place.writes else None  # pyrefly: ignore[bad-argument-type]
        first, epochs = caching.first_epoch, caching.last_epoch + 1 - caching.first_epoch
        done = place.largest_over_ranks(self.shards.steps if self.shards else 0)
        self.step = first * stream.steps_per_epoch + done
        """Steps of the stream that are recorded, and those before the cache's first epoch."""
        self.end = (first + epochs) * stream.steps_per_epoch
        self.on_its_way: tuple[Tensor, OnItsWay] | None = None
        self.saved = time.perf_counter()

    def add(self, positions: Tensor, said: TeacherAnswer) -> None:
        """Keeps what the teacher says of this rank's mix groups of a step, at positions (S,) of the epoch.

        It is read from the device a step later: a GPU has work while the host waits for its answer.
        """
        content = OnItsWay(packed(said.logits, self.caching))
        self.keep()
        self.on_its_way = positions % self.caching.views.batch, content
        self.step += 1
        if self.step == self.end:
            self.keep()

    def keep(self) -> None:
        """Puts the last step's records, which have arrived meanwhile, into the shards; all ranks do so together."""
        if self.on_its_way is None:
            return
        positions, content = self.on_its_way
        batch, self.on_its_way = np.empty(self.caching.views.batch, record_type(self.caching)), None
        for places, part in self.place.of_all_ranks(positions, content.arrived()):
            batch[places.numpy()] = unpacked(part, self.caching)
        if self.shards:
            self.shards.add({"epoch": batch})

    def save(self) -> None:
        self.keep()
        if self.shards:
            self.shards.save()
        self.saved = time.perf_counter()

    def finish(self) -> None:
        if self.shards:
            self.shards.finish()


def write_epochs(
    folder: Path, caching: Caching, net: nn.Module, weights: str, stream: ViewStream, execution: Execution
) -> None:
    """Fills `folder` with the epochs of `caching`, first to last, and a manifest; goes on with what is there of them.

    `net` is the teacher on its device, `weights` their sha256. Raises SystemExit, with all that was asked so far saved,
    on SIGTERM or SIGUSR1.
    """
    place, asked = Place(next(net.parameters()).device), TeacherInTheLoop(net, caching.precision)
    recorder = Recorder(caching, execution, folder, PartlyCachedTeacher(None, asked), stream, place, weights)
    keys = Keys(recorder.step, recorder.end, stream.steps_per_epoch, range(stream.groups_per_batch))
    with mix_groups(stream, keys, execution) as groups:
        for _ in saved_steps(range(recorder.step, recorder.end), recorder.save, execution.save_minutes):
            batch = list(islice(groups, stream.groups_per_batch))
            positions, (views, _) = (
                torch.cat([group.positions for group in batch]),
                stream.finish_all(batch, place.device),
            )
            recorder.add(positions, asked.says(caching.first_epoch, positions, views, len(batch)))
    recorder.finish()
