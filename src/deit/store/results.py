"""A result is a folder that is complete and of one recipe, or absent; what is read of it is what was published.

Its provenance.json, written last, lists the sha256 of every other file and is sealed itself. Whoever reads a result
asks for its files through `Result.file`, which checks them first.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from deit.store import attempts
from deit.store.attempts import ADOPTED, ATTEMPTS, now
from deit.store.finished import is_complete, seal_at
from deit.store.hardware import cpu, gpus, visible
from deit.store.job import Job
from deit.store.origins import images_behind, refuse_other_images
from deit.store.reach import Made, edited
from deit.store.seals import read_sealed, replace_sealed, sealed, unsealed

DIGEST_AT_THE_END = re.compile(r"-([0-9a-f]{10})$")
"""In the name of every folder that the plan has named."""
RECORDED_VARIABLES = ("ATEN_", "CUBLAS_", "CUDNN_", "DNNL_", "KMP_", "MKL_", "NPY_", "NVIDIA_TF32", "OMP_", "ONEDNN_")
RECORDED_VARIABLES += ("OPENBLAS_", "PYTORCH_", "TORCH", "LD_PRELOAD")
"""Beginnings of those that choose how numbers are computed, and so may change their last bits."""
RECORDED_VERSIONS = ("torch", "torchvision", "timm", "numpy", "pillow", "pandas", "snakemake", "dvc")


def read_job(path: Path) -> Job:
    """The job in a recipe file, whose name must be its digest, and whose code must be the one that runs.

    Raises SystemExit where the file, or the code, was edited after it was written: its result would carry a wrong name.
    """
    try:
        job = Job.model_validate_json(Path(path).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise SystemExit(f"{path}: no recipe ({first_line(error)}). Give the snakemake command again.") from None
    if Path(path).stem != job.digest:
        raise SystemExit(
            f"{path}: the recipe in this file has the digest {job.digest}. Recipes are never edited: change params/."
        )
    if job.roots and (files := edited(Made(job.roots, job.code, job.behaviour))):
        raise SystemExit(
            f"{job.name}: code that was edited after this job was planned: {', '.join(files)}. "
            "Take the edit back, or give the snakemake command again, which plans anew."
        )
    return job


def readable_job(recipe: Path) -> Job | None:
    """The job in a recipe file; None where there is no file, or one that was cut off, or another version wrote."""
    try:
        return Job.model_validate_json(recipe.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


# Reading --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """A finished result, as it was published."""

    folder: Path
    job: Job
    """What made it."""
    record: dict
    """provenance.json, without its seal."""

    @property
    def sha256(self) -> dict[str, str]:
        """Of each file, by its path in the folder; provenance.json is not among them."""
        return self.record["files"]

    def file(self, name: str) -> Path:
        """The path of a file that is, byte for byte, the published one. Raises SystemExit where it is not."""
        path = self.folder / name
        if name not in self.sha256:
            refuse_damaged(self.folder, path, "not among the files that were published")
        if not path.is_file():
            refuse_damaged(self.folder, path, "the file is missing")
        if file_digest(path) != self.sha256[name]:
            refuse_damaged(self.folder, path, "its sha256 is not the one that provenance.json lists")
        return path

    def json(self, name: str) -> Any:
        """The content of a JSON file that is as it was published."""
        return json.loads(self.file(name).read_bytes())

    def verify(self) -> None:
        """Checks every file. Raises SystemExit, which names the first that differs."""
        for name in self.sha256:
            self.file(name)


def read_result(folder: Path) -> Result:
    """The result in a folder, its record and recipe checked; other files are, when they are asked for.

    Raises SystemExit where the folder holds no finished result, a damaged one, or another than its name says.
    """
    folder = Path(folder)
    path = folder / "provenance.json"
    if not path.exists():
        raise SystemExit(f"{folder}: no finished result (no provenance.json). Give the snakemake command again.")
    try:
        record = unsealed(path.read_bytes())
    except ValueError as error:
        refuse_damaged(folder, path, str(error))
    recipe = Result(folder, Job.model_construct(), record).file("recipe.json")
    try:
        job = Job.model_validate_json(recipe.read_bytes())
    except ValidationError as error:
        raise SystemExit(
            f"{recipe}: written by other code than this, as it has other keys ({first_line(error)}). Check out the "
            f"commit that made it, or delete {folder} (rm -r) and give the snakemake command again."
        ) from None
    named = DIGEST_AT_THE_END.search(folder.name)
    if named and named[1] != job.digest:
        refuse_damaged(folder, folder, f"it holds {job.name} ({job.digest}), which is not what its name says")
    return Result(folder, job, record)


def check_input(folder: Path, job: Job, role: str) -> Result:
    """The result in an input folder. Raises SystemExit where it is not the one that `job` was planned with."""
    result = read_result(folder)
    if result.job.digest != job.inputs[role]:
        raise SystemExit(
            f"{folder}: made by {result.job.name} ({result.job.digest}), "
            f"but {job.name} was planned with the {role} {job.inputs[role]}. Give the snakemake command again."
        )
    return result


def check_planned(folders: list[Path], digests: Collection[str], name: str) -> list[Result]:
    """The results in the folders that the job `name` is given. Raises SystemExit for one that is not of the plan's."""
    results = [read_result(folder) for folder in folders]
    for result in results:
        if result.job.digest not in digests:
            raise SystemExit(
                f"{result.folder}: {name} was not planned with this result, {result.job.name} ({result.job.digest}). "
                "Give the snakemake command again, which names the right ones."
            )
    return results


