"""The Fréchet distance of two samples' features, and what it would be without its bias in N (FID∞)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.metrics.prdc import Track, untracked

SIZES = 15  # as in Chong & Forsyth's code, the smallest a tenth of the largest
PER_FEATURE = 20  # their 50,000 samples are 24 per feature; with few the bias is no line in 1/N


class Infinite(NamedTuple):
    """The extrapolated distance, and the sizes that the line went through."""

    value: float
    sizes: list[int]


@torch.no_grad()
def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|μx - μy|² + tr(Σx + Σy - 2(Σx Σy)^½) of features x [n, d], y [m, d] with unbiased covariances, in float64.

    The trace of (Σx Σy)^½ is that of (Σx^½ Σy Σx^½)^½, whose eigenvalues are real: symmetric solvers are quicker.
    """
    x, y = x.double(), y.double()
    values, vectors = torch.linalg.eigh(_covariance(x))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    covariance = _covariance(y)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + values.sum() + covariance.trace() - 2 * cross)


def _covariance(x: Tensor) -> Tensor:
    return torch.atleast_2d(torch.cov(x.T))


@torch.no_grad()
def frechet_infinity(x: Tensor, y: Tensor, seed: int, track: Track = untracked) -> Infinite | None:
    """The Fréchet distance at N → ∞: a line in 1/N through its values at 15 sizes (Chong & Forsyth 2020, FID∞).

    Random subsets of both sides shrink together, N of x against N of y, so that the bias of the reference goes, too
    (the paper keeps 50,000 reals). Sizes run evenly from a tenth of N to N. The value may be slightly negative.

    Returns:
        None if N is below 20 d: too few samples to extrapolate from.
    """
    n, d = min(len(x), len(y)), x.shape[1]
    if n < PER_FEATURE * d:
        return None
    random = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(n // 10, n, SIZES).long().tolist()
    distances = []
    for size in track(sizes):
        chosen = [torch.randperm(len(side), generator=random)[:size].to(side.device) for side in (x, y)]
        distances.append(frechet_distance(x[chosen[0]], y[chosen[1]]))
    inverse_sizes = 1 / torch.tensor(sizes, dtype=torch.float64)
    line = torch.stack([torch.ones(SIZES, dtype=torch.float64), inverse_sizes], 1)
    intercept, _ = torch.linalg.lstsq(line, torch.tensor(distances, dtype=torch.float64)).solution.tolist()
    return Infinite(intercept, sizes)
