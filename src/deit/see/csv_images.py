"""The images that a CSV file names."""

import os
import posixpath
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deit.see.csv_rows import csv_rows
from deit.see.declared import RESTORE
from deit.see.folders import Listing, Unclear, ending, in_order
from deit.see.image_files import FolderImages
from deit.see.recipes import Split, TrainingData

TOLD = 10
"""Missing files that a message names."""


class CsvImages(FolderImages):
    """In the file's order. Classes are the labels of the whole file, in their order, with numbers as numbers: a split
    in which one is missing numbers them like the others."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.part = split.part
        super().__init__(split, data, root, key)

    def listed(self) -> Listing:
        every = list(csv_rows(self.path, self.part))
        rows = [row for row in every if not self.part or row.split == self.part]
        counts = Counter(posixpath.normpath(row.path) for row in rows)
        if twice := [path for path, count in counts.items() if count > 1]:
            raise Unclear(f"{self.path}: names {twice[0]} twice. Leave one of the lines")
        if not rows:
            what = f"of the split {self.part!r}" if self.part else "below its first"
            raise Unclear(f"{self.path}: has no line {what}. Add them, or name another file or part")
        classes = sorted({row.label for row in every}, key=in_order)
        number = {name: number for number, name in enumerate(classes)}
        labels = np.array([number[row.label] for row in rows], np.int64)
        names, nowhere = [row.path for row in rows], np.zeros((len(rows), 2), np.int64)
        return Listing(classes, labels, names, nowhere, [], Counter(map(ending, names)), Counter())

    def checked(self, split: Split, key: str) -> dict[str, Any]:
        if missing := [index for index in range(len(self)) if not os.path.isfile(self.file(index))]:
            named = "\n".join(self.place(index) for index in missing[:TOLD])
            more = f"\nand {len(missing) - TOLD} more" if len(missing) > TOLD else ""
            told = f"{self.path}: {len(missing)} of {len(self)} images are missing. {RESTORE} ({key}.folder)."
            raise SystemExit(f"{told}\n{named}{more}")
        return super().checked(split, key)

    def place(self, index: int) -> str:
        return f"{self.path.parent}/{self.found.names[index]}"

    def file(self, index: int) -> bytes:
        return os.fsencode(self.path.parent) + b"/" + self.found.names[index].encode()
