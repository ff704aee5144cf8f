import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlab.metrics.fid import MIN_SAMPLES_PER_FEATURE, SUBSET_SIZES, frechet_distance, frechet_infinity
from ganlab.metrics.image_quality import PassThrough


def normal(n, d, seed, shift=0.0, scale=1.0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * scale * torch.linspace(0.5, 1.5, d, dtype=torch.float64) + shift


@pytest.mark.parametrize("n, m, d", [(300, 200, 5), (400, 500, 64), (30, 20, 40)])
def test_frechet_distance_matches_scipy_and_torchmetrics(n, m, d):
    x, y = normal(n, d, 1, shift=0.3), normal(m, d, 2, scale=1.3) @ torch.linalg.qr(normal(d, d, 3))[0]
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-5)
    if d == PassThrough.num_features:
        metric = FrechetInceptionDistance(PassThrough())
        metric.update(x, real=False)
        metric.update(y, real=True)
        assert frechet_distance(x, y) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_frechet_distance_in_one_dimension():
    x, y = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [1.0], [7.0], [7.0]])
    assert frechet_distance(x, y) == pytest.approx((2 - 4) ** 2 + (2 - 12**0.5) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_frechet_infinity_removes_the_bias(shift):
    """Gaussians of the same covariance: the true distance is |shift|². At N it is biased upwards by several errors."""
    d, n, repetitions = 10, 200, 25
    truth = d * shift**2
    pairs = [(normal(n, d, 2 * s, shift), normal(n, d, 2 * s + 1)) for s in range(repetitions)]
    finite = np.array([frechet_distance(x, y) for x, y in pairs]) - truth
    infinite = np.array([frechet_infinity(x, y, seed=3) for x, y in pairs]) - truth
    assert finite.mean() > 5 * finite.std() / repetitions**0.5
    assert abs(infinite.mean()) < 0.25 * finite.mean()


def test_frechet_infinity_uses_evenly_spaced_sizes_and_its_own_seed():
    x, y = normal(400, 4, 1), normal(450, 4, 2)
    seen = []
    value = frechet_infinity(x, y, 1, progress=lambda sizes: seen.extend(sizes) or sizes)
    assert len(seen) == SUBSET_SIZES and (seen[0], seen[-1]) == (40, 400)
    state = torch.get_rng_state()
    assert frechet_infinity(x, y, 1) == value != frechet_infinity(x, y, 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_frechet_infinity_needs_20_samples_per_feature():
    n = MIN_SAMPLES_PER_FEATURE * 4
    assert frechet_infinity(normal(n - 1, 4, 1), normal(n, 4, 2), 1) is None
    assert frechet_infinity(normal(n, 4, 1), normal(n, 4, 2), 1) is not None
