"""Fréchet distance between features (FID: Heusel et al. 2017), and its extrapolation to N → ∞ (Chong & Forsyth 2020)."""

import numpy as np
import torch
from torch import Tensor

from ganlab.metrics.features import validate_features
from ganlab.metrics.knn import Progress

SUBSET_SIZES = 15  # as in Chong & Forsyth's code
MIN_SAMPLES_PER_FEATURE = 20  # the paper's 50,000 samples are 24 per feature; with few the bias is not linear in 1/N


@torch.no_grad()
def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|μx - μy|² + tr(Σx + Σy - 2(Σx Σy)^½) of features x [n, d], y [m, d], in float64. Lower is better, 0 at best.

    The covariances are unbiased. The trace of (Σx Σy)^½ is computed as that of (Σx^½ Σy Σx^½)^½, which is symmetric.

    Raises:
        ValueError: fewer than two samples on a side, or features that are not finite.
    """
    validate_features("the Fréchet distance", x, y, minimum=2)
    x, y = x.double(), y.double()
    values, vectors = torch.linalg.eigh(_covariance(x))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    covariance = _covariance(y)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + values.sum() + covariance.trace() - 2 * cross)


def _covariance(x: Tensor) -> Tensor:
    return torch.atleast_2d(torch.cov(x.T))


@torch.no_grad()
def frechet_infinity(x: Tensor, y: Tensor, seed: int, progress: Progress = iter) -> float | None:
    """Fréchet distance at N → ∞: the intercept of a line in 1/N through its values at 15 sizes. Lower is better.

    The sizes are evenly spaced from N/10 to N = min(n, m). Random subsets of x [n, d] and y [m, d] have the same size,
    which removes the reference's bias, too (the paper keeps 50,000 reals). The value may be slightly negative.

    Returns:
        None if N < 20 d: too few samples to extrapolate from.

    Raises:
        ValueError: features that are not finite, or no samples.
    """
    validate_features("the Fréchet distance at infinity", x, y)
    n, d = min(len(x), len(y)), x.shape[1]
    if n < MIN_SAMPLES_PER_FEATURE * d:
        return None
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(n // 10, n, SUBSET_SIZES).long().tolist()
    distances = []
    for size in progress(sizes):
        subsets = (side[torch.randperm(len(side), generator=generator)[:size].to(side.device)] for side in (x, y))
        distances.append(frechet_distance(*subsets))
    _, intercept = np.polyfit(1 / np.array(sizes), distances, deg=1)
    return float(intercept)
