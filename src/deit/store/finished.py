"""Whether a result is there, asked of its record alone: for the plan and the launcher, who read none of its files."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def record_at(file: Path) -> dict:
    """The content of a provenance.json; empty where there is none, or none that can be read."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def is_complete(file: Path) -> bool:
    """Whether this provenance.json is there, and every file that it lists; whoever reads one checks its bytes, too."""
    record = record_at(file)
    return bool(record) and set(record.get("files", ())) <= set(files_below(file.parent))


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files; a look at each folder, as a network file system takes long for one at each file."""
    for place, _, names in os.walk(folder):
        yield from (os.path.relpath(os.path.join(place, name), folder) for name in names)


def seal_at(file: Path) -> str:
    """What tells a result from the one that was made again under its name; empty without a result."""
    return record_at(file).get("seal", "")


def is_due(file: Path, again: Path) -> bool:
    """Whether a job has to make the result with this provenance.json.

    `again` holds the seal of the one that Snakemake was told to make again, when it planned: one that another job has
    finished meanwhile has another seal, and stays.
    """
    if not is_complete(file):
        return True
    return again.exists() and again.read_text(encoding="utf-8") == seal_at(file)


def sweep(output: Path) -> None:
    """Removes what a job that was killed at its very end left beside a complete result: the former one, or a copy."""
    for ending in ("former", "copy"):
        shutil.rmtree(output.with_name(f"{output.name}.{ending}"), ignore_errors=True)
