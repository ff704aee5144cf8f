"""Intervals against definitions and their own coverage; differences, quartiles and times to a target."""

import math

import numpy as np
import pytest
from scipy import stats

from ganlab.utils import statistics
from ganlab.utils.statistics import bootstrap_mean, paired_difference, quartiles, time_to_target, wilson_interval


def test_wilson_interval_inverts_the_score_test():
    """At its ends the score statistic is the normal quantile, by definition."""
    rate, low, high = wilson_interval(29, 100)
    assert rate == 0.29
    for end in (low, high):
        assert abs(rate - end) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959964, abs=1e-5)


def test_wilson_interval_at_zero_and_at_n():
    assert wilson_interval(0, 20) == pytest.approx((0, 0, 0.1611252), abs=1e-6)
    assert wilson_interval(20, 20) == pytest.approx((1, 0.8388748, 1), abs=1e-6)


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_rejects_invalid_counts(successes, n):
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("ones, n", [(3, 20), (12, 30), (47, 200)])
def test_bootstrap_of_binary_values_is_binomial(ones, n):
    """A resample of n with `ones` ones has Binomial(n, ones/n) ones, so the interval's ends are its quantiles."""
    estimate = bootstrap_mean([1.0] * ones + [0.0] * (n - ones))
    assert estimate.value == pytest.approx(ones / n)
    for end, level in ((estimate.low, 0.025), (estimate.high, 0.975)):
        assert stats.binom.cdf(end * n, n, ones / n) >= level - 0.01
        assert stats.binom.cdf(end * n - 1, n, ones / n) <= level + 0.01


def test_bootstrap_coverage_is_close_to_nominal(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        estimate = bootstrap_mean(random.exponential(1.0, size=50))
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.87 <= covered / 300 <= 0.98


def test_bootstrap_is_deterministic_and_leaves_the_global_rng_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    values = [1.03, 4.7, 2.19, 8.9, 3.3, 0.21, 5.57, 6.1, 2.72, 9.4]
    assert bootstrap_mean(values) == bootstrap_mean(values) != bootstrap_mean(values, seed=1)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    "values, mean",
    [([2.5], 2.5), ([1.0, math.inf], math.inf), ([1.0, -math.inf], -math.inf), ([math.inf] * 3, math.inf)],
)
def test_single_and_infinite_values_have_no_interval(values, mean):
    assert bootstrap_mean(values) == (mean, None, None)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_bootstrap_rejects_no_values_and_nan(values):
    with pytest.raises(ValueError, match="at least one value and no nan"):
        bootstrap_mean(values)


def test_paired_difference_uses_the_shared_seeds():
    a = {1: 0.1, 2: 0.2, 3: 0.9, 4: 5.0, 9: 1.0}
    b = {1: 0.3, 2: 0.2, 3: 0.4, 4: 6.0, 7: -100.0}
    difference = paired_difference(a, b)
    assert (difference.pairs, difference.smaller, difference.equal) == (4, 2, 1)
    assert difference.mean.value == pytest.approx((-0.2 + 0 + 0.5 - 1.0) / 4)
    assert difference.mean.low < difference.mean.value < difference.mean.high
    swapped = paired_difference(b, a)
    assert swapped.mean.value == pytest.approx(-difference.mean.value)
    assert (swapped.smaller, swapped.equal) == (1, 1)


def test_pairing_removes_the_variance_between_seeds():
    """The spread over seeds is 100 times the difference's; unpaired intervals of the two means overlap widely."""
    random = np.random.default_rng(0)
    seeds = random.normal(0, 10, size=30)
    a = dict(enumerate(seeds))
    b = {i: x + 1 + 0.1 * random.normal() for i, x in enumerate(seeds)}
    difference = paired_difference(a, b)
    assert difference.mean.high < -0.9 and difference.mean.low > -1.1
    assert bootstrap_mean(list(a.values())).high > bootstrap_mean(list(b.values())).low


def test_paired_difference_of_failed_runs():
    difference = paired_difference({1: math.inf, 2: math.inf, 3: 1.0}, {1: math.inf, 2: 2.0, 3: 3.0})
    assert (difference.mean.value, difference.mean.low) == (math.inf, None)
    assert (difference.smaller, difference.equal) == (1, 1)
    assert paired_difference({1: 0.0}, {2: 0.0}) is None


def test_time_to_target():
    assert time_to_target([10, 20, 30, 40], [3, 8, 7, 8], 8) == 20
    assert time_to_target([10, 20], [3, math.nan], 8) == math.inf


def test_quartiles_are_observed_values():
    assert quartiles([3.0]) == (3, 3, 3)
    assert quartiles([5.0, 1.0, 9.0, 2.0, 2.0, 7.0, 8.0, 6.0]) == (2, 5.5, 7)


def test_quartiles_of_failed_runs():
    assert quartiles([math.inf, 2.0, math.inf, 1.0]) == (1.0, math.inf, math.inf)
    assert quartiles([math.inf, math.inf]) == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    "share, text",
    [
        (0, "0"), (1, "100"), (-1, "-100"), (1999 / 2000, "99.95"), (1 - 1e-6, "> 99.99"), (1e-6 - 1, "> -99.99"),
        (1 / 2000, "0.05"), (0.5, "50"), (0.1234, "12.3"), (-0.05, "-5"), (0.9984, "99.8"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_only_a_share_of_1_prints_as_100_percent(share, text):
    assert statistics.percent(share) == text


def test_percent_with_a_sign():
    assert [statistics.percent(x, sign=True) for x in (0.25, -0.25, 0, 1)] == ["+25", "-25", "0", "+100"]
