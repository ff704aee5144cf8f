"""Stratified choices of samples: every class keeps its share."""

import torch
from torch import Tensor

from ganlab.data.batches import permutation


def class_quotas(y: Tensor, n: int) -> Tensor:
    """How many of n <= N samples each class of the labels y [N] gets: its share by largest remainders, int64 [classes]."""
    shares = torch.bincount(y) * n  # in units of 1/N
    quotas, remainders = shares // len(y), shares % len(y)
    quotas[remainders.argsort(descending=True, stable=True)[: n - int(quotas.sum())]] += 1
    return quotas


def stratified_indices(y: Tensor, n: int) -> Tensor:
    """n <= N indices into the labels y [N], ascending: every class has its share, evenly spaced over the class."""
    order, rank = _sort_by_class(y, torch.arange(len(y)))
    quota, count = class_quotas(y, n)[y[order]], torch.bincount(y)[y[order]]
    return order[(rank + 1) * quota // count > rank * quota // count].sort().values


def stratified_split(y: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Split the indices of the labels y [N] at random, always in the same way, into N - size and `size`.

    Every class has its share of both parts, and at least one sample in each if it has two: then the second part may be
    larger than `size`.
    """
    quotas = class_quotas(y, size).clamp(min=1).minimum(torch.bincount(y) - 1)
    order, rank = _sort_by_class(y, permutation(len(y), seed=0))
    chosen = rank < quotas[y[order]]
    return order[~chosen].sort().values, order[chosen].sort().values


def _sort_by_class(y: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The indices `order` [N] grouped by class, each class's still in this order, and the place of each in its class."""
    order = order[y[order].argsort(stable=True)]
    counts = torch.bincount(y)
    return order, torch.arange(len(y)) - (counts.cumsum(0) - counts)[y[order]]
