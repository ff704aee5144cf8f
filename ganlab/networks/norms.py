"""Norm layers by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from ganlab.networks.labels import ConditionalBatchNorm

NORMS_1D = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
NORMS_2D = {
    "none": nn.Identity,
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),  # over C, H, W of one sample, as WGAN-GP's critic needs
}


def norm_by_name(norms: dict, name: str):
    if name not in norms:
        raise ValueError(f"unknown norm layer {name!r}; choose one of {', '.join(norms)}")
    return norms[name]


def generator_norm(norms: dict, name: str, num_classes: int) -> tuple[Callable[[int], nn.Module], int]:
    """G's norm layer by name, and how many label channels G appends to z: none if its norm is "conditional_batch"."""
    conditional = partial(ConditionalBatchNorm, norms["batch"], num_classes)
    make_norm = norm_by_name({**norms, "conditional_batch": conditional}, name)
    return make_norm, 0 if make_norm is conditional else num_classes
