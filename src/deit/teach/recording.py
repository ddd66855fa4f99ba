"""What a teacher says while its students train, kept as the cache that a job of its own would write."""

import time
from pathlib import Path

import numpy as np
from torch import Tensor

from deit.networks.distributed import Place
from deit.see.views import ViewStream
from deit.store.checkpoints import WEIGHTS
from deit.store.job import Job
from deit.teach.teacher_logits import (
    OnItsWay,
    PartlyCachedTeacher,
    TeacherAnswer,
    differs_of,
    open_shards,
    packed,
    record_type,
    unpacked,
)


class Recorder:
    """A cache that grows with the steps of a stream; rank 0 writes the records of all ranks."""

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
        self.name, self.execution, self.caching = job.name, job.execution, caching
        self.teacher, self.stream, self.place = teacher, stream, place
        differs = differs_of(teacher.in_the_loop.net) if teacher.in_the_loop else []
        self.shards = open_shards(folder, caching, sha256[WEIGHTS], stream, differs) if place.writes else None  # pyrefly: ignore[bad-argument-type]
        first, epochs = caching.first_epoch, caching.last_epoch + 1 - caching.first_epoch
        done = place.largest_over_ranks(self.shards.steps if self.shards else 0)
        self.failure = ""  # as a run has one; but a recorder fails with all of the pass, or not at all
        self.step = first * stream.steps_per_epoch + done
        """Steps of the stream that are recorded, and those before the cache's first epoch."""
        self.end = (first + epochs) * stream.steps_per_epoch
        self.on_its_way: tuple[Tensor, OnItsWay] | None = None
        self.saved = time.perf_counter()

    def add(self, positions: Tensor, said: TeacherAnswer) -> None:
        """Keeps what the teacher says of this rank's mix groups of a step, at positions (S,) of the epoch."""
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
