"""Ring and grid against closed forms and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.spatial.distance import cdist, pdist

from ganlab.data import Grid, Ring

SIZES = {"dim": 2, "batch_size": 64, "train_size": 50_000, "test_size": 25_000, "data_seed": 0}


def ring(**changes):
    return Ring(**{**SIZES, "num_classes": 8, "std": 0.01, **changes})


def grid(**changes):
    return Grid(**{**SIZES, "num_classes": 25, "std": 0.05, **changes})


@pytest.fixture(scope="module", params=[ring, grid, lambda: ring(num_classes=5, std=0.3)], ids=["ring", "grid", "ring-5"])
def data(request):
    data = request.param()
    data.setup()
    return data


@pytest.mark.parametrize("modes", [1, 2, 7, 8, 100])
def test_ring_centers_are_distinct_roots_of_unity(modes):
    centers = ring(num_classes=modes).centers
    assert centers.shape == (modes, 2) and centers.dtype == torch.float32
    roots = np.exp(2j * np.pi * np.arange(modes) / modes)
    np.testing.assert_allclose(centers.numpy(), np.stack([roots.real, roots.imag], 1), atol=1e-7)
    if modes > 1:  # the chord between neighbors
        assert pdist(centers.numpy()).min() == pytest.approx(2 * math.sin(math.pi / modes), rel=1e-4)


def test_grid_centers_are_the_published_ones():
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(map(int, c)) for c in grid().centers.tolist()} == expected
    assert grid().centers.shape == (25, 2)
    assert sorted(map(tuple, grid(num_classes=4).centers.tolist())) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]


def test_splits_have_the_configured_sizes_and_uniform_labels(data):
    for split, n in [(data.train, 50_000), (data.test, 25_000)]:
        assert split.x.shape == (n, 2) and split.x.dtype == torch.float32
        assert split.y.shape == (n,) and split.y.dtype == torch.int64
        counts = np.bincount(split.y.numpy(), minlength=data.num_classes)
        assert len(counts) == data.num_classes
        assert stats.chisquare(counts).pvalue > 1e-4  # modes are equally likely
    assert data.shape == (2,)
    assert not set(map(tuple, data.train.x.tolist())) & set(map(tuple, data.test.x.tolist()))


def test_points_are_gaussian_around_the_center_of_their_label(data):
    x, y = data.train
    z = ((x.double() - data.centers[y]) / data.std).numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.02


@pytest.mark.parametrize("make", [ring, grid])
def test_98_89_percent_lie_within_three_sigma_of_the_nearest_center(make):
    data = make()
    data.setup()
    distance = cdist(data.train.x.double(), data.centers.double())
    inside = (distance.min(1) < 3 * data.std).mean()
    assert inside == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.0111 * 0.9889 / 50_000))
    assert (distance.argmin(1) == data.train.y.numpy()).all()


def test_log_density_matches_scipy(data):
    rng = np.random.default_rng(0)
    near = data.train.x[:200].double().numpy()
    x = np.concatenate([near, rng.uniform(-5, 5, (200, 2))])
    modes = [stats.multivariate_normal(c, data.std**2).logpdf(x) for c in data.centers.double().numpy()]
    expected = np.logaddexp.reduce(modes, axis=0) - np.log(len(modes))
    ours = data.log_density(torch.from_numpy(x))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-7, atol=1e-7)
    single = data.log_density(torch.from_numpy(x).float())
    assert single.dtype == torch.float32 and single.isfinite().all()


def test_density_integrates_to_one_and_has_the_exact_gradient():
    data = ring(num_classes=3, std=0.4)
    axis = np.linspace(-4, 4, 401)
    plane = torch.from_numpy(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    density = data.log_density(plane).exp().numpy().reshape(401, 401)
    assert integrate.simpson(integrate.simpson(density, x=axis), x=axis) == pytest.approx(1, abs=1e-6)
    x = torch.tensor([[1.05, 0.02]], dtype=torch.float64, requires_grad=True)
    data = ring()
    data.log_density(x).sum().backward()  # one mode: d log p / dx = (c - x) / σ²
    torch.testing.assert_close(x.grad, torch.tensor([[-0.05, -0.02]], dtype=torch.float64) / 0.01**2)


def test_points_follow_from_the_data_seed_alone():
    def points(run_seed, **changes):
        torch.manual_seed(run_seed)
        before = torch.get_rng_state()
        data = ring(**changes)
        data.setup()
        assert torch.equal(before, torch.get_rng_state())
        return data.fingerprint

    assert points(1) == points(2) != points(1, data_seed=1)


@pytest.mark.parametrize("make", [ring, grid])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"std": 0}, "data.std must be a number above 0, got 0"),
        ({"std": -0.1}, "data.std"),
        ({"std": float("nan")}, "data.std"),
        ({"std": float("inf")}, "data.std"),
        ({"std": "wide"}, "data.std"),
        ({"std": True}, "data.std"),
        ({"dim": 3}, "data.dim must be 2.*got 3"),
        ({"num_classes": 0}, "data.num_classes must be an integer of at least 1, got 0"),
        ({"num_classes": 4.0}, "data.num_classes"),
        ({"train_size": 0}, "data.train_size"),
        ({"test_size": -1}, "data.test_size"),
        ({"data_seed": None}, "data.data_seed"),
        ({"batch_size": 0}, "data.batch_size"),
    ],
)
def test_arguments_are_validated(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_grid_rejects_non_square_numbers():
    with pytest.raises(ValueError, match="square number.*got 24"):
        grid(num_classes=24)
