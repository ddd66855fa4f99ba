"""Studies of which Snakemake runs a training on a Slurm, and what a test may do to it there."""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from plan.passes import plan_passes
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import QUICK_SNAKEMAKE, SMALL, processes_of_jobs

from deit.store.frames import read_frame

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "tests/slurm"
LOW = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))["resolutions"]["pretraining"]
# One training of the others is disturbed; the state is saved about every second.
STUDIES = {
    "small": SMALL,
    "short": "extends: smoke\nteachers: {epochs: 30}\nexecution: {default: {save_minutes: 0.02}}\n",
    "endless": """extends: smoke
stored_views: false
teachers: {epochs: 3000}
execution: {default: {save_minutes: 0.02}}
""",
    "hungry": "extends: smoke\nteachers: {epochs: 30}\nexecution: {teachers: {mem_mb: 700}}\n",
    "edited": "extends: smoke\nteachers: {epochs: 3}\n",
    "two-nodes": "extends: smoke\nteachers: {epochs: 30}\nexecution: {teachers: {nodes: 2}}\n",
    "together": """extends: smoke
students: {epochs: 30, runs: {deit-ti/labels: {epochs: 10}}}
teacher_logits: {chunk_epochs: 15}
""",
}
# The profile has Slurm tell a pass five minutes before its limit, and Slurm looks every half a minute.
PASS = """execution:
  default: {save_minutes: 0.02}
  passes:
    three:
      runs: [deit-ti/labels/*, deit-ti/soft-*, deit-ti/hard-*]
      resources: {workers: 1, minutes: 47, mem_mb: 2500}
"""


def in_cluster(test: Callable) -> Callable:
    """Marks a test that needs the cluster."""
    return pytest.mark.slurm(pytest.mark.timeout(2400)(test))


@contextmanager
def started() -> Iterator[dict[str, str]]:
    """Yields the environment in which commands find the cluster. Skips the test where Slurm is not installed."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        missing = "Slurm is not installed (Debian, Ubuntu: apt-get install slurm-wlm munge)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not below pytest's folder, which is closed to munged
    up = subprocess.run([LAB / "up", folder], capture_output=True, encoding="utf-8")
    try:
        assert up.returncode == 0, up.stderr
        settings = dict(word.split("=", 1) for word in shlex.split(up.stdout)[1:])
        path = f"{Path(sys.executable).parent}:{settings['PATH'].replace('$PATH', os.environ['PATH'])}"
        # Several studies below have one training, and each is to compute it.
        again = {"COMPUTE_AGAIN": "yes", "PYTHONPATH": str(QUICK_SNAKEMAKE)}
        yield os.environ | {"SLURM_CONF": settings["SLURM_CONF"], "PATH": path} | again
    finally:
        subprocess.run([LAB / "down", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)  # what is left of a job may still write there


def answer(cluster: dict, *command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, env=cluster, cwd=cwd, check=True, capture_output=True, encoding="utf-8").stdout


def jobs(cluster: dict) -> dict[str, dict[str, str]]:
    """Job id -> Slurm's record of the job, finished ones too."""
    lines = answer(cluster, "scontrol", "-o", "show", "job").splitlines()
    records = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if "JobId" in line]
    return {record["JobId"]: record for record in records}


def digest_of(record: dict[str, str]) -> str:
    return record["Comment"][-10:]


def state(cluster: dict, job: str) -> str:
    return jobs(cluster)[job]["JobState"]


def command(study: str, *arguments: str) -> list[str]:
    return ["snakemake", "--profile", "slurm", "--config", f"study={study}", *arguments]


