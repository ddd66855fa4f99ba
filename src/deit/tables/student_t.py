"""Student's t distribution with a whole number of degrees of freedom, by its closed form.

Two functions of ten lines, so that a table needs no further library of forty megabytes; tests hold them against scipy.
"""

import math

SMALLEST = 1e-15
"""No p-value is told from a smaller one: the closed form is a difference of numbers near one half."""


def upper_tail(t: float, df: int) -> float:
    """P(T > t), at least SMALLEST (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    odd, term, total = df % 2, math.cos(angle) if df % 2 else 1.0, 0.0
    for n in range(odd, df - 1, 2):
        total += term
        term *= (n + 1) / (n + 2) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return max(SMALLEST, (1 - (2 / math.pi * (angle + within) if odd else within)) / 2)


def quantile(probability: float, df: int) -> float:
    """The t with P(T <= t) = probability, which is above one half and below 1 - 1e-12."""
    low, high = 0.0, 1.0
    while upper_tail(high, df) > 1 - probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, df) > 1 - probability else (low, middle)
    return high
