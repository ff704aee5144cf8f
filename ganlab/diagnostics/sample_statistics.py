"""Statistics of sets of samples x [..., m, d] that need only distances, for many ensemble members at once."""

import torch
from torch import Tensor


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [..., m, n] of a [..., m, d] and b [..., n, d]; without a matrix product for d <= 8.

    The modes of toy data are narrower than the rounding error of a matrix product.
    """
    if a.shape[-1] > 8:
        return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    gaps = (x.unsqueeze(-1) - y.unsqueeze(-2) for x, y in zip(a.unbind(-1), b.unbind(-1)))
    squares = next(gaps).square_()
    for gap in gaps:
        squares.addcmul_(gap, gap)
    return squares.sqrt_()


def nearest_other_distance(distances: Tensor) -> Tensor:
    """Distance [..., m] of each sample to its nearest other one, from distances [..., m, m] of a set to itself."""
    distances = distances.clone()
    distances.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return distances.amin(-1)


def nearest_distance(samples: Tensor, train: Tensor, block: int = 4096) -> Tensor:
    """Distance [..., m] of samples [..., m, d] to the nearest training sample [N, d], in blocks of the training set."""
    best = torch.full(samples.shape[:-1], torch.inf, device=samples.device)
    for part in train.split(block):
        best = torch.minimum(best, pairwise(samples, part.to(samples)).amin(-1))
    return best


def mean_pairwise(distances: Tensor) -> Tensor:
    """Mean distance [...] of two different samples, from distances [..., m, m] of a set to itself."""
    m = distances.shape[-1]
    return distances.sum((-1, -2)) / (m * max(m - 1, 1))


def normalized_energy_distance(cross: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Energy distance over its largest value [...], from 0 (same distribution) to 1 (two distant points).

    1 - (E|x - x'| + E|y - y'|) / (2 E|x - y|), Székely & Rizzo 2013; arguments: E|x - y|, E|x - x'|, E|y - y'|. 0 where all
    samples are the same point.
    """
    return torch.where(cross == 0, 0.0, 1 - (first + second) / (2 * cross).clamp_min(1e-30))


def nn_accuracy(real_to_real: Tensor, real_to_fake: Tensor, fake_to_fake: Tensor) -> Tensor:
    """Leave-one-out accuracy [...] of the 1-nearest-neighbor two-sample test (Lopez-Paz & Oquab 2017), 0.5 to 1.

    Args:
        real_to_real: [..., m], distance of each real sample to the nearest other one; fake_to_fake: [..., n] likewise.
        real_to_fake: [..., m, n], all distances between them.
    """
    real, fake = real_to_real < real_to_fake.amin(-1), fake_to_fake < real_to_fake.amin(-2)
    return (real.float().mean(-1) + fake.float().mean(-1)) / 2


def mode_shares(modes: Tensor, count: int) -> Tensor:
    """Share [..., count] of the samples in each mode, from mode indices [..., m]."""
    return torch.nn.functional.one_hot(modes, count).float().mean(-2)


def effective_number(share: Tensor) -> Tensor:
    """exp(entropy) [...] of shares [..., modes]: the number of equally likely modes with the same entropy."""
    return torch.exp(-torch.xlogy(share, share).sum(-1))


def auc(positive: Tensor, negative: Tensor) -> Tensor:
    """Share [...] of pairs with a higher value in positive [..., m] than in negative [..., n]; ties count half."""
    gap = positive.unsqueeze(-1) - negative.unsqueeze(-2)
    return (gap > 0).float().mean((-1, -2)) + (gap == 0).float().mean((-1, -2)) / 2
