"""How many jobs this machine's GPUs take at the same time: what `--resources gpu=N` says elsewhere."""

import os

from plan.lookup import Lookup

from deit.store.hardware import gpus, visible


def jobs_on_gpus(lookup: Lookup) -> int | None:
    """None where no job wants a GPU, or where they are not this machine's to count."""
    if not lookup.is_here:
        return None
    shares = [job.execution.share for job in lookup.plan.jobs.values() if job.execution.gpus]
    return len(visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))) * max(shares) if shares else None
