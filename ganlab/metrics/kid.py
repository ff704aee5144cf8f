"""Kernel distance between features (KID: Bińkowski et al. 2018)."""

import torch
from torch import Tensor

from ganlab.metrics.features import validate_features
from ganlab.metrics.knn import BLOCK_SIZE, Progress


@torch.no_grad()
def kernel_distance(x: Tensor, y: Tensor, progress: Progress = iter) -> float:
    """Unbiased MMD² between features x [n, d] and y [m, d] with the kernel k(a, b) = (a·b/d + 1)³. Lower is better.

    0 in expectation for equal distributions, so it may be negative. All pairs of all samples are used, where the paper
    averages over 100 subsets of 1,000: the same expectation with less variance, and deterministic. In float64, because the
    kernel grows with the sixth power of the features, and the distance is a small difference of its sums.

    Raises:
        ValueError: fewer than two samples on a side, or features that are not finite.
    """
    validate_features("the kernel distance", x, y, minimum=2)
    n, m = len(x), len(y)
    within = cross = 0.0
    for i in progress(range(0, max(n, m), BLOCK_SIZE)):
        for a, count in ((x, n), (y, m)):
            if i < count:
                block = a[i : i + BLOCK_SIZE]
                with_itself = float((block.double().square().sum(1) / block.shape[1] + 1).pow(3).sum())
                within += (_kernel_sum(block, a) - with_itself) / (count * (count - 1))
        if i < n:
            cross += _kernel_sum(x[i : i + BLOCK_SIZE], y) / (n * m)
    return within - 2 * cross


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    """Sum of the kernel over all pairs of a sample of a and one of b."""
    a, blocks = a.double(), b.split(8 * BLOCK_SIZE)
    return sum(float((a @ part.double().T / a.shape[1] + 1).pow_(3).sum()) for part in blocks)
