import math

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.spatial import cKDTree

from ganlab.data import to_float
from ganlab.data.stacked import Stacks
from ganlab.metrics import prdc as prdc_module
from ganlab.metrics.prdc import manifold_scores, nearest, radii

CPU = torch.device("cpu")


@pytest.fixture(params=[3, 1000], ids=["many blocks", "one block"], autouse=True)
def block(request, monkeypatch):
    monkeypatch.setattr(prdc_module, "BLOCK", request.param)
    return request.param


def normal(n, d, seed, shift=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + shift


@pytest.mark.parametrize("d", [2, 16, 17, 64])
@pytest.mark.parametrize("n, m", [(61, 97), (97, 40)])
def test_scores_are_those_of_prdc(n, m, d):
    real, fake = normal(n, d, 1), normal(m, d, 2, shift=0.3, scale=0.7)
    found = manifold_scores(real, fake)
    at_3, at_5 = (compute_prdc(real.numpy(), fake.numpy(), nearest_k=k) for k in (3, 5))
    expected = {name: at_3[name] for name in ("precision", "recall")} | {n: at_5[n] for n in ("density", "coverage")}
    assert found == pytest.approx(expected, abs=1e-12)
    assert found["precision"] != pytest.approx(found["recall"], abs=0.02)  # swapped sides would show


def test_a_lost_mode_costs_recall_and_coverage_and_noise_costs_precision_and_density():
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0]], dtype=torch.float64)
    real = torch.cat([normal(60, 2, 1) + modes[0], normal(60, 2, 2) + modes[1]])
    lost = manifold_scores(real, normal(120, 2, 3) + modes[0])
    noisy = manifold_scores(real, torch.cat([real[::2] + 1e-6, normal(60, 2, 4) + torch.tensor([0.0, 500.0])]))
    assert lost["precision"] > 0.9 and 0.4 < lost["recall"] <= 0.5 and 0.4 < lost["coverage"] <= 0.5
    assert 0.45 < noisy["precision"] <= 0.5 and noisy["coverage"] > 0.9 and noisy["density"] < 0.7


@pytest.mark.parametrize("n, m", [(40, 40), (50, 25)])
def test_equal_laws_have_the_expected_density_and_coverage(n, m, block):
    if block == 3:
        pytest.skip("a hundred repetitions are slow in tiny blocks, which other tests check")
    scores = [manifold_scores(normal(n, 3, 2 * s), normal(m, 3, 2 * s + 1)) for s in range(100)]
    coverage = 1 - math.comb(n - 1, 5) / math.comb(n + m - 1, 5)  # a ball is empty if the 5 nearest others are all real
    for name, expected in (("density", 1.0), ("coverage", coverage)):
        values = np.array([score[name] for score in scores])
        assert abs(values.mean() - expected) < 4 * values.std() / 10


def test_balls_are_closed():
    same = torch.zeros(10, 2)
    assert manifold_scores(same, same) == {"precision": 1, "recall": 1, "density": 2.0, "coverage": 1}


@pytest.mark.parametrize("d", [2, 30])
def test_radii_are_those_of_a_tree(d):
    x = normal(50, d, 5)
    expected = cKDTree(x.numpy()).query(x.numpy(), k=6)[0]
    for k, found in zip((1, 3, 5), radii(x, (1, 3, 5))):
        np.testing.assert_allclose(found, expected[:, k], rtol=1e-12)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="5 neighbors need at least 6 samples, got 5"):
        manifold_scores(normal(5, 2, 1), normal(9, 2, 2))


def test_float32_points_in_the_plane_keep_their_digits():
    """Modes 0.01 wide far from the origin: a matrix product would be off by more than their neighbors' distances."""
    real, fake = normal(60, 2, 1, shift=40, scale=1e-3).float(), normal(60, 2, 2, shift=40, scale=1e-3).float()
    assert manifold_scores(real, fake) == manifold_scores(real.double(), fake.double())


def images(n, seed, channels=1):
    return torch.randint(256, (n, channels, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("points", [True, False])
def test_nearest_is_that_of_a_tree(points):
    x, y = (normal(40, 2, 1).float(), normal(30, 2, 2).float()) if points else (images(40, 1), images(30, 2))
    flat = (lambda t: t.double().numpy()) if points else (lambda t: to_float(t).double().flatten(1).numpy())
    expected, places = cKDTree(flat(y)).query(flat(x))
    distance, place = nearest(x, y, CPU)
    np.testing.assert_allclose(distance, expected, rtol=1e-6)
    assert place.tolist() == places.tolist()


def test_an_exact_copy_is_at_distance_0_and_its_own_place_does_not_count():
    train = images(30, 1)
    distance, place = nearest(train[[4, 17]], train, CPU)
    assert distance.tolist() == [0, 0] and place.tolist() == [4, 17]
    distance, place = nearest(train[[4, 17]], train, CPU, own=torch.tensor([4, 17]))
    expected = cKDTree(to_float(train).double().flatten(1)).query(to_float(train[[4, 17]]).double().flatten(1), k=2)
    np.testing.assert_allclose(distance, expected[0][:, 1], rtol=1e-6)
    assert place.tolist() == expected[1][:, 1].tolist()


def test_stacks_are_references_too():
    base = images(10, 1)
    members = torch.randint(10, (25, 3), generator=torch.Generator().manual_seed(2))
    stacks = Stacks(base, members)
    distance, place = nearest(stacks[[3, 20]], stacks, CPU)
    assert distance.tolist() == [0, 0] and members[place].tolist() == members[[3, 20]].tolist()
