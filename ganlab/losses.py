"""The families, side by side. Logits, softplus s(x) = log(1 + e^x), sigma = sigmoid; high logit = "real".

A trap that popular write-ups fall into: -log D(G(z)) is the *non-saturating* loss, and log(1 - D(G(z)))
the *minimax* loss whose gradient vanishes when the discriminator wins; they are often named the wrong way round.
"""

from torch.nn.functional import softplus

from ganlab.gan import GAN


class MinimaxGAN(GAN):
    """Minimax loss (Goodfellow et al. 2014, eq. 1): D: s(-r) + s(f); G: -s(f) = log(1 - sigma(f)).

    dG/df = -sigma(f) dies as f -> -inf: once D tells fakes apart, G stops learning (4.5e-5 at f = -10).
    """

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -softplus(fake_logits).mean()


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


class WGAN(GAN):
    """Wasserstein loss (Arjovsky et al. 2017, eq. 2): critic: f - r; G: -f, on linear outputs.

    With a 1-Lipschitz critic, -loss estimates the earth mover's distance. The constraint is a regularizer:
    weight clipping (WGAN) or gradient penalty (WGAN-GP, Gulrajani et al. 2017). Without one it explodes;
    clipped, the critic is slow and biased to simple functions.
    """

    requires_lipschitz = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.mean() - real_logits.mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()


class CGAN(NonSaturatingGAN):
    """Conditional GAN (Mirza & Osindero 2014, eq. 2): the non-saturating loss on D(x, y) and G(z, y).

    It only *requires* labels: any other family is conditional by `conditioning=labels`. It fails like its
    parent, and can ignore y where D does (watch `quality/label_agreement_…`).
    """

    requires_labels = True
