"""Memorization: whether samples are closer to the training data than held-out real data is."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from ganlab.metrics.knn import Progress, nearest_neighbors
from ganlab.utils.statistics import CONFIDENCE, Estimate, wilson_interval


@dataclass(frozen=True)
class MemorizationResult:
    """The result of `memorization`; `auc`, `copies` and `real_copies` have 95 % intervals.

    distance: from each sample to its nearest training sample, float64 [n]; nearest_index: that one's index [n].
    real_distance: from each held-out real sample to its nearest training sample, float64 [m].
    auc: P(a sample is further from the training data than a held-out real sample), ties half; 0.5 for equal distributions.
    copies, real_copies: share of the samples, and of the held-out real samples, that count as copies.
    is_copy: bool [n], which samples do.
    """

    distance: Tensor
    nearest_index: Tensor
    real_distance: Tensor
    auc: Estimate
    copies: Estimate
    real_copies: Estimate
    is_copy: Tensor

    @property
    def memorized(self) -> bool:
        """Whether samples are copies more often than held-out real samples, beyond both intervals."""
        return self.copies.low > self.real_copies.high  # type: ignore[operator]  # both have intervals


def memorization(samples: Tensor, held_out, train, device: torch.device, progress: Progress = iter) -> MemorizationResult:
    """Compare the distances of samples and of held-out real samples to their nearest training samples.

    `auc` is the Mann-Whitney statistic of Meehan et al. (2020). Below 0.5 the samples lie closer to the training data
    than they should; but smooth samples, or samples of few modes, do so without copying.

    A sample counts as a *copy* if it is closer to its nearest training sample than half the distance from that one to
    its own nearest training sample (or at distance 0). Such balls do not overlap, so a sample is a copy of at most one
    training sample. In the plane many new points are copies by this rule, among images hardly any: `memorized`
    therefore compares with the held-out real samples.

    Args:
        samples, held_out, train: uint8 images or points [n, ...]; `train` may be `LazyStacks`. Distances between images
            are L2 between pixels in [-1, 1].

    Raises:
        ValueError: no samples or held-out samples, fewer than two training samples, or points that are not finite.
    """
    if len(train) < 2:
        raise ValueError(f"the distances between training samples need at least 2 of them, got {len(train)}")
    distance, nearest_index = nearest_neighbors(samples, train, device, progress=progress)
    real_distance, real_index = nearest_neighbors(held_out, train, device, progress=progress)
    neighbors, position = torch.cat([nearest_index, real_index]).unique(return_inverse=True)
    gap, _ = nearest_neighbors(train[neighbors], train, device, exclude=neighbors, progress=progress)
    distances = torch.cat([distance, real_distance])
    is_copy = (distances < gap[position] / 2) | (distances == 0)
    fake_copy, real_copy = is_copy.split([len(samples), len(held_out)])
    return MemorizationResult(
        distance=distance,
        nearest_index=nearest_index,
        real_distance=real_distance,
        auc=mann_whitney_auc(distance, real_distance),
        copies=wilson_interval(int(fake_copy.sum()), len(fake_copy)),
        real_copies=wilson_interval(int(real_copy.sum()), len(real_copy)),
        is_copy=fake_copy,
    )


def mann_whitney_auc(x: Tensor, y: Tensor) -> Estimate:
    """P(X > Y) + P(X = Y)/2 from samples x [n], y [m], with the interval of DeLong et al. (1988).

    The interval is the normal approximation clipped to [0, 1]; it has width 0 where x and y do not overlap. There is none
    for a single value of x or y.

    Raises:
        ValueError: no values on a side, or a nan. Infinite values are ordered like any other.
    """
    if min(len(x), len(y)) == 0 or x.isnan().any() or y.isnan().any():
        raise ValueError(f"the AUC needs values on both sides and no nan, got {len(x)} and {len(y)} values")
    x, y = x.double(), y.double()
    x_ranks, y_ranks = _placements(x, y), _placements(y, x)
    value = float(x_ranks.mean())
    if min(len(x), len(y)) == 1:
        return Estimate(value)
    variance = sum(float(p.var()) / len(p) for p in (x_ranks, y_ranks))
    half_width = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half_width), min(1.0, value + half_width))


def _placements(x: Tensor, y: Tensor) -> Tensor:
    """For each of x the share of y below it, ties half."""
    ordered = y.sort().values
    return (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)).double() / (2 * len(y))
