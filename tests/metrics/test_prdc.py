import math

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.spatial.distance import cdist

from ganlab.metrics import knn
from ganlab.metrics import prdc as prdc_module
from ganlab.metrics.prdc import prdc


@pytest.fixture(params=[3, 1000], ids=["many blocks", "one block"])
def block_size(request, monkeypatch):
    for module in (knn, prdc_module):
        monkeypatch.setattr(module, "BLOCK_SIZE", request.param)


def normal(n, d, seed, shift=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + shift


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("d", [2, 16, 17, 64])
@pytest.mark.parametrize("n, m", [(61, 97), (97, 40)])
def test_scores_match_the_prdc_package(n, m, d):
    real, fake = normal(n, d, 1), normal(m, d, 2, shift=0.3, scale=0.7)
    scores = prdc(real, fake)
    at_3, at_5 = (compute_prdc(real.numpy(), fake.numpy(), nearest_k=k) for k in (3, 5))
    expected = {name: at_3[name] for name in ("precision", "recall")} | {n: at_5[n] for n in ("density", "coverage")}
    assert scores == pytest.approx(expected, abs=1e-12)
    assert scores["precision"] != pytest.approx(scores["recall"], abs=0.02)  # swapped sides would show


def test_lost_modes_and_noise_lower_different_scores():
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0]], dtype=torch.float64)
    real = torch.cat([normal(60, 2, 1) + modes[0], normal(60, 2, 2) + modes[1]])
    lost = prdc(real, normal(120, 2, 3) + modes[0])
    noisy = prdc(real, torch.cat([real[::2] + 1e-6, normal(60, 2, 4) + torch.tensor([0.0, 500.0])]))
    assert lost["precision"] > 0.9 and 0.4 < lost["recall"] <= 0.5 and 0.4 < lost["coverage"] <= 0.5
    assert 0.45 < noisy["precision"] <= 0.5 and noisy["coverage"] > 0.9 and noisy["density"] < 0.7


@pytest.mark.parametrize("n, m", [(40, 40), (50, 25)])
def test_expected_density_and_coverage_of_equal_distributions(n, m):
    """Naeem et al. 2020: E density = 1, E coverage = 1 - C(n-1, k) / C(n+m-1, k)."""
    scores = [prdc(normal(n, 3, 2 * s), normal(m, 3, 2 * s + 1)) for s in range(100)]
    coverage = 1 - math.comb(n - 1, 5) / math.comb(n + m - 1, 5)
    for name, expected in (("density", 1.0), ("coverage", coverage)):
        values = np.array([score[name] for score in scores])
        assert abs(values.mean() - expected) < 4 * values.std() / 10


@pytest.mark.usefixtures("block_size")
def test_balls_include_their_boundary():
    same = torch.zeros(10, 2)
    assert prdc(same, same) == {"precision": 1, "recall": 1, "density": 2.0, "coverage": 1}


def test_too_few_samples_are_rejected():
    with pytest.raises(ValueError, match="5 neighbors need at least 6 samples, got 5"):
        prdc(normal(5, 2, 1), normal(9, 2, 2))


def test_float32_points_far_from_the_origin_keep_their_precision():
    """A matrix product would be off by more than the neighbors' distances."""
    real, fake = normal(60, 2, 1, shift=40, scale=1e-3).float(), normal(60, 2, 2, shift=40, scale=1e-3).float()
    assert prdc(real, fake) == prdc(real.double(), fake.double())


def test_copies_far_from_the_origin_are_exact():
    """Features of mean 1e3 and deviation 1 in float32; copies have balls of radius 0, which hold nothing but copies."""
    real, fake = (normal(90, 40, seed, shift=1e3).float() for seed in (1, 2))
    real[:30], fake[:20], fake[20:40] = real[0], real[0], real[:20]
    real[41:46], fake[40] = real[40], real[40] + 1e-3  # beside copies, nearer than the rounding of a float32 product
    r, f = real.double().numpy(), fake.double().numpy()
    d, radius = cdist(r, f), {k: np.sort(cdist(r, r), 1)[:, k, None] for k in (3, 5)}
    expected = {
        "precision": (d <= radius[3]).any(0).mean(),
        "recall": (d <= np.sort(cdist(f, f), 1)[:, 3]).any(1).mean(),
        "density": (d <= radius[5]).sum(0).mean() / 5,
        "coverage": (d <= radius[5]).any(1).mean(),
    }
    assert (d.min(0) == 0).sum() == 40 and (radius[5] == 0).sum() == 36
    assert prdc(real, fake) == pytest.approx(expected, abs=1e-12)
