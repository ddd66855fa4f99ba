"""The memory that a job's next attempt is asked for: more only after an attempt that ran out of it.

What ended an attempt stands in its log of Slurm's (`slurm-logdir` in the profile, a folder a job): Slurm's own words
where it killed a process for its memory, or those of an allocation that failed. Time limits, cancellations, failing
nodes, errors and a GPU's full memory say none of them. Elsewhere than on Slurm there are no such logs, and no attempt
is asked for more.
"""

import os
import re
from pathlib import Path

LOGS = Path("logs/slurm")
GROWTH = 0.5
"""Of the first attempt's memory, for each attempt that ran out of it."""
MOST = 3
"""Times the first attempt's memory: what needs more should say so in `execution:`."""
RAN_OUT = re.compile(
    r"oom[_-]kill|Out Of Memory|exceeded memory limit|Exceeded job memory limit"  # slurmstepd, srun
    r"|\b(_Array)?MemoryError\b|[Cc]an't allocate memory|[Cc]annot allocate memory"  # Python, NumPy, PyTorch, fork
)


def asked_memory(first: int, digest: str, attempt: int) -> int:
    """MB; `first` is the first attempt's. Looks at the attempts since then, of this call of Snakemake."""
    earlier = earlier_logs(digest)[-(attempt - 1) :] if attempt > 1 else []
    out = sum(bool(RAN_OUT.search(log.read_text(errors="replace", encoding="utf-8"))) for log in earlier)
    return int(first * min(1 + GROWTH * out, MOST))


def earlier_logs(digest: str) -> list[Path]:
    """The logs of a job's attempts, the oldest first, without that of the attempt in which this is asked."""
    logs = [log for log in LOGS.glob(f"*/*_{digest}/*.log") if log.stem.isdecimal()]
    return sorted((log for log in logs if log.stem != os.environ.get("SLURM_JOB_ID")), key=lambda log: int(log.stem))
