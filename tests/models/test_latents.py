"""Latents: drawn from the prior, truncated, and interpolated."""

import math

import pytest
import torch
from scipy.stats import kstest, truncnorm

from ganlab.models.latents import sample_normal, slerp


@pytest.mark.parametrize("threshold", [0.01, 0.7, 2.0])
def test_truncated_latents_follow_truncnorm(threshold):
    z = sample_normal(4000, 5, torch.Generator().manual_seed(0), threshold)
    assert z.shape == (4000, 5) and z.abs().max() <= threshold
    assert kstest(z.flatten().numpy(), truncnorm(-threshold, threshold).cdf).pvalue > 0.01


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_truncation_must_be_positive(threshold):
    with pytest.raises(ValueError, match="truncation must be above 0"):
        sample_normal(3, 2, truncation=threshold)


def test_interpolation_follows_great_circle():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(7, 20, generator=random)) * 4 for _ in "ab")
    path = slerp(a, b, 9)
    assert path.shape == (7, 9, 20)
    assert torch.allclose(path[:, 0], a, atol=1e-5) and torch.allclose(path[:, -1], b, atol=1e-5)
    assert torch.allclose(path.norm(dim=-1), torch.tensor(4.0), atol=1e-4)
    angles = (path[:, 1:] * path[:, :-1]).sum(-1).div(16).arccos()
    assert torch.allclose(angles, (a * b).sum(-1).div(16).arccos()[:, None].expand(7, 8) / 8, atol=1e-3)


def test_parallel_latents_are_interpolated_linearly():
    a = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    b = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [1.0, 2.0]])
    assert torch.allclose(slerp(a, b, 3)[:, 1], torch.tensor([[1.5, 3.0], [0.0, 0.0], [1.0, 2.0]]), atol=1e-6)
