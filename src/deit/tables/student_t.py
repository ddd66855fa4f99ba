"""Student's t distribution, by its closed form for whole numbers of degrees of freedom.

Two functions of ten lines, so that a table needs no further library of forty megabytes; tests hold them against scipy.
"""

import math

SMALLEST = 1e-15
"""No p-value is told from a smaller one: the closed form is a difference of numbers near one half."""


def upper_tail(t: float, df: float) -> float:
    """P(T > t), at least SMALLEST; between whole degrees of freedom interpolated, as in printed tables.

    P is convex in df, so for t > 0 what is interpolated is rather too large: by up to a half above two degrees of
    freedom, where it is above 0.001.
    """
    whole = math.floor(df)
    share = df - whole
    return (
        _upper_tail(t, whole) if not share else (1 - share) * _upper_tail(t, whole) + share * _upper_tail(t, whole + 1)
    )


def _upper_tail(t: float, df: int) -> float:
    """Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(df))
    odd, term, total = df % 2, math.cos(angle) if df % 2 else 1.0, 0.0
    for n in range(odd, df - 1, 2):
        total += term
        term *= (n + 1) / (n + 2) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return max(SMALLEST, (1 - (2 / math.pi * (angle + within) if odd else within)) / 2)


def quantile(probability: float, df: float) -> float:
    """The t with P(T <= t) = probability, which is above one half and below 1 - 1e-12."""
    low, high = 0.0, 1.0
    while upper_tail(high, df) > 1 - probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, df) > 1 - probability else (low, middle)
    return high
