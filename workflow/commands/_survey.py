"""A look at images that nobody has described yet: sizes, colours, and those that cannot be read."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from deit.see.decoding import decoded
from deit.see.image_files import FolderImages

BLOCK = 64
"""Images between two looks at the clock."""
SEED = 0


class Look(NamedTuple):
    """What one image tells; of a damaged one only what is wrong with it."""

    damage: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    mean: tuple[float, ...] = ()
    """Of pixel values in [0, 1], a channel."""
    square: tuple[float, ...] = ()
    """Mean of their squares."""


@dataclass(frozen=True)
class Survey:
    """What images tell together."""

    total: int
    looks: list[Look]

    @property
    def damaged(self) -> list[str]:
        return [look.damage for look in self.looks if look.damage]

    @property
    def whole(self) -> list[Look]:
        return [look for look in self.looks if not look.damage]

    @property
    def grey(self) -> bool:
        """Whether no image has a colour."""
        return all(look.grey for look in self.whole)

    @property
    def side(self) -> int:
        """The median of the shorter sides, in pixels."""
        return int(median(min(look.width, look.height) for look in self.whole))

    @property
    def sizes(self) -> str:
        """Smallest and largest image."""
        by_area = sorted(self.whole, key=lambda look: look.width * look.height)
        ends = dict.fromkeys(f"{look.width} x {look.height}" for look in (by_area[0], by_area[-1]))
        return " to ".join(ends)

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of pixel values, a channel; each image counts the same."""
        mean = np.mean([look.mean for look in self.whole], axis=0)
        square = np.mean([look.square for look in self.whole], axis=0)
        std = np.sqrt(np.maximum(square - mean**2, 0.01**2))
        channels = slice(1 if self.grey else 3)
        return mean.round(4)[channels].tolist(), std.round(4)[channels].tolist()


def survey_of(sets: Sequence[FolderImages], seconds: float) -> Survey:
    """Looks at the images of all sets, in an order drawn with a fixed seed, for so many seconds at most."""
    every = [(images, index) for images in sets for index in range(len(images))]
    order = np.random.RandomState(SEED).permutation(len(every)).tolist()
    end, looks = time.monotonic() + seconds, []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for first in range(0, len(order), BLOCK):
            block = [every[number] for number in order[first : first + BLOCK]]
            looks += pool.map(lambda one: look_at(*one), block)
            if time.monotonic() > end:
                break
    return Survey(len(every), looks)


def look_at(images: FolderImages, index: int) -> Look:
    place = images.place(index)
    try:
        image = decoded(images.content(index), "RGB", place)
    except OSError as error:
        return Look(damage=str(error) if str(error).startswith(place) else f"{place}: {error.strerror or error}")
    pixels = np.asarray(image)
    grey = bool((pixels == pixels[..., :1]).all())
    levels, shares = np.arange(256) / 255, np.reshape(image.histogram(), (3, 256)) / (image.width * image.height)
    mean, square = shares @ levels, shares @ levels**2
    return Look("", image.width, image.height, grey, tuple(mean.tolist()), tuple(square.tolist()))
