"""What dvc.lock records of a study: nothing that can be pulled is computed again by accident.

A fresh clone has the records and none of the results. Snakemake would begin with all of them, perhaps with days of
training; so before the first job starts, planned results that are not here are looked for in these records.
"""

import json
import subprocess
import sys
from pathlib import Path
from shlex import quote

import yaml
from plan.shared import SWITCH, computes_again
from pydantic import BaseModel, ValidationError

from deit.store.job import Job
from deit.store.results import first_line


class RecordsRefused(Exception):
    """Results are recorded and not here, or the records cannot be read; its text is all that the user needs to see."""


def refuse_to_compute_again(study: str, jobs: list[Job]) -> None:
    """Raises RecordsRefused where some of `jobs`, which are about to run, are recorded; the switch allows it."""
    if computes_again():
        return
    lines, wanted = [], []
    for folder, md5 in recorded_folders(study).items():
        outputs = [job.execution.output for job in jobs if job.execution.output.startswith(f"{folder}/")]
        names = listing(md5) if outputs else None
        known = outputs if names is None else [path for path in outputs if path.removeprefix(f"{folder}/") in names]
        if known:
            lines.append(f"  {folder}: {len(known)} of the plan{'' if names else ', or older ones'}")
            wanted += known if any(Path(folder).glob("**/recipe.json")) else [folder]
    if lines:
        raise RecordsRefused(
            "Nothing was started: dvc.lock records results that are not here, or not whole.\n"
            + "\n".join(lines)
            + f"\nTo get them:              dvc pull {' '.join(map(quote, wanted))}"
            + f"\nTo compute them again:    {SWITCH}=yes   in front of the same command"
        )


def recorded_folders(study: str, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Folder below results/<study>/ -> the hash under which DVC keeps its listing.

    Raises RecordsRefused where the file is there and cannot be read as records.
    """
    if not lock.exists():
        return {}
    try:
        outs = Records.model_validate(yaml.safe_load(lock.read_text(encoding="utf-8"))).outs()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        what = "has the marks of a merge in it" if has_conflict(lock) else f"is no record of DVC's: {first_line(error)}"
        raise RecordsRefused(
            f"{lock}: {what}. Nothing was started, as results could be computed again that it records. "
            f"Take a whole one: `git checkout HEAD -- {lock}`; or delete it, and `dvc repro` records what is here."
        ) from None
    return {out.path: out.md5 for out in outs if out.path.startswith(f"results/{study}/") and out.md5}


class Out(BaseModel):
    """A file or folder that DVC stores."""

    path: str
    md5: str = ""


class Stage(BaseModel):
    """A stage of dvc.lock; what else it says is DVC's own."""

    outs: list[Out] = []


class Records(BaseModel):
    """dvc.lock."""

    stages: dict[str, Stage]

    def outs(self) -> list[Out]:
        return [out for stage in self.stages.values() for out in stage.outs]


def has_conflict(lock: Path) -> bool:
    try:
        return any(line.startswith((b"<<<<<<<", b">>>>>>>")) for line in lock.read_bytes().splitlines())
    except OSError:
        return False


def listing(md5: str) -> set[str] | None:
    """Every file and folder of a recorded folder; None where DVC's cache does not have it, as before a pull.

    A listing that cannot be read is none: DVC fetches it anew.
    """
    path = cache() / "files" / "md5" / md5[:2] / md5[2:]
    try:
        files = [Path(entry["relpath"]) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {str(place) for file in files for place in (file, *file.parents)}


def cache() -> Path:
    """DVC's cache, which a user may have moved."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]  # `dvc` itself may not be in PATH
    folder = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()
    return Path(folder or ".dvc/cache")
