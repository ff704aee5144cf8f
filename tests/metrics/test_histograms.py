import math

import numpy as np
import pytest
import torch
from scipy import stats

from ganlab.metrics.base import format_count
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence, perfect_class_scores


@pytest.mark.parametrize(
    "n, text", [(10_000, "10k"), (25_000, "25k"), (1000, "1k"), (2500, "2500"), (360, "360"), (10_001, "10001")]
)
def test_format_count(n, text):
    assert format_count(n) == text


def test_kl_matches_scipy_in_the_right_direction():
    counts, target = torch.tensor([7, 0, 1, 2]), torch.tensor([0.2, 0.1, 0.3, 0.4])
    assert float(kl_divergence(counts, target)) == pytest.approx(stats.entropy([7, 0, 1, 2], [0.2, 0.1, 0.3, 0.4]))
    assert float(kl_divergence(counts, target)) != pytest.approx(stats.entropy([0.2, 0.1, 0.3, 0.4], [7, 0.1, 1, 2]))


def test_kl_is_infinite_without_counts_or_outside_the_target():
    assert kl_divergence(torch.zeros(3, dtype=torch.long), torch.ones(3) / 3) == math.inf
    assert kl_divergence(torch.tensor([1, 1]), torch.tensor([1.0, 0.0])) == math.inf
    assert kl_divergence(torch.tensor([3, 0]), torch.tensor([1.0, 0.0])) == 0


@pytest.mark.parametrize(
    "target, n", [([1 / 8] * 8, 2500), ([0.9, 0.07, 0.03, 0.0], 40), ([0.3, 0.3, 0.4], 5), ([0.1] * 10, 360)]
)
def test_expected_kl_and_coverage_match_simulation(target, n):
    counts = np.random.default_rng(0).multinomial(n, target, size=20_000)
    share = counts / n
    terms = np.where(counts > 0, share * np.log(np.where(counts > 0, share, 1) / np.maximum(target, 1e-300)), 0)
    kl, covered = terms.sum(1), (counts > 0).sum(1)
    assert expected_kl(torch.tensor(target).double(), n) == pytest.approx(kl.mean(), abs=4 * kl.std() / 20_000**0.5)
    error = 4 * covered.std() / 20_000**0.5 + 1e-4
    assert expected_coverage(torch.tensor(target), n) == pytest.approx(covered.mean(), abs=error)


def test_expected_kl_of_1000_modes():
    """Second-order expansion in 1/n: (K - 1) / 2n + (sum of 1/p - 1) / 12n^2."""
    expected = 999 / 52_000 + (1e6 - 1) / (12 * 26_000**2)
    assert expected_kl(torch.full((1000,), 1e-3), 26_000) == pytest.approx(expected, abs=1e-5)
    assert expected_coverage(torch.full((1000,), 1e-3), 2500) == pytest.approx(918, abs=0.5)


def test_perfect_class_scores_match_simulation():
    """A reference with stratified labels, and a classifier that errs; both are new in each of 1,500 repetitions."""
    random, n = np.random.default_rng(0), 200
    named = np.array([[0.9, 0.1, 0, 0], [0.05, 0.8, 0.15, 0], [0, 0.1, 0.85, 0.05], [0, 0, 0.1, 0.9]])
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    counts = (n * shares).astype(int)
    simulated, expected = [], []
    for repetition in range(1500):
        confusion = np.stack([random.multinomial(c, p) for c, p in zip(counts, named)])
        with_labels = np.stack([random.multinomial(c, p) for c, p in zip(counts, named)]).sum(0)
        from_prior, target = random.multinomial(n, shares @ named), torch.from_numpy(confusion.sum(0) / n)
        simulated.append([float(kl_divergence(torch.from_numpy(x), target)) for x in (from_prior, with_labels)])
        if repetition < 100:
            scores = perfect_class_scores(torch.from_numpy(confusion), torch.from_numpy(shares))
            expected.append([score.class_kl for score in scores])
            assert [score.classes for score in scores] == pytest.approx([4, 4], abs=1e-3)
    for values, value in zip(np.transpose(simulated), np.mean(expected, 0), strict=True):
        assert value == pytest.approx(values.mean(), rel=0.1)  # standard errors are 2 %; half the truth was reported before
    assert np.mean(expected, 0)[0] > 1.25 * 3 / (2 * n) and np.mean(expected, 0)[1] < 3 / (2 * n)


def test_perfect_class_scores_of_a_classifier_without_mistakes():
    """KL then varies by the labels alone; rare classes are missed where labels are drawn."""
    confusion, shares = torch.diag(torch.tensor([95, 4, 1])), torch.tensor([0.95, 0.04, 0.01], dtype=torch.float64)
    from_prior, with_labels = perfect_class_scores(confusion, shares)
    assert with_labels == (3, pytest.approx(0, abs=1e-12))
    assert from_prior.class_kl == pytest.approx(expected_kl(shares, 100), rel=1e-9)
    assert from_prior.classes == pytest.approx(3 - 0.05**100 - 0.96**100 - 0.99**100)
    assert math.isinf(perfect_class_scores(torch.diag(torch.tensor([5, 5, 0])), shares)[0].class_kl)
