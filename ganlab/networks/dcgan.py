"""Convolutional networks after DCGAN (Radford et al. 2016), for square images of 8 pixels and up."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as apply_spectral_norm

from ganlab.networks.discriminator import Discriminator, packed_inputs
from ganlab.networks.labels import LabeledSequential, append_labels
from ganlab.networks.norms import NORMS_2D, generator_norm, norm_by_name


def _pyramid(size: int, width: int) -> tuple[int, list[int]]:
    """Smallest side, and channels per level from the image on: size 28, width 64 -> 7, [64, 128]; 64, 64 -> 4, [64, … 512]."""
    side, levels = size, 0
    while side % 2 == 0 and side >= 8:
        side, levels = side // 2, levels + 1
    if levels == 0 or side > 7:
        raise ValueError(f"DCGAN needs an image size that halves to a side of 4 … 7 (8, 16, 28, 32, 64 …), got {size}")
    return side, [width * 2 ** min(level, 3) for level in range(levels)]


class DCGANGenerator(nn.Module):
    """z [n, latent_dim] and labels [n] -> images [n, channels, size, size] in [-1, 1]; for labels see `generator_norm`."""

    def __init__(self, latent_dim: int, channels: int, size: int, width: int, norm: str = "batch", num_classes: int = 0):
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        side, widths = _pyramid(size, width)
        make_norm, self.label_inputs = generator_norm(NORMS_2D, norm, num_classes)
        widths = widths[::-1]
        layers = [nn.Unflatten(1, (widths[0], side, side)), make_norm(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none"), make_norm(after), nn.ReLU()]
        self.stem = nn.Linear(latent_dim + self.label_inputs, widths[0] * side * side)
        self.body = LabeledSequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())
        self.to(memory_format=torch.channels_last)  # a tenth less time per step on CPUs

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(self.stem(append_labels(z, y, self.label_inputs)), y)


class DCGANDiscriminator(Discriminator):
    """x [n, pack * channels, size, size] and labels [n] or [n, pack] -> logits [n]; for how labels enter see `Discriminator`.

    No norm by default: batch norm does not go with gradient penalties, which need D's gradient per sample.
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
        wrap = apply_spectral_norm if spectral_norm else nn.Identity()
        make_norm = norm_by_name(NORMS_2D, norm)
        side, widths = _pyramid(size, width)
        layers: list[nn.Module] = []
        for before, after in pairwise([packed_inputs(channels, concat_classes, pack), *widths]):
            norm_layer = make_norm(after) if layers else nn.Identity()
            layers += [wrap(nn.Conv2d(before, after, 4, 2, 1)), norm_layer, nn.LeakyReLU(0.2)]
        body, features = nn.Sequential(*layers, nn.Flatten()), widths[-1] * side * side
        super().__init__(body, features, spectral_norm, pack, concat_classes, projection_classes, auxiliary_classes)
        self.to(memory_format=torch.channels_last)
