"""What a teacher says while its students train, kept as the cache that a job of its own would write."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deit.networks.distributed import Place
from deit.see.views import ViewStream
from deit.store.checkpoints import WEIGHTS
from deit.store.job import Job
from deit.teach.teacher_logits import (
    PartlyCachedTeacher,
    TeacherAnswer,
    differs_of,
    open_shards,
    record_type,
    records_of,
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
        self.saved = time.perf_counter()

    def add(self, positions: list[Tensor], said: list[TeacherAnswer]) -> None:
        """Keeps what the teacher says of this rank's mix groups of a step; positions (G,) a group."""
        where = torch.cat(positions) % self.caching.views.batch
        records = np.concatenate([records_of(one.logits, self.caching) for one in said])
        batch = np.empty(self.caching.views.batch, record_type(self.caching))
        for places, part in self.place.of_all_ranks(where, torch.from_numpy(records.view(np.uint8))):
            batch[places.numpy()] = part.numpy().view(batch.dtype)
        if self.shards:
            self.shards.add({"epoch": batch})
        self.step += 1

    def save(self) -> None:
        if self.shards:
            self.shards.save()
        self.saved = time.perf_counter()

    def finish(self) -> None:
        if self.shards:
            self.shards.finish()
