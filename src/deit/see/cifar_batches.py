"""What CIFAR's two official versions have in common: numbered batches of images of 32 x 32 pixels, plane by plane.

Source of the formats: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout" and "Binary version".
"""

from pathlib import Path

import numpy as np

from deit.see.array_reader import ArrayReader, Arrays
from deit.see.declared import check_labels, read_checked, refuse
from deit.see.recipes import Split, TrainingData

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


class CifarBatches(ArrayReader):
    """Batches, `batch_1` first."""

    parts = ("batch_1", "batch_2", "batch_3", "batch_4", "batch_5")
    version: str
    """How CIFAR's authors call the files."""

    def needed(self, split: Split) -> tuple[str, ...]:
        return self.parts[: max(1, len(split.files))]

    def unpacked(self, content: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, 32, 32, 3) uint8 and labels (N,) int64 of a batch; ValueError where the content is none."""
        raise NotImplementedError

    def arrays(self, split: Split, data: TrainingData, root: Path, key: str) -> Arrays:
        # The order of a dict is no part of a digest.
        parts = sorted(split.files)
        pixels, labels, md5 = zip(*(self.read_batch(split, part, data, root, key) for part in parts), strict=True)
        folder = (root / split.files[parts[0]]).parent
        return Arrays(folder, np.concatenate(pixels), np.concatenate(labels), dict(zip(parts, md5, strict=True)))

    def read_batch(
        self, split: Split, part: str, data: TrainingData, root: Path, key: str
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Images, labels and MD5 of a batch."""
        path = root / split.files[part]
        content, md5 = read_checked(path, split.md5.get(part, ""), key, part)
        try:
            pixels, labels = self.unpacked(content, data.classes)
        except ValueError as error:
            refuse(key, f"files.{part}", path, f"a batch of CIFAR's {self.version}", f"none ({error})")
        check_labels(labels, data.classes, path)
        return pixels, labels, md5


def pixels_of(rows: np.ndarray) -> np.ndarray:
    """Images (N, 32, 32, 3) of rows (N, 3072): all red values of an image, then all green, then all blue."""
    return np.ascontiguousarray(rows.reshape(-1, *SHAPE).transpose(0, 2, 3, 1))
