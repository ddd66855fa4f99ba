"""What a machine computes with: its CPU, and its GPUs as the driver's nvidia-smi lists them, without a word to CUDA."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Gpu(NamedTuple):
    uuid: str
    name: str
    driver: str


def cpu() -> str:
    """The model of this machine's CPU, and how many cores it has."""
    try:
        told = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        told = None
    return f"{told[1] if told else platform.machine()}, {os.cpu_count()} cores"


def gpus() -> list[Gpu]:
    """All of this machine, in the order of their numbers; none where no nvidia-smi answers."""
    query = ["nvidia-smi", f"--query-gpu={','.join(Gpu._fields).replace('driver', 'driver_version')}"]
    try:
        answer = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [] if answer.returncode else answer.stdout.splitlines()
    return [Gpu(*(word.strip() for word in line.split(","))) for line in lines]


def visible(all_gpus: list[Gpu], named: str | None) -> list[Gpu]:
    """Those of them that CUDA_VISIBLE_DEVICES names, by number or by the beginning of a UUID; all where it is not set.

    As for CUDA, a word that names none hides itself and what follows. A part of a GPU (MIG) has its own UUID as name.
    """
    if named is None:
        return all_gpus
    found: list[Gpu] = []
    for word in map(str.strip, named.split(",")):
        if word.startswith("MIG-"):
            found.append(Gpu(word, "MIG", all_gpus[0].driver if all_gpus else ""))
        elif word.isdigit() and int(word) < len(all_gpus):
            found.append(all_gpus[int(word)])
        elif word and (same := [gpu for gpu in all_gpus if gpu.uuid.startswith(word)]):
            found.append(same[0])
        else:
            break
    return found
