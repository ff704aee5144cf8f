"""Intervals against definitions and their own coverage; differences, quartiles and times to a target."""

import math

import numpy as np
import pytest
from scipy import stats

from ganlab.utils.statistics import (
    detectable_difference,
    holm,
    mean_interval,
    paired_difference,
    percent,
    prediction_interval,
    quartiles,
    time_to_target,
    wilson_interval,
)


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


def test_mean_interval_matches_scipy():
    values = [1.03, 4.7, 2.19, 8.9, 3.3, 0.21, 5.57]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((np.mean(values), *expected))


@pytest.mark.parametrize("n", [3, 6, 20])
def test_mean_interval_covers_at_its_nominal_rate(n):
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, n))
    covered = np.mean([e.low <= 3.0 <= e.high for e in map(mean_interval, samples.tolist())])
    assert 0.935 <= covered <= 0.965  # 3 standard errors


@pytest.mark.parametrize(
    "values, mean",
    [([2.5], 2.5), ([2.5, 2.5], 2.5), ([1.0, math.inf], math.inf), ([1.0, -math.inf], -math.inf), ([math.inf] * 3, math.inf)],
)
def test_single_equal_and_infinite_values_have_no_interval(values, mean):
    assert mean_interval(values) == (mean, None, None)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_mean_interval_rejects_no_values_and_nan(values):
    with pytest.raises(ValueError, match="at least one value and no nan"):
        mean_interval(values)


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
    assert mean_interval(list(a.values())).high > mean_interval(list(b.values())).low


def test_paired_difference_of_failed_runs():
    difference = paired_difference({1: math.inf, 2: math.inf, 3: 1.0}, {1: math.inf, 2: 2.0, 3: 3.0})
    assert (difference.mean.value, difference.mean.low) == (math.inf, None)
    assert (difference.smaller, difference.equal) == (1, 1)
    assert paired_difference({1: 0.0}, {2: 0.0}) is None


def test_p_value_is_that_of_the_test_for_the_kind_of_value():
    a, b = [1.0, 2.0, 4.0, 8.0, 9.0, 3.0], [1.5, 2.9, 4.1, 9.0, 8.5, 5.0]
    difference = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    assert difference.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert difference.std == pytest.approx(np.std(np.subtract(a, b), ddof=1))
    failures = dict.fromkeys(range(5), math.inf) | {5: 1.0}  # five of six runs failed, of the others none
    assert paired_difference(failures, dict(enumerate(b))).p == pytest.approx(
        2 * (1 + 1) / 2**6
    )  # ranks 1 … 6, but 1 is negative
    assert paired_difference(failures, dict(enumerate(b))).std is None
    rates = paired_difference(dict(enumerate([1, 1, 1, 1, 1, 0, 1])), dict(enumerate([0, 0, 0, 0, 0, 1, 1])))
    assert rates.p == pytest.approx(2 * (1 + 6) / 2**6)  # 1 of 6 discordant pairs
    assert paired_difference({1: 0.0}, {1: 5.0}).p == paired_difference({1: 2.0, 2: 3.0}, {1: 2.0, 2: 3.0}).p == 1


def test_holm_matches_its_definition():
    """Sorted, the p-values are multiplied by m, m - 1 … 1, and never fall."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize("settings, seeds", [(2, 6), (4, 6), (8, 10), (16, 10)])
def test_equal_settings_are_told_apart_in_at_most_5_percent_of_tables(settings, seeds):
    """All pairs are tested, so that the leader may be chosen afterwards. Uncorrected, 9 to 80 % of tables claim a difference."""
    random, claims = np.random.default_rng(0), 0
    tables = 200 if settings > 4 else 600
    for values in random.normal(size=(tables, settings, seeds)) + random.normal(size=(tables, 1, seeds)):
        one, other = np.triu_indices(settings, 1)
        claims += min(holm(stats.ttest_rel(values[one], values[other], axis=1).pvalue.tolist())) <= 0.05
    assert stats.binomtest(claims, tables, 0.05).pvalue > 0.001  # near 5 %: neither more, nor far less


@pytest.mark.parametrize("pairs, tests", [(6, 1), (10, 6)])
def test_detectable_difference_is_detected_in_80_percent(pairs, tests):
    difference = detectable_difference(2.0, pairs, tests)
    samples = np.random.default_rng(0).normal(difference, 2.0, size=(4000, pairs))
    assert np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 0.05 / tests) == pytest.approx(0.8, abs=0.02)


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
    assert percent(share) == text


def test_percent_with_a_sign():
    assert [percent(x, sign=True) for x in (0.25, -0.25, 0, 1)] == ["+25", "-25", "0", "+100"]


def test_prediction_interval_covers_the_next_value():
    """Also of skewed values, as Fréchet distances of few samples are."""
    random = np.random.default_rng(0)
    for values in (random.normal(3, 2, (4000, 11)), random.chisquare(8, (4000, 11))):
        intervals = [prediction_interval(row[:10]) for row in values]
        covered = np.mean([low <= row[10] <= high for row, (low, high) in zip(values, intervals)])
        assert covered == pytest.approx(0.95, abs=0.02)
    low, high = prediction_interval([1.0, 3.0])
    assert (low, high) == pytest.approx((2 - 12.7062 * 2**0.5 * 1.5**0.5, 2 + 12.7062 * 2**0.5 * 1.5**0.5), rel=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_prediction_interval_needs_two_finite_values(values):
    with pytest.raises(ValueError, match="a prediction interval needs at least two finite values"):
        prediction_interval(values)
