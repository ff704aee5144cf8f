from ganlab.models.gan import GAN


class LSGAN(GAN):
    """Least squares (Mao et al. 2017, eq. 9): D: (r - 1)^2/2 + f^2/2; G: (f - 1)^2/2, on raw outputs, never on sigmoids.

    The targets are the logits 1 for real and 0 for fake. G's gradient f - 1 grows without bound, so that outliers
    dominate; above a logit of 1 it changes sign.
    """

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (real_logits - 1).square().mean() / 2 + fake_logits.square().mean() / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (fake_logits - 1).square().mean() / 2

    @staticmethod
    def optimal_logit(p, q):
        return p / (p + q)

    @staticmethod
    def divergence(p, q):
        """sum (p - q)^2/(p + q)/8 - 1/4, the triangular discrimination."""
        return ((p - q).square() / (p + q)).sum() / 8 - 0.25
