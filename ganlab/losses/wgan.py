from ganlab.models.gan import GAN


class WGAN(GAN):
    """Wasserstein loss (Arjovsky et al. 2017, eq. 2): critic: f - r; G: -f, on linear outputs.

    With a 1-Lipschitz critic, -loss estimates the earth mover's distance. The constraint is a regularizer: weight
    clipping (WGAN) or a gradient penalty (WGAN-GP, Gulrajani et al. 2017). Without one the loss explodes; with clipping
    the critic learns slowly and prefers simple functions.
    """

    requires_lipschitz = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.mean() - real_logits.mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def divergence(p, q):
        """W1(p, q), the earth mover's distance."""
        return (p.cumsum(0) - q.cumsum(0)).abs().sum()  # of masses on the points 0, 1, 2 …
