"""Intervals against SciPy, closed forms and their own coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from ganlab.utils.statistics import bootstrap_mean, first_reaching, paired_difference, quartiles, wilson


@pytest.mark.parametrize("successes, n", [(0, 1), (1, 1), (0, 20), (3, 20), (19, 20), (20, 20), (94, 200), (1, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipy_s(successes, n, level):
    found = wilson(successes, n, level)
    interval = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert found == pytest.approx((successes / n, interval.low, interval.high), abs=1e-12)


def test_wilson_inverts_the_score_test():
    """At its ends the score statistic is the normal quantile, by definition."""
    low, high = wilson(29, 100)[1:]
    for end in (low, high):
        assert abs(0.29 - end) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("successes, n", [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_rate(successes, n):
    with pytest.raises(ValueError, match=f"got {successes} of {n}"):
        wilson(successes, n)


@pytest.mark.parametrize("ones, n", [(3, 20), (12, 30), (47, 200)])
def test_bootstrap_of_zeros_and_ones_is_binomial(ones, n):
    """A resample of n with `ones` ones has Binomial(n, ones/n) ones, so the interval's ends are its quantiles."""
    found = bootstrap_mean([1.0] * ones + [0.0] * (n - ones))
    assert found.value == pytest.approx(ones / n)
    for end, level in ((found.low, 0.025), (found.high, 0.975)):
        assert stats.binom.cdf(end * n, n, ones / n) >= level - 0.01
        assert stats.binom.cdf(end * n - 1, n, ones / n) <= level + 0.01


def test_bootstrap_agrees_with_scipy_s():
    values = np.random.default_rng(3).gamma(1.5, 2.0, size=40)
    found = bootstrap_mean(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    interval = theirs.confidence_interval
    width = interval.high - interval.low
    assert found.low == pytest.approx(interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(interval.high, abs=0.03 * width)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        found = bootstrap_mean(random.exponential(1.0, size=50), resamples=1000)
        covered += found.low <= 1.0 <= found.high
    assert 0.87 <= covered / 300 <= 0.98


def test_the_bootstrap_repeats_and_leaves_other_random_numbers_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    values = [1.03, 4.7, 2.19, 8.9, 3.3, 0.21, 5.57, 6.1, 2.72, 9.4]
    assert bootstrap_mean(values) == bootstrap_mean(values) != bootstrap_mean(values, seed=1)
    assert (np.random.get_state()[1] == before).all()


def test_many_values_are_resampled_in_pieces():
    values = np.random.default_rng(0).normal(3.0, 1.0, size=5000)
    found = bootstrap_mean(values, resamples=1500)  # more than one piece
    standard_error = values.std() / math.sqrt(5000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)


@pytest.mark.parametrize(
    "values, mean",
    [([2.5], 2.5), ([1.0, math.inf], math.inf), ([1.0, -math.inf], -math.inf), ([math.inf] * 3, math.inf)],
)
def test_one_value_and_infinite_ones_have_no_interval(values, mean):
    assert bootstrap_mean(values) == (mean, None, None)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_a_mean_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="at least one value and no nan"):
        bootstrap_mean(values)


def test_paired_differences_use_shared_seeds_and_their_order():
    a = {1: 0.1, 2: 0.2, 3: 0.9, 4: 5.0, 9: 1.0}
    b = {1: 0.3, 2: 0.2, 3: 0.4, 4: 6.0, 7: -100.0}
    found = paired_difference(a, b)
    assert (found.pairs, found.smaller, found.equal) == (4, 2, 1)
    assert found.mean.value == pytest.approx((-0.2 + 0 + 0.5 - 1.0) / 4)
    assert found.mean.low < found.mean.value < found.mean.high
    other = paired_difference(b, a)
    assert other.mean.value == pytest.approx(-found.mean.value)
    assert (other.smaller, other.equal) == (1, 1)


def test_pairing_removes_what_the_seeds_share():
    """The spread over seeds is 100 times the difference's; unpaired intervals of the two means overlap widely."""
    random = np.random.default_rng(0)
    seeds = random.normal(0, 10, size=30)
    a = dict(enumerate(seeds))
    b = {i: x + 1 + 0.1 * random.normal() for i, x in enumerate(seeds)}
    found = paired_difference(a, b)
    assert found.mean.high < -0.9 and found.mean.low > -1.1
    assert bootstrap_mean(list(a.values())).high > bootstrap_mean(list(b.values())).low


def test_infinite_pairs():
    found = paired_difference({1: math.inf, 2: math.inf, 3: 1.0}, {1: math.inf, 2: 2.0, 3: 3.0})
    assert (found.mean.value, found.mean.low, found.smaller, found.equal) == (math.inf, None, 1, 1)
    assert paired_difference({1: 0.0}, {2: 0.0}) is None


def test_first_reaching():
    assert first_reaching([10, 20, 30, 40], [3, 8, 7, 8], 8) == 20
    assert first_reaching([10, 20], [3, math.nan], 8) == math.inf


@pytest.mark.parametrize("values", [[3.0], [4.0, 1.0], [3.0, 1.0, 2.0], [5.0, 1.0, 9.0, 2.0, 2.0, 7.0, 8.0]])
def test_quartiles_are_numpy_s(values):
    low, high = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    assert quartiles(values) == (low, np.median(values), high)


def test_quartiles_of_seeds_that_failed():
    assert quartiles([math.inf, 2.0, math.inf, 1.0]) == (1.0, math.inf, math.inf)
    assert quartiles([math.inf, math.inf]) == (math.inf, math.inf, math.inf)
