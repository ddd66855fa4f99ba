"""The interval of a number that was measured over seeds and test images, of both of which there could be others.

Seeds and images are the two random factors of an analysis of variance without replication, as in studies in which
several readers judge the same cases: Dorfman, Berbaum and Metz (Investigative Radiology 1992), with the degrees of
freedom of Hillis (Statistics in Medicine 2007). Its interval is of what other seeds *and* other images would give.
"""

import math
from dataclasses import dataclass

import numpy as np

from .student_t import quantile, upper_tail

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, and how far it may be from that over all seeds and images."""

    mean: float
    error: float
    """Standard error of the mean, spread over seeds included; nan with one seed, 0 where nothing varies."""
    df: float
    """Degrees of freedom of `error`, at least seeds - 1; nan with one seed, infinite where seeds do not vary."""

    def interval(self) -> tuple[float, float]:
        """The 95 % interval; (nan, nan) with one seed."""
        if math.isnan(self.error):
            return math.nan, math.nan
        half = self.error * quantile((1 + CONFIDENCE) / 2, self.df)
        return self.mean - half, self.mean + half

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of the mean being at most the threshold: small = it is above. nan with one seed."""
        return upper_tail(self._distance(threshold), self.df)

    def p_below(self, threshold: float) -> float:
        """One-sided p-value of the mean being at least the threshold: small = it is below. nan with one seed."""
        return upper_tail(-self._distance(threshold), self.df)

    def _distance(self, threshold: float) -> float:
        """In standard errors; where nothing varies, infinite, or 0 for a mean that is the threshold."""
        above = self.mean - threshold
        if self.error == 0:
            return math.copysign(math.inf, above) if above else 0.0
        return above / self.error


def over_seeds_and_images(values: np.ndarray) -> Estimate:
    """The mean of `values` (S seeds, I images): hits (bool), or hits of one side minus those of the other (-1, 0, 1).

    Its variance is (MS_seed + max(MS_image - MS_error, 0)) / (S I).
    """
    seeds, images = values.shape
    values = values.astype(float)
    of_seed, of_image, total = values.sum(axis=1), values.sum(axis=0), values.sum()
    mean = float(total / (seeds * images))
    if seeds == 1:
        return Estimate(mean=mean, error=math.nan, df=math.nan)
    # Multiplied out, these are differences of whole numbers: seeds that are alike differ by exactly nothing.
    ms_seed = np.square(seeds * of_seed - total).sum() / (seeds**2 * images) / (seeds - 1)
    ms_image = ms_error = 0.0
    if images > 1:
        ms_image = np.square(images * of_image - total).sum() / (seeds * images**2) / (images - 1)
        residual = values - of_seed[:, None] / images - of_image / seeds + mean
        ms_error = np.square(residual).sum() / ((seeds - 1) * (images - 1))
    both = float(ms_seed + max(ms_image - ms_error, 0))
    df = both**2 / (ms_seed**2 / (seeds - 1)) if ms_seed else math.inf
    return Estimate(mean=mean, error=math.sqrt(both / (seeds * images)), df=float(df))


def over_seeds(values: np.ndarray) -> Estimate:
    """The mean of one number a seed (S,), such as a cosine or a difference of two: Student's t."""
    seeds, mean = len(values), float(np.mean(values))
    if seeds == 1:
        return Estimate(mean=mean, error=math.nan, df=math.nan)
    spread = 0.0 if (values == values[0]).all() else float(np.std(values, ddof=1))
    return Estimate(mean=mean, error=spread / math.sqrt(seeds), df=seeds - 1)
