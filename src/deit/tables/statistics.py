"""The interval of a number that was measured over seeds and test images, of both of which there could be others.

Seeds and images are the two random factors of an analysis of variance without replication, as in studies in which
several readers judge the same cases (Dorfman, Berbaum and Metz, Investigative Radiology 1992). So the interval is of
what other seeds *and* other images would give.

The spread over three or five seeds is itself hardly known, that over ten thousand images well. Degrees of freedom for
the sum of both (Satterthwaite's, Hillis') are largest just where the spread over seeds came out too small: in
simulations 95 % intervals then miss 8 % (three seeds; 13 % with two), and tests at 0.25 % are wrong in 1.4 % of
studies. So each part keeps its own quantile, Student's t and the normal one, and the two half-widths are added in
quadrature (Howe, JASA 1974). Such intervals miss no more often than they say, as tests/test_statistics.py measures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from .student_t import quantile, upper_tail

CONFIDENCE = 0.95
NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, and how far it may be from that over all seeds and images."""

    mean: float
    seed_error: float
    """Standard error of the mean as far as seeds, and all that is specific to one, make it; nan with one seed."""
    image_error: float
    """Standard error of the mean as far as the choice of images makes it, the same for all seeds."""
    df: float
    """Degrees of freedom of `seed_error`: seeds - 1, or more where other trainings tell of it too (blocks.py)."""

    @property
    def error(self) -> float:
        """Standard error of the mean; nan with one seed."""
        return math.hypot(self.seed_error, self.image_error)

    def interval(self) -> tuple[float, float]:
        """The 95 % interval; (nan, nan) with one seed."""
        if math.isnan(self.error):
            return math.nan, math.nan
        probability = (1 + CONFIDENCE) / 2
        half = self._half_width(quantile(probability, self.df), NORMAL.inv_cdf(probability))
        return self.mean - half, self.mean + half

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of the mean being at most the threshold: small = it is above. nan with one seed."""
        above = self.mean - threshold
        return self._p(above) if above >= 0 else 1 - self._p(-above)

    def p_below(self, threshold: float) -> float:
        """One-sided p-value of the mean being at least the threshold: small = it is below. nan with one seed."""
        below = threshold - self.mean
        return self._p(below) if below >= 0 else 1 - self._p(-below)

    def _half_width(self, t: float, z: float) -> float:
        return math.hypot(t * self.seed_error, z * self.image_error)

    def _p(self, distance: float) -> float:
        """The p of which one-sided bounds are so far from the mean; `distance` is not negative."""
        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return 0.0 if distance else 0.5
        if self.seed_error == 0:
            return math.erfc(distance / self.image_error / math.sqrt(2)) / 2
        low, high = 0.0, distance / self.seed_error  # of Student's t
        for _ in range(60 if self.image_error else 0):
            middle = (low + high) / 2
            z = -NORMAL.inv_cdf(upper_tail(middle, self.df))
            low, high = (middle, high) if self._half_width(middle, z) < distance else (low, middle)
        return upper_tail(high, self.df)


def over_seeds_and_images(values: np.ndarray) -> Estimate:
    """The mean of `values` (S seeds, I images): hits (bool), or hits of one side minus those of the other (-1, 0, 1).

    Its variance is (MS_seed + max(MS_image - MS_error, 0)) / (S I).
    """
    seeds, images = values.shape
    values = values.astype(float)
    of_seed, of_image, total = values.sum(axis=1), values.sum(axis=0), values.sum()
    mean = float(total / (seeds * images))
    if seeds == 1:
        return Estimate(mean=mean, seed_error=math.nan, image_error=math.nan, df=0)
    # Multiplied out, these are differences of whole numbers: seeds that are alike differ by exactly nothing.
    ms_seed = np.square(seeds * of_seed - total).sum() / (seeds**2 * images) / (seeds - 1)
    ms_image = ms_error = 0.0
    if images > 1:
        ms_image = np.square(images * of_image - total).sum() / (seeds * images**2) / (images - 1)
        residual = values - of_seed[:, None] / images - of_image / seeds + mean
        ms_error = np.square(residual).sum() / ((seeds - 1) * (images - 1))
    seed_part, image_part = (float(part) / (seeds * images) for part in (ms_seed, max(ms_image - ms_error, 0)))
    return Estimate(mean=mean, seed_error=math.sqrt(seed_part), image_error=math.sqrt(image_part), df=seeds - 1)


def over_seeds(values: np.ndarray) -> Estimate:
    """The mean of one number a seed (S,), such as a cosine or a difference of two: Student's t."""
    seeds, mean = len(values), float(np.mean(values))
    if seeds == 1:
        return Estimate(mean=mean, seed_error=math.nan, image_error=math.nan, df=0)
    spread = 0.0 if (values == values[0]).all() else float(np.std(values, ddof=1))
    return Estimate(mean=mean, seed_error=spread / math.sqrt(seeds), image_error=0.0, df=seeds - 1)


def over_networks(mean: Estimate, networks: Sequence[Estimate], shares: Sequence[float]) -> Estimate:
    """A mean over several networks, each with its share of it: their spreads over seeds add up (Welch, Satterthwaite).

    So a network that scatters more than the others does not decide for all. Assumed: seeds move one network
    independently of another (benchmarks/claim_tests.py tells what it costs if they do not). `mean` has the mean itself
    and what the choice of images adds, which is the same images for all.
    """
    if len(networks) == 1 or any(math.isnan(one.error) for one in networks):
        return mean
    variances = [(share * one.seed_error) ** 2 for share, one in zip(shares, networks, strict=True)]
    total = sum(variances)
    parts = sum(variance**2 / one.df for variance, one in zip(variances, networks, strict=True))
    df = total**2 / parts if parts else min(one.df for one in networks)
    return replace(mean, seed_error=math.sqrt(total), df=df)
