"""Images that a study names and this machine does not have: looked for before a job here reads them.

Not for jobs elsewhere, as each node may have images of its own.
"""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from study.data import DataParams, unchecked
from study.files_here import expanded, image_root, missing_root, restore, splits_of
from study.problem import Problem, listed
from study.study import Study
from study.transfer import data_sets

from deit.see.csv_rows import csv_rows
from deit.see.folders import ENDINGS, Unclear, ending
from deit.see.recipes import Split

SECONDS = 3.0
"""For which a plan counts images, at most."""
AT_ONCE = 16
"""Folders that are looked into: on a network disk each look is a wait, and ImageNet has a thousand of them."""


def unset_roots(study: Study) -> dict[str, str]:
    """Key of a data root -> what it says, where it names a variable that is not set here."""
    roots = {f"{key}.root": expanded(data.root) for key, data in data_sets(study).items()}
    return {key: root for key, root in roots.items() if "$" in root}


def image_problems(study: Study) -> Iterator[Problem]:
    """Folders, files and classes that are not there. Not for jobs elsewhere: each node may have images of its own."""
    for key, data in data_sets(study).items():
        if (root := image_root(data)) is not None:
            yield from folder_problems(key, data, root)


def folder_problems(key: str, data: DataParams, root: Path) -> Iterator[Problem]:
    if not root.is_dir():
        yield missing_root(key, root)
        return
    for place, (reader, split) in splits_of(key, data).items():
        for part, name in reader.names(split).items():
            if not (root / name).exists():
                yield Problem(f"{place}.{part}", f"{root / name} is missing", restore(key), (f"{key}.root",))
    for name, evaluation in data.evaluation.items():
        if evaluation.labels and not (path := root / evaluation.labels).is_file():
            place = f"{key}.evaluation.{name}.labels"
            yield Problem(place, f"{path} is missing", restore(key), (f"{key}.root",))
    yield from class_problems(key, data, root)


def class_problems(key: str, data: DataParams, root: Path) -> Iterator[Problem]:
    """Classes of which one split has images and another none, by name; those of an evaluation set may be numbers."""
    folders, of_root = class_folders(key, data, root), f"{key}.root"
    holding = {folder: with_images(folder, names) for folder, names in dict(folders.values()).items()}
    classes = {place: holding[folder] for place, (folder, _) in folders.items()}
    first = next(iter(classes), "")
    numbers = {str(number) for number in range(data.classes)}
    for place, found in classes.items():
        if found == numbers:  # as ImageNet-V2's are
            continue
        here, there = folders[place][0], folders[first][0]
        if lacking := sorted(classes[first] - found):
            text = f"{here} has no images of the class {listed(lacking)}, and {there} has"
            yield Problem(place, text, "add some, as every split has the same classes.", (first, of_root))
        if extra := sorted(found - classes[first]):
            text = f"{here} has images in a folder {listed(extra)}, and {there} has none of that class"
            yield Problem(place, text, "remove it, or add some there.", (first, of_root))
    if first and len(classes[first]) != data.classes:
        folder, names = folders[first]
        text = f"{data.classes} is not the number of folders with images in {folder}, {len(classes[first])}"
        bare = sorted(names - classes[first])
        there = listed(sorted(classes[first])) + (f", and without images {listed(bare)}" if bare else "")
        yield Problem(f"{key}.classes", text, f"correct it, or the folders; there are {there}.", (first, of_root))


def shared_images(study: Study) -> Iterator[Problem]:
    """Images that a line of a CSV file gives to the training split, and another line to the primary evaluation set.

    Of files that lie here: what the nodes of a cluster have in their place is not looked at.
    """
    for key, data in data_sets(study).items():
        evaluation, root = data.evaluation[data.primary], image_root(data)
        if root is None or unchecked(evaluation.split) == unchecked(data.training):  # of which it is held out
            continue
        place, training = f"{key}.evaluation.{data.primary}.split", f"{key}.training"
        learned = named_images(data.reader, data.training, root)
        if shared := sorted(learned & named_images(evaluation.reader, evaluation.split, root)):
            text = f"{len(shared)} of its images are images of {training}, too, as is {shared[0]}"
            others = (f"{place}.part", f"{training}.folder", f"{training}.part", f"{key}.root", f"{key}.primary")
            yield Problem(f"{place}.folder", text, "leave each in one split, or name another primary set.", others)


def named_images(reader: str, split: Split, root: Path) -> set[str]:
    """Paths of the images that a CSV file names for a split; none of another reader, or where a job has to say why."""
    if reader != "csv":
        return set()
    path = root / split.folder
    try:
        rows = [row for row in csv_rows(path, split.part) if not split.part or row.split == split.part]
    except (Unclear, OSError):
        return set()
    return {os.path.normpath(os.path.join(path.parent, row.path)) for row in rows}


def class_folders(key: str, data: DataParams, root: Path) -> dict[str, tuple[Path, set[str]]]:
    """Key of a split in class folders -> the folder in which they lie, and their names."""
    found = {}
    for place, (reader, split) in splits_of(key, data).items():
        if (names := reader.class_folders(split, root)) is not None:
            found[f"{place}.folder"] = root / split.folder, names
    return found


def with_images(folder: Path, names: Iterable[str]) -> set[str]:
    """Those of the folders in it that are classes to the reader."""
    ordered = sorted(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(holds_images, (folder / name for name in ordered))
        return {name for name, holds in zip(ordered, found, strict=True) if holds}


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder, or in one below, which a job refuses; the first is enough.

    True where it cannot be read, as a job will say.
    """
    try:
        with os.scandir(folder) as found:
            if any(ending(entry.name) in ENDINGS for entry in found):
                return True
        return any(ending(name) in ENDINGS for _, _, names in os.walk(folder) for name in names)
    except OSError:
        return True


def counted_images(study: Study, seconds: float = SECONDS) -> dict[str, int | None]:
    """Key of a split in class folders -> how many images they hold, by their names; None where time was up before."""
    end = time.monotonic() + seconds
    found: dict[Path, int | None] = {}
    counts = {}
    for of_data, data in data_sets(study).items():
        root = image_root(data)
        for key, (reader, split) in splits_of(of_data, data).items():
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
    for of_data, data in data_sets(study).items():
        for key, (_, split) in splits_of(of_data, data).items():
            if (found := counts.get(key)) is not None and found != split.images:
                text = f"{split.images} is not the number of images in {split.folder}, {found}"
                yield Problem(f"{key}.images", text, "correct it, or the folder.", (f"{key}.folder", f"{of_data}.root"))
