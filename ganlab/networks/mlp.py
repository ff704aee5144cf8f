"""Fully connected players for 2-D toys and for small images taken flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalized

from ganlab.networks.layers import NORMS_1D, Head, norm_by_name, with_labels


def _hidden(sizes: Sequence[int], activation: nn.Module, norm: str, spectral_norm: bool) -> nn.Sequential:
    wrap = spectrally_normalized if spectral_norm else nn.Identity()
    make_norm = norm_by_name(NORMS_1D, norm)
    layers = []
    for before, after in pairwise(sizes):
        layers += [wrap(nn.Linear(before, after)), make_norm(after), activation]
    return nn.Sequential(*layers)


class MLPGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> samples [n, *shape]; `bounded` ends in tanh, for data in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        hidden: Sequence[int],
        bounded: bool,
        norm: str = "none",
        num_classes: int = 0,
    ):
        super().__init__()
        self.latent_dim, self.shape, self.num_classes = latent_dim, tuple(shape), num_classes
        self.body = _hidden([latent_dim + num_classes, *hidden], nn.ReLU(), norm, spectral_norm=False)
        self.out = nn.Linear(hidden[-1], math.prod(shape))
        self.bound = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.bound(self.out(self.body(with_labels(z, y, self.num_classes)))).unflatten(1, self.shape)


class MLPDiscriminator(nn.Module):
    """x [n, *shape] and labels [n] -> logits [n]. Labels enter as inputs (`concat_classes`) or by `projection_classes`."""

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        norm: str = "none",
        spectral_norm: bool = False,
        concat_classes: int = 0,
        projection_classes: int = 0,
    ):
        super().__init__()
        self.concat_classes, self.num_classes = concat_classes, max(concat_classes, projection_classes)
        self.one_pass = norm != "batch"
        sizes = [math.prod(shape) + concat_classes, *hidden]
        self.body = _hidden(sizes, nn.LeakyReLU(0.2), norm, spectral_norm)
        self.head = Head(hidden[-1], projection_classes, spectral_norm)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(self.body(with_labels(x.flatten(1), y, self.concat_classes)), y)
