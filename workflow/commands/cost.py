"""What a study costs on a cluster: its GPU-hours, its longest chain, and how long it takes on so many GPUs.

    python workflow cost [STUDY] --gpus 8 32 128 [--speeds FILE] [--card NAME]

*At most* is the limit that `execution:` grants every job. *Expected* is the time of its start, and of its views at the
speed of what is slower, its GPUs or its loader, by workflow/cost/speeds.csv. Where no speed is known, the limit counts.
The simulation starts whatever is ready and fits, beginning with the longest chain; jobs without GPUs always find room.
A pass makes its views once and takes its GPUs for all of its runs, one after another; these cost nothing more.
"""

import argparse
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cost.speeds import SPEEDS, Node, Pace, read_speeds
from plan.passes import plan_passes
from plan.plan import Plan
from plan.studies import plan_study
from study.problem import ParamsError

from commands._study import add_study, named_or_chosen
from deit.store.job import Job

Minutes = dict[str, float]
"""Digest -> minutes that a job takes."""


def plan_with_passes(study: str, folder: Path = Path("params")) -> Plan:
    """The plan with its passes among the jobs, as if nothing were finished."""
    plan = plan_study(study, folder)
    plan.jobs |= plan_passes(plan, everything=True)
    return plan


def members(plan: Plan, job: Job) -> list[Job]:
    """The runs and caches that a pass makes; none of another job."""
    recipe = job.resolved() if job.kind == "pass" else None
    return [plan.jobs[digest] for digest in (*recipe.runs, *recipe.caches)] if recipe else []


def gpus(job: Job) -> int:
    return 0 if job.execution.made_by else job.execution.gpus * job.execution.nodes


def limits(plan: Plan) -> Minutes:
    """What `execution:` grants each job; what a pass makes takes none but the pass's."""
    return {digest: 0 if job.execution.made_by else job.execution.minutes for digest, job in plan.jobs.items()}


def paces_of(plan: Plan, node: Node) -> dict[str, Pace]:
    """Digest -> pace, of the jobs whose speed is known."""
    jobs = {digest: job for digest, job in plan.jobs.items() if not job.execution.made_by}
    return {digest: pace for digest, job in jobs.items() if (pace := node.pace(job, members(plan, job)))}


def expected_minutes(plan: Plan, node: Node) -> Minutes:
    """What each job should take on such nodes; its limit where no speed is known."""
    start, paces = node.start_minutes(), paces_of(plan, node)
    return limits(plan) | {digest: start + pace.seconds / 60 for digest, pace in paces.items()}


def gpu_hours(plan: Plan, minutes: Minutes) -> dict[str, float]:
    """Phase -> GPU-hours."""
    hours: dict[str, float] = defaultdict(float)
    for digest, job in plan.jobs.items():
        hours[job.name.split("/")[0]] += gpus(job) * minutes[digest] / 60
    return hours


# Order ----------------------------------------------------------------------------------------------------------------


