"""What a GAN is evaluated on: the same samples in training and in `ganlab evaluate`, and the reference that they meet."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ganlab.data import Split, to_float, to_uint8
from ganlab.data.base import split_fingerprint
from ganlab.data.splits import stratified_indices

BATCH_SIZE = 500
SPLIT_NAMES = {"train": "training split", "val": "validation split", "test": "test split"}
SAMPLING_PROTOCOL = {"images": "as saved, 8 bits", "labels": "of a conditional GAN, those of the reference"}


class NonFiniteSamples(ValueError):
    """A generator's samples are nan or infinite."""


def reference_protocol(datamodule, split: str) -> dict:
    """The part of a protocol that identifies the split which samples are compared with."""
    reference = getattr(datamodule, split)
    fingerprint = split_fingerprint(reference)
    return {"reference": SPLIT_NAMES[split], "reference_size": len(reference.x), "reference_fingerprint": fingerprint}


def evenly_spaced_samples(split: Split, n: int) -> Split:
    """n samples of a split, evenly spaced over each class, in which every class has its share."""
    chosen = stratified_indices(split.y, n)
    return Split(split.x[chosen], split.y[chosen])


def reference_labels(gan, datamodule, split: str, n: int) -> Tensor | None:
    """Labels int64 [n] of n samples, in the proportions of the data's split; None for an unconditional GAN.

    A perfect conditional sampler given other proportions is far from the data: on classes of 900 and 100 images the Fréchet
    distance was 10.0 with uniform labels, and 0.75 with these.
    """
    if not gan.conditioning.num_classes:
        return None
    y = getattr(datamodule, split).y
    return torch.cat([y.repeat(n // len(y)), y[stratified_indices(y, n % len(y))]])


def evaluation_samples(
    gan, y: Tensor | None, n: int, seed: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield samples of the GAN's moving average, up to 500 at a time, with their labels from y [n] (None: unlabeled).

    Images are clamped to [-1, 1] and rounded to 8 bits, as they are when saved. Rank r of several processes yields the
    samples r, r + world_size …, so that all of them together are those of one process.

    Raises:
        NonFiniteSamples: a sample is nan or infinite.
    """
    labels = None if y is None else y[rank::world_size]
    start = 0
    for samples in gan.sample_in_batches(n, y, seed=seed, batch_size=BATCH_SIZE, rank=rank, world_size=world_size):
        batch_labels = None if labels is None else labels[start : start + len(samples)].to(samples.device)
        yield as_saved(require_finite(samples)), batch_labels
        start += len(samples)


def require_finite(samples: Tensor) -> Tensor:
    """The samples; raises NonFiniteSamples if one is nan or infinite."""
    if not samples.isfinite().all():
        raise NonFiniteSamples("the generator's samples are not finite, its training diverged; choose another checkpoint")
    return samples


def as_saved(samples: Tensor) -> Tensor:
    """Images [n, C, H, W] clamped to [-1, 1] and rounded to 8 bits; other samples as they are."""
    return to_float(to_uint8(samples)) if samples.ndim == 4 else samples
