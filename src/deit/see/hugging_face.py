"""The images of a data set of the Hugging Face hub that lies in a folder; nothing is fetched."""

from collections import Counter
from pathlib import Path

import numpy as np
from timm.data.readers import create_reader

from deit.see.declared import check_labels
from deit.see.folders import Listing, Unclear, numbered
from deit.see.image_files import FolderImages
from deit.see.recipes import Split, TrainingData


class HuggingFaceImages(FolderImages):
    """By timm's reader, in the data set's order; the columns are `image` and `label`."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.part, self.numbers = split.part, numbered(data.classes)
        super().__init__(split, data, root, key)

    def listed(self) -> Listing:
        try:
            self.reader = create_reader(f"hfds/{self.path.absolute()}", split=self.part)
            labels = np.array(list(self.reader.iter_targets()), np.int64)
        except Exception as error:  # of what is no such data set, `datasets` raises whatever its builders do
            said = " ".join(str(error).split()) or type(error).__name__
            raise Unclear(f"{self.path}: has no readable part {self.part!r} ({said}). Correct it") from error
        if not len(labels) or labels.min() < 0:
            raise Unclear(f"{self.path}: the part {self.part!r} has images without labels. Choose another")
        classes = sorted(self.reader.class_to_idx, key=self.reader.class_to_idx.__getitem__) or self.numbers
        check_labels(labels, len(classes), self.path)
        names = [f"{number:08d}" for number in range(len(labels))]
        return Listing(classes, labels, names, np.zeros((len(labels), 2), np.int64), [], Counter(), Counter())

    def content(self, index: int) -> bytes:
        with self.reader[index][0] as file:
            return file.read()

    def size(self, index: int) -> int:
        return len(self.content(index))
