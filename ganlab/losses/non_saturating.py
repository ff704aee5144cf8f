"""The non-saturating loss, and the conditional GAN, which trains by it."""

from torch.nn.functional import softplus

from ganlab.losses.minimax import MinimaxGAN
from ganlab.models.gan import GAN


class NonSaturatingGAN(GAN):
    """Non-saturating loss (Goodfellow et al. 2014, sec. 3): D: s(-r) + s(f), as minimax; G: s(-f) = -log sigma(f).

    dG/df = -(1 - sigma(f)) -> -1 when D wins, so G keeps learning. It fails by dropping modes and, without a gradient
    penalty, by circling the equilibrium.
    """

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    discriminator_loss = staticmethod(MinimaxGAN.discriminator_loss)
    optimal_logit = staticmethod(MinimaxGAN.optimal_logit)
    divergence = staticmethod(MinimaxGAN.divergence)


class CGAN(NonSaturatingGAN):
    """Conditional GAN (Mirza & Osindero 2014, eq. 2): the non-saturating loss on D(x, y) and G(z, y).

    It only *requires* labels: `conditioning=labels` makes any other family conditional. It fails like the non-saturating
    GAN, and G can ignore y where D does (see `quality/label_agreement_…`).
    """

    requires_labels = True
