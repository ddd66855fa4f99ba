"""What a training step takes on a CPU that is not Intel's, and with the kernels that MKL gives one of Intel's.

    PYTHONPATH=src:workflow python benchmarks/intel_kernels.py [--repetitions 9]      # six minutes of one core

DeiT-S of params/fashion.yaml learns from labels at both of its resolutions, by the project's own loop, views included.
A process chooses MKL's kernels once, so each measurement is a process of its own, which warms up first; pairs are run
in an order of their own. Prints the median of the pairs' ratios of CPU time, the smallest and the largest. Needs a C
compiler; on an Intel CPU all ratios are 1.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

NETWORK, RESOLUTIONS, STEPS = "deit-s", (20, 35), 100
SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }"
"""What MKL asks: whether the CPU's maker is Intel. Which instructions the CPU has, it finds out by itself."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--measure", metavar="RESOLUTION", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(seconds_of_steps(arguments.measure))
        return
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "intel-kernels.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=SOURCE.encode(), check=True)
        for resolution in RESOLUTIONS:
            ratios = []
            for _ in range(arguments.repetitions):
                took = {name: measured(resolution, name) for name in random.sample(["", str(library)], 2)}
                ratios.append(took[""] / took[str(library)])
            print(f"{resolution} px: own / Intel's {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def measured(resolution: int, library: str) -> float:
    """Seconds of CPU that the steps take a new process, before whose libraries `library` is loaded."""
    words = [sys.executable, __file__, "--measure", str(resolution)]
    variables = os.environ | {"LD_PRELOAD": library, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return float(subprocess.run(words, env=variables, check=True, capture_output=True, encoding="utf-8").stdout)


def seconds_of_steps(resolution: int) -> float:
    from cached_teacher import EXECUTION, shortened, trained
    from plan.studies import plan_study

    from deit.networks.distributed import Place, set_up_torch
    from deit.see.datasets import training_images
    from deit.see.views import ViewStream

    plan, place = plan_study("fashion"), Place(set_up_torch(EXECUTION))
    job = next(job for job in plan.jobs.values() if job.name.endswith(f"/{NETWORK}/labels/{resolution}/seed0"))
    job = shortened(job, STEPS)
    recipe = job.resolved()
    stream = ViewStream(
        training_images(recipe.data, plan.study.data.root), recipe.data, recipe.views, recipe.stream_seed
    )
    for _ in "a warm-up", "the measurement":
        epoch, start = trained(job, stream, place, None), time.process_time()
        epoch()
    return time.process_time() - start


if __name__ == "__main__":
    main()
