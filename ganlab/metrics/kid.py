"""The kernel distance between two samples' features (KID: Bińkowski et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.metrics.prdc import BLOCK, Track, untracked


@torch.no_grad()
def kernel_distance(x: Tensor, y: Tensor, track: Track = untracked) -> float:
    """Unbiased MMD² of features x [n, d] and y [m, d] under the kernel (a·b/d + 1)³: 0 in expectation for equal laws.

    All pairs of all samples are used, in blocks, where the paper averages over 100 subsets of 1,000: the same
    expectation, less variance, and nothing random. It may be negative.

    Raises:
        ValueError: fewer than two samples on a side.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the kernel distance needs at least 2 samples on each side, got {n} and {m}")
    within = cross = 0.0
    for i in track(range(0, max(n, m), BLOCK)):
        for a, count in ((x, n), (y, m)):
            if i < count:
                within += (_total(a[i : i + BLOCK], a) - _own(a[i : i + BLOCK])) / (count * (count - 1))
        if i < n:
            cross += _total(x[i : i + BLOCK], y) / (n * m)
    return within - 2 * cross


def _total(a: Tensor, b: Tensor) -> float:
    """The kernel's sum over all pairs of a and b."""
    return sum(float((a @ part.T / a.shape[1] + 1).pow_(3).sum(dtype=torch.float64)) for part in b.split(8 * BLOCK))


def _own(a: Tensor) -> float:
    """The kernel's sum over the pairs of each sample with itself."""
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum(dtype=torch.float64))
