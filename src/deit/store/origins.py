"""Which images stand behind a result: it tells them by the manifests of what it was made from, and these have to agree.

Names of results see what the params declare of images, not the images. So where these are exchanged on purpose, and
their manifest is made again, views, teachers and runs of the former ones still have the names that are asked for.
"""

from pathlib import Path

from deit.store.attempts import attempts, holds_state
from deit.store.job import Job
from deit.store.seals import unsealed

Images = dict[str, str]
"""Folder's name of a result that lists images -> sha256 of its manifest."""
DATA = "data"
"""The flag by which commands are given such a result."""
REMEDY = (
    "Delete what is of the former ones (rm -r {folder}, or all of results/<study>), then give the snakemake command "
    "again."
)


def images_behind(job: Job) -> Images:
    """All images behind what a job reads. Raises SystemExit where two of its inputs tell of different ones."""
    found: dict[str, tuple[str, Path]] = {}
    for flag, folders in sorted(job.execution.folders.items(), key=lambda item: item[0] != DATA):  # of today's, first
        for folder in map(Path, folders):
            for name, manifest in images_of(folder, flag).items():
                known, other = found.setdefault(name, (manifest, folder))
                if known != manifest:
                    told = f"{folder}: was made from other images than those of {other}"
                    raise SystemExit(f"{told}. {REMEDY.format(folder=folder)}")
    return {name: manifest for name, (manifest, _) in found.items()}


def images_of(folder: Path, flag: str) -> Images:
    """What a result tells; nothing of one that is missing or damaged, which is refused where it is read."""
    try:
        record = unsealed((folder / "provenance.json").read_bytes())
    except (OSError, ValueError):
        return {}
    if flag == DATA:
        return {folder.name: record["files"]["manifest.json"]} if "manifest.json" in record["files"] else {}
    return record.get("images", {})


def refuse_other_images(state: Path, images: Images) -> None:
    """Raises SystemExit where a state that a job would go on from was begun with others than its inputs tell of."""
    for attempt in attempts(state) if holds_state(state) else []:
        if any(images.get(name, manifest) != manifest for name, manifest in attempt.get("images", {}).items()):
            told = f"{state}: was begun with other images than those that are there now"
            raise SystemExit(f"{told}. {REMEDY.format(folder=state)}")
