"""Images by number: what all that show images, or hold them, have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from deit.see.recipes import Split, TrainingData


def image_mode(data: TrainingData) -> str:
    return {1: "L", 3: "RGB"}[data.channels]


class ImageSet(Protocol):
    """Images in a fixed order, the same on every machine."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """In mode L or RGB, by the channels of the data."""

    def targets(self, index: int) -> tuple[int, ...]:
        """The true class; with ReaL's labels, one or several."""

    def identity(self, index: int) -> str:
        """What people call the image; unique within the set."""


class StoredImages(ImageSet, Protocol):
    """All images of a split, as a reader found them below `data.root`."""

    path: Path
    """Of what was read, for messages."""
    labels: np.ndarray
    """(N,) int64."""
    classes: list[str]
    """Names, in the order of their numbers."""

    def about_classes(self, known: Sequence[str]) -> str:
        """What to say of a wrong number of classes; `known` are their names where others have them."""

    def about_files(self) -> str:
        """What to say of a wrong number of images."""

    def checked(self, split: Split, key: str) -> dict[str, Any]:
        """What the manifest records of the files for people; refuses a listing that is not the declared one."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells this copy from others, for the manifest."""

    def compare(self, fingerprint: dict[str, Any], key: str) -> None:
        """Refuses another copy of the images than the manifest's. Raises SystemExit."""
