"""Divergences of two probability vectors p, q [k], by their definitions."""

from __future__ import annotations

from torch import Tensor


def kullback_leibler(p: Tensor, q: Tensor) -> Tensor:
    """sum p log(p / q)."""
    return (p * (p / q).log()).sum()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """KL(p, m)/2 + KL(q, m)/2 with m = (p + q)/2; at most log 2."""
    m = (p + q) / 2
    return (kullback_leibler(p, m) + kullback_leibler(q, m)) / 2


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """sum |p - q| / 2; at most 1."""
    return (p - q).abs().sum() / 2


def earth_mover_on_a_line(p: Tensor, q: Tensor) -> Tensor:
    """Wasserstein-1 between masses on the points 0, 1, 2 …: sum |cdf(p) - cdf(q)|."""
    return (p.cumsum(0) - q.cumsum(0)).abs().sum()
