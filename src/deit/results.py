"""A result is a folder that is either complete and of one recipe, or absent."""

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from .behaviour import edited
from .recipes import Job

ADOPTED = "adopted.json"
"""In a resume folder: which changes of code its state was declared to outlive."""
RECORDED_VERSIONS = ("torch", "torchvision", "timm", "numpy", "pillow", "pandas", "snakemake", "dvc")


def read_job(path: Path) -> Job:
    """The job in a recipe file, whose name must be its digest, and whose code must be the one that runs.

    Raises SystemExit where the file, or the code, was edited after it was written: its result would carry a wrong name.
    """
    job = Job.model_validate_json(Path(path).read_text())
    if Path(path).stem != job.digest:
        raise SystemExit(
            f"{path}: the recipe in this file has the digest {job.digest}. Recipes are never edited: change params/."
        )
    if files := edited(job.behaviour):
        raise SystemExit(
            f"{job.name}: code that was edited after this job was planned: {', '.join(files)}. "
            "Take the edit back, or give the snakemake command again, which plans anew."
        )
    return job


def made_by(folder: Path) -> Job:
    """The job that made a result folder."""
    path = Path(folder) / "recipe.json"
    if not path.exists():
        raise SystemExit(f"{folder}: no recipe.json, so this is no finished result. Delete the folder and run again.")
    return Job.model_validate_json(path.read_text())


def check_input(folder: Path, job: Job, role: str) -> Job:
    """Refuse an input folder that is not the one that `job` was planned with; returns the job that made it."""
    maker = made_by(folder)
    if maker.digest != job.inputs[role]:
        raise SystemExit(
            f"{folder}: made by {maker.name} ({maker.digest}), "
            f"but {job.name} was planned with the {role} {job.inputs[role]}."
        )
    return maker


@contextmanager
def new_folder(output: Path, job: Job, resume: Path | None = None) -> Iterator[Path]:
    """Yields a temporary folder beside `output`; renames it to `output` when the block ends without an error.

    A result that another job has finished meanwhile stays, as others may be reading it. What was adopted of the state
    in the folder `resume` (workflow/adopt.py) is recorded in the result, too.
    """
    output = Path(output)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "recipe.json").write_text(job.model_dump_json(indent=1))
    made_with, start = provenance(), time.perf_counter()
    yield partial
    if (output / "provenance.json").exists():
        shutil.rmtree(partial)
        return
    record = {"seconds": round(time.perf_counter() - start, 2), "finished": now(), **made_with}
    if resume and (resume / ADOPTED).exists():
        record["adopted"] = json.loads((resume / ADOPTED).read_text())
    (partial / "provenance.json").write_text(json.dumps(record, indent=1))
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def provenance() -> dict[str, object]:
    """What may change a result without being part of its digest; asked at a job's start, as commits may follow."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    return {
        "git_commit": commit.stdout.strip() or "unknown",
        "host": platform.node(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
    }