def refuse_damaged(folder: Path, path: Path, what: str) -> NoReturn:
    """Ends the command. To delete the folder helps whether DVC has recorded it or not: what is not there can be had."""
    raise SystemExit(
        f"{path}: damaged: {what}. Delete {folder} (rm -r), then give the snakemake command again: "
        "it makes the result again, or says how to get it back from DVC."
    )


def file_digest(path: Path) -> str:
    """The sha256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_adopted(resume: Path) -> list[dict]:
    """What was adopted of the state in a folder; nothing where there is no such record.

    Raises SystemExit where the record is damaged: the result would tell another story than its own.
    """
    return read_sealed(resume / ADOPTED, "adopted", "not tell over which edits it was adopted")


def write_adopted(resume: Path, entries: list[dict]) -> None:
    replace_sealed(resume / ADOPTED, {"adopted": entries})


# Publishing -----------------------------------------------------------------------------------------------------------


class Unpublished:
    """A result that is being made, in a folder beside the one that it will have.

    The state of a run that is under way has a folder of its own, `resume`. With `keep` the result's folder still holds
    what an interrupted job of the same digest has left in it, however it was run. Raises SystemExit where what is told
    of such a state is damaged.
    """

    def __init__(self, output: Path, job: Job, resume: Path | None = None, keep: bool = False, jobs: int = 1):
        """So many `jobs` are done at the same time by one process: each has its share of the time."""
        self.output = Path(output)
        self.folder = self.output.with_name(self.output.name + ".partial")
        left = readable_job(self.folder / "recipe.json") if keep else None
        if left is None or left.digest != job.digest:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        partial = self.folder / "recipe.json.partial"
        partial.write_text(job.model_dump_json(indent=1), encoding="utf-8")
        os.replace(partial, self.folder / "recipe.json")  # at no instant without one, which would lose what is kept
        self.replaced = seal_at(self.output / "provenance.json")
        self.state = resume or self.folder
        self.adopted = read_adopted(self.state)  # refused now, where it is damaged, and not after the work
        images = images_behind(job)
        refuse_other_images(self.state, images)
        made_with = provenance(job.execution.gpus > 0) | {"deterministic_kernels": job.execution.deterministic}
        made_with |= {"images": images} if images else {}
        self.attempt = attempts.begin(self.state, made_with, jobs)

    def publish(self) -> None:
        """Gives the result its name, in place of the one that stood there at the beginning.

        One that another job has finished meanwhile stays, as others may be reading it. What was adopted of the state
        (`python workflow adopt`) is recorded in the result, too.
        """
        published = self.output / "provenance.json"
        if is_complete(published) and seal_at(published) != self.replaced:
            shutil.rmtree(self.folder)
            return
        record = (
            attempts.ended(self.state, self.attempt)
            | {"finished": now()}
            | ({"adopted": self.adopted} if self.adopted else {})
        )
        for notes in self.folder.glob(f"{ATTEMPTS}*"):
            notes.unlink()
        publish(self.folder, self.output, record)


@contextmanager
def new_folder(output: Path, job: Job, resume: Path | None = None, keep: bool = False) -> Iterator[Path]:
    """Yields the folder of a new result, which is published when the block ends without an error."""
    result = Unpublished(output, job, resume, keep)
    yield result.folder
    result.publish()


def publish(partial: Path, output: Path, record: dict) -> None:
    """Seals the folder `partial` with its record and gives it the name `output`, once all of it is on the disk.

    What had that name is whole until then, and put aside before it is removed.
    """
    write_provenance(partial, record)
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    former = output.with_name(f"{output.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if output.exists():
        output.rename(former)
    partial.rename(output)
    sync(output.parent)
    shutil.rmtree(former, ignore_errors=True)


def write_provenance(folder: Path, record: dict) -> None:
    """Writes provenance.json: the record, the sha256 of every other file of the folder, and the seal of both."""
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "provenance.json")
    record = {**record, "files": {str(path.relative_to(folder)): file_digest(path) for path in others}}
    (folder / "provenance.json").write_text(json.dumps(sealed(record), indent=1), encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def provenance(uses_gpus: bool = False) -> dict[str, object]:
    """What may change a result without being part of its digest; asked at a job's start, as commits may follow."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, encoding="utf-8"
    )
    return {
        "git_commit": commit.stdout.strip() or "unknown",
        "host": platform.node(),
        "machine": cpu(),
        "python": platform.python_version(),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(RECORDED_VARIABLES)},
        "versions": {name: installed_version(name) for name in RECORDED_VERSIONS},
        "gpus": [gpu._asdict() for gpu in visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))] if uses_gpus else [],
    }


def installed_version(name: str) -> str:
    """Of a package; a command alone needs none of those that plan and tell."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
