"""Clones in which DVC and Snakemake are called, edits of their params, and what was then run."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from smoke_study import ENVIRONMENT as OURS
from smoke_study import SECONDS

ROOT = Path(__file__).resolve().parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
LOW, HIGH = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))["resolutions"].values()
# A study of its own for one student: what else the file says of `students:` stays.
STUDENT = ("epochs: 2, epoch_views: 600}", "epochs: 2, epoch_views: 600, runs: {deit-s/hard: {learning_rate: 0.001}}}")
# What follows from this one is only the token analysis.
CONTROL = (STUDENT[0], STUDENT[1].replace("deit-s/hard", "deit-ti/two-class-tokens"))
TEACHER = (
    "students: {epochs: 2, epoch_views: 600}\nteachers: {epochs: 2, epoch_views: 600}",
    "students: {epochs: 2, epoch_views: 600}\nteachers: {epochs: 2, epoch_views: 600, "
    "runs: {regnety-4gf: {weight_decay: 0.001}}}",
)
ENVIRONMENT = {key: value for key, value in OURS.items() if key not in ("COMPUTE_AGAIN", "SNAKEMAKE_PROFILE")} | {
    f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def section(path: str) -> str:
    return path.removeprefix("results/${study}/")


def stage_of(name: str) -> str:
    """The stage that makes a section of results/<study>/; views are made with the data, and not stored by DVC."""
    outs = {"views": "data"} | {
        section(next(iter(out))): stage for stage, content in STAGES.items() for out in content["outs"]
    }
    return outs[name]


def run(project: Path, *command: str, fails: bool = False, **environment: str) -> str:
    """stdout and stderr of a command, which must succeed, or fail."""
    done = subprocess.run(
        command,
        cwd=project,
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
    )
    output = done.stdout + done.stderr
    assert bool(done.returncode) == fails, output[-6000:]
    return output


def snakemake(project: Path, *arguments: str, **options) -> str:
    return run(project, "snakemake", "--profile", "local", *arguments, **options)


def edit(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def commit(project: Path, message: str) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", message)


def results(project: Path) -> dict[str, int]:
    """Finished results, section/name-digest -> when they were finished; without views, which DVC does not keep."""
    root = project / "results/smoke"
    found = {path.parent.relative_to(root): path.stat().st_mtime_ns for path in root.glob("**/recipe.json")}
    return {str(name): time for name, time in found.items() if name.suffix != ".partial" and name.parts[0] != "views"}


def ran(project: Path, before: dict[str, int]) -> list[str]:
    """Sorted section/name of what was made since `before`."""
    return sorted(folder[:-11] for folder, time in results(project).items() if before.get(folder) != time)


def trained(project: Path, before: dict[str, int]) -> list[str]:
    """What was made since `before`, but for what is read off trainings."""
    return [name for name in ran(project, before) if name.split("/")[0] not in ("predictions", "tokens", "tables")]


def agree_that_nothing_is_to_be_done(project: Path, *stage: str) -> bool:
    """DVC and Snakemake, of everything, or of one stage and what it needs."""
    clean = "Data and pipelines are up to date" in run(project, "dvc", "status", "--with-deps", *stage)
    return clean and "Nothing to be done" in snakemake(project, "-n", *(stage or ["all_tables"]))


def plan_of(project: Path) -> dict[str, dict[str, str]]:
    """Digest -> row of plan.csv, planned in the project's own code."""
    code = "from plan.studies import plan_study; plan_study('smoke').write({})"
    run(project, sys.executable, "-c", code, PYTHONPATH="workflow:src")
    return {row["digest"]: row for row in csv.DictReader((project / "results/smoke/plan.csv").open(encoding="utf-8"))}


@contextmanager
def empty_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an S3 on this machine with an empty bucket, made by moto."""
    import boto3  # both are slow to import
    from moto.server import ThreadedMotoServer

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setitem(ENVIRONMENT, key, "test")
        monkeypatch.setenv(key, "test")
    monkeypatch.setitem(ENVIRONMENT, "AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(ENVIRONMENT, "NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="deit")
    yield url
    server.stop()
