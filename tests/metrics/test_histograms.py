import math

import numpy as np
import pytest
import torch
from scipy import stats

from ganlab.metrics.base import format_count
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence


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
