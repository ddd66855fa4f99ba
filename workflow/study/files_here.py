"""What is looked for whenever a study is read: files whose checksums it declares, and weights that it is given."""

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeGuard

from deit.see.reader import Reader, reader_named
from deit.see.recipes import Split
from deit.store.results import file_digest
from study.data import DataParams
from study.given import sources
from study.problem import Problem
from study.released import Released, chosen
from study.study import Study
from study.transfer import data_sets


def expanded(root: str) -> str:
    """A data root with `~` and environment variables filled in."""
    return os.path.expandvars(os.path.expanduser(root))


def image_root(data: DataParams) -> Path | None:
    """The folder of the images; None where only the jobs know it, by a variable that is not set here."""
    root = expanded(data.root)
    return None if "$" in root else Path(root)


def splits_of(key: str, data: DataParams) -> dict[str, tuple[Reader, Split]]:
    """Key -> (reader, split), of all images of the data set at a key."""
    splits = {f"{key}.training": (data.reader, data.training)}
    splits |= {f"{key}.evaluation.{name}.split": (each.reader, each.split) for name, each in data.evaluation.items()}
    return {place: (reader_named(reader), split) for place, (reader, split) in splits.items()}


def file_problems(study: Study) -> Iterator[Problem]:
    """Files with a declared checksum that are missing or differ: whoever declares them has them where it plans."""
    for key, data in data_sets(study).items():
        yield from declared_problems(key, data)


def declared_problems(key: str, data: DataParams) -> Iterator[Problem]:
    root, checked, of_root = image_root(data), set(), (f"{key}.root",)
    splits = {place: split for place, (_, split) in splits_of(key, data).items()}
    declared = [(place, split, part) for place, split in splits.items() for part in sorted(split.md5)]
    if root is None or not declared:
        return
    if not root.is_dir():
        yield missing_root(key, root)
        return
    for place, split, part in declared:
        if part not in split.files or (path := root / split.files[part]) in checked:
            continue
        checked.add(path)
        if not path.is_file():
            yield Problem(f"{place}.files.{part}", f"{path} is missing", restore(key), of_root)
        elif (found := hashlib.md5(path.read_bytes()).hexdigest()) != (expected := split.md5[part]):
            text = f"{path} has the MD5 {found}, not {expected}"
            remedy = "restore the file, or declare the new data here: all results follow from them, and are made anew."
            yield Problem(f"{place}.md5.{part}", text, remedy, of_root)


def restore(key: str) -> str:
    return f"restore it (git checkout, dvc pull, its archive), or correct the name or {key}.root."


def missing_root(key: str, root: Path) -> Problem:
    text = f"the folder of the images, {root.absolute()}, is missing"
    return Problem(f"{key}.root", text, f"mount or restore it, or correct {key}.root.")


# Given weights --------------------------------------------------------------------------------------------------------


def weight_problems(study: Study) -> Iterator[Problem]:
    """Files of given weights that are not there. They are read on this machine, so it has to know where they are."""
    if of_files(study.released) and (not (root := expanded(study.released.root)) or "$" in root):
        remedy = "export the variable, or give the folder of the files."
        yield Problem("released.root", f"is {root or 'empty'}", remedy, ("released.source",))
        return
    for key, (path, _) in given_files(study).items():
        if not os.path.isfile(path):
            below = ("released.root",) if key.startswith("released.") else ()
            remedy = f"put it there, or correct {below[0] if below else 'the name'}."
            yield Problem(f"{key}.file", f"{path} is missing", remedy, below)


def checksum_problems(study: Study, files: Collection[Path]) -> Iterator[Problem]:
    """Those of some files of given weights that are not the declared ones: each is read whole, a gigabyte a second."""
    for key, (path, sha256) in given_files(study).items():
        if Path(path) not in files:
            continue
        try:
            found = file_digest(Path(path))
        except OSError as error:
            text = f"{path} cannot be read ({error.strerror})"
            yield Problem(f"{key}.file", text, "make it readable for you, or name another one.")
            continue
        if not found.startswith(sha256 or ""):
            text = f"{path} has the sha256 {found}, not {sha256}"
            yield Problem(f"{key}.sha256", text, "get the file again, or declare this one here.", (f"{key}.file",))


def given_files(study: Study) -> dict[str, tuple[str, str | None]]:
    """Key of given weights -> path of their file, and what its sha256 begins with."""
    found = sources(study.models)
    if of_files(study.released):
        root = study.released.model_copy(update={"root": expanded(study.released.root)})
        found |= {f"released.weights.{name}": chosen(root, each) for name, each in root.weights.items()}
    return {key: (expanded(source.file), source.sha256) for key, source in found.items() if source.file}


def of_files(released: Released | None) -> TypeGuard[Released]:
    return released is not None and released.source == "files"
