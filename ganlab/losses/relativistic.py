"""Relativistic losses: functions of the differences between real and fake logits."""

import math

from torch.nn.functional import softplus

from ganlab.losses.functional import jensen_shannon
from ganlab.models.gan import GAN


class RpGAN(GAN):
    """Relativistic pairing (Jolicoeur-Martineau 2018; R3GAN, Huang et al. 2024, eq. 2): D: s(-(r - f)); G: s(-(f - r)).

    Pairing each fake with a real sample removes the local minima in which modes stay dropped. Without a penalty it circles
    or diverges; R3GAN adds R1 and R2 (`loss=r3gan`). The optimal logit is defined up to a constant.

    With labels, real and fake of a pair have the same one, as in R3GAN, if fakes get the real batch's labels
    (`label_prior=batch`, which the presets set). With another prior D compares across classes, too; a run warns of it.
    """

    generator_sees_real = pairs_samples = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(fake_logits - real_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(real_logits - fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """JS(p x q, q x p) - log 2, of pairs (real, fake) and (fake, real)."""
        pairs = p[:, None] * q
        return jensen_shannon(pairs.flatten(), pairs.T.flatten()) - math.log(2)


class RaGAN(GAN):
    """Relativistic average (Jolicoeur-Martineau 2018, sec. 4.2): each logit minus the batch mean of the other side.

    D: (s(-(r - mean f)) + s(f - mean r))/2; G: (s(-(f - mean r)) + s(r - mean f))/2. The loss depends on the batch size
    through the means, which are over all classes: there are no pairs, so any `label_prior` fits. Like RpGAN it needs a
    penalty to converge.
    """

    generator_sees_real = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        real, fake = real_logits - fake_logits.mean(), fake_logits - real_logits.mean()
        return (softplus(-real).mean() + softplus(fake).mean()) / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        real, fake = real_logits - fake_logits.mean(), fake_logits - real_logits.mean()
        return (softplus(-fake).mean() + softplus(real).mean()) / 2
