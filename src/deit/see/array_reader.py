"""A reader of files that fit into memory: a format has left to say which files there are, and what arrays they hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deit.bounds import Mistake
from deit.see.declared import refuse
from deit.see.reader import Reader
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.array_images import ArrayImages


class Arrays(NamedTuple):
    """Images in memory, of files with checksums."""

    path: Path
    """Of what was read, for messages."""
    pixels: np.ndarray
    """(N, H, W) or (N, H, W, 3) uint8."""
    labels: np.ndarray
    """(N,) int64."""
    md5: dict[str, str]
    """Part of the split -> MD5 of its file, as found."""


class ArrayReader(Reader):
    """Of files that fit into memory, named part by part in `files`, with their checksums in `md5`."""

    keys = ("files", "md5")
    parts: tuple[str, ...]
    """That `files` may name."""
    declared_only = False
    """Whether no file is opened but those of declared checksums."""

    def needed(self, split: Split) -> tuple[str, ...]:
        """The parts that `files` has to name."""
        return self.parts

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        needed, stray = self.needed(split), sorted(split.md5.keys() - split.files.keys())
        if unknown := sorted(split.files.keys() - set(self.parts)):
            text = f"is no file that the reader knows; it knows {', '.join(self.parts)}"
            yield Mistake(f"files.{unknown[0]}", text, "correct it.")
        elif lacking := [part for part in needed if part not in split.files]:
            remedy = f"give the file names of {' and '.join(map(repr, needed))}, none left out."
            yield Mistake("files", f"lacks {', '.join(lacking)}", remedy)
        elif stray:
            text = f"{', '.join(stray)}: no such file is below `files`"
            yield Mistake("md5", text, "add it there, or remove the checksum.", ("files",))
        elif self.declared_only and (bare := self.undeclared(split)):
            yield Mistake("md5", "the reader opens declared files only", f"give the MD5 of {', '.join(bare)}.")

    def undeclared(self, split: Split) -> list[str]:
        return [part for part in sorted(split.files) if not split.md5.get(part)]

    def arrays(self, split: Split, data: TrainingData, root: Path, key: str) -> Arrays:
        raise NotImplementedError

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "ArrayImages":
        from deit.see.array_images import ArrayImages

        if self.declared_only:
            for part in self.undeclared(split):
                refuse(key, f"md5.{part}", root / split.files[part], "a declared MD5", "none")
        paths = {part: root / file for part, file in split.files.items()}
        return ArrayImages(*self.arrays(split, data, root, key), paths, data)
