"""Statistics over seeds: rates and means with 95 % intervals, paired differences, quartiles, time to a target.

Functions of plain numbers. Infinite values are allowed and are never dropped: a mean over them is infinite.
SciPy is imported inside the functions that need it, for start-up time only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A value and its confidence interval [low, high]; both are None where the data allows no interval."""

    value: float
    low: float | None = None
    high: float | None = None


class PairedDifference(NamedTuple):
    """Differences a - b over `pairs` shared seeds: their mean, and in how many a is smaller than or equal to b."""

    pairs: int
    mean: Estimate
    smaller: int
    equal: int


def percent(share: float, sign: bool = False) -> str:
    """A share in percent, without the unit: three digits, four near 100, so that only a share of 1 prints as 100."""
    size = abs(100 * share)
    text = next((t for t in (f"{size:.3g}", f"{size:.4g}") if t != "100" or size == 100), None)
    prefix = "-" if share < 0 else "+" if sign and share else ""
    return f"{prefix}{text}" if text else f"> {prefix}99.99"


def wilson_interval(successes: int, n: int) -> Estimate:
    """Rate successes / n in [0, 1] with Wilson's score interval (Wilson 1927).

    Raises:
        ValueError: n < 1, or successes outside 0 … n.
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    low, high = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(low), float(high))


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean with a percentile bootstrap interval (Efron 1979); deterministic given the seed.

    No interval for a single value, or where a value is infinite (the mean is then infinite; nan if both signs occur).

    Raises:
        ValueError: no values, or one of them is nan.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0 or np.isnan(array).any():
        raise ValueError(f"a mean needs at least one value and no nan, got {array.tolist()[:5]}")
    with np.errstate(invalid="ignore"):  # inf - inf
        mean = float(array.mean())
    if len(array) == 1 or not np.isfinite(array).all():
        return Estimate(mean)
    from scipy.stats import bootstrap

    result = bootstrap(
        (array,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=max(1, 2_000_000 // len(array)),  # 16 MB of resamples at a time
        random_state=np.random.default_rng(seed),
    )
    return Estimate(mean, *map(float, result.confidence_interval))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], seed: int = 0) -> PairedDifference | None:
    """Mean of a - b over the seeds that both have, with a bootstrap interval; None if they share none.

    a and b map seeds to values. Two infinite values (both runs failed) count as equal, with difference 0.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    differences = [0.0 if a[s] == b[s] else a[s] - b[s] for s in shared]
    return PairedDifference(
        pairs=len(shared),
        mean=bootstrap_mean(differences, seed=seed),
        smaller=sum(d < 0 for d in differences),
        equal=sum(d == 0 for d in differences),
    )


def time_to_target(times: Sequence[float], values: Sequence[float], target: float) -> float:
    """First of the ascending `times` (images or seconds) at which the value is at least `target`; inf if never."""
    return next((time for time, value in zip(times, values, strict=True) if value >= target), math.inf)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; infinite values are ordered like any other.

    The quartiles are observed values (inverse of the empirical distribution); the median of an even number of values
    is the mean of the middle two.

    Raises:
        ValueError: no values. A nan among them makes all three nan.
    """
    if len(values) == 0:
        raise ValueError("quartiles need at least one value, got none")
    low, high = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    return float(low), float(np.median(values)), float(high)
