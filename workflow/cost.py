"""What a study costs on a cluster: its GPU-hours, its longest chain, and how long it takes on so many GPUs.

    python workflow/cost.py imagenet --gpus 8 32 128 [--speeds FILE] [--card NAME]

*At most* is the limit that `execution:` grants every job. *Expected* is its start, and its views over the speed of what
is slower, its GPUs or its loader, by workflow/speeds.csv; where no speed is known, the limit counts. The simulation
starts whatever is ready and fits, first what the longest chain hangs on; jobs without GPUs are never short of room.
"""

import argparse
import heapq
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parent
sys.path[:0] = [str(WORKFLOW), str(WORKFLOW.parent / "src")]

from plan import Plan, plan_study  # noqa: E402
from speeds import SPEEDS, Node, Pace, read_speeds  # noqa: E402

from deit.recipes import Job  # noqa: E402
from params import ParamsError  # noqa: E402

Minutes = dict[str, float]
"""Digest -> minutes that a job takes."""


def gpus(job: Job) -> int:
    return job.execution.gpus * job.execution.nodes


def limits(plan: Plan) -> Minutes:
    """What `execution:` grants each job."""
    return {digest: job.execution.minutes for digest, job in plan.jobs.items()}


def expected(plan: Plan, node: Node) -> Minutes:
    """What each job should take on such nodes; its limit where no speed is known."""
    start, paces = node.start_minutes(), {digest: node.pace(job) for digest, job in plan.jobs.items()}
    return {
        digest: start + pace.seconds / 60 if (pace := paces[digest]) else job.execution.minutes
        for digest, job in plan.jobs.items()
    }


def gpu_hours(plan: Plan, minutes: Minutes) -> dict[str, float]:
    """Phase -> GPU-hours."""
    hours: dict[str, float] = defaultdict(float)
    for digest, job in plan.jobs.items():
        hours[job.name.split("/")[0]] += gpus(job) * minutes[digest] / 60
    return hours


# Order ----------------------------------------------------------------------------------------------------------------


def needs(plan: Plan) -> dict[str, set[str]]:
    """Digest -> digests of the jobs whose results the job reads."""
    maker = {job.execution.output: digest for digest, job in plan.jobs.items()}
    return {
        digest: {maker[folder] for folders in job.execution.folders.values() for folder in folders}
        for digest, job in plan.jobs.items()
    }


def chain_after(plan: Plan, minutes: Minutes) -> dict[str, list[str]]:
    """Digest -> the longest chain of jobs that begins with this one."""
    users: dict[str, list[str]] = {digest: [] for digest in plan.jobs}
    for digest, makers in needs(plan).items():
        for maker in makers:
            users[maker].append(digest)

    @cache
    def longest(digest: str) -> list[str]:
        return [
            digest,
            *max((longest(user) for user in users[digest]), default=[], key=lambda chain: rank(plan, chain, minutes)),
        ]

    return {digest: longest(digest) for digest in plan.jobs}


def length(chain: list[str], minutes: Minutes) -> float:
    return sum(minutes[digest] for digest in chain)


def rank(plan: Plan, chain: list[str], minutes: Minutes) -> tuple[float, list[str]]:
    """Longer chains rank higher; among equals the names decide, which stay when code changes, as digests do not."""
    return length(chain, minutes), [plan.jobs[digest].name for digest in chain]


def longest_chain(plan: Plan, minutes: Minutes) -> list[str]:
    return max(chain_after(plan, minutes).values(), key=lambda chain: rank(plan, chain, minutes))


def simulated(plan: Plan, available: int, minutes: Minutes) -> float:
    """Minutes until the last job has ended, on so many GPUs. Raises SystemExit where a job asks for more than these."""
    chains = {digest: length(chain, minutes) for digest, chain in chain_after(plan, minutes).items()}
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
                heapq.heappush(running, (now + minutes[digest], digest))
                del missing[digest]
        now, done = heapq.heappop(running)
        available += gpus(plan.jobs[done])
        for makers in missing.values():
            makers.discard(done)
    return now


# Report ---------------------------------------------------------------------------------------------------------------


def report(plan: Plan, sizes: list[int], node: Node) -> str:
    """The cost as Markdown."""
    most, likely = limits(plan), expected(plan, node)
    paces = {digest: pace for digest, job in plan.jobs.items() if (pace := node.pace(job))}
    return "\n\n".join(
        [
            summary(plan, most, likely, paces, node),
            sizes_table(plan, sizes, most, likely),
            *([pace_table(plan, paces, most, likely)] if paces else []),
            chain_list(plan, most, likely),
            phase_table(plan, most, likely),
        ]
    )


