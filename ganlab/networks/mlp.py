"""Fully connected networks for 2-D toys and flattened small images."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as apply_spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from ganlab.networks.discriminator import Discriminator, packed_inputs
from ganlab.networks.labels import LabeledSequential, append_labels
from ganlab.networks.norms import NORMS_1D, generator_norm, norm_by_name
from ganlab.utils.validation import validate_int, validate_number


def _hidden_layers(sizes: Sequence[int], activation: nn.Module, make_norm, spectral_norm=False, pieces=1) -> LabeledSequential:
    wrap = apply_spectral_norm if spectral_norm else nn.Identity()
    layers = []
    for before, after in pairwise(sizes):
        layers += [wrap(nn.Linear(before, pieces * after)), make_norm(pieces * after), activation]
    return LabeledSequential(*layers)


def _init_weights(net: nn.Module, std: float | None) -> None:
    """Draw the linear layers' weights from N(0, std^2) and set biases to 0; None keeps torch's initialization."""
    if std is None:
        return
    validate_number("init_std", std, above=0)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
            if not is_parametrized(layer):  # spectral norm divides the scale out
                nn.init.normal_(layer.weight, std=std)


@torch.no_grad()
def _spread_zeros(layer: nn.Linear, reach: float | None) -> None:
    """Set biases so that each unit is 0 at its own point, drawn from U(-reach, reach) in every coordinate.

    With biases near 0 all units change their slope near the origin, and D separates points far from it last.
    """
    if reach is not None:
        points = validate_number("init_reach", reach, above=0) * (2 * torch.rand_like(layer.weight) - 1)
        layer.bias.copy_(-(layer.weight * points).sum(1))


def _init_shifts(net: nn.Module, std: float | None) -> None:
    """Draw the norm layers' shifts from N(0, std^2); None keeps 0, with which all units of the first change slope at z = 0."""
    if std is None:
        return
    validate_number("init_shift", std, above=0)
    norms = [layer for layer in net.modules() if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm))]
    if not (shifts := [norm.bias for norm in norms if norm.bias is not None]):
        raise ValueError(f"init_shift={std} needs norm layers with shifts; use norm=batch or norm=layer")
    for shift in shifts:
        nn.init.normal_(shift, std=std)


class Maxout(nn.Module):
    """h [n, units * pieces] -> the maximum of each unit's `pieces` neighbors, [n, units] (Goodfellow et al. 2013).

    Raises:
        ValueError: fewer than 2 pieces, which would leave a linear network.
    """

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = validate_int("maxout", pieces, minimum=2)

    def forward(self, h: Tensor) -> Tensor:
        # max saves one index per unit for the backward pass; amax would save every piece
        return h.unflatten(1, (-1, self.pieces)).max(2).values


class MLPGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> samples [n, *shape]; for labels see `generator_norm`.

    `bounded` ends in tanh, for data in [-1, 1]. `init_std`: standard deviation of the linear layers' initial weights, whose
    biases are then 0; None: torch's initialization. `init_shift`: that of the norm layers' initial shifts; None: 0.

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
        self.body = _hidden_layers([latent_dim + self.label_inputs, *hidden], nn.ReLU(), make_norm)
        self.out = nn.Linear(hidden[-1], math.prod(shape))
        self.bound = nn.Tanh() if bounded else nn.Identity()
        _init_weights(self, init_std)
        _init_shifts(self, init_shift)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.bound(self.out(self.body(append_labels(z, y, self.label_inputs), y))).unflatten(1, self.shape)


class MLPDiscriminator(Discriminator):
    """x [n, pack * shape[0], ...] and labels [n] or [n, pack] -> logits [n]; for how labels enter see `Discriminator`.

    Hidden units are LeakyReLU(0.2), or the maximum of `maxout` linear pieces; `init_std` as in `MLPGenerator`.
    `init_reach`: the data lies in [-init_reach, init_reach]; the zeros of the first layer's units are then spread over that
    square, instead of near the origin.

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
        body = _hidden_layers(sizes, activation, norm_by_name(NORMS_1D, norm), spectral_norm, pieces)
        super().__init__(body, hidden[-1], spectral_norm, pack, concat_classes, projection_classes, auxiliary_classes)
        self.one_pass = norm != "batch"
        _init_weights(self, init_std)
        _spread_zeros(body[0], init_reach)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().features(x.flatten(1), y)
