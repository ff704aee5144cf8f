"""Residual networks after SNGAN (Miyato et al. 2018, table 4; at 64 pixels the authors' code) for square images.

At width 64 they are the paper's; the networks for 28 pixels are those for 32 with one doubling less. WGAN-GP's (Gulrajani
et al. 2017) D takes the mean over pixels where this one takes the sum.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as apply_spectral_norm

from ganlab.networks.discriminator import Discriminator, packed_inputs
from ganlab.networks.labels import LabeledSequential, TakesLabels, append_labels
from ganlab.networks.norms import NORMS_2D, generator_norm, norm_by_name

# by image size: G's first side; channels of G and of D in units of `width`; the number of D's blocks that halve the image
STRUCTURES = {
    28: (7, (4, 4, 4), (2, 2, 2, 2), 2),
    32: (4, (4, 4, 4, 4), (2, 2, 2, 2), 2),
    64: (4, (16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
}


def _structure(size: int) -> tuple[int, tuple[int, ...], tuple[int, ...], int]:
    if size not in STRUCTURES:
        raise ValueError(f"networks=resnet is for images of 28, 32 or 64 pixels, got {size}; use networks=dcgan")
    return STRUCTURES[size]


def _glorot(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Linear | nn.Conv2d:
    """Initialize as the authors: Glorot uniform, with gain sqrt(2) inside the residual paths."""
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _conv3(before: int, after: int) -> nn.Conv2d:
    return _glorot(nn.Conv2d(before, after, 3, padding=1), math.sqrt(2))


def _conv1(before: int, after: int) -> nn.Conv2d:
    return _glorot(nn.Conv2d(before, after, 1))


class Residual(TakesLabels):
    """residual(h, y) + shortcut(h)."""

    def __init__(self, residual: LabeledSequential, shortcut: nn.Module):
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        return self.residual(h, y) + self.shortcut(h)


class SumPool(nn.Module):
    """Sum over pixels: [n, channels, h, w] -> [n, channels]."""

    def forward(self, h: Tensor) -> Tensor:
        return h.sum((2, 3))


class ResNetGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> images [n, channels, size, size] in [-1, 1], size 28, 32 or 64.

    For labels see `generator_norm`; the last norm layer does not take them.
    """

    def __init__(self, latent_dim: int, channels: int, size: int, width: int, norm: str = "batch", num_classes: int = 0):
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        side, units, _, _ = _structure(size)
        widths = [unit * width for unit in units]
        make_norm, self.label_inputs = generator_norm(NORMS_2D, norm, num_classes)
        last_norm = norm_by_name(NORMS_2D, "batch" if norm == "conditional_batch" else norm)
        self.stem = _glorot(nn.Linear(latent_dim + self.label_inputs, widths[0] * side * side))
        self.body = LabeledSequential(
            nn.Unflatten(1, (widths[0], side, side)),
            *[self._block(before, after, make_norm) for before, after in pairwise(widths)],
            last_norm(widths[-1]),
            nn.ReLU(),
            _glorot(nn.Conv2d(widths[-1], channels, 3, padding=1)),
            nn.Tanh(),
        )
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def _block(before: int, after: int, make_norm) -> Residual:
        residual = [make_norm(before), nn.ReLU(), nn.Upsample(scale_factor=2), _conv3(before, after)]
        residual += [make_norm(after), nn.ReLU(), _conv3(after, after)]
        # the authors upsample before the convolution: the same values at four times the cost
        return Residual(LabeledSequential(*residual), nn.Sequential(_conv1(before, after), nn.Upsample(scale_factor=2)))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(self.stem(append_labels(z, y, self.label_inputs)), y)


class ResNetDiscriminator(Discriminator):
    """x [n, pack * channels, size, size] and labels [n] or [n, pack] -> logits [n]; for how labels enter see `Discriminator`.

    size 28, 32 or 64. Norm layers precede the activations of all blocks but the first; none by default, as in SNGAN.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        width: int,
        norm: str = "none",
        spectral_norm: bool = False,
        concat_classes: int = 0,
        projection_classes: int = 0,
        auxiliary_classes: int = 0,
        pack: int = 1,
    ):
        _, _, units, halvings = _structure(size)
        widths = [unit * width for unit in units]
        inputs = packed_inputs(channels, concat_classes, pack)
        wrap = apply_spectral_norm if spectral_norm else nn.Identity()
        make_norm = norm_by_name(NORMS_2D, norm)

        def first_block(before: int, after: int) -> Residual:
            residual = [wrap(_conv3(before, after)), nn.ReLU(), wrap(_conv3(after, after)), nn.AvgPool2d(2)]
            return Residual(LabeledSequential(*residual), nn.Sequential(nn.AvgPool2d(2), wrap(_conv1(before, after))))

        def block(before: int, after: int, halve: bool) -> Residual:
            pool = [nn.AvgPool2d(2)] if halve else []
            residual = [make_norm(before), nn.ReLU(), wrap(_conv3(before, before))]
            residual += [make_norm(before), nn.ReLU(), wrap(_conv3(before, after)), *pool]
            # the authors pool after the convolution: the same values at four times the cost
            shortcut = [*pool, wrap(_conv1(before, after))] if halve or before != after else []
            return Residual(LabeledSequential(*residual), nn.Sequential(*shortcut))

        blocks = [block(*sides, level < halvings) for level, sides in enumerate(pairwise(widths), start=1)]
        body = nn.Sequential(first_block(inputs, widths[0]), *blocks, nn.ReLU(), SumPool())
        super().__init__(body, widths[-1], spectral_norm, pack, concat_classes, projection_classes, auxiliary_classes)
        self.to(memory_format=torch.channels_last)
