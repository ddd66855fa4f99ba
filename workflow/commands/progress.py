"""What runs where, how far it is, and what failed: a study by its files, and by Slurm where there is one.

    python workflow progress [STUDY]

Reads results/<study>/plan.csv, which the last `snakemake` wrote; asks nothing of Snakemake and changes nothing.
"""

import argparse
import csv
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from jobs.run_lock import holder, is_held

from commands._study import add_study, named_or_chosen
from deit.store.job import lock_name

ORDER = ("failed", "running", "queued")
EPOCH = re.compile(r"\b(epoch \d+/\d+)  (loss \S+)  (accuracy on mixed views \S+ %)  .*?  (\d+ h .*? left)")
VALIDATION = re.compile(r"\bepoch \d+/\d+  (validation accuracy .*?)  on \d+ images")
LAST_LINES = 8


def slurm_jobs() -> dict[str, str]:
    """Digest -> what Slurm says of its job; empty where there is no Slurm."""
    if not shutil.which("squeue"):
        return {}
    command = ["squeue", "--me", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%T|%i|%R|%M|%l|%k"]
    lines = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.splitlines()
    jobs = {}
    for state, job, where, used, limit, comment in (line.split("|", 5) for line in lines):
        detail = f"{where}, {used} of {limit}" if state != "PENDING" else where.strip("()")
        kind = "queued" if state == "PENDING" else "running"
        jobs[comment[-10:]] = f"{kind} job {job}: {detail}"
    return jobs


def state_of(row: dict[str, str], study: Path, jobs: dict[str, str]) -> tuple[str, str]:
    """A planned job's state and what there is to say of it."""
    folder = Path(row["folder"])
    product = folder / "provenance.json"
    if row["kind"] == "report":
        product = Path("reports") / study.name / f"provenance-{row['digest']}.json"
    if product.exists():
        return "finished", ""
    log, text = log_of(folder, study)
    progress = latest(text)
    if row["digest"] in jobs:
        state, _, detail = jobs[row["digest"]].partition(" ")
        return state, ", ".join(filter(None, [detail, progress]))
    lock = study / "locks" / lock_name(row["kind"], row["digest"])
    if is_held(lock):
        return "running", ", ".join(filter(None, [holder(lock), progress]))
    if text:
        last = "\n".join(f"      {line}" for line in text.strip().splitlines()[-LAST_LINES:])
        return "failed", f"or was interrupted; the end of {log}:\n{last}"
    return "waiting", ""


def log_of(folder: Path, study: Path) -> tuple[Path, str]:
    """The log of a job that is not finished, and its text: of the training itself, or of the rule that ran it.

    A run that a pass trains beside others has no rule's log until the pass has ended, but always its own.
    """
    own = folder.with_name(f"{folder.name}.partial") / "log.txt"
    rules = study / "logs" / folder.relative_to(study).with_suffix(".log")
    logs = [path for path in (own, rules) if path.exists() and path.stat().st_size]
    log = max(logs, key=lambda path: path.stat().st_mtime, default=rules)
    return log, log.read_text(errors="replace", encoding="utf-8") if logs else ""


def latest(text: str) -> str:
    """Epoch, loss, accuracies and time left, by the last lines of a log that tell them."""
    epochs, looks = EPOCH.findall(text), VALIDATION.findall(text)
    if not epochs:
        return ""
    *figures, left = epochs[-1]
    return ", ".join([*figures, *looks[-1:], left])


def report(study: str) -> Iterator[str]:
    """The lines to print."""
    root = Path("results") / study
    if not (root / "plan.csv").exists():
        raise SystemExit(
            f"{root}/plan.csv is missing: nothing was started yet. To start it: "
            f"snakemake --profile local --config study={study} -- all_tables"
        )
    rows = list(csv.DictReader((root / "plan.csv").open(encoding="utf-8")))
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
    add_study(parser)
    print("\n".join(report(named_or_chosen(parser.parse_args().study))))
