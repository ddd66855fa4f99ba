"""Estimates, intervals and p-values once more, by other formulas than those of src/deit/tables."""

import math
from functools import cache
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()


def moments(values: dict[int, np.ndarray]) -> tuple[float, float, float, float]:
    """Mean, standard errors by seeds and by images, degrees of freedom; from the group means of a two-way layout."""
    table = np.stack([*values.values()])
    seeds, images = table.shape
    if seeds == 1:
        return table.mean(), math.nan, math.nan, 0
    of_seed, of_image = table.mean(axis=1), table.mean(axis=0)
    residual = table - of_seed[:, None] - of_image + table.mean()
    ms_image = seeds * of_image.var(ddof=1)
    ms_error = (residual**2).sum() / ((seeds - 1) * (images - 1))
    return (
        table.mean(),
        math.sqrt(of_seed.var(ddof=1) / seeds),
        math.sqrt(max(ms_image - ms_error, 0) / table.size),
        seeds - 1,
    )


@cache
def beyond(t: float, df: float, points: int = 20000) -> float:
    """P(T > t), by summing up the density over the angle with t = sqrt(df) tan(angle)."""
    least = math.atan(t / math.sqrt(df))
    width = (math.pi / 2 - least) / points
    part = (np.sin(width * (np.arange(points) + 0.5)) ** (df - 1)).sum() * width
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(df / 2) - math.lgamma((df + 1) / 2))
    return part / whole


def half_width(t: float, df: float, of_seeds: float, of_images: float) -> tuple[float, float]:
    """Of the one-sided bound at the probability of t, and that probability: both parts with their own quantile."""
    p = beyond(t, df)
    return math.hypot(t * of_seeds, -NORMAL.inv_cdf(p) * of_images), p


def p_value(distance: float, df: float, of_seeds: float, of_images: float) -> float:
    """One-sided, of a mean that lies `distance` on the side that is asked for."""
    if distance < 0:
        return 1 - p_value(-distance, df, of_seeds, of_images)
    low, high = 0.0, distance / of_seeds
    for _ in range(50):
        t = (low + high) / 2
        low, high = (low, t) if half_width(t, df, of_seeds, of_images)[0] > distance else (t, high)
    return beyond(high, df)


def interval(mean: float, of_seeds: float, of_images: float, df: float) -> tuple[float, float]:
    low, high = 0.0, 100.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (low, t) if beyond(t, df) < 0.025 else (t, high)
    half = math.hypot(low * of_seeds, NORMAL.inv_cdf(0.975) * of_images)
    return mean - half, mean + half
