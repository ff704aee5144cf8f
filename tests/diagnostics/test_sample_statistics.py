"""Sample statistics against SciPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy, mannwhitneyu

from ganlab.diagnostics import sample_statistics as stats


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_pairwise_matches_scipy_and_is_exact_for_small_gaps(dim):
    a, b = draw(3, 20, dim), draw(15, dim, seed=1)
    expected = np.stack([cdist(x, b) for x in a])
    torch.testing.assert_close(stats.pairwise(a, b), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    near = torch.tensor([[100.0, 100.0]]), torch.tensor([[100.0, 100.01]])
    assert stats.pairwise(*near).item() == pytest.approx(0.01, rel=1e-2)


def test_normalized_energy_distance_of_equal_distant_and_shifted_samples():
    x, y = draw(400, 1), draw(400, 1, seed=1) + 1.5

    def energy(a, b):
        return stats.normalized_energy_distance(
            stats.pairwise(a, b).mean(), *(stats.mean_pairwise(stats.pairwise(s, s)) for s in (a, b))
        )

    assert abs(energy(x, draw(400, 1, seed=2))) < 0.02
    assert energy(torch.zeros(5, 2), torch.zeros(5, 2) + 3) == pytest.approx(1)
    # two unit normals 1.5 apart: E|x - x'| = 2/sqrt(pi), E|x - y| of N(1.5, 2) is a folded normal's mean
    m, s = 1.5, math.sqrt(2)
    cross = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    assert float(energy(x, y)) == pytest.approx(1 - 2 / math.sqrt(math.pi) / cross, abs=0.03)


def test_nn_accuracy_matches_scipy():
    x, same, other = draw(300, 3), draw(300, 3, seed=1), draw(300, 3, seed=2) + 20

    def accuracy(fake):
        own = (stats.nearest_other_distance(stats.pairwise(s, s)) for s in (x, fake))
        return float(stats.nn_accuracy(next(own), stats.pairwise(x, fake), next(own)))

    assert accuracy(other) == 1
    assert 0.42 < accuracy(same) < 0.58
    together, kind = torch.cat([x, same]).numpy(), np.repeat([0, 1], 300)
    distance = cdist(together, together)
    np.fill_diagonal(distance, np.inf)
    assert accuracy(same) == pytest.approx((kind[distance.argmin(1)] == kind).mean(), abs=1e-6)


def test_auc_matches_mann_whitney_u():
    a, b = draw(30).round(decimals=1), draw(40, seed=1).round(decimals=1) - 0.3
    u = mannwhitneyu(a.numpy(), b.numpy()).statistic
    assert float(stats.auc(a, b)) == pytest.approx(u / (30 * 40), abs=1e-6)
    assert float(stats.auc(b, a)) == pytest.approx(1 - u / (30 * 40), abs=1e-6)


def test_mode_shares_and_effective_number():
    modes = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    share = stats.mode_shares(modes, 4)
    assert share.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 1, 0]]
    assert stats.effective_number(share).tolist() == pytest.approx([2, 1])
    uneven = torch.tensor([0.7, 0.2, 0.1])
    assert float(stats.effective_number(uneven)) == pytest.approx(math.exp(entropy([0.7, 0.2, 0.1])), rel=1e-5)


def test_nearest_distance_in_blocks_matches_scipy():
    train, fakes = draw(50, 5), draw(2, 7, 5, seed=1)
    fakes[1, 3] = train[31]
    result = stats.nearest_distance(fakes, train, block=8)
    expected = np.stack([cdist(x, train).min(1) for x in fakes])
    torch.testing.assert_close(result, torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    assert result[1, 3] == 0
