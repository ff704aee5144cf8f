import math

from torch.nn.functional import softplus

from ganlab.losses.functional import jensen_shannon
from ganlab.models.gan import GAN


class MinimaxGAN(GAN):
    """Minimax loss (Goodfellow et al. 2014, eq. 1): D: s(-r) + s(f); G: -s(f) = log(1 - sigma(f)).

    dG/df = -sigma(f) -> 0 as f -> -inf: once D recognizes the fakes, G stops learning (|dG/df| = 4.5e-5 at f = -10).
    """

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -softplus(fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """2 JS(p, q) - log 4."""
        return 2 * jensen_shannon(p, q) - math.log(4)
