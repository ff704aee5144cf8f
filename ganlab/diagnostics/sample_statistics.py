"""What can be said of samples by their distances alone, for many copies at once: x [..., m, d]."""

from __future__ import annotations

import torch
from torch import Tensor


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [..., m, n] of a [..., m, d] and b [..., n, d]; exact where a matrix product would not be."""
    if a.shape[-1] > 8:
        return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    gaps = (x.unsqueeze(-1) - y.unsqueeze(-2) for x, y in zip(a.unbind(-1), b.unbind(-1)))
    squares = next(gaps).square_()
    for gap in gaps:
        squares.addcmul_(gap, gap)
    return squares.sqrt_()  # a toy's modes are narrower than the error of a matrix product


def to_nearest_other(distances: Tensor) -> Tensor:
    """The smallest of each row [..., m], from distances [..., m, m] of a set to itself."""
    distances = distances.clone()
    distances.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return distances.amin(-1)


def mean_of_pairs(distances: Tensor) -> Tensor:
    """The mean distance [...] of two different samples, from distances [..., m, m] of a set to itself."""
    m = distances.shape[-1]
    return distances.sum((-1, -2)) / (m * max(m - 1, 1))


def lower_median(values: Tensor) -> Tensor:
    """Of [..., m] the [...] that torch.median gives, which has no deterministic form on GPUs."""
    return values.sort(-1).values[..., (values.shape[-1] - 1) // 2]


def energy(cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Energy distance over its largest value, 0 (same distribution) … 1 (two distant points); [...].

    1 - (E|x - x'| + E|y - y'|) / (2 E|x - y|), Székely & Rizzo 2013; arguments are the three means.
    """
    return 1 - (first + second) / (2 * cross).clamp_min(1e-30)


def told_apart(real_to_real: Tensor, real_to_fake: Tensor, fake_to_fake: Tensor) -> Tensor:
    """Share of samples whose nearest other sample is of their own kind (leave-one-out 1-NN), [...]: 0.5 … 1.

    From the distance of each real [..., m] and fake [..., n] sample to the nearest other of its kind, and those between
    them [..., m, n]. Lopez-Paz & Oquab 2017.
    """
    real, fake = real_to_real < real_to_fake.amin(-1), fake_to_fake < real_to_fake.amin(-2)
    return (real.float().mean(-1) + fake.float().mean(-1)) / 2


def share_in(modes: Tensor, count: int) -> Tensor:
    """Share of the samples in each mode, [..., count] from numbers of modes [..., m]."""
    return torch.nn.functional.one_hot(modes, count).float().mean(-2)


def effective_number(share: Tensor) -> Tensor:
    """exp(entropy) [...] of shares [..., modes]: how many equally likely modes would be as uncertain."""
    return torch.exp(-torch.xlogy(share, share).sum(-1))


def to_nearest(fakes: Tensor, train: Tensor, block: int = 4096) -> Tensor:
    """Distance of each fake [..., m, d] to its nearest training sample [N, d]: [..., m], in blocks of the training set."""
    best = torch.full(fakes.shape[:-1], torch.inf, device=fakes.device)
    for part in train.split(block):
        best = torch.minimum(best, pairwise(fakes, part.to(fakes)).amin(-1))
    return best


def ordered_pairs(above: Tensor, below: Tensor) -> Tensor:
    """Share of pairs in which the value of `above` [..., m] is higher than that of `below` [..., n]; ties count half."""
    gap = above.unsqueeze(-1) - below.unsqueeze(-2)
    return (gap > 0).float().mean((-1, -2)) + (gap == 0).float().mean((-1, -2)) / 2
