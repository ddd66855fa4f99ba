"""What runs where, how far it is, and what failed: a study by its files, and by Slurm where there is one.

    python workflow/progress.py imagenet

Reads results/<study>/plan.csv, which the last `snakemake` wrote; asks nothing of Snakemake and changes nothing.
"""

import argparse
import csv
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from run_lock import holder, is_held

ORDER = ("failed", "running", "queued")
EPOCH = re.compile(r"^epoch (\d+/\d+) .*?  (\d+ h .*?) left$", re.MULTILINE)
LAST_LINES = 8


def slurm_jobs() -> dict[str, str]:
    """Digest -> what Slurm says of its job; empty where there is no Slurm."""
    if not shutil.which("squeue"):
        return {}
    command = ["squeue", "--me", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%T|%i|%R|%M|%l|%k"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    jobs = {}
    for state, job, where, used, limit, comment in (line.split("|", 5) for line in lines):
        detail = f"{where}, {used} of {limit}" if state != "PENDING" else where.strip("()")
        kind = "queued" if state == "PENDING" else "running"
        jobs[comment[-10:]] = f"{kind} job {job}: {detail}"
    return jobs


def state_of(row: dict[str, str], study: Path, jobs: dict[str, str]) -> tuple[str, str]:
    """A planned job's state and what there is to say of it."""
    folder = Path(row["folder"])
    finished = folder / "provenance.json"
    if row["kind"] == "report":
        finished = Path("reports") / study.name / f"provenance-{row['digest']}.json"
    if finished.exists():
        return "finished", ""
    log = study / "logs" / folder.relative_to(study).with_suffix(".log")
    text = log.read_text(errors="replace") if log.exists() else ""
    epochs = EPOCH.findall(text)
    progress = f"epoch {epochs[-1][0]}, {epochs[-1][1]} left" if epochs else ""
    if row["digest"] in jobs:
        state, _, detail = jobs[row["digest"]].partition(" ")
        return state, ", ".join(filter(None, [detail, progress]))
    lock = study / "locks" / row["digest"]
    if is_held(lock):
        return "running", ", ".join(filter(None, [holder(lock), progress]))
    if text:
        last = "\n".join(f"      {line}" for line in text.strip().splitlines()[-LAST_LINES:])
        return "failed", f"or was interrupted; the end of {log}:\n{last}"
    return "waiting", ""


def report(study: str) -> Iterator[str]:
    """The lines to print."""
    root = Path("results") / study
    if not (root / "plan.csv").exists():
        raise SystemExit(f"{root}/plan.csv is missing: nothing was started yet. Known studies are in params/.")
    rows = list(csv.DictReader((root / "plan.csv").open()))
    jobs = slurm_jobs()
    states = [(*state_of(row, root, jobs), row) for row in rows]
    counts = {name: sum(state == name for state, _, _ in states) for name in ("finished", *ORDER, "waiting")}
    yield f"{study}: {len(rows)} jobs, " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    for name in ORDER:
        for state, detail, row in states:
            if state == name:
                yield f"  {name}  {'/'.join(filter(None, (row['phase'], row['name'])))}  {detail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    print("\n".join(report(parser.parse_args().study)))


if __name__ == "__main__":
    main()
