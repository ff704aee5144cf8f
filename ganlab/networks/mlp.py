"""Fully connected players for 2-D toys and for small images taken flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalized
from torch.nn.utils.parametrize import is_parametrized

from ganlab.networks.discriminator import Discriminator, packed_inputs
from ganlab.networks.labels import LabeledSequential, with_labels
from ganlab.networks.norms import NORMS_1D, generator_norm, norm_by_name


def _hidden(sizes: Sequence[int], activation: nn.Module, make_norm, spectral_norm: bool, pieces: int = 1) -> LabeledSequential:
    wrap = spectrally_normalized if spectral_norm else nn.Identity()
    layers = []
    for before, after in pairwise(sizes):
        layers += [wrap(nn.Linear(before, pieces * after)), make_norm(pieces * after), activation]
    return LabeledSequential(*layers)


def _asked_for(name: str, number: float | None, otherwise: str) -> bool:
    if number is None:
        return False
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise ValueError(f"{name} must be a number above 0, or null {otherwise}, got {number!r}")
    return True


def _draw_weights(net: nn.Module, std: float | None) -> None:
    """Weights of the linear layers from N(0, std^2), biases 0; None leaves torch's own.

    Weights under spectral norm stay torch's, too: it divides their scale out again.
    """
    if not _asked_for("init_std", std, "for torch's own initialization"):
        return
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
            if not is_parametrized(layer):
                nn.init.normal_(layer.weight, std=std)


@torch.no_grad()
def _spread_kinks(layer: nn.Linear, reach: float | None) -> None:
    """Biases with which each unit is 0 at a point of its own, drawn from U(-reach, reach) in every coordinate.

    With biases near 0 all units change their slope near the origin, and what lies far out is told apart last.
    """
    if _asked_for("init_reach", reach, "to leave the biases"):
        points = reach * (2 * torch.rand_like(layer.weight) - 1)
        layer.bias.copy_(-(layer.weight * points).sum(1))


def _draw_shifts(net: nn.Module, std: float | None) -> None:
    """First shifts of the norm layers from N(0, std^2) instead of 0.

    With shifts of 0 every unit bends where it has its mean, so that a first layer's bends all meet at z = 0.
    """
    if not _asked_for("init_shift", std, "for shifts of 0"):
        return
    norms = [layer for layer in net.modules() if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm))]
    shifts = [norm.bias for norm in norms if norm.bias is not None]
    if not shifts:
        raise ValueError(f"init_shift={std} needs norm layers with shifts of their own; use norm=batch or norm=layer")
    for shift in shifts:
        nn.init.normal_(shift, std=std)


class Maxout(nn.Module):
    """h [n, units * pieces] -> the largest of each unit's neighboring pieces, [n, units] (Goodfellow et al. 2013).

    Raises:
        ValueError: fewer than 2 pieces, which would leave a linear network.
    """

    def __init__(self, pieces: int):
        super().__init__()
        if isinstance(pieces, bool) or not isinstance(pieces, int) or pieces < 2:
            raise ValueError(f"maxout must be a whole number of at least 2 pieces, or null for LeakyReLU(0.2), got {pieces!r}")
        self.pieces = pieces

    def forward(self, h: Tensor) -> Tensor:
        # max keeps one index per unit for the backward pass; amax would keep every piece.
        return h.unflatten(1, (-1, self.pieces)).max(2).values


class MLPGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> samples [n, *shape]; `bounded` ends in tanh, for data in [-1, 1].

    Labels enter beside z, or in the norm layers alone (`norm="conditional_batch"`). `init_std`: standard deviation of
    the linear layers' first weights, whose biases are then 0; None is torch's own initialization. `init_shift`: standard
    deviation of the norm layers' first shifts; None is 0.

    Raises:
        ValueError: `init_std` or `init_shift` not above 0, or `init_shift` where no norm layer has shifts.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        hidden: Sequence[int],
        bounded: bool,
        norm: str = "none",
        num_classes: int = 0,
        init_std: float | None = None,
        init_shift: float | None = None,
    ):
        super().__init__()
        self.latent_dim, self.shape, self.num_classes = latent_dim, tuple(shape), num_classes
        make_norm, self.label_inputs = generator_norm(NORMS_1D, norm, num_classes)
        self.body = _hidden([latent_dim + self.label_inputs, *hidden], nn.ReLU(), make_norm, spectral_norm=False)
        self.out = nn.Linear(hidden[-1], math.prod(shape))
        self.bound = nn.Tanh() if bounded else nn.Identity()
        _draw_weights(self, init_std)
        _draw_shifts(self, init_shift)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.bound(self.out(self.body(with_labels(z, y, self.label_inputs), y))).unflatten(1, self.shape)


class MLPDiscriminator(Discriminator):
    """x [n, pack * shape[0], ...] and labels [n] or [n, pack] -> logits [n]; the ways of labels: `Discriminator`.

    Hidden units are LeakyReLU(0.2), or the largest of `maxout` linear pieces each; `init_std` as in `MLPGenerator`.
    `init_reach`: how far out the data lies; the first layer's units start with their zeros all over that square, instead
    of near the origin.

    Raises:
        ValueError: `init_std` or `init_reach` not above 0.
    """

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
        maxout: int | None = None,
        init_std: float | None = None,
        init_reach: float | None = None,
    ):
        activation, pieces = (nn.LeakyReLU(0.2), 1) if maxout is None else (Maxout(maxout), maxout)
        sizes = [packed_inputs(math.prod(shape), concat_classes, pack), *hidden]
        body = _hidden(sizes, activation, norm_by_name(NORMS_1D, norm), spectral_norm, pieces)
        super().__init__(body, hidden[-1], spectral_norm, pack, concat_classes, projection_classes, auxiliary_classes)
        self.one_pass = norm != "batch"
        _draw_weights(self, init_std)
        _spread_kinks(body[0], init_reach)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().features(x.flatten(1), y)