def summary(plan: Plan, most: Minutes, likely: Minutes, paces: dict[str, Pace], node: Node) -> str:
    """Totals, and what they rest on."""
    upper, total = (sum(gpu_hours(plan, minutes).values()) for minutes in (most, likely))
    waiting = sum(gpus(plan.jobs[digest]) * (pace.seconds - pace.computing_seconds) for digest, pace in paces.items())
    used = {speed for pace in paces.values() for speed in (pace.device, pace.loader) if speed}
    counts = Counter(speed.basis for speed in used)
    without = dict.fromkeys(job.name.split("/")[0] for digest, job in plan.jobs.items() if digest not in paces)
    return (
        f"{plan.name}: {len(plan.jobs)} jobs; {total:,.0f} GPU-hours expected on {node.card}, at most {upper:,.0f}. "
        f"In {waiting / 3600:,.0f} of those expected, GPUs wait for the loader.\n"
        f"The speeds behind it: {', '.join(f'{count} {basis}' for basis, count in sorted(counts.items())) or 'none'}. "
        f"Limits stand in for what has no speed: {', '.join(without)}."
    )


def sizes_table(plan: Plan, sizes: list[int], most: Minutes, likely: Minutes) -> str:
    lines = ["| GPUs | days, expected | GPUs busy | days, at most | GPUs busy |", "|---|---|---|---|---|"]
    for size in sizes:
        cells = []
        for minutes in (likely, most):
            end = simulated(plan, size, minutes)
            busy = 6000 * sum(gpu_hours(plan, minutes).values()) / size / end
            cells.append(f"{end / 1440:.1f} | {busy:.0f} %")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


PACE_COLUMNS = (
    "runs",
    "GPUs",
    "a GPU, images/s",
    "a core of its loader, views/s",
    "limit",
    "GPUs that the loader feeds",
    "hours, expected",
    "at most",
)


def pace_table(plan: Plan, paces: dict[str, Pace], most: Minutes, likely: Minutes) -> str:
    """What limits each kind of run, a row for all that go alike."""
    rows: dict[tuple, list[str]] = {}
    for digest, pace in paces.items():
        section, model, *_ = plan.jobs[digest].name.split("/")
        name = f"{section}/{model}" if pace.device else section
        rows.setdefault((name, plan.jobs[digest].recipe["views"]["resolution"], pace), []).append(digest)
    lines = [f"| {' | '.join(PACE_COLUMNS)} |", "|---" * len(PACE_COLUMNS) + "|"]
    for (name, resolution, pace), digests in rows.items():
        hours = [max(minutes[digest] for digest in digests) / 60 for minutes in (likely, most)]
        cells = (
            f"{len(digests)} {name} {resolution}",
            gpus(plan.jobs[digests[0]]),
            pace.device or "",
            pace.loader or "stored",
            pace.limit,
            f"{pace.fed:.1f}" if pace.loader else "all",
            *(f"{hour:.1f}" for hour in hours),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def chain_list(plan: Plan, most: Minutes, likely: Minutes) -> str:
    chain = longest_chain(plan, likely)
    days, limit = length(chain, likely) / 1440, length(longest_chain(plan, most), most) / 1440
    lines = [f"The longest chain takes {days:.1f} days on any number of GPUs, expected (at most {limit:.1f}):", ""]
    for digest in chain:
        lines.append(f"- {likely[digest] / 60:.1f} h (at most {most[digest] / 60:.1f}) {plan.jobs[digest].name}")
    return "\n".join(lines)


def phase_table(plan: Plan, most: Minutes, likely: Minutes) -> str:
    upper, hours = gpu_hours(plan, most), gpu_hours(plan, likely)
    lines = ["| phase | GPU-hours, expected | at most |", "|---|---|---|"]
    lines += [f"| {phase} | {hours[phase]:,.0f} | {amount:,.0f} |" for phase, amount in upper.items() if amount]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--speeds", type=Path, default=SPEEDS, help="a table that benchmarks/measure_speeds.py wrote")
    parser.add_argument("--card", default="", help="as in the table; without, that of the table's first training")
    arguments = parser.parse_args()
    node = Node(read_speeds(arguments.speeds), arguments.card)
    try:
        plan = plan_study(arguments.study)
    except ParamsError as error:
        raise SystemExit(f"Nothing was planned, because of params/:\n{error}") from None
    print(report(plan, arguments.gpus, node))


if __name__ == "__main__":
    main()
