"""Mix groups of a view stream, in order, made ahead of time by worker processes."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch.utils.data import DataLoader

from .interruption import STOP_SIGNALS
from .recipes import Execution
from .views import MixGroup, ViewStream

GROUPS_AT_A_TIME = 4
"""Mix groups that a worker makes together. An image's repeats are in neighbouring groups, and are decoded once where
they are made together: of three repeats and four groups, one image for two views."""


@dataclass(frozen=True)
class Keys:
    """The keys (epoch, step, group) of a rank's mix groups, from an optimiser step (over all epochs) to another one."""

    first_step: int
    end_step: int
    steps_per_epoch: int
    groups: Sequence[int]
    """The mix groups of each batch that this rank takes."""

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for step in range(self.first_step, self.end_step):
            for group in self.groups:
                yield *divmod(step, self.steps_per_epoch), group


def mix_groups(stream: ViewStream, keys: Keys, execution: Execution) -> Iterator[MixGroup]:
    """The groups in the order of their keys, on the CPU.

    With workers, they are the same and in the same order as without. Pinned memory lets a GPU fetch them by itself.
    """
    loader = DataLoader(
        stream,
        batch_size=GROUPS_AT_A_TIME,
        sampler=keys,
        collate_fn=list,
        num_workers=execution.workers,
        pin_memory=execution.gpus > 0,
        worker_init_fn=ignore_stop_signals,
        # A worker's base seed would otherwise be drawn from, and so disturb, the global generator.
        generator=torch.Generator(),
    )
    return chain.from_iterable(iter(loader))


def ignore_stop_signals(worker: int) -> None:
    """A scheduler signals all processes of a job; the workers go on until the training process has saved its state."""
    for stop in STOP_SIGNALS:
        signal.signal(stop, signal.SIG_IGN)
