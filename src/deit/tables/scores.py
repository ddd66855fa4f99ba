"""What a cell's number is the mean of, a value a seed and image; and how two cells are paired by both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import Estimate, over_seeds, over_seeds_and_images

SEED = re.compile(r"/seed(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The values behind a cell, or behind the difference of two."""

    seeds: tuple[int, ...]
    """S of them, one a run."""
    values: np.ndarray
    """(S, I) bool or int: hit, decided differently, or a difference of such; float where it is interpolated between
    runs. (S,) float where there are no images."""
    images: tuple[str, ...] = ()
    """Identities of the I images."""
    scale: float = 1.0
    """The cell shows so many times the mean: 100 for an accuracy in percent."""
    shared: bool = False
    """Whether a single network takes part in all seeds (a teacher): its own seed is not varied."""

    def estimate(self) -> Estimate:
        """In the cell's unit."""
        found = over_seeds_and_images(self.values) if self.images else over_seeds(self.values)
        return Estimate(
            mean=self.scale * found.mean,
            seed_error=self.scale * found.seed_error,
            image_error=self.scale * found.image_error,
            df=found.df,
        )

    def by_seed(self) -> np.ndarray:
        """The cell's number for each seed, in its unit. (S,)"""
        return self.scale * (self.values.mean(axis=1) if self.images else self.values)

    def of(self, seeds: Sequence[int]) -> np.ndarray:
        """The values of some seeds; a single run's for any."""
        return self.values[[self.seeds.index(seed) if len(self.seeds) > 1 else 0 for seed in seeds]]


def seed_of(run: str) -> int:
    """The seed at the end of a run's name. Raises SystemExit where there is none: such runs cannot be paired."""
    if found := SEED.search(run):
        return int(found[1])
    raise SystemExit(f"{run}: no seed at the end of this run's name. Name the runs of a table .../seed<n>.")


def paired_seeds(what: str, one: Sequence[int], other: Sequence[int], shared: bool = False) -> tuple[int, ...]:
    """The seeds of which both sides have a run; with `shared` a side's single run meets every seed of the other.

    Two single runs are compared even if their seeds differ, as nothing is said of the spread then. Raises SystemExit
    where sides of several seeds have none in common: unpaired, they would need other statistics.
    """
    if shared and len(one) == 1:
        return tuple(other)
    if shared and len(other) == 1 or len(one) == len(other) == 1:
        return tuple(one)
    if common := tuple(seed for seed in one if seed in other):
        return common
    raise SystemExit(
        f"{what}: no seed in common ({', '.join(map(str, one))} and {', '.join(map(str, other))}). "
        "Give both the same seeds (key `seeds` of the study's file)."
    )


def difference(what: str, one: Scores, other: Scores, shared: bool = False) -> Scores:
    """One side minus the other, over paired seeds and the same images.

    With `shared`, a side of a single run is one network that every seed of the other meets. Raises SystemExit where
    the images differ.
    """
    if one.images != other.images:
        raise SystemExit(f"{what}: the two were evaluated on different images. Give both the same evaluation set.")
    seeds = paired_seeds(what, one.seeds, other.seeds, shared)
    kind = np.result_type(one.values, other.values, np.int8)  # hits are counted, what is interpolated stays as it is
    return Scores(
        seeds=seeds,
        values=one.of(seeds).astype(kind) - other.of(seeds).astype(kind),
        images=one.images,
        scale=one.scale,
        shared=one.shared or other.shared or (len(seeds) > 1 and 1 in (len(one.seeds), len(other.seeds))),
    )


def common_seeds(several: Sequence[Scores]) -> tuple[int, ...]:
    """The seeds that all of them have."""
    first, *others = several
    return tuple(seed for seed in first.seeds if all(seed in one.seeds for one in others))


def mean_of(what: str, several: Sequence[Scores], seeds: Sequence[int]) -> Scores:
    """The mean of several scores over some seeds, which all have. Raises SystemExit where the images differ."""
    images = several[0].images
    if any(one.images != images for one in several):
        raise SystemExit(f"{what}: not all were evaluated on the same images. Give all the same evaluation set.")
    kind = np.result_type(*(one.values for one in several), int)
    values = np.sum([one.of(seeds).astype(kind) for one in several], axis=0)
    return Scores(seeds=tuple(seeds), values=values, images=images, scale=several[0].scale / len(several))