@contextmanager
def snakemake_meanwhile(cluster: dict, project: Path, *words: str) -> Iterator[subprocess.Popen]:
    """A Snakemake that runs meanwhile; its output is in snakemake.txt."""
    with (project / "snakemake.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(words, cwd=project, env=cluster, stdout=output, stderr=output)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(1800)


def finished(process: subprocess.Popen, project: Path) -> str:
    """What Snakemake printed, once it has ended well."""
    status = process.wait(3000)
    text = (project / "snakemake.txt").read_text(encoding="utf-8")
    assert status == 0, text[-6000:]
    return text


def until(condition: Callable, seconds: float = 600):
    """The condition's first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
    return value


def plan_of(project: Path, study: str, monkeypatch) -> Plan:
    monkeypatch.chdir(project)
    return plan_study(study)


class Training:
    """The teacher of one study, trained on the cluster."""

    def __init__(self, cluster: dict, project: Path, study: str, plan: Plan):
        self.cluster, self.project, self.study = cluster, project, study
        (job,) = (job for job in plan.jobs.values() if job.name == f"teachers/regnety-4gf/labels/{LOW}/seed0")
        self.digest, self.output = job.digest, project / job.execution.output
        self.resume = project / f"results/{study}/resume/{job.digest}"
        self.before = set(jobs(cluster))

    @property
    def target(self) -> str:
        return str((self.output / "weights.safetensors").relative_to(self.project))

    def start(self, *options: str):
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.resume, ignore_errors=True)
        return snakemake_meanwhile(self.cluster, self.project, *command(self.study, *options, "--", self.target))

    def jobs(self) -> dict[str, dict[str, str]]:
        """Its jobs of this test, the first attempt first."""
        records = {job: record for job, record in jobs(self.cluster).items() if job not in self.before}
        mine = {job: record for job, record in records.items() if self.is_mine(record)}
        return dict(sorted(mine.items(), key=lambda item: int(item[0])))

    def is_mine(self, record: dict[str, str]) -> bool:
        return digest_of(record) == self.digest and f"_wildcards_{self.study}_" in record["Comment"]

    def log(self, job: str) -> str:
        """What a job printed since it was last started."""
        path = Path(self.jobs()[job]["StdOut"])
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def under_way(self, starts: int = 1) -> str:
        """Waits until a state is saved, and the training goes on from one at its second start; the job that trains."""
        until(lambda: (self.resume / "resume.pt").exists() and self.starts() == starts)
        job = list(self.jobs())[-1]
        until(lambda: state(self.cluster, job) == "RUNNING" and (starts == 1 or "resumed after" in self.log(job)))
        return job

    def starts(self) -> int:
        return sum(1 + int(record["Restarts"]) for record in self.jobs().values())

    def hold(self) -> int:
        """Stops the process that trains, which stays alive; `let_go` has it go on."""
        (process,) = (pid for pid, digest in processes_of_jobs(self.project).items() if digest == self.digest)
        os.kill(process, signal.SIGSTOP)
        return process

    def weights(self) -> str:
        return hashlib.sha256((self.output / "weights.safetensors").read_bytes()).hexdigest()

    def losses(self):
        return read_frame(self.output / "history.csv")["loss"]


def limit_soon(one: Training, job: str) -> None:
    """Leaves a job 35 to 95 seconds: limits are whole minutes, and Slurm looks every half a minute."""
    hours, minutes, seconds = map(int, one.jobs()[job]["RunTime"].split(":"))
    limit = -(-(3600 * hours + 60 * minutes + seconds + 35) // 60)
    answer(one.cluster, "scontrol", "update", f"jobid={job}", f"timelimit={limit}")


def let_go(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def is_told_to_end(process: int) -> bool:
    """Whether SIGTERM waits for a held process, or it has ended: at a time limit Slurm itself lets it go on and end."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    waiting = re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[1]
    return bool(int(waiting, 16) & 1 << signal.SIGTERM - 1)


def node_of(one: Training, job: str) -> str:
    return one.jobs()[job]["NodeList"]


def requeue(one: Training, job: str) -> None:
    """Slurm lets a job that it has queued again wait for two minutes; a person would not, once its node is free."""
    node = node_of(one, job)
    answer(one.cluster, "scontrol", "requeue", job)
    until(lambda: state(one.cluster, job) == "PENDING")
    until(lambda: "COMPLETING" not in answer(one.cluster, "scontrol", "-o", "show", "node", node))
    Path(one.jobs()[job]["StdOut"]).write_text("", encoding="utf-8")  # as Slurm does, a moment after the next start
    answer(one.cluster, "scontrol", "update", f"jobid={job}", "starttime=now")


def take_the_node_down(one: Training, job: str) -> None:
    name = node_of(one, job)
    answer(one.cluster, "scontrol", "update", f"nodename={name}", "state=down", "reason=test")
    until(lambda: state(one.cluster, job) == "PENDING")
    # Slurm itself would wait for two minutes; and the node comes back, with what is left of the job.
    answer(one.cluster, "scontrol", "update", f"jobid={job}", f"excnodelist={name}", "starttime=now")
    until(lambda: node_of(one, job) not in (name, "(null)"))
    # Slurm refuses where the node has come back by itself.
    subprocess.run(["scontrol", "update", f"nodename={name}", "state=resume"], env=one.cluster, capture_output=True)


class Pass(Training):
    """Students of one stream that one job trains on the cluster, and fills the caches of their teacher on the way."""

    def __init__(self, cluster: dict, project: Path, study: str, plan: Plan):
        self.cluster, self.project, self.study = cluster, project, study
        (job,) = plan_passes(plan, everything=True).values()
        self.digest, self.output = job.digest, project / job.execution.output
        self.runs = [plan.jobs[digest] for digest in job.resolved().runs]
        self.caches = [plan.jobs[digest] for digest in job.resolved().caches]
        self.before = set(jobs(cluster))

    @property
    def targets(self) -> list[str]:
        return [f"{job.execution.output}/provenance.json" for job in (*self.runs, *self.caches)]

    def digests(self) -> dict[str, str]:
        """Weights of the runs and shards of the caches -> their sha256."""
        folders = [self.project / job.execution.output for job in (*self.runs, *self.caches)]
        files = [path for folder in folders for name in ("*.safetensors", "*.npy") for path in folder.glob(name)]
        return {str(path.relative_to(self.project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def own_jobs(self) -> dict[str, dict[str, str]]:
        """Digest -> the record of the job of a run or a cache, which finds it made."""
        new = [record for job, record in jobs(self.cluster).items() if job not in self.before]
        return {digest_of(record): record for record in new if digest_of(record) != self.digest}
