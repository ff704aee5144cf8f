"""Networks, losses and data sets that make training fail in a known way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganlab.data import Digits, Grid, Ring, Split
from ganlab.losses import HingeGAN, NonSaturatingGAN
from ganlab.networks import MLPGenerator


class FewLatents(MLPGenerator):
    """Uses only the signs of its latents: at most 2^latent_dim different samples."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z.sign(), y)


class OneLatent(MLPGenerator):
    """Ignores its latents: one sample (per label)."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(0 * z, y)


class Saturated(MLPGenerator):
    """The bias of its last layer saturates tanh, so that no gradient comes back and the samples stay in a corner."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        nn.init.constant_(self.out.bias, 12.0)


class Copier(nn.Module):
    """Copies training samples for a `share` of the latents, chosen by the latent from `train` [N, ...]; else calls an MLP.

    `noise`: standard deviation of the noise added to a copy, in the data's units.
    """

    def __init__(self, mlp: MLPGenerator, train: Tensor, share: float, noise: float):
        super().__init__()
        self.mlp, self.share, self.noise, self.latent_dim = mlp, share, noise, mlp.latent_dim
        self.register_buffer("train_set", train)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        uniform = torch.special.ndtr(z)  # a standard normal latent becomes uniform
        index = (uniform[:, 0] * len(self.train_set)).long().clamp(0, len(self.train_set) - 1)
        copied = self.train_set[index] + self.noise * z[:, 2].view(-1, *[1] * (self.train_set.ndim - 1))
        chosen = (uniform[:, 1] < self.share).view(-1, *[1] * (copied.ndim - 1))
        return torch.where(chosen, copied, self.mlp(z, y))


class NoisyLabels(NonSaturatingGAN):
    """D sees each sample labeled as real and as fake equally often, and can learn nothing."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        loss = NonSaturatingGAN.discriminator_loss
        return (loss(real_logits, fake_logits) + loss(fake_logits, real_logits)) / 2


class NoisyHinge(HingeGAN):
    """`NoisyLabels` with the hinge loss."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        loss = HingeGAN.discriminator_loss
        return (loss(real_logits, fake_logits) + loss(fake_logits, real_logits)) / 2


class Lacking:
    """Leaves the modes `lacks` out of the training batches, though they are part of the data set."""

    lacks: tuple[int, ...] = ()

    def train_dataloader(self):
        full = self.train
        kept = (full.y[:, None] != torch.tensor(self.lacks)).all(1)
        self.train = Split(full.x[kept], full.y[kept])
        try:
            return super().train_dataloader()
        finally:
            self.train = full


class LackingRing(Lacking, Ring):
    pass


class LackingGrid(Lacking, Grid):
    pass


class LackingDigits(Lacking, Digits):
    pass
