"""Student's t distribution for any degrees of freedom, exactly: by the regularised incomplete beta function.

Thirty lines, so that a table needs no further library of forty megabytes; tests hold them against scipy and mpmath.
"""

import math

SMALLEST = 1e-300
"""No p-value is smaller, so that each has a quantile of the normal distribution."""
DIGITS = 1e-15


def upper_tail(t: float, df: float) -> float:
    """P(T > t), at least SMALLEST."""
    # Abramowitz and Stegun, 26.5.27 and 26.7.1.
    beyond = incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return max(SMALLEST, beyond) if t > 0 else 1 - beyond


def quantile(probability: float, df: float) -> float:
    """The t with P(T <= t) = probability, which is above one half and below 1 - 1e-12."""
    low, high = 0.0, 1.0
    while upper_tail(high, df) > 1 - probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, df) > 1 - probability else (low, middle)
    return high


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), between 0 and 1 (Numerical Recipes, 6.4)."""
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side needs fewer steps
        return 1 - incomplete_beta(1 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * continued_fraction(x, a, b))


def continued_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + …)) of Abramowitz and Stegun, 26.5.8, by Lentz's method."""
    value = numerator = 1.0
    denominator, step, change = 0.0, 0, 0.0
    while abs(change - 1) > DIGITS:
        step += 1
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator, numerator = 1 / (1 + d * denominator), 1 + d / numerator
        change = numerator * denominator
        value *= change
    return value
