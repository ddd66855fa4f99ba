"""Jobs of every kind end at random instants, and Snakemake itself: the same command, and the same bytes in the end."""

import csv
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from in_process import working_in
from plan.studies import plan_study
from smoke_study import COMMAND, ENVIRONMENT, SMALL, copy_of_project, processes_of_jobs, run_command, snakemake

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]

QUOTA = 5
"""Jobs of a kind that each signal ends."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
SNAKEMAKES = 3
SMALL_COMMAND = [*COMMAND[:-1], "study=small"]
SAME = (".safetensors", ".npy", ".parquet", ".csv", ".tex")
MEASURED = re.compile("/(throughput|history|table_1|table_5|accuracy_throughput|plan)")
"""Files that hold speeds or seconds."""


class Killer:
    """Gives jobs of a study, as they start, a signal and a time for it, within the seconds that their kind lives."""

    def __init__(self, project: Path, lives: dict[str, float], seed: int):
        self.project, self.lives, self.draw = project, lives, random.Random(seed)
        self.kinds: dict[str, str] = {}
        self.due: dict[int, tuple[float, int, str]] = {}
        self.sent: Counter[tuple[str, int]] = Counter()

    def jobs(self) -> dict[int, str]:
        """Process -> kind of its job."""
        plan = self.project / "results/small/plan.csv"
        if plan.exists():  # which the next Snakemake writes anew
            self.kinds |= {row["digest"]: row["kind"] for row in csv.DictReader(plan.open(encoding="utf-8"))}
        found = processes_of_jobs(self.project).items()
        return {pid: self.kinds[digest] for pid, digest in found if digest in self.kinds}

    def look(self) -> None:
        """Sends what is due, and decides about jobs that are new."""
        jobs = self.jobs()
        for pid, kind in jobs.items():
            if pid not in self.due:
                number = min(SIGNALS, key=lambda each: (self.sent[kind, each], self.draw.random()))
                known = any(kind == one for *_, one in self.due.values())
                life = self.lives[kind] if known else 0  # the only one of its kind may be gone by then
                self.due[pid] = (time.monotonic() + self.draw.uniform(0, life), number, kind)
        for pid in self.due.keys() & jobs.keys():
            at, number, kind = self.due[pid]
            if time.monotonic() >= at and self.sent[kind, number] < QUOTA:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, number)
                self.sent[kind, number] += 1
                self.due[pid] = (float("inf"), number, kind)


@pytest.fixture
def undisturbed(finished, tmp_path) -> Path:
    """A folder in which no job was disturbed: what `smoke` has of the study, and the rest made in this process."""
    folder = clone_with_study(tmp_path / "undisturbed")
    with working_in(folder):
        plan, smoke = plan_study("small"), plan_study("smoke")
        plan.write({})
        for job in plan.jobs.values():
            if job.digest in smoke.jobs:
                shutil.copytree(finished / smoke.jobs[job.digest].execution.output, job.execution.output)
            elif job.kind != "report":
                run_command(plan, job)
    return folder


@pytest.fixture
def lives(finished) -> dict[str, float]:
    """Kind -> seconds in which jobs of it ended in the study that was not disturbed, on this machine; their median."""
    folder, found = finished / "results/smoke", {"report": [0.6]}
    for row in csv.DictReader((folder / "plan.csv").open(encoding="utf-8")):
        for path in folder.glob(f"benchmarks/**/*-{row['digest']}.tsv"):
            (job,) = csv.DictReader(path.open(encoding="utf-8"), delimiter="\t")
            found.setdefault(row["kind"], []).append(float(job["s"]))
    return {kind: statistics.median(seconds) for kind, seconds in found.items()}


def clone_with_study(folder: Path) -> Path:
    copy_of_project(folder)
    (folder / "params/small.yaml").write_text(SMALL, encoding="utf-8")
    return folder


def test_after_any_kills_the_same_command_ends_with_the_same_bytes(undisturbed, lives, tmp_path):
    clone, seed = clone_with_study(tmp_path / "clone"), int(time.time())
    print(f"seed {seed}")
    killer, snakemakes, so_many = Killer(clone, lives, seed), 0, 0
    for _ in range(40):
        process = subprocess.Popen(
            [*SMALL_COMMAND, "--retries", "20", "--", "all_tables"],
            cwd=clone, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        so_many += killer.draw.randint(5, 12)
        while process.poll() is None:
            killer.look()
            if snakemakes < SNAKEMAKES and killer.sent.total() >= so_many:
                process.kill()  # its jobs go on
                snakemakes += 1
                process.wait()
            time.sleep(0.05)
        if process.returncode == 0:
            break
        snakemake(clone, "--config", "study=small", "--unlock")
    assert process.returncode == 0, "never finished"
    kinds = {kind for kind, _ in killer.sent}
    by_signal = {number: sum(killer.sent[kind, number] for kind in kinds) for number in SIGNALS}
    print(f"{by_signal}, snakemake {snakemakes}; {dict(killer.sent)}")
    assert min(by_signal.values()) >= 20 and snakemakes == SNAKEMAKES
    assert kinds == {
        "data",
        "networks",
        "views",
        "train",
        "cache",
        "predict",
        "tokens",
        "throughput",
        "table",
        "report",
    }
    compared = Counter()
    for path in sorted(clone.glob("results/small/**/*")):
        name = path.relative_to(clone)
        if path.suffix in SAME and not MEASURED.search(str(name)):
            assert path.read_bytes() == (undisturbed / name).read_bytes(), name
            compared[path.suffix] += 1
    print(f"identical: {dict(compared)}")
    assert all(compared[suffix] for suffix in SAME)
    assert "Nothing to be done" in snakemake(clone, "--config", "study=small", "--", "all_tables")
