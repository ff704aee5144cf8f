"""What many seeds allow one to say: rates and means with their intervals, paired differences, time to a target.

Pure functions of numbers. Infinite values are allowed and are never dropped: a mean over them is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A value and its interval; `low` and `high` are None where the numbers allow none."""

    value: float
    low: float | None = None
    high: float | None = None


class Difference(NamedTuple):
    """Of two settings over the seeds that both have, a - b: the mean, and how often a is the smaller or equal."""

    pairs: int
    mean: Estimate
    smaller: int
    equal: int


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """A rate with Wilson's score interval (1927), which stays within [0, 1] and has a width at 0 and at n.

    Raises:
        ValueError: n is below 1, or successes are not in 0 … n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = successes / n
    center = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else center - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else center + half
    return Estimate(rate, low, high)


def bootstrap_mean(values: Sequence[float], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean with the percentile bootstrap's interval (Efron 1979), always the same for the same values.

    No interval for a single value, or where a value is infinite (the mean is infinite then, with its sign).

    Raises:
        ValueError: there are no values, or one is not a number.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or np.isnan(values).any():
        raise ValueError(f"a mean needs at least one value and no nan, got {values.tolist()[:5]}")
    if not np.isfinite(values).all() or len(values) == 1:
        return Estimate(float(values.sum() / len(values)) if np.isfinite(values).all() else _infinite_mean(values))
    random = np.random.default_rng(seed)
    rows = max(1, 2_000_000 // len(values))  # at most 16 MB of resamples at a time
    means = np.concatenate(
        [
            values[random.integers(len(values), size=(min(rows, resamples - i), len(values)))].mean(axis=1)
            for i in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def _infinite_mean(values: np.ndarray) -> float:
    both = (values == math.inf).any() and (values == -math.inf).any()
    return math.nan if both else float(values[np.isinf(values)][0])


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], seed: int = 0) -> Difference | None:
    """a - b over the seeds that both have, as in a paired design; None if they share none.

    Two infinite values are equal (difference 0): neither of the two runs has a number.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    differences = [0.0 if a[s] == b[s] else a[s] - b[s] for s in shared]
    return Difference(
        pairs=len(shared),
        mean=bootstrap_mean(differences, seed=seed),
        smaller=sum(d < 0 for d in differences),
        equal=sum(d == 0 for d in differences),
    )


def first_reaching(at: Sequence[float], values: Sequence[float], target: float) -> float:
    """The first of `at` (images, seconds; ascending) whose value is at least the target; inf if none is."""
    return next((x for x, value in zip(at, values, strict=True) if value >= target), math.inf)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; infinite values keep their place in the order.

    The quartiles are values that occurred (the inverse of the empirical distribution); the median of an even number
    is the middle two's mean.
    """
    ordered = sorted(values)
    n = len(ordered)
    low, high = ordered[math.ceil(n / 4) - 1], ordered[math.ceil(3 * n / 4) - 1]
    middle, other = ordered[(n - 1) // 2], ordered[n // 2]
    return low, middle if middle == other else (middle + other) / 2, high
