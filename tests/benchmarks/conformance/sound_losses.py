"""Losses that are right and unusual. `why` says why each is sound; `check` compares it with NumPy, or with its theory."""

import math
from functools import partial

import numpy as np
import torch
from bench_common import (
    HINGE,
    LS,
    MM,
    NS,
    RA,
    RAHINGE,
    RALS,
    RP,
    F,
    R,
    Sound,
    W,
    agree,
    build,
    d_gradient,
    g_gradient,
    register,
    right,
    right_d,
    right_g,
    sig,
    sp,
    step,
)  # fmt: skip
from bench_common import relu as np_relu
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, logsigmoid, relu, softplus

from ganlab import GAN, LSGAN, WGAN, AlphaGAN, HingeGAN, MinimaxGAN, NonSaturatingGAN, RaGAN, RpGAN
from ganlab.losses.f_gan import FGAN
from ganlab.regularizers import R1, GradientPenalty

CASES: list[Sound] = []
case = register(CASES, Sound)
FAR = (R * 8, F * 8)

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])


def theory(pair=None, pairs=False):
    """The declared optimum is stationary, and -loss there is the declared divergence."""

    def check(factory):
        gan = build(factory)
        p, q = torch.tensor(P), torch.tensor(Q)
        if pairs:
            i, j = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
            counts = np.round(100 * P[i] * Q[j]).astype(int)
            ri, fi = np.repeat(i, counts), np.repeat(j, counts)
        else:
            ri, fi = np.repeat(np.arange(3), [5, 3, 2]), np.repeat(np.arange(3), [2, 3, 5])
        shown = {}
        if gan.optimal_logit is not None:
            v = gan.optimal_logit(p, q).double().clone().requires_grad_()
            loss = gan.discriminator_loss(v[ri], v[fi])
            (g,) = torch.autograd.grad(loss, v)
            assert g.abs().max() < 1e-8, g
            shown["gradient at the optimum"] = g.abs().max().item()
            for _ in range(5):  # and it is a minimum
                u = v.detach() + 0.3 * torch.randn(3, dtype=torch.float64)
                assert gan.discriminator_loss(u[ri], u[fi]) >= loss - 1e-9
            if gan.divergence is not None:
                shown |= agree(-loss.item(), gan.divergence(p, q).item())
        if pair is not None:
            shown |= right(pair)(factory)
        return shown

    return check


# 1. The known losses in other words


class SoftMarginGAN(MinimaxGAN):
    """log(1 + exp(-y l)) with y = +-1."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.criterion = nn.SoftMarginLoss()

    def discriminator_loss(self, real_logits, fake_logits):
        y = torch.ones_like(real_logits)
        return self.criterion(real_logits, y) + self.criterion(fake_logits, -torch.ones_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return -self.criterion(fake_logits, -torch.ones_like(fake_logits))


case(
    SoftMarginGAN, True, "SoftMarginLoss with y = +-1 is softplus(-y l): minimax exactly.", theory(MM), "Goodfellow et al. 2014"
)


class TwoClassGAN(NonSaturatingGAN):
    """Real and fake as two classes of a softmax over [0, logit]."""

    @staticmethod
    def _ce(logits, label):
        scores = torch.stack([torch.zeros_like(logits), logits], dim=1)
        return cross_entropy(scores, torch.full((len(logits),), label, dtype=torch.long, device=logits.device))

    def discriminator_loss(self, real_logits, fake_logits):
        return self._ce(real_logits, 1) + self._ce(fake_logits, 0)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._ce(fake_logits, 1)


case(TwoClassGAN, True, "A softmax over [0, l] is the sigmoid of l.", right(NS, ((R, F), FAR)), "semi-supervised GAN code")


class BCEGAN(NonSaturatingGAN):
    """PyTorch's DCGAN example on logits, labels in buffers."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("real_label", torch.tensor(1.0))
        self.register_buffer("fake_label", torch.tensor(0.0))

    def _bce(self, logits, label):
        return bce(logits, label.to(logits.dtype).expand_as(logits))

    def discriminator_loss(self, real_logits, fake_logits):
        errD_real = self._bce(real_logits, self.real_label)
        errD_fake = self._bce(fake_logits, self.fake_label)
        return errD_real + errD_fake

    def generator_loss(self, fake_logits, real_logits=None):
        return self._bce(fake_logits, self.real_label)


case(
    BCEGAN,
    True,
    "Cross-entropy with logits is softplus; the labels' buffers never change.",
    right(NS, ((R, F), FAR)),
    "DCGAN example",
)


