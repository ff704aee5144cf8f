"""What the networks share: norm layers by name, spectral norm, and how a label enters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalized

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


def with_labels(x: Tensor, y: Tensor | None, num_classes: int) -> Tensor:
    """x [n, c, ...] with y as `num_classes` more channels, one-hot and constant over space (Mirza & Osindero 2014)."""
    if not num_classes:
        return x
    if y is None:
        raise ValueError(f"this network was built for {num_classes} classes and got no labels; pass y")
    maps = one_hot(y, num_classes).to(x.dtype)
    maps = maps.view(*maps.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, maps], 1)


class Head(nn.Module):
    """Features [n, features] to one logit [n]: w·h + b, plus <e_y, h> if labels enter by projection.

    Projection: Miyato & Koyama 2018, eq. 3. No classes, no embedding: the unconditional head is the same sum
    with one term less.
    """

    def __init__(self, features: int, projection_classes: int, spectral_norm: bool):
        super().__init__()
        wrap = spectrally_normalized if spectral_norm else nn.Identity()
        self.linear = wrap(nn.Linear(features, 1))
        self.embedding = wrap(nn.Embedding(projection_classes, features)) if projection_classes else None
        if self.embedding is not None and not spectral_norm:
            nn.init.normal_(self.embedding.weight, std=features**-0.5)  # logits of order 1, like the linear part's

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        logits = self.linear(h).squeeze(1)
        if self.embedding is None:
            return logits
        if y is None:
            raise ValueError("this discriminator was built for labels and got none; pass y")
        return logits + (self.embedding(y) * h).sum(1)
