"""The worker processes of a block. They end with it, however it ends, and with the process, whatever ends that.

Each holds one end of a pipe whose other end the owner's process alone has open. An error on its way from a worker keeps
its type, its words and its traceback.
"""

import os
import pickle
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from deit.store.interruption import STOP_SIGNALS

DYING_SECONDS = 0.5
"""After an error, within which a worker that was killed is known to have ended."""
JOIN_SECONDS = 5
"""How long a worker may take to be gone. It takes milliseconds, unless the kernel waits for a disk in its name."""


class Workers:
    """Processes that were started in a block, and what ends them."""

    def __init__(self) -> None:
        self.theirs, self.ours = Pipe(duplex=False)
        self.all: list[BaseProcess] = []

    @contextmanager
    def starting(self) -> Iterator[None]:
        """The children of this process that are started meanwhile are workers, which never see the stop signals.

        A scheduler signals all processes of a job; the workers go on until the training process has saved its state.
        """
        others, before = active_children(), signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.all += [child for child in active_children() if child not in others]

    def end_with_owner(self, worker: int) -> None:
        """Has this process, a worker, end when the owner's end of the pipe is closed, by it or because it is gone."""
        self.ours.close()  # this process's copy
        Thread(target=exit_after, args=(self.theirs,), daemon=True).start()

    def end(self) -> None:
        self.ours.close()
        self.theirs.close()
        with ignored_children():
            for worker in self.all:
                worker.join(JOIN_SECONDS)


@contextmanager
def workers_of_block() -> Iterator[Workers]:
    """Raises SystemExit where a worker was killed, in place of the error that this led to."""
    workers = Workers()
    try:
        yield workers
    except Exception:
        with ignored_children():
            refuse_killed(workers.all)
        raise
    finally:
        workers.end()


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


def raised(batch: Any) -> Any:
    """The batch; raises the error that it stands for."""
    if isinstance(batch, Failure):
        batch.error.add_note(batch.traceback)
        raise batch.error
    return batch
