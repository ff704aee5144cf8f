"""f-GANs: D estimates an f-divergence through the convex conjugate of f."""

import math
from abc import abstractmethod

from torch import Tensor
from torch.nn.functional import softplus

from ganlab.losses.functional import exp_minus_one, jensen_shannon, kullback_leibler
from ganlab.models.gan import GAN


class FGAN(GAN):
    """D minimizes -E T(r) + E f*(T(f)) (Nowozin et al. 2016, eq. 6-7): minus a lower bound of D_f(real, fake).

    The bound is tight at the optimal D. T = `activation`(logit) is increasing and keeps D's output where the conjugate f*
    is finite; both are in the paper's tables 2 and 6. G minimizes the bound, -E f*(T(f)) (`saturating`), or, as the paper
    trains it (sec. 3.2), -E T(f).

    An exponential f* o T overflows float32 above a logit of 88: use small learning rates or a penalty.
    """

    def __init__(self, *networks, saturating: bool = False, **settings):
        super().__init__(*networks, **settings)
        self.saturating = saturating

    @staticmethod
    def activation(logits: Tensor) -> Tensor:
        """T, elementwise; the identity by default."""
        return logits

    @staticmethod
    @abstractmethod
    def conjugate(logits: Tensor) -> Tensor:
        """f*(T(logits)), elementwise, in a form that neither cancels nor overflows where the value does not."""

    def discriminator_loss(self, real_logits, fake_logits):
        return self.conjugate(fake_logits).mean() - self.activation(real_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(self.conjugate if self.saturating else self.activation)(fake_logits).mean()


class KLGAN(FGAN):
    """f-GAN of KL(real, fake): T = v, f* = e^(v - 1). It covers all modes, with fakes between them."""

    @staticmethod
    def conjugate(logits):
        return (logits - 1).exp()

    @staticmethod
    def optimal_logit(p, q):
        return 1 + (p / q).log()

    @staticmethod
    def divergence(p, q):
        """KL(p, q)."""
        return kullback_leibler(p, q)


class ReverseKLGAN(FGAN):
    """f-GAN of KL(fake, real): T = -e^-v, f* = v - 1. It prefers good fakes over all modes: expect dropped ones."""

    @staticmethod
    def activation(logits):
        return -(-logits).exp()

    @staticmethod
    def conjugate(logits):
        return logits - 1

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """KL(q, p)."""
        return kullback_leibler(q, p)


class PearsonGAN(FGAN):
    """f-GAN of Pearson's chi^2: T = v, f* = v^2/4 + v for v >= -2, else -1.

    The paper's table omits the second case, in which its f* would push fakes the wrong way. Few samples dominate the loss
    where q is small.
    """

    @staticmethod
    def conjugate(logits):
        v = logits.clamp(min=-2)
        return v.square() / 4 + v

    @staticmethod
    def optimal_logit(p, q):
        return 2 * (p / q - 1)

    @staticmethod
    def divergence(p, q):
        """Pearson chi^2 = sum (p - q)^2/q."""
        return ((p - q).square() / q).sum()


class SquaredHellingerGAN(FGAN):
    """f-GAN of the squared Hellinger distance sum (sqrt p - sqrt q)^2: T = 1 - e^-v, f* = e^v - 1.

    Symmetric and at most 2, but both of D's terms are exponentials.
    """

    @staticmethod
    def activation(logits):
        return -exp_minus_one(-logits)

    @staticmethod
    def conjugate(logits):
        return exp_minus_one(logits)

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log() / 2

    @staticmethod
    def divergence(p, q):
        """sum (sqrt p - sqrt q)^2, the squared Hellinger distance."""
        return (p.sqrt() - q.sqrt()).square().sum()


class JensenShannonGAN(FGAN):
    """f-GAN of 2 JS: T(v) = log 2 - s(-v), f*(T(v)) = s(v) - log 2 for logits v, s = softplus: minimax up to constants."""

    @staticmethod
    def activation(logits):
        return math.log(2) - softplus(-logits)

    @staticmethod
    def conjugate(logits):
        return softplus(logits) - math.log(2)

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """2 JS(p, q)."""
        return 2 * jensen_shannon(p, q)
