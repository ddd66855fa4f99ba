"""Image files in a folder or tar as images by number, and what tells one copy of them from another."""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from deit.see.declared import RESTORE, refuse
from deit.see.decoding import damaged, decoded
from deit.see.folders import Listing, Unclear, folder_listing, tar_listing
from deit.see.image_set import image_mode
from deit.see.recipes import Split, TrainingData

SAMPLED, HASHED = 1024, 64
"""Images of a folder or tar whose sizes, and whose bytes, a manifest tells."""


class FolderImages:
    """Image files below a folder, one sub-folder a class."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.path = root / split.folder
        self.mode = image_mode(data)
        self.found = self.looked_through(key)
        self.labels, self.classes = self.found.labels, self.found.classes

    def looked_through(self, key: str) -> Listing:
        """What is there; refuses what is missing, damaged, ambiguous or without images."""
        if not self.path.exists():
            raise SystemExit(f"{self.path}: missing. {RESTORE} ({key}.folder).")
        try:
            found = self.listed()
        except Unclear as error:
            raise SystemExit(f"{error} ({key}.folder).") from None
        except (tarfile.TarError, ValueError, EOFError) as error:  # of a damaged tar
            refuse(
                key,
                "folder",
                self.path,
                "sub-folders with images in an uncompressed tar (unpack all else)",
                f"none ({error})",
            )
        except OSError as error:
            raise SystemExit(
                f"{os.fsdecode(error.filename or self.path)}: {error.strerror}. {RESTORE} ({key}.folder)."
            ) from error
        if not found.names:
            refuse(key, "folder", self.path, "sub-folders with images", f"none{found.about_endings()}")
        return found

    def listed(self) -> Listing:
        return folder_listing(self.path)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Raises DamagedImage."""
        try:
            content = self.content(index)
        except OSError as error:
            raise damaged(self.place(index), error.strerror or str(error)) from error
        return decoded(content, self.mode, self.place(index))

    def targets(self, index: int) -> tuple[int, ...]:
        return (int(self.labels[index]),)

    def identity(self, index: int) -> str:
        """`class/name`, the same in a folder and in a tar of it."""
        return f"{self.classes[self.labels[index]]}/{self.found.names[index]}"

    def place(self, index: int) -> str:
        """The file's path; in a tar, after that of the tar."""
        return f"{self.path}/{self.identity(index)}"

    def content(self, index: int) -> bytes:
        """The image's file."""
        with open(self.file(index), "rb") as file:
            return file.read()

    def size(self, index: int) -> int:
        """Bytes of the image's file."""
        return os.stat(self.file(index)).st_size

    def file(self, index: int) -> bytes:
        """Its path as bytes, so that the locale says nothing of it."""
        return os.fsencode(self.path) + b"/" + self.identity(index).encode()

    def about_classes(self, known: Sequence[str]) -> str:
        return self.found.about_classes(known)

    def about_files(self) -> str:
        return self.found.about_files()

    def checked(self, split: Split, key: str) -> dict[str, str]:
        """The listing; refuses another than the declared one."""
        listing = self.listing()
        if split.listing and listing != split.listing:
            refuse(key, "listing", self.path, f"the listing {split.listing}", listing)
        return {"listing": listing}

    def listing(self) -> str:
        """sha256 of the sorted lines `class/name size`."""
        lines = sorted(f"{self.identity(index)} {self.size(index)}\n" for index in range(len(self)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def labelled(self) -> str:
        """sha256 of the lines `label class/name`, in the order of the images' numbers."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(f"{self.labels[index]} {self.identity(index)}\n".encode())
        return digest.hexdigest()

    def sample(self) -> Iterator[str]:
        """Some images, evenly spaced: number, label, name and bytes, and of some of these the sha256 of the file."""
        numbers = np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int)).tolist()
        hashed = set(numbers[:: -(-len(numbers) // HASHED)])
        for number in numbers:
            line = f"image {number} of class {self.labels[number]}, {self.identity(number)}, {self.size(number)} bytes"
            digest = hashlib.sha256(self.content(number)).hexdigest() if number in hashed else ""
            yield f"{line}, sha256 {digest}" if digest else line

    def fingerprint(self) -> dict[str, str | list[str]]:
        """What tells this copy from others in a second: all labels and names in order, and the sample."""
        return {"labelled": self.labelled(), "sample": list(self.sample())}

    def compare(self, fingerprint: dict[str, str | list[str]], key: str) -> None:
        """Refuse another copy of the images than the manifest's: labels, names, order, sampled sizes and bytes."""
        for expected, found in zip_longest(fingerprint["sample"], self.sample()):
            if found != expected:
                refuse(key, "listing", self.path, f"{expected} (as in the manifest)", found)
        if (found := self.labelled()) != fingerprint["labelled"]:
            expected = f"label and class/name of all images in the manifest's order (sha256 {fingerprint['labelled']})"
            refuse(key, "listing", self.path, expected, found)


class TarImages(FolderImages):
    """The same in a .tar, or in a .tar of .tars: each image is a span of bytes of one open file.

    Spans are read at their place (pread), which moves no position, so worker processes do not disturb one another. The
    names and places of 1.28 million images take 0.15 GB of memory.
    """

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        super().__init__(split, data, root, key)
        self.opened = (0, -1)

    def listed(self) -> Listing:
        return tar_listing(self.path)

    def content(self, index: int) -> bytes:
        start, size = self.found.spans[index].tolist()
        content = os.pread(self.descriptor(), size, start)
        if len(content) != size:
            raise OSError("the tar ends within it")
        return content

    def size(self, index: int) -> int:
        return int(self.found.spans[index, 1])

    def descriptor(self) -> int:
        """The open tar of this process: a descriptor does not reach a process that is spawned."""
        if self.opened[0] != os.getpid():
            self.opened = os.getpid(), os.open(self.path, os.O_RDONLY)
        return self.opened[1]
