"""What a reader says of the images that it reads: to the plan, which knows the params alone, and to the jobs.

A reader is a file in readers/ with an object READER. Planning imports it, so neither torch nor timm nor Pillow may
stand at its top.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deit.bounds import Mistake
from deit.see.readers import known_readers, module_of
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.image_set import StoredImages


class Reader:
    """One way in which images lie on disk. Its defaults are those of a reader that knows nothing but its files."""

    keys: tuple[str, ...] = ()
    """Of `split`, beside `images`; those of other readers are refused."""
    decodes = False
    """Whether images are decoded one by one from files, so that `prepare_data` has to look for damaged ones."""

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        """What is wrong with a declaration, told before anything runs."""
        raise NotImplementedError

    def names(self, split: Split) -> dict[str, str]:
        """Dotted key below the split -> the file or folder below `data.root` that has to be there."""
        files = {f"files.{part}": file for part, file in split.files.items()}
        return files | ({"folder": split.folder} if split.folder else {})

    def class_folders(self, split: Split, root: Path) -> set[str] | None:
        """Names of the classes, where folders tell them without a look at any image."""

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "StoredImages":
        """The images of a split; `root` is the folder of the images, `key` where the params declare the split.

        Raises SystemExit where they are not the declared ones.
        """
        raise NotImplementedError


def reader_named(name: str) -> Reader:
    return importlib.import_module(module_of(name)).READER


def split_mistakes(reader: str, split: Split) -> Iterator[Mistake]:
    """What is wrong with the declaration of a split that a reader is to read."""
    chosen = reader_named(reader)
    for key in ("files", "md5", "folder", "part", "listing"):
        if getattr(split, key) and key not in chosen.keys:
            fitting = ", ".join(name for name in known_readers() if key in reader_named(name).keys)
            text = f"is for the readers {fitting}, and the reader is {reader}"
            yield Mistake(key, text, "set it to null.")
    yield from chosen.mistakes(split)
