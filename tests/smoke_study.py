"""A clone of the project and its smoke study, for tests of the whole pipeline."""

import compileall
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from plan.plan import COMMANDS, Plan

from deit.store.job import Job

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "snakemake", "--profile", "local", "--config", "study=smoke"]
QUICK_SNAKEMAKE = ROOT / "tests/quick_snakemake"
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(QUICK_SNAKEMAKE),
}
MAIN = COMMANDS | {"table": "jobs.render", "report": "jobs.report"}
"""Kind of a job -> the module that its rule runs."""
TREE = ("Snakefile", "local", "slurm", "params", "src", "workflow", ".gitignore")
SECONDS = 3000
"""Within which a study ends, on a slow machine too."""
SMALL = """\
extends: smoke
tables:
  table_1: null
  table_2: null
  table_3: {teacher: regnety-4gf, students: [deit-ti], finetuned: [deit-ti], rows: {soft: null, hard: null}}
  table_4: null
  table_5: {convnets: [regnety-4gf], students: [deit-ti], finetuned: [deit-ti]}
"""
"""A study with every rule of the smoke study, and half of its jobs."""


def copy_of_project(folder: Path) -> Path:
    """A clone of the working tree in git, without any results."""
    folder.mkdir(exist_ok=True)
    for name in TREE:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            compileall.compile_dir(source, quiet=1)  # also where PYTHONDONTWRITEBYTECODE would have each process do it
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("*.pyc.*"))  # half made
        else:
            shutil.copy(source, folder / name, follow_symlinks=False)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-qm", "clone"], cwd=folder, check=True)
    return folder


def snakemake(project: Path, *arguments: str, check: bool = True) -> str:
    """stdout and stderr of `snakemake --profile local --config study=smoke ...`."""
    command = [*COMMAND, *arguments]
    run = subprocess.run(command, cwd=project, capture_output=True, encoding="utf-8", env=ENVIRONMENT, timeout=SECONDS)
    output = run.stdout + run.stderr
    assert run.returncode == 0 or not check, output[-6000:]
    return output


def processes_of_jobs(project: Path) -> dict[int, str]:
    """Process -> digest of the job that it computes, in a clone on this machine."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode()
            here = (entry / "cwd").readlink() == project
        except OSError:
            continue
        digest = re.search(r"\0--recipe\0.*/([0-9a-f]{10})\.json", words)
        if here and digest:
            found[int(entry.name)] = digest[1]
    return found


def run_command(plan: Plan, job: Job) -> None:
    """The command of a job as its rule calls it, in this process and from the working folder of the study."""
    flags = {"recipe": [f"results/{plan.name}/recipes/{job.digest}.json"], "output": [job.execution.output]}
    flags |= job.execution.folders | ({"resume": [f"resume/{job.digest}"]} if job.kind == "train" else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [job.kind, *(word for name in flags for word in (f"--{name}", *flags[name]))])
        import_module(MAIN[job.kind]).main()
