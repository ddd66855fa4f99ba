"""What a study costs on a cluster: its GPU-hours, its longest chain, and how long it takes on so many GPUs.

    python workflow/cost.py imagenet --gpus 8 32 128

Every job is taken to need all the minutes that `execution:` grants it, so the figures are upper bounds. The simulation
starts whatever is ready and fits, first what the longest chain hangs on; jobs without GPUs are never short of room.
"""

import argparse
import heapq
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parent
sys.path[:0] = [str(WORKFLOW), str(WORKFLOW.parent / "src")]

from plan import Plan, plan_study  # noqa: E402

from deit.recipes import Job  # noqa: E402
from params import ParamsError  # noqa: E402


def gpus(job: Job) -> int:
    return job.execution.gpus * job.execution.nodes


def needs(plan: Plan) -> dict[str, set[str]]:
    """Digest -> digests of the jobs whose results the job reads."""
    maker = {job.execution.output: digest for digest, job in plan.jobs.items()}
    return {
        digest: {maker[folder] for folders in job.execution.folders.values() for folder in folders}
        for digest, job in plan.jobs.items()
    }


def chain_after(plan: Plan) -> dict[str, list[str]]:
    """Digest -> the longest chain of jobs that begins with this one."""
    users: dict[str, list[str]] = {digest: [] for digest in plan.jobs}
    for digest, makers in needs(plan).items():
        for maker in makers:
            users[maker].append(digest)

    @cache
    def longest(digest: str) -> list[str]:
        return [
            digest,
            *max((longest(user) for user in users[digest]), default=[], key=lambda chain: rank(plan, chain)),
        ]

    return {digest: longest(digest) for digest in plan.jobs}


def minutes_of(plan: Plan, chain: list[str]) -> int:
    return sum(plan.jobs[digest].execution.minutes for digest in chain)


def rank(plan: Plan, chain: list[str]) -> tuple[int, list[str]]:
    """Longer chains rank higher; among equals the names decide, which stay when code changes, as digests do not."""
    return minutes_of(plan, chain), [plan.jobs[digest].name for digest in chain]


def simulated(plan: Plan, available: int) -> int:
    """Minutes until the last job has ended, on so many GPUs. Raises SystemExit where a job asks for more than these."""
    chains = {digest: minutes_of(plan, chain) for digest, chain in chain_after(plan).items()}
    missing = {digest: set(makers) for digest, makers in needs(plan).items()}
    if too_large := [job.name for job in plan.jobs.values() if gpus(job) > available]:
        raise SystemExit(f"{too_large[0]} asks for more than {available} GPUs; lower execution's gpus x nodes.")
    now, running = 0, []
    while missing or running:
        ready = [digest for digest, makers in missing.items() if not makers]
        for digest in sorted(ready, key=lambda digest: (-chains[digest], plan.jobs[digest].name)):
            job = plan.jobs[digest]
            if gpus(job) <= available:
                available -= gpus(job)
                heapq.heappush(running, (now + job.execution.minutes, digest))
                del missing[digest]
        now, done = heapq.heappop(running)
        available += gpus(plan.jobs[done])
        for makers in missing.values():
            makers.discard(done)
    return now


def report(plan: Plan, sizes: list[int]) -> str:
    """The cost as Markdown."""
    jobs = plan.jobs.values()
    hours: dict[str, float] = defaultdict(float)
    for job in jobs:
        hours[job.name.split("/")[0]] += gpus(job) * job.execution.minutes / 60
    chain = max(chain_after(plan).values(), key=lambda chain: rank(plan, chain))
    lines = [f"{plan.name}: {len(plan.jobs)} jobs, at most {sum(hours.values()):,.0f} GPU-hours", ""]
    lines += ["| GPUs | days, at most | GPUs busy |", "|---|---|---|"]
    for size in sizes:
        minutes = simulated(plan, size)
        lines.append(f"| {size} | {minutes / 1440:.1f} | {6000 * sum(hours.values()) / size / minutes:.0f} % |")
    lines += ["", f"The longest chain takes {minutes_of(plan, chain) / 1440:.1f} days on any number of GPUs:", ""]
    lines += [f"- {plan.jobs[digest].execution.minutes / 60:.1f} h {plan.jobs[digest].name}" for digest in chain]
    lines += ["", "| phase | GPU-hours, at most |", "|---|---|"]
    lines += [f"| {phase} | {amount:,.0f} |" for phase, amount in hours.items() if amount]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 32, 128])
    arguments = parser.parse_args()
    try:
        plan = plan_study(arguments.study)
    except ParamsError as error:
        raise SystemExit(f"Nothing was planned, because of params/:\n{error}") from None
    print(report(plan, arguments.gpus))


if __name__ == "__main__":
    main()
