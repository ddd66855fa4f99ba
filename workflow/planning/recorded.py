"""What dvc.lock records of a study: nothing that can be pulled is computed again by accident.

A fresh clone has the records and none of the results. Snakemake would begin with all of them, perhaps with days of
training; so before the first job starts, planned results that are not here are looked for in these records.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from deit.recipes import Job

SWITCH = "COMPUTE_AGAIN"


class RecordedElsewhere(Exception):
    """Results are recorded and not here; its text is all that the user needs to see."""


def refuse_to_compute_again(study: str, jobs: list[Job]) -> None:
    """Raises RecordedElsewhere where some of `jobs`, which are about to run, are recorded; the switch allows it."""
    if os.environ.get(SWITCH, "").lower() in ("yes", "true", "1"):
        return
    lines = []
    for folder, md5 in recorded_folders(study).items():
        outputs = [job.execution.output for job in jobs if job.execution.output.startswith(f"{folder}/")]
        names = listing(md5) if outputs else None
        known = outputs if names is None else [path for path in outputs if path.removeprefix(f"{folder}/") in names]
        if known:
            lines.append(f"  {folder}: {len(known)} of the plan{'' if names else ', or older ones'}")
    if lines:
        raise RecordedElsewhere(
            "Nothing was started: dvc.lock records results that are not here.\n"
            + "\n".join(lines)
            + "\nTo get them:              dvc pull        (dvc checkout, after git checkout)"
            + f"\nTo compute them again:    {SWITCH}=yes   in front of the same command"
        )


def recorded_folders(study: str, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Folder below results/<study>/ -> the hash under which DVC keeps its listing."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {}) if lock.exists() else {}
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if out["path"].startswith(f"results/{study}/") and "md5" in out}


def listing(md5: str) -> set[str] | None:
    """Every file and folder of a recorded folder; None where DVC's cache does not have it, as before a pull."""
    path = cache() / "files" / "md5" / md5[:2] / md5[2:]
    if not path.exists():
        return None
    files = [Path(entry["relpath"]) for entry in json.loads(path.read_text(encoding="utf-8"))]
    return {str(place) for file in files for place in (file, *file.parents)}


def cache() -> Path:
    """DVC's cache, which a user may have moved."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]  # `dvc` itself may not be in PATH
    folder = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()
    return Path(folder or ".dvc/cache")
