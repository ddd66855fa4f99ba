"""After the last job: whether what was made is what params/ and code say now; what failed, and how to go on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from shlex import join, quote

from plan.plan import Plan
from plan.shared import SWITCH

PLAN_TODAY = "import sys; from plan.studies import plan_study; print(*plan_study(sys.argv[1]).jobs)"
LAST_LINES = 6
"""Of a log that ends in no traceback."""


def refuse_edits_meanwhile(plan: Plan) -> None:
    """SystemExit where params or code were edited while jobs ran, whose results are complete, but of what stood before.

    DVC records a stage when its command has ended well, with the params and code of that moment. Not asked where
    nothing was to be done. A fresh process plans, as this one has the planning code of the start in memory.
    """
    words = [sys.executable, "-c", PLAN_TODAY, plan.name]
    today = subprocess.run(words, capture_output=True, encoding="utf-8")
    if set(today.stdout.split()) != plan.jobs.keys():
        raise SystemExit(
            "All jobs ended well, but params/ or code were edited meanwhile. The results are those of what stood "
            "there at the start. For today's, give the command again."
        )


def failure(words: str, says: str, logs: list[str]) -> Iterator[str]:
    """A job that failed: what it was to do, its own message, and where the rest stands.

    `says` is what the executor adds; `logs` are the job's own and, on a cluster, that of its node.
    """
    yield f"\nFailed: {words}"
    for line in [*says.splitlines(), *message(Path(logs[0]) if logs else None)]:
        yield f"    {line}"
    if written := [log for log in logs if Path(log).exists()]:  # none of a submission that was refused
        yield f"    All that it said: {', '.join(written)}"


def message(log: Path | None) -> list[str]:
    """What a log says last, each thing once: after a traceback the error alone, otherwise its last lines."""
    if not (log and log.exists()):
        return ["It said nothing."]
    lines = log.read_text(errors="replace", encoding="utf-8").rstrip().splitlines()
    lines = [line for line in lines if " node(s) x " not in line]  # the launcher's
    pairs = zip_longest(lines, lines[1:], fillvalue="")
    lines = [line for line, after in pairs if not (after and line.endswith(after))]  # of "name: why", "why" the second
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if not frames:
        return lines[-LAST_LINES:]
    after = frames[-1] + 1
    while after < len(lines) and lines[after].startswith("    "):  # the source of the last frame
        after += 1
    return lines[after:] or lines[-1:]


def what_stands(plan: Plan) -> Iterator[str]:
    """What is kept, whose report an older one is, and the command that goes on."""
    report = plan.record_of(*plan.of_section("report"))
    for path in sorted(Path(f"reports/{plan.name}").glob("provenance-*.json")):
        if path != report:
            yield f"reports/{plan.name}/ still shows the earlier plan {path.stem[-10:]}."
    yield "\nFailed. What was finished is kept, and this goes on from there:"
    yield f"    {command()}"


def command() -> str:
    """That of this call, with what the environment said of it, and a Snakemake that the user's shell finds."""
    given = {name: os.environ.get(name) for name in ("SNAKEMAKE_PROFILE", SWITCH)}
    variables = [f"{name}={quote(value)}" for name, value in given.items() if value]
    return " ".join([*variables, snakemake(), join(sys.argv[1:])])


def snakemake() -> str:
    """By its name where the shell has it in PATH, else by its place; make has the environment's alone in its PATH."""
    if os.path.basename(sys.argv[0]) == "__main__.py":  # python -m snakemake
        return f"{from_here(sys.executable)} -m snakemake"
    if "MAKELEVEL" not in os.environ and shutil.which("snakemake") == os.path.abspath(sys.argv[0]):
        return "snakemake"
    return from_here(sys.argv[0])


def from_here(path: str) -> str:
    """A program as the shell finds it, below the working folder or anywhere."""
    place = os.path.relpath(path)
    return quote(path if place.startswith("..") else place)