class LogAddExpGAN(GAN):
    """log(1 + e^x) by logaddexp."""

    def discriminator_loss(self, real_logits, fake_logits):
        zero = torch.zeros_like(real_logits)
        return torch.logaddexp(zero, -real_logits).mean() + torch.logaddexp(zero, fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return torch.logaddexp(torch.zeros_like(fake_logits), -fake_logits).mean()

    def optimal_logit(self, p, q):
        return torch.log(p) - torch.log(q)


case(LogAddExpGAN, False, "logaddexp(0, x) = softplus(x), stable for every x.", theory(NS), "hand-written logs")


class SignedWasserstein(WGAN):
    """y l with y = -1 for real, as in Keras' wasserstein_loss."""

    def discriminator_loss(self, real_logits, fake_logits):
        y = torch.cat([-torch.ones_like(real_logits), torch.ones_like(fake_logits)])
        return 2 * (y * torch.cat([real_logits, fake_logits])).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return (-torch.ones_like(fake_logits) * fake_logits).mean()


case(
    SignedWasserstein,
    True,
    "Twice the mean over both sides is the difference of the sides' means.",
    right(W),
    "Keras' wasserstein_loss",
)


class PaperHinge(HingeGAN):
    """-V of Miyato et al. 2018, eq. 16."""

    def discriminator_loss(self, real_logits, fake_logits):
        v = torch.clamp(-1 + real_logits, max=0).mean() + torch.clamp(-1 - fake_logits, max=0).mean()
        return -v


case(PaperHinge, True, "-min(0, -1 + r) = max(0, 1 - r).", right(HINGE), "Miyato et al. 2018")


class MSEGAN(LSGAN):
    """Three nn.MSELoss calls."""

    criterion = nn.MSELoss()

    def discriminator_loss(self, real_logits, fake_logits):
        target = torch.cat([torch.ones_like(real_logits), torch.zeros_like(fake_logits)])
        return self.criterion(torch.cat([real_logits, fake_logits]), target)

    def generator_loss(self, fake_logits, real_logits=None):
        return 0.5 * self.criterion(fake_logits, torch.ones_like(fake_logits))


case(
    MSEGAN, True, "The mean over both halves of a batch contains the half of each.", right(LS), "MSELoss on concatenated logits"
)


class RelativisticByLogSigmoid(RpGAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return -logsigmoid(real_logits - fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        # pairs are independent, so that any fixed pairing does
        return -logsigmoid(fake_logits - real_logits.detach()).mean()


case(
    RelativisticByLogSigmoid,
    True,
    "Real logits do not depend on G: detaching them in G's loss changes nothing.",
    theory(RP, pairs=True),
    "R3GAN",
)


class RaGANByBCE(RaGAN):
    def discriminator_loss(self, real_logits, fake_logits):
        a = bce(real_logits - fake_logits.mean(), torch.ones_like(real_logits))
        b = bce(fake_logits - real_logits.mean(), torch.zeros_like(fake_logits))
        return 0.5 * (a + b)

    def generator_loss(self, fake_logits, real_logits=None):
        return self.discriminator_loss(fake_logits, real_logits)


case(RaGANByBCE, True, "G's loss is D's with the sides exchanged, by symmetry.", right(RA), "Jolicoeur-Martineau 2018")


class AlphaOne(AlphaGAN):
    """alpha = 1 by hand: cross-entropy."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(
    AlphaOne,
    True,
    "The alpha-loss at alpha = 1 is cross-entropy, and the inherited theory has alpha = 1.",
    theory(NS),
    "Welfert et al. 2023",
)


# 2. Proper and margin losses of classification


class SavageGAN(GAN):
    """Savage loss (Masnadi-Shirazi & Vasconcelos 2008): sigma(-m)^2 of the margin m; G as in the non-saturating GAN.

    It is bounded: D gives up samples that it has very wrong, by design.
    """

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.sigmoid(-real_logits).square().mean() + torch.sigmoid(fake_logits).square().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """-sum pq/(p + q), half the triangular discrimination up to a shift."""
        return -(p * q / (p + q)).sum()


case(SavageGAN, True, "A proper loss with the logistic link: the optimum is log p/q.",
     theory(((lambda r, f: (sig(-r) ** 2).mean() + (sig(f) ** 2).mean()), NS[1])), "Masnadi-Shirazi & Vasconcelos 2008")  # fmt: skip


class ExponentialGAN(GAN):
    """AdaBoost's exponential loss for D; overflows above 88, as an f-GAN's exponential does. G: -log sigma."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return torch.exp(-real_logits).mean() + torch.exp(fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -logsigmoid(fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return 0.5 * torch.log(p / q)

    @staticmethod
    def divergence(p, q):
        """-2 sum sqrt(pq), the squared Hellinger distance minus 2."""
        return -2 * (p * q).sqrt().sum()


case(ExponentialGAN, True, "Minimizing p e^-v + q e^v gives v = log(p/q)/2.", theory(((lambda r, f: np.exp(-r).mean() + np.exp(f).mean()), NS[1])),
     "Freund & Schapire; Hellinger")  # fmt: skip


class SquaredHingeGAN(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return relu(1 - real_logits).square().mean() + relu(1 + fake_logits).square().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def optimal_logit(self, p, q):
        return (p - q) / (p + q)

    def divergence(self, p, q):
        """-4 sum pq/(p + q)."""
        return -4 * (p * q / (p + q)).sum()


case(SquaredHingeGAN, True, "p(1 - v)^2 + q(1 + v)^2 is least at (p - q)/(p + q), inside the margins.",
     theory(((lambda r, f: (np_relu(1 - r) ** 2).mean() + (np_relu(1 + f) ** 2).mean()), W[1])), "squared hinge")  # fmt: skip


class SoftplusHinge(GAN):
    """A hinge without kink: softplus(1 - r) + softplus(1 + f)."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(1 - real_logits).mean() + softplus(1 + fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


case(SoftplusHinge, False, "A convex decreasing margin loss; its derivative at 0 is negative, so that it is calibrated.",
     right(((lambda r, f: sp(1 - r).mean() + sp(1 + f).mean()), W[1]), ((R, F), FAR)), "StudioGAN-like soft hinges")  # fmt: skip


class WideHinge(GAN):
    """Hinge with a margin of its own."""

    def __init__(self, *args, margin: float = 4.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.margin = margin

    def discriminator_loss(self, real_logits, fake_logits):
        return (relu(self.margin - real_logits) + relu(self.margin + fake_logits)).mean() / self.margin

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def optimal_logit(self, p, q):
        return self.margin * (p - q).sign()

    @staticmethod
    def divergence(p, q):
        """2 TV(p, q) - 2."""
        return (p - q).abs().sum() - 2


case(WideHinge, True, "The hinge in other units: relu(1 - r/m); the optimum scales with m, and is declared so.",
     right(((lambda r, f: (np_relu(4 - r).mean() + np_relu(4 + f).mean()) / 4), W[1])), "margin as a setting")  # fmt: skip


class UnhingedGAN(GAN):
    """Unhinged loss (van Rooyen et al. 2015): linear, so the critic must be bounded in slope."""

    requires_lipschitz = True

    def discriminator_loss(self, real_logits, fake_logits):
        return ((1 - real_logits).mean() + (1 + fake_logits).mean()) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return ((1 - fake_logits) / 2).mean()


case(UnhingedGAN, True, "The Wasserstein loss, halved and shifted, for both players.", right(((lambda r, f: (f.mean() - r.mean()) / 2 + 1), lambda f, r: (1 - f.mean()) / 2)),
     "van Rooyen et al. 2015", factory=partial(UnhingedGAN, regularizers={"gp": GradientPenalty(10.0)}))  # fmt: skip


class FocalGAN(GAN):
    """Focal loss (Lin et al. 2017), gamma = 2, with the gradient through the weights, as in the paper."""

    gamma = 2

    def _focal(self, logits):
        return (torch.sigmoid(-logits) ** self.gamma * softplus(-logits)).mean()

    def discriminator_loss(self, real_logits, fake_logits):
        return self._focal(real_logits) + self._focal(-fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(FocalGAN, True, "A decreasing loss of the margin; right answers weigh less, wrong ones as in cross-entropy.",
     right(((lambda r, f: (sig(-r) ** 2 * sp(-r)).mean() + (sig(f) ** 2 * sp(f)).mean()), NS[1]), ((R, F), FAR)), "Lin et al. 2017")  # fmt: skip


class PolyGAN(GAN):
    """Poly-1 loss (Leng et al. 2022): cross-entropy + epsilon (1 - p)."""

    epsilon = 1.0

    def discriminator_loss(self, real_logits, fake_logits):
        real = softplus(-real_logits) + self.epsilon * torch.sigmoid(-real_logits)
        fake = softplus(fake_logits) + self.epsilon * torch.sigmoid(fake_logits)
        return real.mean() + fake.mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return (softplus(-fake_logits) + self.epsilon * torch.sigmoid(-fake_logits)).mean()


case(PolyGAN, True, "A sum of two decreasing margin losses for both players.",
     right(((lambda r, f: (sp(-r) + sig(-r)).mean() + (sp(f) + sig(f)).mean()), lambda f, r: (sp(-f) + sig(-f)).mean())), "Leng et al. 2022")  # fmt: skip


class SmoothedGAN(GAN):
    """Labels 0.9 and 0.1 for D (two-sided smoothing), 1 for G."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(real_logits, torch.full_like(real_logits, 0.9)) + bce(fake_logits, torch.full_like(fake_logits, 0.1))

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return ((0.9 * p + 0.1 * q) / (0.1 * p + 0.9 * q)).log()


case(
    SmoothedGAN,
    False,
    "D* = (0.9p + 0.1q)/(p + q), as declared; still increasing in p/q.",
    theory(),
    "label smoothing on both sides",
)


class OneSidedSmoothing(GAN):
    """Salimans et al. 2016, with its own theory."""

    def discriminator_loss(self, real_logits, fake_logits):
        real = 0.9 * softplus(-real_logits) + 0.1 * softplus(real_logits)
        return (real + softplus(fake_logits)).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (0.9 * p / (0.1 * p + q)).log()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(OneSidedSmoothing, True, "D* = 0.9p/(p + q), as declared.", theory(), "Salimans et al. 2016")


class HuberGAN(GAN):
    """Huber's loss to the targets 1 and 0: least squares with linear tails."""

    def discriminator_loss(self, real_logits, fake_logits):
        h = nn.HuberLoss(delta=1.0)
        return h(real_logits, torch.ones_like(real_logits)) + h(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return nn.HuberLoss(delta=1.0)(fake_logits, torch.ones_like(fake_logits))


def _huber(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


case(HuberGAN, False, "LSGAN near its targets, with gradients of at most 1.",
     right(((lambda r, f: _huber(r - 1).mean() + _huber(f).mean()), lambda f, r: _huber(f - 1).mean())), "robust regression")  # fmt: skip


class LogCoshGAN(GAN):
    """log cosh to the targets 1 and -1, G to 1."""

    @staticmethod
    def _log_cosh(x):
        return (x.abs() + softplus(-2 * x.abs()) - math.log(2)).mean()

    def discriminator_loss(self, real_logits, fake_logits):
        return self._log_cosh(real_logits - 1) + self._log_cosh(fake_logits + 1)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._log_cosh(fake_logits - 1)


def _lc(x):
    return np.log(np.cosh(x)).mean()


case(LogCoshGAN, False, "A convex regression loss; written so that cosh never overflows.", right(((lambda r, f: _lc(r - 1) + _lc(f + 1)), lambda f, r: _lc(f - 1))),
     "robust regression")  # fmt: skip


class SymmetricLSGAN(GAN):
    """Mao et al. 2017 with a = -1, b = 1, c = 0: G aims at the midpoint; Pearson's chi^2 of p + q and 2q."""

    def discriminator_loss(self, real_logits, fake_logits):
        return 0.5 * (real_logits - 1).square().mean() + 0.5 * (fake_logits + 1).square().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return 0.5 * fake_logits.square().mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p - q) / (p + q)

    @staticmethod
    def divergence(p, q):
        """-2 sum pq/(p + q)."""
        return -2 * (p * q / (p + q)).sum()


case(SymmetricLSGAN, True, "b - c = 1 and b - a = 2, the paper's condition; G lowers fakes that look more real than 0, as it says.",
     theory(((lambda r, f: ((r - 1) ** 2).mean() / 2 + ((f + 1) ** 2).mean() / 2), lambda f, r: (f**2).mean() / 2)), "Mao et al. 2017, eq. 8")  # fmt: skip


class MeanSquaredGAN(GAN):
    """Squared errors without the half: twice the loss of Mao et al. for both players."""

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.mean((real_logits - 1) ** 2) + torch.mean(fake_logits**2)

    def generator_loss(self, fake_logits, real_logits=None):
        return torch.mean((fake_logits - 1) ** 2)

    @staticmethod
    def optimal_logit(p, q):
        return p / (p + q)


case(MeanSquaredGAN, False, "The same factor for both players, stated.", theory(((lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean()), lambda f, r: ((f - 1) ** 2).mean())),
     "most public code")  # fmt: skip


# 3. Other losses of G


class LogRatioGAN(GAN):
    """D: cross-entropy; G: -f, i.e. KL(fake, real) at the optimal D (Sønderby et al. 2017)."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()


case(
    LogRatioGAN,
    False,
    "softplus(-f) - softplus(f) = -f: the sum of both G losses.",
    theory((NS[0], W[1])),
    "Sønderby et al. 2017",
)


class MaximumLikelihoodGAN(GAN):
    """Goodfellow 2014: G: -e^f, KL(real, fake) at the optimal D. Its gradient vanishes where D rejects, as in minimax."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.exp().mean()


case(MaximumLikelihoodGAN, True, "The paper's cost -exp(sigma^-1(D)); the saturation is stated.", right((NS[0], lambda f, r: -np.exp(f).mean())),
     "Goodfellow 2014, On distinguishability criteria")  # fmt: skip


class BoundarySeekingGAN(GAN):
    """Hjelm et al. 2018, sec. 3: G: (log D - log(1 - D))^2/2 = f^2/2; G seeks D's boundary, from both sides."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return 0.5 * fake_logits.pow(2).mean()


case(BoundarySeekingGAN, True, "As in the paper: the target is logit 0, where real and fake are alike.", right((NS[0], lambda f, r: (f**2).mean() / 2)),
     "Hjelm et al. 2018")  # fmt: skip


class TopKTraining(GAN):
    """Sinha et al. 2020: G learns from the better half of its batch."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        k = max(1, len(fake_logits) // 2)
        return softplus(-fake_logits.topk(k).values).mean()


case(TopKTraining, True, "The published technique: the k highest logits; independent of the order.", right((NS[0], lambda f, r: sp(-np.sort(f)[-3:]).mean())),
     "Sinha et al. 2020")  # fmt: skip


class WeightedGAN(GAN):
    """G's samples are weighted by softmax of -f/2, detached: those that D rejects count more."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        with torch.no_grad():
            weights = torch.softmax(-fake_logits / 2, dim=0)
        return torch.sum(weights * softplus(-fake_logits))


def _weighted(factory):
    w = np.exp(-F / 2) / np.exp(-F / 2).sum()
    agree(d_gradient(factory), right_d(NS, R, F))
    return agree(g_gradient(factory), -w * sig(-F))


case(WeightedGAN, False, "Constant weights that sum to 1: a weighted mean.", _weighted, "importance weights")


class KLWGAN(GAN):
    """KL-WGAN (Song & Ermon 2020): fakes weighted by detached density ratios w = e^f/mean e^f."""

    @staticmethod
    def _ratio(logits):
        return (torch.softmax(logits.detach(), 0) * len(logits)).detach()

    def discriminator_loss(self, real_logits, fake_logits):
        return relu(1 - real_logits).mean() + relu(1 + self._ratio(fake_logits) * fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(self._ratio(fake_logits) * fake_logits).mean()


def _klwgan(factory):
    w = 6 * np.exp(F) / np.exp(F).sum()
    agree(d_gradient(factory), np.concatenate([-(R < 1).astype(float) / 6, w * (1 + w * F > 0) / 6]))
    return agree(g_gradient(factory), -w / 6)


case(KLWGAN, True, "As published: self-normalized, detached weights.", _klwgan, "Song & Ermon 2020")


# 4. Relativistic


class RaLSGAN(GAN):
    generator_sees_real = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        real, fake = real_logits - fake_logits.mean(), fake_logits - real_logits.mean()
        return ((real - 1).square().mean() + (fake + 1).square().mean()) / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return RaLSGAN.discriminator_loss(fake_logits, real_logits)


case(
    RaLSGAN,
    True,
    "Targets 1 and -1 of the differences; G's is D's with the sides exchanged.",
    right(RALS),
    "Jolicoeur-Martineau 2018",
)


class RaHingeGAN(GAN):
    generator_sees_real = True

    def _hinge(self, high, low):
        return (relu(1 - (high - low.mean())).mean() + relu(1 + (low - high.mean())).mean()) / 2

    def discriminator_loss(self, real_logits, fake_logits):
        return self._hinge(real_logits, fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._hinge(fake_logits, real_logits)


case(
    RaHingeGAN,
    True,
    "The relativistic average hinge, with averages that carry gradients.",
    right(RAHINGE),
    "Jolicoeur-Martineau 2018",
)


class RelativisticLeastSquares(GAN):
    """(r - f - 1)^2 on pairs."""

    generator_sees_real = pairs_samples = True

    def discriminator_loss(self, real_logits, fake_logits):
        return 0.5 * (real_logits - fake_logits - 1).square().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return 0.5 * (fake_logits - real_logits - 1).square().mean()


case(RelativisticLeastSquares, True, "RpGAN's pairs with least squares (RpLSGAN).",
     right(((lambda r, f: ((r - f - 1) ** 2).mean() / 2), lambda f, r: ((f - r - 1) ** 2).mean() / 2)), "Jolicoeur-Martineau 2020, Rp variants")  # fmt: skip


class AllPairsRpGAN(GAN):
    """Every real sample with every fake: RpGAN's expectation with less variance."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(fake_logits.unsqueeze(0) - real_logits.unsqueeze(1)).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(real_logits.unsqueeze(1) - fake_logits.unsqueeze(0)).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()


case(AllPairsRpGAN, True, "The mean over all pairs has RpGAN's expectation.",
     theory(((lambda r, f: sp(f[None] - r[:, None]).mean()), lambda f, r: sp(r[:, None] - f[None]).mean())), "U-statistics")  # fmt: skip


class TemperedPairs(GAN):
    """Softmax over the pair with temperature T = 2, multiplied by T so that far gradients stay 1."""

    generator_sees_real = pairs_samples = True
    temperature = 2.0

    def _first(self, a, b):
        scores = torch.stack([a, b], 1) / self.temperature
        return -self.temperature * scores.log_softmax(1)[:, 0].mean()

    def discriminator_loss(self, real_logits, fake_logits):
        return self._first(real_logits, fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._first(fake_logits, real_logits)

    def optimal_logit(self, p, q):
        return self.temperature * (p / q).log()


case(TemperedPairs, False, "RpGAN in other units: T softplus((f - r)/T).",
     theory(((lambda r, f: 2 * sp((f - r) / 2).mean()), lambda f, r: 2 * sp((r - f) / 2).mean()), pairs=True), "tempered softmax")  # fmt: skip


class SoftmaxGAN(GAN):
    """Softmax GAN (Lin 2017): D puts all mass on real samples, G spreads it over both."""

    generator_sees_real = True

    @staticmethod
    def _log_z(real, fake):
        return torch.logsumexp(torch.cat([real, fake]), 0) - math.log(len(real))

    def discriminator_loss(self, real_logits, fake_logits):
        return self._log_z(real_logits, fake_logits) - real_logits.mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return self._log_z(real_logits, fake_logits) - (real_logits.mean() + fake_logits.mean()) / 2

    @staticmethod
    def optimal_logit(p, q):
        return (p / (p + q)).log()

    @staticmethod
    def divergence(p, q):
        """KL(p, (p + q)/2) - log 2."""
        return (p * (p / (p + q)).log()).sum()


def _lz(r, f):
    return np.log(np.exp(r).mean() + np.exp(f).mean())


case(SoftmaxGAN, True, "Cross-entropy over the batch; a mean under the log, so that the batch size only shifts nothing.",
     theory(((lambda r, f: _lz(r, f) - r.mean()), lambda f, r: _lz(r, f) - (r.mean() + f.mean()) / 2)), "Lin 2017")  # fmt: skip


class DualContrastiveGAN(GAN):
    """Dual contrastive loss (Yu et al. 2021); G minimizes its negative, as in the paper. Depends on the batch size, by design."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        gaps = fake_logits[None, :] - real_logits[:, None]
        zero = torch.zeros(len(gaps), 1, dtype=gaps.dtype, device=gaps.device)
        each_real = torch.cat([zero, gaps], 1).logsumexp(1).mean()
        each_fake = torch.cat([zero, gaps.T], 1).logsumexp(1).mean()
        return each_real + each_fake

    def generator_loss(self, fake_logits, real_logits=None):
        return -self.discriminator_loss(real_logits, fake_logits)


def _dual(r, f):
    d = f[None] - r[:, None]
    return np.log1p(np.exp(d).sum(1)).mean() + np.log1p(np.exp(d).sum(0)).mean()


case(
    DualContrastiveGAN,
    True,
    "The published minimax form; logsumexp with a zero is log(1 + sum).",
    right((_dual, lambda f, r: -_dual(r, f))),
    "Yu et al. 2021",
)


# 5. f-divergences and bounds


class NeymanGAN(FGAN):
    """f-GAN of Neyman's chi^2: T = 1 - e^-v, f*(T) = 2 - 2 e^(-v/2)."""

    @staticmethod
    def activation(logits):
        return 1 - (-logits).exp()

    @staticmethod
    def conjugate(logits):
        return 2 - 2 * (-logits / 2).exp()

    @staticmethod
    def optimal_logit(p, q):
        return 2 * (p / q).log()

    @staticmethod
    def divergence(p, q):
        """Neyman chi^2 = sum (p - q)^2/p."""
        return ((p - q).square() / p).sum()


case(NeymanGAN, True, "f(u) = (1 - u)^2/u, f'(u) = 1 - 1/u^2, f*(t) = 2 - 2 sqrt(1 - t).",
     theory(((lambda r, f: (2 - 2 * np.exp(-f / 2)).mean() - (1 - np.exp(-r)).mean()), lambda f, r: -(1 - np.exp(-f)).mean())), "Nowozin et al. 2016, table 6")  # fmt: skip


class TotalVariationGAN(GAN):
    """f-GAN of total variation: T = tanh(v)/2 and f*(t) = t. The optimum is at infinite logits; both gradients vanish far out."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (fake_logits.tanh().mean() - real_logits.tanh().mean()) / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.tanh().mean() / 2

    @staticmethod
    def divergence(p, q):
        """TV(p, q) = sum |p - q|/2."""
        return (p - q).abs().sum() / 2


case(TotalVariationGAN, True, "T lies in [-1/2, 1/2], where f* is the identity; the supremum is TV.",
     right(((lambda r, f: np.tanh(f).mean() / 2 - np.tanh(r).mean() / 2), lambda f, r: -np.tanh(f).mean() / 2)), "Nowozin et al. 2016")  # fmt: skip


class DonskerVaradhanGAN(GAN):
    """KL(real, fake) by Donsker & Varadhan: log E e^f - E r; shifts of D do not matter."""

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.logsumexp(fake_logits, 0) - math.log(len(fake_logits)) - real_logits.mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def optimal_logit(p, q):
        return torch.log(p / q)

    @staticmethod
    def divergence(p, q):
        """KL(p, q)."""
        return (p * torch.log(p / q)).sum()


case(
    DonskerVaradhanGAN,
    True,
    "The bound is tight at log p/q + c.",
    theory(((lambda r, f: np.log(np.exp(f).mean()) - r.mean()), W[1])),
    "Donsker & Varadhan 1983; MINE",
)


class UnnormalizedKL(GAN):
    """Density-ratio estimation: E e^f - E r (KLIEP-like), Bregman divergence of u log u."""

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.exp(fake_logits).mean() - real_logits.mean() - 1

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def optimal_logit(self, p, q):
        return (p / q).log()

    def divergence(self, p, q):
        """KL(p, q)."""
        return (p * (p / q).log()).sum()


case(
    UnnormalizedKL,
    False,
    "q e^v - p v is least at v = log p/q, with value p - p log p/q.",
    theory(((lambda r, f: np.exp(f).mean() - r.mean()), W[1])),
    "Uehara et al. 2016 (b-GAN)",
)


class DensityRatioLS(GAN):
    """b-GAN with Pearson's divergence: softplus(f)^2/2 - softplus(r); D estimates the ratio p/q by softplus of its logit."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(fake_logits).square().mean() / 2 - softplus(real_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def optimal_logit(self, p, q):
        return torch.log(torch.expm1(p / q))


case(
    DensityRatioLS,
    False,
    "q u^2/2 - p u is least at u = p/q, and softplus is increasing.",
    theory(((lambda r, f: (sp(f) ** 2).mean() / 2 - sp(r).mean()), W[1])),
    "Uehara et al. 2016",
)


# 6. Integral probability metrics


class BoundedCriticGAN(GAN):
    """Wasserstein-like with a critic that is bounded by 10 tanh(l/10), for both players; no Lipschitz claim."""

    @staticmethod
    def _bound(logits):
        return 10 * torch.tanh(logits / 10)

    def discriminator_loss(self, real_logits, fake_logits):
        return self._bound(fake_logits).mean() - self._bound(real_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -self._bound(fake_logits).mean()


case(BoundedCriticGAN, False, "An IPM over functions bounded by 10: total variation times 20; smooth, increasing.",
     right(((lambda r, f: 10 * np.tanh(f / 10).mean() - 10 * np.tanh(r / 10).mean()), lambda f, r: -10 * np.tanh(f / 10).mean())), "bounded critics")  # fmt: skip


class EnergyDistanceGAN(GAN):
    """Energy distance of the critic's outputs (Cramér GAN's idea); D enlarges it, G shrinks it. Needs a Lipschitz critic.

    The distance does not know which side is real: D may give real samples the low values.
    """

    generator_sees_real = True
    requires_lipschitz = True

    @staticmethod
    def _distance(a, b):
        gap = lambda x, y: (x[:, None] - y[None]).abs().mean()
        return 2 * gap(a, b) - gap(a, a) - gap(b, b)

    def discriminator_loss(self, real_logits, fake_logits):
        return -self._distance(real_logits, fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._distance(real_logits, fake_logits)


def _ed(r, f):
    gap = lambda x, y: np.abs(x[:, None] - y[None]).mean()
    return 2 * gap(r, f) - gap(r, r) - gap(f, f)


case(EnergyDistanceGAN, True, "A V-statistic that is 0 for equal samples and positive otherwise.", right(((lambda r, f: -_ed(r, f)), lambda f, r: _ed(r, f))),
     "Bellemare et al. 2017; Székely & Rizzo", factory=partial(EnergyDistanceGAN, regularizers={"gp": GradientPenalty(10.0)}))  # fmt: skip


class MMDGAN(GAN):
    """Squared MMD of the critic's outputs, Gaussian kernels of three widths (Li et al. 2017). It is symmetric in real and fake."""

    generator_sees_real = True
    widths = (1.0, 2.0, 4.0)

    def _kernel(self, a, b):
        squared = (a[:, None] - b[None]).square()
        return sum(torch.exp(-squared / (2 * s**2)) for s in self.widths).mean()

    def _mmd(self, a, b):
        return self._kernel(a, a) + self._kernel(b, b) - 2 * self._kernel(a, b)

    def discriminator_loss(self, real_logits, fake_logits):
        return -self._mmd(real_logits, fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._mmd(real_logits, fake_logits)


def _mmd(r, f):
    k = lambda x, y: sum(np.exp(-((x[:, None] - y[None]) ** 2) / (2 * s * s)).mean() for s in (1, 2, 4))
    return k(r, r) + k(f, f) - 2 * k(r, f)


case(
    MMDGAN,
    True,
    "The biased estimate of MMD^2, never negative, 0 for equal samples.",
    right(((lambda r, f: -_mmd(r, f)), lambda f, r: _mmd(r, f))),
    "Li et al. 2017",
)


class LossSensitiveGAN(GAN):
    """The ranking term of Qi 2017 on pairs, margin 1, high logit = real: relu(1 - (r - f)); G: -f."""

    pairs_samples = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rank = nn.MarginRankingLoss(margin=1.0)

    def discriminator_loss(self, real_logits, fake_logits):
        return self.rank(real_logits, fake_logits, torch.ones_like(real_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


case(
    LossSensitiveGAN,
    True,
    "relu(1 - (r - f)): D stops where each pair is a margin apart.",
    right(((lambda r, f: np_relu(1 - r + f).mean()), W[1])),
    "Qi 2017",
)


class FisherGAN(GAN):
    """Fisher GAN (Mroueh & Sercu 2017); the multiplier is updated with D's terms, once per update of D."""

    def __init__(self, *args, rho: float = 0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.rho = rho
        self.register_buffer("multiplier", torch.zeros(()))

    @staticmethod
    def omega(real, fake):
        return 0.5 * (real.square().mean() + fake.square().mean())

    def discriminator_loss(self, real_logits, fake_logits):
        constraint = 1 - self.omega(real_logits, fake_logits)
        gap = real_logits.mean() - fake_logits.mean()
        # a copy: the buffer changes before the step's backward pass
        return -(gap + self.multiplier.clone() * constraint - self.rho / 2 * constraint**2)

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        with torch.no_grad():
            self.multiplier.sub_(self.rho * (1 - self.omega(outputs.real_logits, outputs.fake_logits)))
        return terms


case(FisherGAN, True, "The augmented Lagrangian of the paper; the quadratic term bounds D, so it needs no Lipschitz constraint.",
     right(((lambda r, f: f.mean() - r.mean() + 0.05 * (1 - ((r**2).mean() + (f**2).mean()) / 2) ** 2), W[1])), "Mroueh & Sercu 2017")  # fmt: skip


class SobolevlessIPM(GAN):
    """Wasserstein loss with a drift term 0.5 E l^2 on both sides: chi^2-like, bounded without a Lipschitz constraint."""

    def discriminator_loss(self, real_logits, fake_logits):
        drift = (real_logits.square().mean() + fake_logits.square().mean()) / 4
        return fake_logits.mean() - real_logits.mean() + drift

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def optimal_logit(p, q):
        return 2 * (p - q) / (p + q)

    @staticmethod
    def divergence(p, q):
        """sum (p - q)^2/(p + q), the triangular discrimination."""
        return ((p - q).square() / (p + q)).sum()


case(SobolevlessIPM, False, "(q - p) v + (p + q) v^2/4 is least at 2(p - q)/(p + q).",
     theory(((lambda r, f: f.mean() - r.mean() + (r**2).mean() / 4 + (f**2).mean() / 4), W[1])), "second-moment constraints")  # fmt: skip


# 7. State, hooks, whole GANs


class CenteredHinge(GAN):
    """Hinge on logits centered by a slow average of both sides (0.99, without gradient, updated with D's terms)."""

    def __init__(self, *args, decay: float = 0.99, **kwargs):
        super().__init__(*args, **kwargs)
        self.decay = decay
        self.register_buffer("center", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        return relu(1 - (real_logits - self.center)).mean() + relu(1 + (fake_logits - self.center)).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        both = torch.cat([outputs.real_logits, outputs.fake_logits]).detach().mean()
        self.center.lerp_(both.to(self.center.dtype), 1 - self.decay)
        return terms


case(
    CenteredHinge,
    False,
    "The loss itself has no side effects; the average moves by 1 % per update of D.",
    right(HINGE),
    "moving baselines",
)


class EquilibriumGAN(GAN):
    """BEGAN's balance (Berthelot et al. 2017) with energies e = softplus(-l): D: e_r - k e_f; G: e_f; k starts at 0.5."""

    requires_lipschitz = True

    def __init__(self, *args, gamma: float = 0.7, rate: float = 1e-3, **kwargs):
        super().__init__(*args, **kwargs)
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.tensor(0.5))

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() - self.k.clone() * softplus(-fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        with torch.no_grad():
            balance = self.gamma * softplus(-outputs.real_logits).mean() - softplus(-outputs.fake_logits).mean()
            self.k.add_(self.rate * balance).clamp_(0, 1)
        return terms


case(EquilibriumGAN, False, "D raises the fakes' energy with weight k; k rises where fakes are better than gamma allows, as published.",
     right(((lambda r, f: sp(-r).mean() - 0.5 * sp(-f).mean()), NS[1])), "Berthelot et al. 2017", factory=partial(EquilibriumGAN, regularizers={"gp": GradientPenalty(10.0)}))  # fmt: skip


class QuadraticPotential(GAN):
    """GAN-QP (Su 2018): D: -(r - f) + (r - f)^2/(2 lambda d(x, x')); G: r - f. The distance bounds the slope."""

    generator_sees_real = pairs_samples = True
    scale = 10.0

    def discriminator_loss(self, real_logits, fake_logits):
        return (fake_logits - real_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return (real_logits - fake_logits).mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        distance = (outputs.real - outputs.fake).flatten(1).abs().mean(1).detach() + 1e-6
        gap = outputs.real_logits - outputs.fake_logits
        terms["d/potential"] = (gap.square() / (2 * self.scale * distance)).mean()
        return terms


def _qp(factory):
    gan, o = step(factory)
    found = sum(gan.discriminator_terms(o).values()).item()
    gap = (o.real_logits - o.fake_logits).detach().numpy()
    d = np.abs((o.real - o.fake).detach().numpy()).mean(1) + 1e-6
    agree(found, (-gap + gap**2 / (20 * d)).mean())
    return right(((lambda r, f: (f - r).mean()), lambda f, r: (r - f).mean()))(factory)


case(
    QuadraticPotential,
    True,
    "The published potential, added as a term of D; G's gradient is the Wasserstein one.",
    _qp,
    "Su 2018",
)


class MomentMatchingNS(NonSaturatingGAN):
    """G also matches the batch's mean sample, with weight 0.1."""

    def generator_terms(self, outputs):
        terms = super().generator_terms(outputs)
        terms["g/moments"] = 0.1 * (outputs.fake.mean(0) - outputs.real.mean(0)).square().sum()
        return terms


def _moments(factory):
    gan, o = step(factory, player="g")
    found = sum(gan.generator_terms(o).values()).item()
    f, x, y = o.fake_logits.detach().numpy(), o.fake.detach().numpy(), o.real.numpy()
    return agree(found, sp(-f).mean() + 0.1 * ((x.mean(0) - y.mean(0)) ** 2).sum())


case(
    MomentMatchingNS,
    True,
    "An added term of G that pulls its mean to the data's, on top of super()'s terms.",
    _moments,
    "feature matching, Salimans et al. 2016",
)


class SeparateTerms(GAN):
    """D's two sides are logged apart."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def discriminator_terms(self, outputs):
        terms = {"d/real": softplus(-outputs.real_logits).mean(), "d/fake": softplus(outputs.fake_logits).mean()}
        terms.update(self.penalties(outputs))
        if (class_term := self.conditioning.discriminator_term(outputs)) is not None:
            terms["d/class_loss"] = class_term
        return terms


def _separate(factory):
    gan, o = step(factory)
    r, f = o.real_logits.detach().numpy(), o.fake_logits.detach().numpy()
    rest = sum(gan.penalties(o).values()).item()
    return agree(sum(gan.discriminator_terms(o).values()).item(), NS[0](r, f) + rest)


case(SeparateTerms, False, "The terms' sum is the loss, the penalties and the label's term.", _separate, "logging habits",
     factory=partial(SeparateTerms, regularizers={"r1": R1(1.0)}))  # fmt: skip


class AntitheticLatents(NonSaturatingGAN):
    """Latents in pairs z, -z: each is N(0, I), and the batch's mean is 0."""

    def sample_latents(self, n):
        z = super().sample_latents((n + 1) // 2)
        return torch.cat([z, -z])[:n]


def _antithetic(factory):
    torch.manual_seed(0)
    z = build(factory).sample_latents(20001)
    assert z.shape == (20001, 4)
    return agree([z.std().item()], [1.0], 0.02)


case(
    AntitheticLatents,
    True,
    "The marginal of every latent is unchanged, so that sampling after training fits.",
    _antithetic,
    "antithetic sampling",
)


class LabelledHinge(GAN):
    """A conditional hinge GAN: the hinge and its theory, and labels are required."""

    requires_labels = True

    discriminator_loss = staticmethod(HingeGAN.discriminator_loss)
    generator_loss = staticmethod(HingeGAN.generator_loss)
    optimal_logit = staticmethod(HingeGAN.optimal_logit)
    divergence = staticmethod(HingeGAN.divergence)


def _labelled(factory):
    gan = build(factory, needs="labels")
    return agree(d_gradient(factory, gan=gan), right_d(HINGE, R, F)) | agree(g_gradient(factory, gan=gan), right_g(HINGE, R, F))


case(
    LabelledHinge,
    True,
    "Hinge and its theory, borrowed from HingeGAN, with labels required.",
    _labelled,
    "BigGAN-like",
    needs="labels",
)


class AverageTopHinge(GAN):
    """D: the mean of the worst half of the hinge losses of each side (average top-k loss, Fan et al. 2017); G: -f."""

    @staticmethod
    def _worst(losses):
        return losses.topk(max(1, len(losses) // 2)).values.mean()

    def discriminator_loss(self, real_logits, fake_logits):
        return self._worst(relu(1 - real_logits)) + self._worst(relu(1 + fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


case(AverageTopHinge, False, "A convex aggregate that is stated; independent of the order, not of how losses are distributed.",
     right(((lambda r, f: np.sort(np_relu(1 - r))[-3:].mean() + np.sort(np_relu(1 + f))[-3:].mean()), W[1])), "Fan et al. 2017")  # fmt: skip


class AnnealedSmoothing(GAN):
    """D's real label rises from 0.9 to 1 over 1000 updates; a function of D's own counter."""

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @property
    def label(self) -> float:
        return 0.9 + 0.1 * min(1.0, self.d_updates / 1000)

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(real_logits, torch.full_like(real_logits, self.label)) + softplus(fake_logits).mean()


def _annealed(factory):
    gan = build(factory)
    smooth = (lambda r, f: (0.9 * sp(-r) + 0.1 * sp(r)).mean() + sp(f).mean()), NS[1]
    agree(d_gradient(factory, gan=gan), right_d(smooth, R, F))
    gan.d_updates = 1000
    return agree(d_gradient(factory, gan=gan), right_d(NS, R, F))


case(AnnealedSmoothing, True, "One-sided smoothing that fades; no state of its own.", _annealed, "schedules")


class DriftingWGAN(WGAN):
    """WGAN with the drift term 0.001 E r^2 of progressive GANs."""

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        terms["d/drift"] = 1e-3 * outputs.real_logits.square().mean()
        return terms


def _drift(factory):
    gan, o = step(factory)
    terms = gan.discriminator_terms(o)
    return agree(terms["d/drift"].item(), 1e-3 * (o.real_logits.detach().numpy() ** 2).mean()) | right(W)(factory)


case(DriftingWGAN, True, "Karras et al.'s small term against drift, beside the penalties of super().", _drift, "Karras et al. 2018",
     factory=partial(DriftingWGAN, regularizers={"gp": GradientPenalty(10.0)}))  # fmt: skip


class CurvedGenerator(GAN):
    """G's loss is a smooth mixture, s(-f) weighted 0.5 and -f weighted 0.5; D: cross-entropy."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(torch.cat([-real_logits, fake_logits])).mean() * 2

    def generator_loss(self, fake_logits, real_logits=None):
        return torch.lerp(softplus(-fake_logits), -fake_logits, 0.5).mean()


case(
    CurvedGenerator,
    False,
    "Equal halves: twice the mean over both sides; a convex mixture of two G losses.",
    right((NS[0], lambda f, r: (sp(-f).mean() - f.mean()) / 2)),
    "mixtures",
)


class DoubleWhere(GAN):
    """softplus by hand, linear above 20, with a clamp inside so that its gradient cannot overflow."""

    @staticmethod
    def _s(x):
        return torch.where(x > 20, x, torch.log1p(torch.exp(x.clamp(max=20))))

    def discriminator_loss(self, real_logits, fake_logits):
        return self._s(-real_logits).mean() + self._s(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return self._s(-fake_logits).mean()


case(DoubleWhere, False, "Above 20 softplus is x to 2e-9.", right(NS, ((R, F), FAR, (R * 60, F * 60))), "hand-written softplus")


class PackedCritic(WGAN):
    """The critic's loss on packs or single samples: the mean of pairwise differences."""

    def discriminator_loss(self, real_logits, fake_logits):
        return (fake_logits - real_logits).mean()


case(PackedCritic, True, "The mean of differences is the difference of means, as real and fake are as many.", right(W), "Lin et al. 2018",
     factory=partial(PackedCritic, regularizers={"gp": GradientPenalty(10.0)}))  # fmt: skip


class DetachedBaseline(GAN):
    """Relativistic average in which D's averages are constants, as LeCam's are; G's carry gradients."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        real_mean, fake_mean = real_logits.detach().mean(), fake_logits.detach().mean()
        return (softplus(fake_mean - real_logits).mean() + softplus(fake_logits - real_mean).mean()) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return (softplus(real_logits.mean() - fake_logits).mean() + softplus(real_logits - fake_logits.mean()).mean()) / 2


def _baseline(factory):
    agree(g_gradient(factory), right_g(RA, R, F))
    return agree(d_gradient(factory), np.concatenate([-sig(F.mean() - R), sig(F - R.mean())]) / 12)


case(
    DetachedBaseline,
    False,
    "A stated variant: D's gradients have RaGAN's signs, with margins that are constants of the step.",
    _baseline,
    "baselines as constants",
)
