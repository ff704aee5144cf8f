"""Classification accuracy score: what a classifier learns from samples (Ravuri & Vinyals 2019).

GAN-train (= CAS) trains on samples and tests on real data, GAN-test the reverse (Shmelkov et al. 2018).
"""

from typing import NamedTuple

import torch

from ganlab.data import Split
from ganlab.data.batches import permutation
from ganlab.metrics.classifier import LEARNING_RATE, accuracy, train_classifier
from ganlab.metrics.features import validate_features
from ganlab.metrics.knn import Progress

LEARNING_RATES = (LEARNING_RATE, LEARNING_RATE / 4)
HELD_OUT_FRACTION = 0.1
MIN_SAMPLES = 20


class CASResult(NamedTuple):
    """Accuracy on the real held-out split, accuracy on the held-out samples, and the learning rate chosen by the latter."""

    accuracy: float
    held_out_accuracy: float
    learning_rate: float


def classification_accuracy_score(
    samples: Split, test: Split, num_classes: int, device: torch.device, seed: int, progress: Progress = iter
) -> CASResult:
    """Accuracy in [0, 1] on `test` of a `Classifier` trained on `samples` alone. Higher is better; close to a recall.

    A random tenth of the samples is held out, a classifier is trained on the rest with each learning rate, and the one
    with the highest accuracy on the held-out samples is tested. Choosing on the test split would inflate the score.

    Args:
        samples, test: images x uint8 [n, C, S, S] and labels y int64 [n].
        seed: of the held-out tenth.

    Raises:
        ValueError: fewer than 20 samples, or no test images.
    """
    n = len(samples.x)
    if n < MIN_SAMPLES:
        raise ValueError(f"the classification accuracy score needs at least {MIN_SAMPLES} samples, got {n}")
    validate_features("the classification accuracy score", test.x)
    parts = permutation(n, seed).tensor_split([int(n * HELD_OUT_FRACTION)])
    held_out, rest = (Split(samples.x[part], samples.y[part]) for part in parts)
    best_accuracy = -1.0
    for rate in progress(LEARNING_RATES):
        classifier = train_classifier(rest, num_classes, device, rate)
        held_out_accuracy = accuracy(classifier, held_out, device)
        if held_out_accuracy > best_accuracy:
            best, best_accuracy, best_rate = classifier, held_out_accuracy, rate
    return CASResult(accuracy(best, test, device), best_accuracy, best_rate)


def nearest_mean_accuracy(samples: Split, test: Split, num_classes: int) -> float:
    """Share of `test` points (x [n, d], y [n]) whose label is that of the nearest class mean of `samples`.

    The Bayes classifier for equally likely isotropic Gaussians of equal variance, such as the toy data sets.

    Raises:
        ValueError: no samples on a side, or points that are not finite.
    """
    validate_features("the nearest-mean classifier", samples.x, test.x)
    sums = torch.zeros(num_classes, samples.x.shape[1], dtype=torch.float64).index_add(0, samples.y, samples.x.double())
    counts = torch.bincount(samples.y, minlength=num_classes)[:, None]
    means = torch.where(counts > 0, sums / counts, torch.inf)  # inf is never the nearest
    predicted = torch.cat([(x.double()[:, None] - means).norm(dim=-1).argmin(1) for x in test.x.split(10_000)])
    return float((predicted == test.y).double().mean())
