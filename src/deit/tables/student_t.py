"""Student's t distribution with any real number of degrees of freedom.

Two functions, so that a table needs no further library of forty megabytes; tests hold them against scipy's.
"""

import itertools
import math
from statistics import NormalDist

NORMAL = 1e6
"""From so many degrees of freedom on, the normal distribution is the same to six digits."""
SMALL = 1e-300


def upper_tail(t: float, df: float) -> float:
    """P(T > t), also far out in the tail. nan for nan."""
    if math.isnan(t) or math.isnan(df):
        return math.nan
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    if df > NORMAL:
        return 0.5 * math.erfc(t / math.sqrt(2))
    half = 0.5 * incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))
    return half if t > 0 else 1 - half


def quantile(probability: float, df: float) -> float:
    """The t with P(T <= t) = probability, to 12 digits; `probability` is above one half."""
    if df > NORMAL:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while upper_tail(high, df) > 1 - probability:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if upper_tail(middle, df) > 1 - probability else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float, complement: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `complement` is 1 - x, which keeps its digits near x = 1."""
    if x <= 0 or complement <= 0:
        return float(x > 0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(complement)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * continued_fraction(a, b, x) / a
    return 1 - math.exp(log_front) * continued_fraction(b, a, complement) / b


def continued_fraction(a: float, b: float, x: float) -> float:
    """The fraction of I_x(a, b) (DLMF 8.17.22), evaluated from the front by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in itertools.count(1):
        before = value
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / (1 + step * d or SMALL)
            c = 1 + step / c or SMALL
            value *= c * d
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return value
