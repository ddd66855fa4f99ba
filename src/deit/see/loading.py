"""What worker processes make ahead of time, in order: the mix groups of a view stream, and batches of any views."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from deit.see.views import MixGroup, ViewStream
from deit.store.job import Execution
from deit.store.workers import Failure, raised, workers_of_block

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


@contextmanager
def mix_groups(stream: ViewStream, keys: Keys, execution: Execution) -> Iterator[Iterator[MixGroup]]:
    """The groups in the order of their keys, on the CPU. Raises as `loaded`.

    With workers, they are the same and in the same order as without. Pinned memory lets a GPU fetch them by itself.
    """
    options = {"batch_size": GROUPS_AT_A_TIME, "sampler": keys, "pin_memory": execution.gpus > 0}
    with loaded(stream, execution.workers, collate=list, **options) as lists:
        yield chain.from_iterable(lists)


@contextmanager
def loaded(
    views: Dataset, workers: int, collate: Callable[[list], Any] = default_collate, **options: Any
) -> Iterator[Iterator]:
    """The batches that a DataLoader makes with these options, in order; its workers end with the block.

    Raises what a worker raised, with the worker's traceback as its note; SystemExit where a worker was killed.
    """
    with workers_of_block() as started:
        batches = DataLoader(
            Caught(views, collate),  # pyrefly: ignore[bad-argument-type]
            num_workers=workers,
            collate_fn=as_it_is,
            worker_init_fn=started.end_with_owner,
            # A worker's base seed would otherwise be drawn from, and so disturb, the global generator.
            generator=torch.Generator(),
            **options,
        )
        with started.starting():
            iterator = iter(batches)
        yield map(raised, iterator)


class Caught(Dataset):
    """Views by lists of keys, collated; a failure in place of what could not be made.

    torch's own way makes an error of its traceback's text, without the file's name, the number and the notes it had.
    """

    def __init__(self, views: Dataset, collate: Callable[[list], Any]):
        self.views, self.collate = views, collate

    def __len__(self) -> int:
        return len(self.views)  # pyrefly: ignore[bad-argument-type]

    def __getitems__(self, keys: list) -> Any:
        try:
            many = getattr(self.views, "__getitems__", None)
            return self.collate(many(keys) if many else [self.views[key] for key in keys])
        except (Exception, SystemExit) as error:
            if torch.utils.data.get_worker_info() is None:
                raise
            return Failure(error)


def as_it_is(batch: Any) -> Any:
    """What `Caught` has collated already."""
    return batch