def needs(plan: Plan) -> dict[str, set[str]]:
    """Digest -> digests of the jobs of this study whose results the job reads; of what a pass makes, the pass."""
    maker = {job.execution.output: digest for digest, job in plan.jobs.items()}
    return {
        digest: {maker[made_by]}
        if (made_by := job.execution.made_by)
        else {maker[folder] for folders in job.execution.folders.values() for folder in folders if folder in maker}
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


def makespan(plan: Plan, available: int, minutes: Minutes, takes: Callable[[Job], int] = gpus) -> float:
    """Minutes until the last job has ended, on so many GPUs, or of whatever a job `takes` some of.

    Raises SystemExit where a job asks for more than these.
    """
    chains = {digest: length(chain, minutes) for digest, chain in chain_after(plan, minutes).items()}
    missing = {digest: set(makers) for digest, makers in needs(plan).items()}
    if too_large := [job.name for job in plan.jobs.values() if takes(job) > available]:
        raise SystemExit(f"{too_large[0]} asks for more than {available} GPUs; lower execution's gpus x nodes.")
    now, running = 0, []
    while missing or running:
        ready = [digest for digest, makers in missing.items() if not makers]
        for digest in sorted(ready, key=lambda digest: (-chains[digest], plan.jobs[digest].name)):
            job = plan.jobs[digest]
            if takes(job) <= available:
                available -= takes(job)
                heapq.heappush(running, (now + minutes[digest], digest))
                del missing[digest]
        now, done = heapq.heappop(running)
        available += takes(plan.jobs[done])
        for makers in missing.values():
            makers.discard(done)
    return now


# Report ---------------------------------------------------------------------------------------------------------------


def report(plan: Plan, sizes: list[int], node: Node) -> str:
    """The cost as Markdown."""
    most, likely, paces = limits(plan), expected_minutes(plan, node), paces_of(plan, node)
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
    counts = Counter(speed.basis for speed in set().union(*(pace.speeds for pace in paces.values())))
    own = {digest: job for digest, job in plan.jobs.items() if not job.execution.made_by}
    without = dict.fromkeys(job.name.split("/")[0] for digest, job in own.items() if digest not in paces)
    made = len(plan.jobs) - len(own)
    passes = f", {sum(job.kind == 'pass' for job in own.values())} of them a pass for {made} more" if made else ""
    return (
        f"{plan.name}: {len(own)} jobs{passes}; "
        f"{total:,.0f} GPU-hours expected on {node.card}, at most {upper:,.0f}. "
        f"In {waiting / 3600:,.0f} of those expected, GPUs wait for the loader.\n"
        f"The speeds behind it: {', '.join(f'{count} {basis}' for basis, count in sorted(counts.items())) or 'none'}. "
        f"Limits stand in for what has no speed: {', '.join(without)}."
    )


def sizes_table(plan: Plan, sizes: list[int], most: Minutes, likely: Minutes) -> str:
    lines = ["| GPUs | days, expected | GPUs busy | days, at most | GPUs busy |", "|---|---|---|---|---|"]
    for size in sizes:
        cells = []
        for minutes in (likely, most):
            end = makespan(plan, size, minutes)
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
        rows.setdefault((row_name(plan, plan.jobs[digest]), pace), []).append(digest)
    lines = [f"| {' | '.join(PACE_COLUMNS)} |", "|---" * len(PACE_COLUMNS) + "|"]
    for (name, pace), digests in rows.items():
        hours = [max(minutes[digest] for digest in digests) / 60 for minutes in (likely, most)]
        cells = (
            f"{len(digests)} {name}",
            gpus(plan.jobs[digests[0]]),
            pace.device,
            pace.loader or "stored",
            pace.limit,
            f"{pace.gpus_fed:.1f}" if pace.loader else "all",
            *(f"{hour:.1f}" for hour in hours),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def row_name(plan: Plan, job: Job) -> str:
    """What a job makes, by section, model and resolution; of a pass, what all its members are, and how many."""
    if parts := members(plan, job):
        counts = Counter(row_name(plan, part) for part in parts)
        return f"{job.name} of {', '.join(f'{count} {name}' for name, count in counts.items())}"
    section, model, *_ = job.name.split("/")
    return f"{section if job.kind == 'views' else f'{section}/{model}'} {job.recipe['views']['resolution']}"


def chain_list(plan: Plan, most: Minutes, likely: Minutes) -> str:
    chain = longest_chain(plan, likely)
    days, limit = length(chain, likely) / 1440, length(longest_chain(plan, most), most) / 1440
    lines = [f"The longest chain takes {days:.1f} days on any number of GPUs, expected (at most {limit:.1f}):", ""]
    for digest in [digest for digest in chain if not plan.jobs[digest].execution.made_by]:
        lines.append(f"- {likely[digest] / 60:.1f} h (at most {most[digest] / 60:.1f}) {plan.jobs[digest].name}")
    return "\n".join(lines)


def phase_table(plan: Plan, most: Minutes, likely: Minutes) -> str:
    upper, hours = gpu_hours(plan, most), gpu_hours(plan, likely)
    lines = ["| phase | GPU-hours, expected | at most |", "|---|---|---|"]
    lines += [f"| {phase} | {hours[phase]:,.0f} | {amount:,.0f} |" for phase, amount in upper.items() if amount]
    return "\n".join(lines)


def number(word: str) -> int:
    """GPUs, from a word of the command line."""
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word} is no number of GPUs; give at least 1.")
    return int(word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_study(parser)
    parser.add_argument("--gpus", type=number, nargs="+", default=[8, 32, 128], help="how long on so many")
    parser.add_argument("--speeds", type=Path, default=SPEEDS, help="a table that benchmarks/measure_speeds.py wrote")
    parser.add_argument("--card", default="", help="as in the table; without, that of the table's first training")
    arguments = parser.parse_args()
    node = Node(read_speeds(arguments.speeds), arguments.card)
    try:
        plan = plan_with_passes(named_or_chosen(arguments.study))
    except ParamsError as error:
        raise SystemExit(f"Nothing was planned, because of params/:\n{error}") from None
    print(report(plan, arguments.gpus, node))
