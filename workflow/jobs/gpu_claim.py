"""A job's own GPUs: the jobs of a machine, of all clones, users and runs of Snakemake, share its GPUs among them.

Snakemake counts GPUs and does not tell which are free, and every process would take the first one. So each job claims
some. A claim is a name that the kernel gives to one process at a time: that of an abstract socket. Whatever ends a
process frees its names, so that nothing is left behind and nobody need be asked who is alive, as for the lock of a
result (run_lock.py), which other machines see as well.

A GPU has PARTS names, of which a job that shares it with others takes as many as it may use.
"""

import os
import random
import socket
import time
from contextlib import ExitStack

from deit.store.hardware import Gpu, gpus, visible
from deit.store.job import GPU_PARTS

WAIT_SECONDS = 1


def claim(number: int, share: int) -> None:
    """Waits until so many GPUs are free, or parts of them, and makes them the only ones that this process sees.

    They are its own until it has ended, and all that it was forked into. SystemExit where there are not so many at all;
    where no driver lists any, nothing is done, as the command then says so.
    """
    here = visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not here:
        return
    if number > len(here):
        raise SystemExit(f"execution asks for {number} GPUs, and this machine has {len(here)}: lower execution's gpus.")
    is_announced = False
    while not (claimed := take(here, number, GPU_PARTS // share)):
        if not is_announced:
            print(f"waiting for {number} of {len(here)} GPU(s)", flush=True)
            is_announced = True
        time.sleep(WAIT_SECONDS * random.uniform(0.5, 1.5))  # not in step with another one that waits
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in claimed)


def take(here: list[Gpu], number: int, parts: int) -> list[Gpu]:
    """The GPUs that were free and now are this process's; none where they are too few."""
    claimed, names = [], ExitStack()
    with names:
        for gpu in here:
            if len(claimed) < number and (own := parts_of(gpu, parts)):
                claimed.append(gpu)
                names.push(own)
        if len(claimed) < number:
            return []
        names.pop_all()
    return claimed


def parts_of(gpu: Gpu, number: int) -> ExitStack | None:
    """So many names of a GPU, which are given back when the stack is closed; None where too few are free."""
    with ExitStack() as names:
        for part in range(GPU_PARTS):
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0deit-gpu-{gpu.uuid}-{part}")
            except OSError:  # another job's
                name.close()
                continue
            name.set_inheritable(True)  # by the command that this process becomes
            names.callback(os.close, name.detach())
            number -= 1
            if not number:
                return names.pop_all()
    return None
