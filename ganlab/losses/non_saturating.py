"""The non-saturating loss."""

from __future__ import annotations

import math

from torch.nn.functional import softplus

from ganlab.losses.divergences import jensen_shannon
from ganlab.models.gan import GAN


class NonSaturatingGAN(GAN):
    """Non-saturating loss (Goodfellow et al. 2014, sec. 3): D: s(-r) + s(f); G: s(-f) = -log sigma(f).

    dG/df = -(1 - sigma(f)) -> -1 when D wins, so G keeps learning; it fails by dropping modes and, without
    a gradient penalty, by circling the equilibrium instead of reaching it.
    """

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        """log p/q."""
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """2 JS(p, q) - log 4."""
        return 2 * jensen_shannon(p, q) - math.log(4)
