"""Vendi score: the effective number of different samples (Friedman & Dieng 2023)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ganlab.metrics.features import validate_features


@torch.no_grad()
def vendi_score(features: Tensor) -> float:
    """exp(-Σ λ log λ), λ = eigenvalues of K/n, K = cosine similarities of features [n, d]. Higher is more diverse.

    From 1 (all features parallel) to min(n, d); n if all are orthogonal. Features of 0 count as one more direction.

    Raises:
        ValueError: no features, or some that are not finite.
    """
    validate_features("the Vendi score", features)
    x = features.double()
    x = normalize(torch.cat([x, (x == 0).all(1, keepdim=True)], 1), dim=1, eps=torch.finfo(x.dtype).tiny)
    # XXᵀ/n and the d x d matrix XᵀX/n have the same non-zero eigenvalues
    return _effective_number(x.T @ x / len(x) if x.shape[1] < len(x) else x @ x.T / len(x))


@torch.no_grad()
def vendi_score_of_points(points: Tensor, width: float) -> float:
    """Vendi score of points [n, d] under the kernel exp(-|a - b|² / (2 width²)): from 1 to n, in n² memory.

    With a width well above a mode's size and well below the distance of modes it is the effective number of modes.

    Raises:
        ValueError: no points, or some that are not finite.
    """
    validate_features("the Vendi score", points)
    squares = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return _effective_number((squares / (-2 * width**2)).exp() / len(points))


def _effective_number(matrix: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(matrix).clamp(min=0)
    return float((-torch.xlogy(eigenvalues, eigenvalues).sum()).exp())
