import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from ganlab.metrics import kid
from ganlab.metrics.image_quality import PassThrough
from ganlab.metrics.kid import kernel_distance


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("block", [3, 1000])
@pytest.mark.parametrize("d", [2, 64])
def test_kid_matches_torchmetrics(monkeypatch, d, block):
    monkeypatch.setattr(kid, "BLOCK_SIZE", block)
    x, y = normal(50, d, 1, shift=0.2), normal(50, d, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(PassThrough(), subsets=1, subset_size=50)  # one subset of everything
    metric.update(x.double(), real=False)
    metric.update(y.double(), real=True)
    assert kernel_distance(x.double(), y.double()) == pytest.approx(float(metric.compute()[0]), rel=1e-9)
    assert kernel_distance(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-3)


def test_kid_of_unequal_sizes_matches_the_definition():
    x, y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([[0.5], [3.0]])
    k = lambda a, b: (a * b + 1) ** 3
    within_x = (k(1, 2) + k(1, -1) + k(2, -1)) / 3
    across = np.mean([k(a, b) for a in (1, 2, -1) for b in (0.5, 3)])
    assert kernel_distance(x, y) == pytest.approx(within_x + k(0.5, 3) - 2 * across)


def test_kid_is_unbiased():
    """In one dimension (ab + 1)³ = Σ binomial(3, i) a^i b^i, so MMD² = Σ binomial(3, i) (E a^i - E b^i)²."""
    shift = 0.3
    truth = 3 * shift**2 + 3 * (1 + shift**2 - 1) ** 2 + (3 * shift + shift**3) ** 2
    values = np.array([kernel_distance(normal(40, 1, 2 * s, shift), normal(30, 1, 2 * s + 1)) for s in range(225)])
    assert abs(values.mean() - truth) < 4 * values.std() / 15
    assert values.std() / 15 < truth / 4  # so that a doubled constant, or a biased estimate, would be seen
    equal = np.array([kernel_distance(normal(40, 1, 2 * s), normal(30, 1, 2 * s + 1)) for s in range(225)])
    assert abs(equal.mean()) < 4 * equal.std() / 15 and (equal < 0).mean() > 0.2


def test_kid_rejects_a_single_sample():
    with pytest.raises(ValueError, match="at least 2 samples on each side, got 1 and 4"):
        kernel_distance(normal(1, 2, 1), normal(4, 2, 2))


def test_float32_features_far_from_the_origin_keep_their_digits():
    """The kernel is not invariant to shifts, so its sums of 1e15 must be exact where their difference is 1e8."""
    x, y = normal(40, 20, 1, shift=300.0), normal(50, 20, 2, shift=300.1)
    exact = lambda a, b: [[(sum(Fraction(p) * Fraction(q) for p, q in zip(u, v)) / 20 + 1) ** 3 for v in b] for u in a]
    xs, ys = x[:6].tolist(), y[:7].tolist()
    kxx, kyy, kxy = exact(xs, xs), exact(ys, ys), exact(xs, ys)
    within = lambda k: (sum(map(sum, k)) - sum(k[i][i] for i in range(len(k)))) / (len(k) * (len(k) - 1))
    expected = float(within(kxx) + within(kyy) - 2 * sum(map(sum, kxy)) / 42)
    assert kernel_distance(x[:6], y[:7]) == pytest.approx(expected, rel=1e-6)
    assert kernel_distance(x, y) == kernel_distance(x.double(), y.double())
