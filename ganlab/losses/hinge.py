from torch.nn.functional import relu

from ganlab.models.gan import GAN


class HingeGAN(GAN):
    """Hinge loss (Lim & Ye 2017; Miyato et al. 2018, eq. 16-17): D: relu(1 - r) + relu(1 + f); G: -f.

    D stops learning where it is right by a margin of 1. G's gradient is then D's slope, which may vanish: use spectral norm
    or a gradient penalty.
    """

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p - q).sign()

    @staticmethod
    def divergence(p, q):
        """2 TV(p, q) - 2."""
        return (p - q).abs().sum() - 2
