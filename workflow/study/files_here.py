"""What the params name and this machine does not have: images, their classes, weights that others published."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from deit.see.folders import ENDINGS, ending
from deit.see.reader import Reader, reader_named
from deit.see.recipes import Split
from study.given import sources
from study.problem import Problem, listed
from study.study import Study

SECONDS = 3.0
"""For which a plan counts images, at most."""
RESTORE = "restore it (git checkout, dvc pull, its archive), or correct the name or data.root."


def expanded(root: str) -> str:
    """A data root with `~` and environment variables filled in."""
    return os.path.expandvars(os.path.expanduser(root))


def image_root(study: Study) -> Path | None:
    """The folder of the images; None where only the jobs know it, by a variable that is not set here."""
    root = expanded(study.data.root)
    return None if "$" in root else Path(root)


def splits_of(study: Study) -> dict[str, tuple[Reader, Split]]:
    """Key -> (reader, split), of all images of a study."""
    splits = {"data.training": (study.data.reader, study.data.training)}
    splits |= {
        f"data.evaluation.{name}.split": (each.reader, each.split) for name, each in study.data.evaluation.items()
    }
    return {key: (reader_named(reader), split) for key, (reader, split) in splits.items()}


def file_problems(study: Study) -> Iterator[Problem]:
    """Files with a declared checksum that are missing or differ: whoever declares them has them where it plans."""
    root, checked = image_root(study), set()
    declared = [(key, split, part) for key, (_, split) in splits_of(study).items() for part in sorted(split.md5)]
    if root is None or not declared:
        return
    if not root.is_dir():
        yield missing_root(root)
        return
    for key, split, part in declared:
        if part not in split.files or (path := root / split.files[part]) in checked:
            continue
        checked.add(path)
        if not path.is_file():
            yield Problem(f"{key}.files.{part}", f"{path} is missing", RESTORE, ("data.root",))
        elif (found := hashlib.md5(path.read_bytes()).hexdigest()) != (expected := split.md5[part]):
            text = f"{path} has the MD5 {found}, not {expected}"
            remedy = "restore the file, or declare the new data here: all results follow from them, and are made anew."
            yield Problem(f"{key}.md5.{part}", text, remedy, ("data.root",))


def missing_root(root: Path) -> Problem:
    text = f"the folder of the images, {root.absolute()}, is missing"
    return Problem("data.root", text, "mount or restore it, or correct data.root.")


# Before a job on this machine reads them ------------------------------------------------------------------------------


def image_problems(study: Study) -> Iterator[Problem]:
    """Folders, files and classes that are not there. Not for jobs elsewhere: each node may have images of its own."""
    root = image_root(study)
    if root is None:
        return
    if not root.is_dir():
        yield missing_root(root)
        return
    for key, (reader, split) in splits_of(study).items():
        for place, name in reader.names(split).items():
            if not (root / name).exists():
                yield Problem(f"{key}.{place}", f"{root / name} is missing", RESTORE, ("data.root",))
    for name, evaluation in study.data.evaluation.items():
        if evaluation.labels and not (path := root / evaluation.labels).is_file():
            yield Problem(f"data.evaluation.{name}.labels", f"{path} is missing", RESTORE, ("data.root",))
    yield from class_problems(study, root)


def class_problems(study: Study, root: Path) -> Iterator[Problem]:
    """Class folders that one split has and another lacks, by name; those of an evaluation set may be numbers."""
    folders = {f"{key}.folder": root / split.folder for key, (_, split) in splits_of(study).items()}
    known = {f"{key}.folder": reader.class_folders(split, root) for key, (reader, split) in splits_of(study).items()}
    classes = {key: found for key, found in known.items() if found is not None}
    first = next(iter(classes), "")
    numbers = {str(number) for number in range(study.data.classes)}
    for key, found in classes.items():
        if found == numbers:  # as ImageNet-V2's are
            continue
        if lacking := sorted(classes[first] - found):
            text = f"{folders[key]} has no folder of the class {listed(lacking)}, and {folders[first]} has"
            yield Problem(key, text, "add it, as every split has the same classes.", (first, "data.root"))
        if extra := sorted(found - classes[first]):
            text = f"{folders[key]} has a folder {listed(extra)}, and {folders[first]} has none of that class"
            yield Problem(key, text, "remove it, or add it there.", (first, "data.root"))
    if first and len(classes[first]) != study.data.classes:
        text = f"{study.data.classes} is not the number of folders in {folders[first]}, {len(classes[first])}"
        remedy = f"correct it, or the folders; there are {listed(sorted(classes[first]))}."
        yield Problem("data.classes", text, remedy, (first, "data.root"))


def counted_images(study: Study, seconds: float = SECONDS) -> dict[str, int | None]:
    """Key of a split in class folders -> how many images they hold, by their names; None where time was up before."""
    root, end = image_root(study), time.monotonic() + seconds
    found: dict[Path, int | None] = {}
    counts = {}
    for key, (reader, split) in splits_of(study).items():
        if root and (classes := reader.class_folders(split, root)):
            folder = root / split.folder
            if folder not in found:
                found[folder] = images_in((folder / name for name in classes), end)
            counts[key] = found[folder]
    return counts


def images_in(folders: Iterable[Path], end: float) -> int | None:
    """Files with the endings of images; None where a folder cannot be read, as a job will say, or `end` has come."""
    total = 0
    for folder in folders:
        if time.monotonic() > end:
            return None
        try:
            total += sum(ending(name) in ENDINGS for name in os.listdir(folder))
        except OSError:
            return None
    return total


def count_problems(study: Study, counts: dict[str, int | None]) -> Iterator[Problem]:
    """Splits that hold another number of images than the params declare."""
    for key, (_, split) in splits_of(study).items():
        if (found := counts.get(key)) is not None and found != split.images:
            text = f"{split.images} is not the number of images in {split.folder}, {found}"
            yield Problem(f"{key}.images", text, "correct it, or the folder.", (f"{key}.folder", "data.root"))


# Given weights --------------------------------------------------------------------------------------------------------


def weight_problems(study: Study) -> Iterator[Problem]:
    """Files of given weights that are not there. They are read on this machine, so it has to know where they are."""
    for key, source in sources(study.models).items():
        if source.file and not os.path.isfile(path := expanded(source.file)):
            yield Problem(f"{key}.file", f"{path} is missing", "put it there, or correct the name.")
    if not study.released or study.released.source != "files":
        return
    root = expanded(study.released.root)
    if "$" in root or not root:
        remedy = "export the variable, or give the folder of the files."
        yield Problem("released.root", f"is {root or 'empty'}", remedy, ("released.source",))
        return
    for name, weights in study.released.weights.items():
        if weights.file and not os.path.isfile(path := os.path.join(root, weights.file)):
            remedy = "put it there, or correct released.root."
            yield Problem(f"released.weights.{name}.file", f"{path} is missing", remedy, ("released.root",))
