"""Which images a folder or a .tar holds, of which class and in which order: one sub-folder a class.

Classes and images are sorted by their names, in small letters and with the numbers in them as numbers, as timm sorts
them, so that folder `10` is class 10, not 2. Names that are equal by that (`A` and `a`, `1` and `01`) stand in the
order of their characters: nothing is left to the file system, to a set or to the locale, and nothing is written there.

All functions raise Unclear, and OSError where a folder cannot be read.
"""

import os
import posixpath
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
"""Of the names of images, in small letters."""
SHOWN = 10
"""Classes that a message names at most."""
RENAME = "Rename it in UTF-8 (convmv -f latin1 -t utf8 --notest)"


class Unclear(Exception):
    """What cannot be an image of one class: its path, what is wrong, and a remedy, without the last full stop."""


@dataclass
class Listing:
    """The images of a folder or tar, in order."""

    classes: list[str]
    """Names, in the order of their numbers."""
    labels: np.ndarray
    """(N,): the number of each image's class."""
    names: list[str]
    """Of each image's file, without its class."""
    spans: np.ndarray
    """(N, 2): where the bytes of each image begin in the tar, and how many there are; zeros for a folder."""
    empty: list[str]
    """Names of class folders without images."""
    endings: Counter[str]
    """How many images have names with each ending."""
    others: Counter[str]
    """How many other files have names with each ending."""

    def about_classes(self, known: Sequence[str]) -> str:
        """Which classes are too many or missing, for a message: by the names that are known, else the likely ones."""
        if known:
            known = max(known, numbered(len(known)), key=lambda names: len(set(names) & set(self.classes)))
            missing, unexpected = set(known) - set(self.classes), set(self.classes) - set(known)
            parts = [
                f"{what} {shown(names)}" for what, names in (("none of", missing), ("unexpected", unexpected)) if names
            ]
        else:
            counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
            likely = sorted(zip(self.classes, counts, strict=True), key=lambda each: (not is_odd(each[0]), each[1]))
            parts = [f"images: {', '.join(f'{name} ({count})' for name, count in likely[:SHOWN])}"]
            parts += [f"without images {shown(self.empty)}"] if self.empty else []
        return f" ({'; '.join(parts)})"

    def about_files(self) -> str:
        """Endings of the images, where they differ, and of other files, for a message."""
        return self.about_endings() if len(self.endings) > 1 or self.others else ""

    def about_endings(self) -> str:
        parts = [
            f"{what}: " + ", ".join(f"{counts[name]} {name or 'without ending'}" for name in sorted(counts))
            for what, counts in (("images", self.endings), ("other files", self.others))
            if counts
        ]
        return f" ({'; '.join(parts)})" if parts else ""


@dataclass
class Found:
    """What was come across so far."""

    images: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    """Name to sort by, class, name of the file, and where its bytes begin in the tar and how many there are."""
    others: Counter[str] = field(default_factory=Counter)

    def listing(self, empty: Sequence[str] = ()) -> Listing:
        self.images.sort(key=lambda image: in_order(image[0]))
        classes = sorted({image[1] for image in self.images}, key=in_order)
        numbers = {name: number for number, name in enumerate(classes)}
        return Listing(
            classes=classes,
            labels=np.array([numbers[image[1]] for image in self.images], np.int64),
            names=[image[2] for image in self.images],
            spans=np.array([image[3:] for image in self.images], np.int64).reshape(-1, 2),
            empty=sorted(empty, key=in_order),
            endings=Counter(ending(image[2]) for image in self.images),
            others=self.others,
        )


