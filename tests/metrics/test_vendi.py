import math

import pytest
import torch

from ganlab.metrics.vendi import vendi_score, vendi_score_of_points

GROUPS = torch.tensor([5, 3, 2])
EFFECTIVE = math.exp(-sum(p * math.log(p) for p in (0.5, 0.3, 0.2)))


@pytest.mark.parametrize("d", [3, 40], ids=["d < n", "d > n"])
def test_orthogonal_groups_score_their_entropy(d):
    directions = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)))[0][:3]
    x = directions.repeat_interleave(GROUPS, 0) * torch.arange(1, 11)[:, None]  # lengths do not matter
    assert vendi_score(x) == pytest.approx(EFFECTIVE, rel=1e-5)
    assert vendi_score(directions) == pytest.approx(3, rel=1e-5)
    assert vendi_score(x[:5]) == pytest.approx(1, rel=1e-5)


def test_score_of_two_samples():
    """K has the eigenvalues 1 ± cos, so that λ = (1 ± cos)/2."""
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert vendi_score(x) == pytest.approx(math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2)))


def test_score_of_two_points():
    similarity = math.exp(-(5**2) / (2 * 4**2))
    p = (1 + similarity) / 2
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert vendi_score_of_points(torch.tensor([[1.0, 2.0], [4.0, 6.0]]), 4.0) == pytest.approx(expected)


def test_separated_modes_score_their_entropy():
    centers = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 70.0]]).repeat_interleave(GROUPS, 0)
    noise = 0.001 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    assert vendi_score_of_points(centers + noise, 5.0) == pytest.approx(EFFECTIVE, rel=1e-4)
