"""Whether samples teach a classifier what real data does: GAN-train, and for points GAN-test (Shmelkov et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganlab.data import Split
from ganlab.metrics.classifier import LEARNING_RATE, accuracy, train_classifier
from ganlab.metrics.prdc import Track, untracked

RATES = (LEARNING_RATE, LEARNING_RATE / 4)
HELD_OUT = 0.1


class Transfer(NamedTuple):
    """Accuracy on real test samples, and on the samples held out for the choice of the rate; the rate chosen."""

    accuracy: float
    held_out: float
    rate: float


def transfer(
    samples: Split, test: Split, num_classes: int, device: torch.device, seed: int, track: Track = untracked
) -> Transfer:
    """Accuracy on `test` of a `Classifier` that has seen nothing but `samples`; of fakes the classification accuracy
    score (Ravuri & Vinyals 2019), about a recall: what the fakes lack, the classifier has not learnt.

    A random tenth of the samples is held out, one classifier per learning rate is trained on the rest, and the one that
    names the held-out samples best is tested. The choice never looks at the test split, which would flatter the score.

    Args:
        samples, test: images x uint8 [n, C, S, S] and labels y [n].
        seed: of the random tenth.

    Raises:
        ValueError: fewer than 20 samples.
    """
    n = len(samples.x)
    if n < 20:
        raise ValueError(f"a classifier needs at least 20 samples to learn and to be chosen from, got {n}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held_out, rest = (
        Split(samples.x[part], samples.y[part]) for part in order.split([int(n * HELD_OUT), n - int(n * HELD_OUT)])
    )
    best: tuple[float, float] | None = None
    for rate in track(RATES):
        network = train_classifier(rest, num_classes, device, rate)
        score = accuracy(network, held_out, device)
        if best is None or score > best[0]:
            best, chosen = (score, rate), network
    return Transfer(accuracy(chosen, test, device), *best)


def class_means(samples: Split, num_classes: int) -> Tensor:
    """Mean [K, d] of each class of points x [n, d]; infinitely far away where a class has none."""
    sums = torch.zeros(num_classes, samples.x.shape[1], dtype=torch.float64)
    sums.index_add_(0, samples.y, samples.x.double())
    counts = torch.bincount(samples.y, minlength=num_classes)
    return torch.where(counts[:, None] > 0, sums / counts[:, None], torch.inf)


def nearest_mean_accuracy(samples: Split, test: Split, num_classes: int) -> float:
    """Share of test points whose label is that of the nearest class mean of `samples`, points x [n, d], y [n].

    For equal round Gaussians, as of the toys, no classifier that knows the means does better.
    """
    means = class_means(samples, num_classes)
    named = torch.cat([(x.double()[:, None] - means).norm(dim=-1).argmin(1) for x in test.x.split(10_000)])
    return float((named == test.y).double().mean())
