"""Whether samples are closer to the training data than real data that the training never saw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlab.metrics.prdc import Track, nearest, untracked
from ganlab.utils.statistics import CONFIDENCE, Estimate, wilson_interval


@dataclass(frozen=True)
class Memorization:
    """What `memorization` found. `auc`, `copies`, `copies_of_real` carry 95 % intervals.

    distance, place: of each sample to its nearest training sample, and that one's index [n].
    real_distance: of each held-out real sample to its own [m].
    auc: P(a sample is further from the training data than a held-out real one), ties half: 0.5 if both are alike.
    copies: share of samples that are copies; copies_of_real: share of held-out real samples that would be called so.
    copied: the samples that are, bool [n].
    """

    distance: Tensor
    place: Tensor
    real_distance: Tensor
    auc: Estimate
    copies: Estimate
    copies_of_real: Estimate
    copied: Tensor

    @property
    def memorized(self) -> bool:
        """More copies than held-out real data has, beyond both intervals."""
        return self.copies.low > self.copies_of_real.high


def memorization(samples: Tensor, held_out, train, device: torch.device, track: Track = untracked) -> Memorization:
    """Distances to all training samples, and what they say about copying.

    `auc` is the Mann-Whitney statistic of Meehan et al. (2020). Below 0.5 samples lie closer to the training data than
    they should; but smooth or few-moded samples do so, too, without copying anything. A *copy* is a sample closer to
    its nearest training sample than half the distance from that one to its own nearest neighbor in the training data:
    such balls do not overlap, so there is one training sample that it can be a copy of. An exact copy is always one. In
    the plane many fresh points are copies by that rule, in image space hardly any: hence `memorized` compares with the
    held-out real samples.

    Args:
        samples, held_out, train: uint8 images or points [n, ...]; train may be `Stacks`. L2 between pixels in [-1, 1].
    """
    distance, place = nearest(samples, train, device, track=track)
    real_distance, real_place = nearest(held_out, train, device, track=track)
    used, back = torch.cat([place, real_place]).unique(return_inverse=True)
    gap, _ = nearest(train[used], train, device, own=used, track=track)
    both = torch.cat([distance, real_distance])
    copied = (both < gap[back] / 2) | (both == 0)
    of_samples, of_real = copied[: len(samples)], copied[len(samples) :]
    return Memorization(
        distance=distance,
        place=place,
        real_distance=real_distance,
        auc=auc(distance, real_distance),
        copies=wilson_interval(int(of_samples.sum()), len(of_samples)),
        copies_of_real=wilson_interval(int(of_real.sum()), len(of_real)),
        copied=of_samples,
    )


def auc(x: Tensor, y: Tensor) -> Estimate:
    """P(X > Y) + P(X = Y)/2 from x [n], y [m], the Mann-Whitney U over n m, with DeLong's interval (1988).

    The interval is normal on the scale of the value, cut off at 0 and 1, and a point where all of x are on one side of
    all of y.
    """
    x, y = x.double(), y.double()
    above, below = _placements(x, y), _placements(y, x)
    value = float(above.mean())
    variance = sum(float(p.var()) / len(p) for p in (above, below) if len(p) > 1)
    half = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + CONFIDENCE) / 2)).item() * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _placements(x: Tensor, y: Tensor) -> Tensor:
    """For each of x the share of y below it, ties half."""
    ordered = y.sort().values
    return (torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)) / (2 * len(y))
