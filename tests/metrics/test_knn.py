import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from ganlab.data import to_float
from ganlab.data.stacked import LazyStacks
from ganlab.metrics import knn
from ganlab.metrics.knn import kth_neighbor_distances, nearest_neighbors

CPU = torch.device("cpu")


@pytest.fixture(params=[3, 1000], ids=["many blocks", "one block"], autouse=True)
def block_size(request, monkeypatch):
    monkeypatch.setattr(knn, "BLOCK_SIZE", request.param)


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n, seed, channels=1):
    return torch.randint(256, (n, channels, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("d", [2, 30])
def test_kth_neighbor_distances_match_scipy(d):
    x = normal(50, d, 5)
    expected = cKDTree(x.numpy()).query(x.numpy(), k=6)[0]
    for k, distances in zip((1, 3, 5), kth_neighbor_distances(x, (1, 3, 5))):
        np.testing.assert_allclose(distances, expected[:, k], rtol=1e-12)


@pytest.mark.parametrize("points", [True, False])
def test_nearest_neighbors_match_scipy(points):
    x, y = (normal(40, 2, 1).float(), normal(30, 2, 2).float()) if points else (images(40, 1), images(30, 2))
    flat = (lambda t: t.double().numpy()) if points else (lambda t: to_float(t).double().flatten(1).numpy())
    expected_distance, expected_index = cKDTree(flat(y)).query(flat(x))
    distance, index = nearest_neighbors(x, y, CPU)
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-6)
    assert index.tolist() == expected_index.tolist()


def test_exact_copies_are_at_distance_0_unless_excluded():
    train = images(30, 1)
    distance, index = nearest_neighbors(train[[4, 17]], train, CPU)
    assert distance.tolist() == [0, 0] and index.tolist() == [4, 17]
    distance, index = nearest_neighbors(train[[4, 17]], train, CPU, exclude=torch.tensor([4, 17]))
    expected = cKDTree(to_float(train).double().flatten(1)).query(to_float(train[[4, 17]]).double().flatten(1), k=2)
    np.testing.assert_allclose(distance, expected[0][:, 1], rtol=1e-6)
    assert index.tolist() == expected[1][:, 1].tolist()


def test_references_may_be_lazy_stacks():
    channels = torch.randint(10, (25, 3), generator=torch.Generator().manual_seed(2))
    stacks = LazyStacks(images(10, 1), channels)
    distance, index = nearest_neighbors(stacks[[3, 20]], stacks, CPU)
    assert distance.tolist() == [0, 0] and channels[index].tolist() == channels[[3, 20]].tolist()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-3), (torch.float64, 1e-9)])
def test_distances_do_not_depend_on_the_mean(dtype, tolerance):
    """Of 64 features of mean 1e3 and deviation 1, as of features of mean 0; copies are at distance 0."""
    a, b = (normal(n, 64, n) + 1e3 for n in (20, 30))
    a, b = a.to(dtype), b.to(dtype)
    b[:5] = a[:5]
    expected = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distances = knn.pairwise_distances(a, b)
    assert distances.dtype == dtype and float((distances - expected).abs().max()) < tolerance
    assert (distances == 0).nonzero().tolist() == [[i, i] for i in range(5)]
