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
