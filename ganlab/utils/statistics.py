"""Statistics over seeds: rates and means with 95 % intervals, paired differences and their tests, quartiles.

Functions of plain numbers. Infinite values are allowed and are never dropped: a mean over them is infinite.
SciPy is imported inside the functions that need it, for start-up time only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8


class Estimate(NamedTuple):
    """A value and its confidence interval [low, high]; both are None where the data allows no interval."""

    value: float
    low: float | None = None
    high: float | None = None


class PairedDifference(NamedTuple):
    """Differences a - b over `pairs` shared seeds: their mean, and in how many a is smaller than or equal to b.

    p: two-sided p-value of "no difference"; 1 for a single pair.
    std: the differences' standard deviation; None for a single pair, and where one is infinite.
    """

    pairs: int
    mean: Estimate
    smaller: int
    equal: int
    p: float
    std: float | None


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


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the next of independent, normally distributed values lies with 95 % probability: mean ± t sd √(1 + 1/n).

    Raises:
        ValueError: fewer than two values, or one of them is not finite.
    """
    from scipy.stats import t

    array, n = np.asarray(values, dtype=np.float64), len(values)
    if n < 2 or not np.isfinite(array).all():
        raise ValueError(f"a prediction interval needs at least two finite values, got {list(values)[:5]}")
    half_width = t.ppf((1 + CONFIDENCE) / 2, n - 1) * array.std(ddof=1) * math.sqrt(1 + 1 / n)
    return float(array.mean() - half_width), float(array.mean() + half_width)


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean with Student's t interval.

    No interval for a single value, for equal values, or where a value is infinite (the mean is then infinite; nan if both
    signs occur). It holds its 95 % for normal values; of 10 exponential ones it covers the mean in about 90 %.

    Raises:
        ValueError: no values, or one of them is nan.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0 or np.isnan(array).any():
        raise ValueError(f"a mean needs at least one value and no nan, got {array.tolist()[:5]}")
    with np.errstate(invalid="ignore"):  # inf - inf
        mean = float(array.mean())
    if not np.isfinite(array).all() or (array == array[0]).all():
        return Estimate(mean)
    from scipy.stats import t

    half_width = t.ppf((1 + CONFIDENCE) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(mean, float(mean - half_width), float(mean + half_width))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference | None:
    """Differences a - b over the seeds that both have; None if they share none.

    The p-value is that of Student's t-test. Where differences are infinite it is the signed-rank test's (Wilcoxon 1945), and
    where all that are not 0 have one size, as of rates, the sign test's.

    a and b map seeds to values. Two infinite values (both runs failed) count as equal, with difference 0.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    differences = np.array([0.0 if a[s] == b[s] else a[s] - b[s] for s in shared])
    return PairedDifference(
        pairs=len(shared),
        mean=mean_interval(differences.tolist()),
        smaller=int((differences < 0).sum()),
        equal=int((differences == 0).sum()),
        p=_paired_p_value(differences),
        std=float(differences.std(ddof=1)) if len(shared) > 1 and np.isfinite(differences).all() else None,
    )


def _paired_p_value(differences: np.ndarray) -> float:
    from scipy import stats

    nonzero = differences[differences != 0]
    if len(differences) < 2 or len(nonzero) == 0:
        return 1.0
    if (np.abs(nonzero) == abs(nonzero[0])).all():
        return float(stats.binomtest(int((nonzero < 0).sum()), len(nonzero)).pvalue)
    if not np.isfinite(differences).all():
        return float(stats.wilcoxon(nonzero, method="exact").pvalue)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, corrected (Holm 1979): rejecting those of at most 0.05 makes one false claim or more in
    at most 5 % of families."""
    m = len(p_values)
    corrected, largest = [1.0] * m, 0.0
    for rank, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def detectable_difference(std: float, pairs: int, tests: int = 1) -> float:
    """The mean difference that a t-test over so many pairs finds in 80 % of cases, among `tests` (at 5 % / tests).

    Args:
        std: standard deviation of the differences.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    df, critical = pairs - 1, t.ppf(1 - (1 - CONFIDENCE) / (2 * tests), pairs - 1)
    noncentrality = brentq(lambda x: nct.sf(critical, df, x) - POWER, 0, 10 * critical + 10)
    return std * float(noncentrality) / math.sqrt(pairs)


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
