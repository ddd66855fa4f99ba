"""What starting its jobs costs a small study: forked from one process with its packages, against started alone.

    python benchmarks/starts.py [--study smoke] [--repeats 1] [TARGET]

Two clones of the project run the study in turns, from the command to the target (`all_tables`), without any result to
begin with. In one of them preloader.py is missing, so that its jobs start alone. Prints wall and CPU seconds of all
that ran, their ratios, and whether the weights are the same bytes. Linux only; ten minutes of two cores.
"""

import argparse
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
PR_SET_CHILD_SUBREAPER = 36
PARTS = ("Snakefile", "local", "params", "src", "workflow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="smoke")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("target", nargs="?", default="all_tables")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that the preloader's time counts, too
    measured: dict[str, list[tuple[float, float]]] = {"alone": [], "forked": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.repeats):
            weights = []
            for way in measured:
                clone = clone_of(Path(folder, f"{way}-{number}"), is_forked=way == "forked")
                measured[way].append(seconds_of(clone, arguments.study, arguments.target))
                weights.append(weights_of(clone))
                print(f"{way:8}" + "{:8.0f} s, {:8.0f} s of CPU".format(*measured[way][-1]), flush=True)
            print(f"{len(weights[0])} weights, {'identical' if weights[0] == weights[1] else 'NOT identical'}")
    for number, what in enumerate(("time", "CPU time")):
        ratios = [
            each[number] / other[number] for each, other in zip(measured["forked"], measured["alone"], strict=True)
        ]
        print(
            f"{what}, forked / alone: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})"
        )


def clone_of(folder: Path, is_forked: bool) -> Path:
    folder.mkdir()
    for name in PARTS:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    if not is_forked:
        (folder / "workflow/jobs/preloader.py").unlink()
    return folder


def seconds_of(clone: Path, study: str, target: str) -> tuple[float, float]:
    """Wall and CPU seconds of a study."""
    words = ["-m", "snakemake", "--profile", "local", "--quiet", "--config", f"study={study}", "--", target]
    start, before = time.perf_counter(), cpu_seconds()
    subprocess.run(
        [sys.executable, *words], cwd=clone, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall = time.perf_counter() - start
    with suppress(ChildProcessError):  # the preloader, which would wait for more; then all are counted
        while True:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split():
                os.kill(int(child), signal.SIGTERM)
            os.wait()
    return wall, cpu_seconds() - before


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def weights_of(clone: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(clone)): path.read_bytes() for path in sorted(clone.glob("results/**/weights.safetensors"))
    }


if __name__ == "__main__":
    main()
