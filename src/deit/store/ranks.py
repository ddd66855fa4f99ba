"""The ranks of a job end together, with one message: none waits for one that has failed or was killed.

A rank that waits for another one, in a collective or for its GPU, cannot see that it is gone. So a thread of each rank
listens to the next one, in a ring, over a connection that the kernel closes when that process ends.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist

FOR_EVER = timedelta(days=3650)
GRACE_SECONDS = 3
"""For a rank to end by itself, after the next one has ended without a word."""
BLAME_SECONDS = 1
"""After an error, within which the loss of another rank is known, whose consequence it then is."""
PARENT_SECONDS = 1
TOLD = "told"


class Ring:
    """What a rank knows of the next one, and tells the one before it."""

    def __init__(self) -> None:
        rank, world = dist.get_rank(), dist.get_world_size()
        self.next, self.before = (rank + 1) % world, (rank - 1) % world
        self.group: Any = dist.new_group(backend="gloo", timeout=FOR_EVER)  # never the number of a rank outside it
        self.is_lost = Event()
        self.listener = Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self) -> None:
        """Until the next rank takes its leave; ends this process where it is gone without."""
        try:
            dist.recv(torch.zeros(1), self.next, self.group)
        except RuntimeError:
            self.is_lost.set()
            time.sleep(GRACE_SECONDS)
            os._exit(1)

    def leave(self) -> None:
        """Says that this rank ends as all do, or as all know."""
        with suppress(RuntimeError):  # the rank before is gone
            dist.send(torch.zeros(1), self.before, self.group)


@contextmanager
def ending_together(store: dist.Store) -> Iterator[None]:
    """A block that each rank leaves when all have done their part, or soon after one of them has failed.

    Of several errors, one is raised; on other ranks SystemExit with the status 1 and nothing to say.
    """
    ring = Ring()
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        yield
        ring.leave()
        ring.listener.join()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            ring.leave()  # on all ranks, by a common decision
        elif ring.is_lost.wait(BLAME_SECONDS) or was_told(store):
            raise SystemExit(1) from None
        raise


def was_told(store: dist.Store) -> bool:
    """Whether another rank has an error to tell, of those that ask."""
    try:
        return store.add(TOLD, 1) > 1
    except RuntimeError:  # its owner is gone
        return True


def end_with_parent(parent: int) -> None:
    """Ends this process when the one that has started it is gone, and cannot end it any more."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
