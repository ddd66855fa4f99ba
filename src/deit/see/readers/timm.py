"""Image files in a folder or .tar with a sub-folder a class, numbered as timm numbers them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deit.bounds import Mistake
from deit.see.reader import Reader
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.image_files import FolderImages


class Timm(Reader):
    keys = ("folder", "listing")
    decodes = True

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        if not split.folder:
            yield Mistake("folder", "missing, as the timm reader needs", "name a folder or .tar of data.root.")

    def class_folders(self, split: Split, root: Path) -> set[str] | None:
        """Hidden ones are none; of a tar they are not known."""
        folder = root / split.folder
        if not folder.is_dir():
            return None
        try:
            return {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
        except OSError:  # may not be listed: the job says so
            return set()

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "FolderImages":
        from deit.see.image_files import FolderImages, TarImages

        kind = TarImages if (root / split.folder).is_file() else FolderImages
        return kind(split, data, root, key)


READER = Timm()