def in_order(name: str) -> tuple[list[str | int], str]:
    """The key of a total order: timm's natural key, in small letters and with numbers as numbers, then the name."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def numbered(classes: int) -> list[str]:
    return [str(number) for number in range(classes)]


def is_odd(name: str) -> bool:
    """Whether a folder is hidden, or one that macOS adds to a zip."""
    return name.startswith(".") or name == "__MACOSX"


def shown(names: Iterable[str]) -> str:
    names = sorted(names, key=in_order)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


# A folder -------------------------------------------------------------------------------------------------------------


def folder_listing(root: Path) -> Listing:
    """The images in the folders directly below `root`, which are its classes."""
    found, empty = Found(), []
    for entry in entries(os.fsencode(root)):
        name = text(entry)
        if not entry.is_dir():
            check_file(entry)
            if ending(name) in ENDINGS:
                raise Unclear(f"{told(entry.path)}: an image outside of the class folders. Move it")
            continue
        before = len(found.images)
        list_class(entry.path, name, found)
        if len(found.images) == before:
            empty.append(name)
    return found.listing(empty)


def list_class(folder: bytes, label: str, found: Found) -> None:
    """Adds the images of a class folder."""
    for entry in entries(folder):
        name = text(entry)
        if entry.is_dir():
            refuse_nested(entry.path)
        elif ending(name) in ENDINGS:
            check_file(entry)
            found.images.append((f"{label}/{name}", label, name, 0, 0))
        else:
            found.others[ending(name)] += 1


def entries(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    """Of a folder; paths are bytes, which the locale does not change."""
    with os.scandir(folder) as found:
        yield from found


def told(path: bytes) -> str:
    """A path for a message."""
    return path.decode("utf-8", "backslashreplace")


def text(entry: os.DirEntry[bytes]) -> str:
    """The name of an entry."""
    try:
        return entry.name.decode("utf-8")
    except UnicodeDecodeError:
        raise Unclear(f"{told(entry.path)}: the name is no UTF-8. {RENAME}") from None


def check_file(entry: os.DirEntry[bytes]) -> None:
    """Refuses an image that cannot be opened, and a link that may be one of a class folder."""
    if not entry.is_file():
        what = "a link to a file that does not exist" if entry.is_symlink() else "no regular file"
        raise Unclear(f"{told(entry.path)}: {what}. Restore the file, or take this one away")


def refuse_nested(folder: bytes) -> None:
    """Refuses images in a folder within a class folder: which of the two would be the class?"""
    for inner, _, names in os.walk(folder):
        if images := sorted(name for name in names if ending(told(name)) in ENDINGS):
            label = os.path.dirname(folder)
            raise Unclear(
                f"{told(os.path.join(inner, images[0]))}: an image in a folder within a class folder. Classes are the "
                f"folders directly below {told(os.path.dirname(label))}: move the images up into {told(label)}, or "
                "declare the folder whose folders are the classes"
            )


# A tar ----------------------------------------------------------------------------------------------------------------


def tar_listing(path: Path) -> Listing:
    """The images of an uncompressed tar, or of the tars in it, each of which is a class then.

    Only the tar's headers are read, and none of them is kept: those of 1.28 million images would take 0.7 GB. Raises
    tarfile.TarError where the file is no tar, or a damaged one.
    """
    found = Found()
    with tarfile.open(path, "r:", encoding="utf-8") as tar:
        for member in members(tar):
            if ending(member.name) == ".tar" and member.isreg():
                label = posixpath.basename(member.name)[: -len(".tar")]
                with tarfile.open(fileobj=tar.extractfile(member), mode="r:", encoding="utf-8") as inner:
                    for each in members(inner):
                        add_member(each, path, found, label, member.offset_data)
            else:
                add_member(member, path, found)
    refuse_ambiguous(path, found.images)
    found.images = [
        (name, posixpath.basename(folder), file, start, size) for name, folder, file, start, size in found.images
    ]
    return found.listing()


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All but folders, one at a time."""
    while member := tar.next():
        tar.members = []  # pyrefly: ignore[missing-attribute]
        if not member.isdir():
            yield member


def add_member(member: tarfile.TarInfo, path: Path, found: Found, label: str = "", start: int = 0) -> None:
    """Adds a member, if it is an image, with its folder in place of its class.

    `label` is the class of a tar in the tar, `start` where it begins.
    """
    name = posixpath.normpath(member.name)
    folder, file = posixpath.split(name)
    if folder in ("", label):  # in a tar n01.tar the images lie at the top, or in a folder n01
        folder = label
    elif label:
        folder = f"{label}/{folder}"
    try:
        f"{folder}/{file}".encode()
    except UnicodeEncodeError:
        shown = told(f"{folder}/{file}".encode("utf-8", "surrogateescape"))
        raise Unclear(f"{path}/{shown}: the name is no UTF-8. {RENAME}, and pack the tar anew") from None
    if ending(file) not in ENDINGS:
        found.others[ending(file)] += 1
    elif not member.isreg() or member.issparse():
        raise Unclear(
            f"{path}/{folder}/{file}: a link or sparse file. Pack the tar with --dereference --hard-dereference"
        )
    else:
        found.images.append((name, sys.intern(folder), file, start + member.offset_data, member.size))


def refuse_ambiguous(path: Path, images: list[tuple[str, str, str, int, int]]) -> None:
    """Refuses images outside of class folders, class folders that lie apart from each other, and a name given twice."""
    folders = sorted({folder for _, folder, *_ in images}, key=lambda folder: (folder.count("/"), in_order(folder)))
    for folder in folders:
        if not folder:
            raise Unclear(f"{path}: holds images outside of class folders. Pack it with one folder a class")
        if posixpath.dirname(folder) != posixpath.dirname(folders[0]):
            raise Unclear(
                f"{path}/{folder}: images in a folder that is not beside {folders[0]}. Classes are the folders of one "
                "folder: move the images up into them, and pack the tar anew; of splits, each into a tar of its own, "
                "train.tar and val.tar"
            )
    seen: dict[str, set[str]] = {folder: set() for folder in folders}
    for _, folder, name, *_ in images:
        if name in seen[folder]:
            raise Unclear(f"{path}/{folder}/{name}: stands twice in the tar. Pack it anew")
        seen[folder].add(name)
