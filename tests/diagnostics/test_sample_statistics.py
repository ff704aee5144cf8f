"""Distances between samples, against SciPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy, mannwhitneyu

from ganlab.diagnostics import sample_statistics as of


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_pairwise_is_scipy_s_and_exact_where_modes_are_narrow(dim):
    a, b = draw(3, 20, dim), draw(15, dim, seed=1)
    expected = np.stack([cdist(x, b) for x in a])
    torch.testing.assert_close(of.pairwise(a, b), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    near = torch.tensor([[100.0, 100.0]]), torch.tensor([[100.0, 100.01]])
    assert of.pairwise(*near).item() == pytest.approx(0.01, rel=1e-2)


def test_energy_is_nought_for_the_same_distribution_one_for_distant_points_and_scipy_s_in_between():
    x, y = draw(400, 1), draw(400, 1, seed=1) + 1.5

    def energy(a, b):
        return of.energy(of.pairwise(a, b).mean(), *(of.mean_of_pairs(of.pairwise(s, s)) for s in (a, b)))

    assert abs(energy(x, draw(400, 1, seed=2))) < 0.02
    assert energy(torch.zeros(5, 2), torch.zeros(5, 2) + 3) == pytest.approx(1)
    # two unit normals 1.5 apart: E|x - x'| = 2/sqrt(pi), E|x - y| of N(1.5, 2) is a folded normal's mean
    m, s = 1.5, math.sqrt(2)
    cross = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    assert float(energy(x, y)) == pytest.approx(1 - 2 / math.sqrt(math.pi) / cross, abs=0.03)


def test_told_apart_is_a_half_for_the_same_data_and_one_for_other_data():
    x, same, other = draw(300, 3), draw(300, 3, seed=1), draw(300, 3, seed=2) + 20

    def accuracy(fake):
        own = (of.to_nearest_other(of.pairwise(s, s)) for s in (x, fake))
        return float(of.told_apart(next(own), of.pairwise(x, fake), next(own)))

    assert accuracy(other) == 1
    assert 0.42 < accuracy(same) < 0.58
    together, kind = torch.cat([x, same]).numpy(), np.repeat([0, 1], 300)
    distance = cdist(together, together)
    np.fill_diagonal(distance, np.inf)
    assert accuracy(same) == pytest.approx((kind[distance.argmin(1)] == kind).mean(), abs=1e-6)


def test_ordered_pairs_is_mann_whitney_s_u():
    a, b = draw(30).round(decimals=1), draw(40, seed=1).round(decimals=1) - 0.3
    u = mannwhitneyu(a.numpy(), b.numpy()).statistic
    assert float(of.ordered_pairs(a, b)) == pytest.approx(u / (30 * 40), abs=1e-6)
    assert float(of.ordered_pairs(b, a)) == pytest.approx(1 - u / (30 * 40), abs=1e-6)


def test_shares_and_their_effective_number():
    modes = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    share = of.share_in(modes, 4)
    assert share.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 1, 0]]
    assert of.effective_number(share).tolist() == pytest.approx([2, 1])
    uneven = torch.tensor([0.7, 0.2, 0.1])
    assert float(of.effective_number(uneven)) == pytest.approx(math.exp(entropy([0.7, 0.2, 0.1])), rel=1e-5)


def test_to_nearest_finds_the_nearest_of_a_training_set_in_blocks():
    train, fakes = draw(50, 5), draw(2, 7, 5, seed=1)
    fakes[1, 3] = train[31]
    found = of.to_nearest(fakes, train, block=8)
    expected = np.stack([cdist(x, train).min(1) for x in fakes])
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    assert found[1, 3] == 0
