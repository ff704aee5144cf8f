"""How many different samples there are, in effect (Vendi score: Friedman & Dieng 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def vendi(features: Tensor) -> float:
    """exp(-Σ λ log λ), λ = eigenvalues of K/n, K = cosine similarities of features [n, d]: from 1 to min(n, d).

    1 if all point the same way, n if all are orthogonal. The eigenvalues are those of the d x d matrix XᵀX/n, too.
    """
    x = normalize(features.double(), dim=1)
    return _effective_number(x.T @ x / len(x) if x.shape[1] < len(x) else x @ x.T / len(x))


@torch.no_grad()
def vendi_of_points(points: Tensor, width: float) -> float:
    """The same of points [n, d] under exp(-|a - b|² / 2 width²): from 1 to n, in n² memory.

    With a width far above a mode's size and far below the modes' distance it is the effective number of modes.
    """
    squares = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return _effective_number((squares / (-2 * width**2)).exp() / len(points))


def _effective_number(matrix: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(matrix).clamp(min=0)
    return float((-torch.xlogy(eigenvalues, eigenvalues).sum()).exp())
