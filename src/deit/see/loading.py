"""What worker processes make ahead of time, in order: the mix groups of a view stream, and batches of any views.

The workers are a resource with an owner. They end with its block, however that ends, and with its process, whatever
ends that: each holds one end of a pipe whose other end the owner's process alone has open.
"""

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from deit.see.views import MixGroup, ViewStream
from deit.store.interruption import STOP_SIGNALS
from deit.store.job import Execution

GROUPS_AT_A_TIME = 4
"""Mix groups that a worker makes together. An image's repeats are in neighbouring groups, and are decoded once where
they are made together: of three repeats and four groups, one image for two views."""
DYING_SECONDS = 0.5
"""After an error, within which a worker that was killed is known to have ended."""
JOIN_SECONDS = 5
"""How long a worker may take to be gone. It takes milliseconds, unless the kernel waits for a disk in its name."""


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
    theirs, ours = Pipe(duplex=False)
    before = active_children()
    batches = DataLoader(
        Caught(views, collate),  # pyrefly: ignore[bad-argument-type]
        num_workers=workers,
        collate_fn=as_it_is,
        worker_init_fn=partial(end_with_owner, theirs, ours),
        # A worker's base seed would otherwise be drawn from, and so disturb, the global generator.
        generator=torch.Generator(),
        **options,
    )
    with blocked_stop_signals():
        iterator = iter(batches)
    started = [child for child in active_children() if child not in before]
    try:
        yield map(raised, iterator)
    except Exception:
        with ignored_children():
            refuse_killed(started)
        raise
    finally:
        ours.close()
        theirs.close()
        with ignored_children():
            for worker in started:
                worker.join(JOIN_SECONDS)


@contextmanager
def blocked_stop_signals() -> Iterator[None]:
    """Processes that are started meanwhile never see the stop signals.

    A scheduler signals all processes of a job; the workers go on until the training process has saved its state.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_owner(theirs: Connection, ours: Connection, worker: int) -> None:
    """Has a worker end as soon as the owner's end of the pipe is closed, by the owner or because it is gone."""
    ours.close()  # this process's copy
    Thread(target=exit_after, args=(theirs,), daemon=True).start()


def exit_after(pipe: Connection) -> None:
    """Waits until the other end is closed, as nothing is ever sent, and ends the process."""
    with suppress(EOFError, OSError):
        pipe.recv_bytes()
    os._exit(0)


@contextmanager
def ignored_children() -> Iterator[None]:
    """torch raises an error in the middle of anything when a worker was killed; here that is not to be disturbed."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def refuse_killed(workers: list[BaseProcess]) -> None:
    """Raises SystemExit where a worker was ended by a signal; one that is dying shows by a lost connection first."""
    dying = wait([worker.sentinel for worker in workers], DYING_SECONDS)
    for worker in workers:
        if worker.sentinel in dying:
            worker.join(JOIN_SECONDS)
    for number in (-worker.exitcode for worker in workers if worker.exitcode):
        name = signal.Signals(number).name if number > 0 else f"with the status {-number}"
        raise SystemExit(
            f"a worker process was ended ({name}), as the kernel does where memory runs out. Ask for more memory, or "
            "for fewer workers, under execution in the params file; the same command goes on from what was saved."
        ) from None


# A worker's errors ----------------------------------------------------------------------------------------------------


class Failure:
    """An error on its way from a worker, with its traceback."""

    def __init__(self, error: Exception | SystemExit):
        self.traceback = "".join(traceback.format_exception(error))
        try:
            self.error = pickle.loads(pickle.dumps(error))
        except Exception:
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


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


def raised(batch: Any) -> Any:
    """The batch; raises the error that it stands for."""
    if isinstance(batch, Failure):
        batch.error.add_note(batch.traceback)
        raise batch.error
    return batch
