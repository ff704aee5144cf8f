"""Fully connected players for 2-D toys and for small images taken flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalized

from ganlab.networks.discriminator import Discriminator, packed_inputs
from ganlab.networks.layers import NORMS_1D, LabelledSequential, generator_norm, norm_by_name, with_labels


def _hidden(sizes: Sequence[int], activation: nn.Module, make_norm, spectral_norm: bool) -> LabelledSequential:
    wrap = spectrally_normalized if spectral_norm else nn.Identity()
    layers = []
    for before, after in pairwise(sizes):
        layers += [wrap(nn.Linear(before, after)), make_norm(after), activation]
    return LabelledSequential(*layers)


class MLPGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> samples [n, *shape]; `bounded` ends in tanh, for data in [-1, 1].

    Labels enter beside z, or in the norm layers alone (`norm="conditional_batch"`).
    """

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
        make_norm, self.label_inputs = generator_norm(NORMS_1D, norm, num_classes)
        self.body = _hidden([latent_dim + self.label_inputs, *hidden], nn.ReLU(), make_norm, spectral_norm=False)
        self.out = nn.Linear(hidden[-1], math.prod(shape))
        self.bound = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.bound(self.out(self.body(with_labels(z, y, self.label_inputs), y))).unflatten(1, self.shape)


class MLPDiscriminator(Discriminator):
    """x [n, pack * shape[0], ...] and labels [n] or [n, pack] -> logits [n]; the ways of labels: `Discriminator`."""

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        norm: str = "none",
        spectral_norm: bool = False,
        concat_classes: int = 0,
        projection_classes: int = 0,
        auxiliary_classes: int = 0,
        pack: int = 1,
    ):
        sizes = [packed_inputs(math.prod(shape), concat_classes, pack), *hidden]
        body = _hidden(sizes, nn.LeakyReLU(0.2), norm_by_name(NORMS_1D, norm), spectral_norm)
        super().__init__(body, hidden[-1], spectral_norm, pack, concat_classes, projection_classes, auxiliary_classes)
        self.one_pass = norm != "batch"

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().features(x.flatten(1), y)
