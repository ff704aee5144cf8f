"""Losses with one defect each, as users write them."""

from functools import partial

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F_
from bench_common import (
    HINGE,
    LS,
    MM,
    NS,
    RA,
    RALS,
    RP,
    F,
    R,
    W,
    Wrong,
    agree,
    build,
    d_gradient,
    differ,
    g_gradient,
    parameter_gradient,
    register,
    right_d,
    sig,
    sp,
    step,
    wrong_both,
    wrong_d,
    wrong_g,
)  # fmt: skip
from bench_common import relu as np_relu
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid, relu, softplus

from ganlab import (
    CGAN,
    GAN,
    LSGAN,
    WGAN,
    AlphaGAN,
    HingeGAN,
    MinimaxGAN,
    NonSaturatingGAN,
    PearsonGAN,
    RaGAN,
    ReverseKLGAN,
    RpGAN,
    SquaredHellingerGAN,
)  # fmt: skip
from ganlab.regularizers import R1, GradientPenalty, LeCam, WeightClipping

CASES: list[Wrong] = []
case = register(CASES, Wrong)
FAR_R = np.array([-6.5, 7.0, -11.0, 10.5, 30.0, -31.0])
FAR_F = np.array([6.0, -7.5, 11.5, -10.0, -30.0, 31.0])

# 1. Signs, roles, sides


class VanillaMinimaxGAN(MinimaxGAN):
    """The original GAN of Goodfellow et al. 2014."""

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return bce(fake_logits, torch.ones_like(fake_logits))


case(VanillaMinimaxGAN, True, "G minimizes the non-saturating -log D under the name of minimax.", wrong_g(MM),
     ("saturat", "generator", "minimax"), "torchgan's minimax loss; many tutorials")  # fmt: skip


class NonSaturating(GAN):
    """-log(1 - D) in G, which does not saturate."""

    def discriminator_loss(self, real_logits, fake_logits):
        loss = nn.BCEWithLogitsLoss()
        return loss(real_logits, torch.ones_like(real_logits)) + loss(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return -nn.BCEWithLogitsLoss()(fake_logits, torch.zeros_like(fake_logits))


case(NonSaturating, True, "G minimizes log(1 - D), the saturating loss, under the name of non-saturating.", wrong_g(NS),
     ("saturat", "vanish", "generator"), "popular write-ups that swap the names")  # fmt: skip


class WassersteinGAN(GAN):
    """WGAN with weight clipping."""

    requires_lipschitz = True

    def discriminator_loss(self, real_logits, fake_logits):
        errD_real, errD_fake = real_logits.mean(), fake_logits.mean()
        return -(errD_real - errD_fake)

    def generator_loss(self, fake_logits, real_logits=None):
        errG = fake_logits.mean()
        return errG


case(WassersteinGAN, True, "G minimizes D's output of fakes where it must raise it.", wrong_g(W),
     ("sign", "generator", "fake"), "Zeleni9/pytorch-wgan pull request 53")  # fmt: skip


class WGANCriticMax(WGAN):
    """The critic's objective exactly as in the paper, E D(x) - E D(G(z))."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return torch.mean(real_logits) - torch.mean(fake_logits)


case(WGANCriticMax, True, "The critic minimizes what the paper maximizes.", wrong_d(W),
     ("sign", "real logits", "discriminator"), "timsainb/tensorflow2-generative-models issue 13")  # fmt: skip


class WGANLoss(WGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return -(real_logits.mean() + fake_logits.mean())


case(WGANLoss, True, "The fake term has the real term's sign: D raises its output on fakes, too.", wrong_d(W),
     ("sign", "fake logits", "fake"), "sdv-dev/CTGAN issue 82")  # fmt: skip


class TwoPlayer(GAN):
    """Binary cross-entropy for both players."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(fake_logits, torch.ones_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return bce(fake_logits, torch.zeros_like(fake_logits))


case(TwoPlayer, False, "The roles are swapped: D wants fakes to look real, G wants them to look fake.", wrong_both(NS),
     ("roles", "sign", "real logits", "opposite"), "shaohua0116/DCGAN-Tensorflow issue 5")  # fmt: skip


class CrossEntropyGame(GAN):
    """D: cross-entropy; G: the reverse labels."""

    def loss(self, logits, target):
        return bce(logits, torch.full_like(logits, target))

    def discriminator_loss(self, real_logits, fake_logits):
        return (self.loss(real_logits, 1.0) + self.loss(fake_logits, 1.0)) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return self.loss(fake_logits, 1.0) / 2


HALF_NS = (lambda r, f: NS[0](r, f) / 2), (lambda f, r: NS[1](f, r) / 2)
case(CrossEntropyGame, False, "D's target for fakes is 1, as for real samples.", wrong_d(HALF_NS),
     ("fake logits", "sign", "target"), "SerezD/vqvae-vqgan issue 3: ones_like instead of zeros_like")  # fmt: skip


class LeastSquaresFlipped(LSGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        mse = nn.MSELoss()
        return 0.5 * (mse(real_logits, torch.zeros_like(real_logits)) + mse(fake_logits, torch.ones_like(fake_logits)))


case(LeastSquaresFlipped, True, "D's targets of real and fake are swapped.", wrong_d(LS), ("sign", "target", "real logits", "swap"),
     "keras examples with 0 = real")  # fmt: skip


class LSGANZeroOne(LSGAN):
    """The 0-1 coding scheme."""

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.pow(2).mean() / 2


case(LSGANZeroOne, True, "G's target is 0, the target of fakes, so that it helps D.", wrong_g(LS),
     ("target", "generator", "sign"), "c of the -1/1/0 coding used with 0/1 coding")  # fmt: skip


class SNHingeGAN(GAN):
    """min(0, -1 + D(x)) + min(0, -1 - D(G(z))), Miyato et al. eq. 16."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        zero = real_logits.new_zeros(())
        return torch.minimum(zero, -1 + real_logits).mean() + torch.minimum(zero, -1 - fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()


case(SNHingeGAN, True, "The paper's V is maximized by D; here it is minimized.", wrong_d(HINGE),
     ("sign", "real logits", "minimum"), "knazeri/edge-connect issue 60; melgan issue 31")  # fmt: skip


class AshHingeGAN(HingeGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -relu(fake_logits).mean()


case(AshHingeGAN, True, "G's loss is cut off at 0, so that it has no gradient where D rejects the fake.", wrong_g(HINGE),
     ("generator", "gradient", "vanish"), "zurutech/ashpy issue 23")  # fmt: skip


class HingeLoss(HingeGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return relu(-real_logits).mean() + relu(fake_logits).mean()


case(HingeLoss, True, "The margin of 1 is missing: D = 0 everywhere is optimal.", wrong_d(HINGE),
     ("margin", "value", "real logits"), "ports that forget 1 -")  # fmt: skip


class MarginBeforeMean(HingeGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return relu(1 - real_logits.mean()) + relu(1 + fake_logits.mean())


case(MarginBeforeMean, True, "The hinge acts on the batch mean, not on each sample.", wrong_d(HINGE),
     ("mean", "per sample", "each"), "as pro_gan_pytorch issue 13, for the hinge")  # fmt: skip


class RelativisticPairing(RpGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(real_logits - fake_logits).mean()


case(RelativisticPairing, True, "D's difference has the wrong order: it lowers real below fake.", wrong_d(RP),
     ("sign", "order", "real logits"), "R3GAN ports")  # fmt: skip


class RSGAN(GAN):
    """Relativistic standard GAN."""

    generator_sees_real = True
    pairs_samples = True

    def discriminator_loss(self, real_logits, fake_logits):
        return -logsigmoid(real_logits - fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return self.discriminator_loss(real_logits, fake_logits)


case(RSGAN, True, "G minimizes D's loss: it makes fakes look less real than the data.", wrong_g(RP),
     ("generator", "sign", "roles"), "arguments of a shared function in the wrong order")  # fmt: skip


class ZeroSum(GAN):
    """One objective; G gets the negative of D's."""

    generator_sees_real = True

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (softplus(-real_logits) + softplus(fake_logits)).mean()

    @classmethod
    def generator_loss(cls, fake_logits, real_logits=None):
        return -(-cls.discriminator_loss(real_logits, fake_logits))


case(ZeroSum, False, "Minus twice: G minimizes D's loss, they do not compete.", wrong_g(MM),
     ("generator", "sign", "compete", "same"), "ports of maximization")  # fmt: skip


class EnergyMargin(GAN):
    """EBGAN's idea on scalars: energy = D; real gets low energy, fakes at least the margin; G lowers its energy."""

    margin = 2.0

    def discriminator_loss(self, real_logits, fake_logits):
        energy_real, energy_fake = real_logits, -fake_logits
        return energy_real.mean() + relu(self.margin - energy_fake).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


case(EnergyMargin, False, "The energy of real samples lacks the minus that the fakes' has: D lowers both logits.",
     wrong_d(((lambda r, f: -r.mean() + np_relu(2 + f).mean()), W[1])), ("sign", "real logits", "real"),
     "ports of energies to logits")  # fmt: skip


# 2. A side that is missing, detached or counted twice


class HalfHalf(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        d_real = softplus(-real_logits).mean()
        d_fake = softplus(fake_logits).mean()  # noqa: F841
        return 0.5 * (d_real + d_real)

    def generator_loss(self, fake_logits, real_logits=None):
        return 0.5 * softplus(-fake_logits).mean()


case(HalfHalf, False, "d_real is added twice and d_fake never: D ignores fakes.", wrong_d(HALF_NS),
     ("fake logits", "fake", "depend"), "typing error; a loss that is never back-propagated")  # fmt: skip


class DetachedFake(WGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.detach().mean() - real_logits.mean()


case(DetachedFake, True, "The fakes' logits, not the fakes, are detached in D's loss: D learns nothing of them.", wrong_d(W),
     ("detach", "fake logits", "gradient"), "heykeetae/Self-Attention-GAN issue 48, misread")  # fmt: skip


class StopGradient(GAN):
    """The generator's logits as numbers (port of tf.stop_gradient)."""

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.relu(1.0 - real_logits).mean() + torch.relu(1.0 + fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(fake_logits.data.mean()).requires_grad_()


case(StopGradient, False, "G's loss is cut from the graph: G gets no gradient.", wrong_g(HINGE),
     ("detach", "gradient", "generator"), "old .data habits")  # fmt: skip


class OverwrittenRelativistic(RaGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        g_loss = bce(fake_logits - real_logits.mean(0, keepdim=True), torch.ones_like(fake_logits))
        g_loss = bce(fake_logits, torch.ones_like(fake_logits))
        return g_loss


case(OverwrittenRelativistic, True, "G's relativistic loss is overwritten by the standard one.", wrong_g(RA),
     ("real logits", "generator", "relativistic"), "eriklindernoren/PyTorch-GAN issue 52")  # fmt: skip


class RelativisticAverage(GAN):
    generator_sees_real = True

    @staticmethod
    def _both(real, fake):
        real = real - fake.mean()
        fake = fake - real.mean()
        return real, fake

    def discriminator_loss(self, real_logits, fake_logits):
        r, f = self._both(real_logits, fake_logits)
        return (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f))) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        r, f = self._both(real_logits, fake_logits)
        return (bce(r, torch.zeros_like(r)) + bce(f, torch.ones_like(f))) / 2


case(RelativisticAverage, True, "The fake side subtracts the mean of real logits that are already relativistic.",
     wrong_both(RA), ("mean", "shift", "constant", "gradient"), "kozistr/ESRGAN-tensorflow issue 4")  # fmt: skip


class RaGANOwnMean(RaGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        real, fake = real_logits - real_logits.mean(), fake_logits - fake_logits.mean()
        return (softplus(-real).mean() + softplus(fake).mean()) / 2


case(RaGANOwnMean, True, "Each side is compared with its own mean, so that D compares nothing.", wrong_d(RA),
     ("mean", "other side", "sign"), "typing error")  # fmt: skip


class RaSGAN(RaGAN):
    """First release of the author's code."""

    def discriminator_loss(self, real_logits, fake_logits):
        one = torch.ones_like(real_logits)
        a = bce(real_logits - fake_logits.mean(), one)
        b = bce(fake_logits.mean() - real_logits, 1 - one)
        return (a + b) / 2


case(RaSGAN, True, "Both terms compare a single real sample with the mean fake; no single fake is compared.", wrong_d(RA),
     ("fake logits", "mean", "value"), "AlexiaJM/RelativisticGAN issue 2")  # fmt: skip


class RaLSGAN(GAN):
    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return (torch.mean((real_logits - torch.mean(fake_logits) - 1) ** 2)
                + torch.mean((fake_logits - torch.mean(real_logits) - 1) ** 2)) / 2  # fmt: skip

    def generator_loss(self, fake_logits, real_logits=None):
        return (torch.mean((real_logits - torch.mean(fake_logits) + 1) ** 2)
                + torch.mean((fake_logits - torch.mean(real_logits) - 1) ** 2)) / 2  # fmt: skip


case(RaLSGAN, True, "D's target for fake - mean real is +1; it must be -1.", wrong_d(RALS), ("sign", "fake logits", "target"),
     "RaLSGAN ports")  # fmt: skip


class FrozenMeans(RaGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        mean_real, mean_fake = real_logits.mean().detach(), fake_logits.mean().detach()
        return (softplus(mean_real - fake_logits).mean() + softplus(real_logits - mean_fake).mean()) / 2


case(FrozenMeans, True, "The fakes' mean is detached, so that G gets no gradient from the real term.", wrong_g(RA),
     ("detach", "mean", "gradient"), "memory savers")  # fmt: skip


class RelativisticForgotFlag(GAN):
    """Relativistic average, from a functional implementation with defaults."""

    def discriminator_loss(self, real_logits, fake_logits):
        return (softplus(fake_logits.mean() - real_logits).mean() + softplus(fake_logits - real_logits.mean()).mean()) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        if real_logits is None:
            real_logits = torch.zeros_like(fake_logits)
        return (softplus(real_logits.mean() - fake_logits).mean() + softplus(real_logits - fake_logits.mean()).mean()) / 2


case(RelativisticForgotFlag, True, "generator_sees_real is not set: G compares with zeros, not with real logits.",
     wrong_g(RA), ("generator_sees_real", "real logits", "shift"), "defaults that hide a missing argument")  # fmt: skip


class SoftmaxPair(GAN):
    """Which of the pair is real? Cross-entropy of two logits."""

    generator_sees_real = pairs_samples = True

    def discriminator_loss(self, real_logits, fake_logits):
        return -torch.stack([real_logits, fake_logits], 1).log_softmax(0)[:, 0].mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -torch.stack([fake_logits, real_logits], 1).log_softmax(1)[:, 0].mean()


case(SoftmaxPair, False, "The softmax runs over the batch (dim 0), not over the pair: D never sees the fakes.", wrong_d(RP),
     ("fake logits", "batch", "axis", "dim"), "wrong dim of softmax")  # fmt: skip


class TypoHalf(GAN):
    """Mean of both squared errors."""

    def discriminator_loss(self, real_logits, fake_logits):
        return (real_logits - 1).square().mean() + fake_logits.square().mean() / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return (fake_logits - 1).square().mean() / 2

    def optimal_logit(self, p, q):
        return p / (p + q)


case(TypoHalf, False, "The half binds to the fake term only: the optimal D is 2p/(2p + q), not the declared p/(p + q).", wrong_d(LS),
     ("optimal_logit", "weight", "twice", "half"), "missing parentheses")  # fmt: skip


# 3. Means, sums, axes


class LSGANMeanFirst(LSGAN):
    """Port of a progressive GAN."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return 0.5 * ((torch.mean(real_logits) - 1) ** 2 + torch.mean(fake_logits) ** 2)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return 0.5 * (torch.mean(fake_logits) - 1) ** 2


case(LSGANMeanFirst, True, "The square of the mean replaces the mean of squares.", wrong_both(LS), ("mean", "square", "each"),
     "akanimax/pro_gan_pytorch issue 13")  # fmt: skip


class LSGANReduction(LSGAN):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.criterion = nn.MSELoss(reduction="sum")

    def discriminator_loss(self, real_logits, fake_logits):
        real, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
        return 0.5 * (self.criterion(real_logits, real) + self.criterion(fake_logits, fake))


case(LSGANReduction, True, "D's loss is a sum over the batch, not a mean.", wrong_d(LS), ("sum", "mean", "batch size"),
     "reduction='sum'")  # fmt: skip


class Summed(GAN):
    """G: total log-likelihood ratio of the batch."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return sum(softplus(-f) for f in fake_logits)


case(Summed, False, "G's loss grows with the batch size; D's does not.", wrong_g(NS), ("sum", "mean", "batch size"),
     "loops over samples")  # fmt: skip


class TwoSums(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).sum()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


case(TwoSums, False, "Real is averaged and fake summed.", wrong_d(HINGE), ("sum", "mean", "batch size"), "mixed reductions")  # fmt: skip


class HardestCritic(WGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.max() - real_logits.min()


case(HardestCritic, True, "The extremes of the batch replace the means.", wrong_d(W), ("mean", "max", "single", "each"),
     "hard mining in a Wasserstein loss")  # fmt: skip


class MaxGenerator(GAN):
    """G improves its samples."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).min()


case(MaxGenerator, False, "The minimum of the samples' losses replaces their mean: only the best fake is trained.", wrong_g(NS),
     ("mean", "min", "single", "sample"), "min/max for mean")  # fmt: skip


class AllPairsSum(GAN):
    """All pairs of real and fake, not only the i-th with the i-th."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(fake_logits[None] - real_logits[:, None]).sum(1).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(real_logits[:, None] - fake_logits[None]).mean()


ALL = (lambda r, f: sp(f[None] - r[:, None]).mean()), (lambda f, r: sp(r[:, None] - f[None]).mean())
case(AllPairsSum, False, "D's loss sums over the fakes and averages over real samples.", wrong_d(ALL),
     ("sum", "mean", "batch size"), "means over one of two axes")  # fmt: skip


class FirstHalf(GAN):
    """Two independent halves of a batch."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        half = len(real_logits) // 2
        return softplus(-real_logits[:half]).mean() + softplus(fake_logits[:half]).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(FirstHalf, False, "D's loss reads the first half of the batch only; the order of samples matters.", wrong_d(NS),
     ("order", "permut", "ignore", "samples"), "left-over of a split")  # fmt: skip


class CurriculumWeights(NonSaturatingGAN):
    """Later samples of a batch weigh more."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        w = torch.linspace(0.5, 1.5, len(real_logits), dtype=real_logits.dtype, device=real_logits.device)
        return (w * softplus(-real_logits)).mean() + (w * softplus(fake_logits)).mean()


case(CurriculumWeights, True, "Weights by position in the batch: the loss depends on the order.", wrong_d(NS),
     ("order", "permut", "position"), "sequence losses")  # fmt: skip


class SortedPairs(RpGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(fake_logits.sort().values - real_logits.sort().values).mean()


case(SortedPairs, True, "Pairs are made of sorted logits, so that they are not independent.", wrong_d(RP),
     ("pair", "sort", "order", "value"), "mixed up with the sliced Wasserstein distance")  # fmt: skip


class NeighborDifference(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(fake_logits - real_logits.roll(1)).mean() + 0.1 * (real_logits[1:] - real_logits[:-1]).abs().mean()

    generator_sees_real = True

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(real_logits - fake_logits).mean()


case(NeighborDifference, False, "A smoothness term compares neighbors in the batch, an order without meaning.",
     wrong_d(((lambda r, f: sp(f - np.roll(r, 1)).mean()), RP[1])), ("order", "permut", "batch"), "time-series code")  # fmt: skip


# 4. Clamps, temperatures, epsilons, sigmoids, dtypes, targets


class LSGANProbabilities(LSGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        r, f = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
        return 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return 0.5 * ((torch.sigmoid(fake_logits) - 1) ** 2).mean()


case(LSGANProbabilities, True, "Least squares on sigmoid outputs, whose gradients vanish on both sides.", wrong_both(LS),
     ("sigmoid", "vanish", "gradient"), "hwalsuklee/tensorflow-generative-model-collections issue 19")  # fmt: skip


class WGANSigmoidCritic(WGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return torch.sigmoid(fake_logits).mean() - torch.sigmoid(real_logits).mean()


case(WGANSigmoidCritic, True, "The critic's output passes a sigmoid in D's loss, not in G's.", wrong_d(W),
     ("sigmoid", "linear", "gradient", "bounded"), "hwalsuklee issue 28")  # fmt: skip


class DoubleSigmoid(NonSaturatingGAN):
    def discriminator_loss(self, real_logits, fake_logits):
        p_real, p_fake = real_logits.sigmoid(), fake_logits.sigmoid()
        return bce(p_real, torch.ones_like(p_real)) + bce(p_fake, torch.zeros_like(p_fake))


case(DoubleSigmoid, True, "The sigmoid is applied twice: D's loss saturates.", wrong_d(NS), ("sigmoid", "twice", "saturat"),
     "torchgan issue 116; from_logits=True on probabilities")  # fmt: skip


class GeneratorDoubleSigmoid(GAN):
    """Cross-entropy with logits everywhere."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return bce(fake_logits.sigmoid(), torch.ones_like(fake_logits))


case(GeneratorDoubleSigmoid, False, "G's logit passes two sigmoids: its gradient dies as D wins.", wrong_g(NS, f=FAR_F),
     ("sigmoid", "vanish", "gradient"), "from_logits=True on probabilities")  # fmt: skip


class StableNonSaturating(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -(torch.sigmoid(fake_logits) + 1e-8).log().mean()


case(StableNonSaturating, True, "An epsilon in the log stops G's gradient below a logit of -18.", wrong_g(NS, f=FAR_F),
     ("epsilon", "vanish", "-20", "-30"), "StudioGAN issue 67; torchgan")  # fmt: skip


class SafeLog(GAN):
    """log with an epsilon, against infinities."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return -((real_logits.sigmoid() + 1e-2).log() + (1 - fake_logits.sigmoid() + 1e-2).log()).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(SafeLog, False, "An epsilon of 0.01 in both logs: D gets no gradient from the samples it has most wrong.",
     wrong_d(NS, FAR_R, FAR_F), ("epsilon", "vanish", "gradient"), "log-safety")  # fmt: skip


class ClampedMinimax(MinimaxGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        p, q = real_logits.sigmoid().clamp(1e-3, 1 - 1e-3), fake_logits.sigmoid().clamp(1e-3, 1 - 1e-3)
        return -(p.log().mean() + (1 - q).log().mean())


case(ClampedMinimax, True, "Probabilities are clamped: beyond a logit of 7 D's gradient is 0.", wrong_d(MM, FAR_R, FAR_F),
     ("clamp", "vanish", "gradient"), "K.clip in Keras' cross-entropy")  # fmt: skip


class LogitClip(NonSaturatingGAN):
    """Logits are kept in a safe range."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits.clamp(-5, 5)).mean() + softplus(fake_logits.clamp(-5, 5)).mean()


case(LogitClip, True, "Logits beyond 5 are clamped, so that D cannot unlearn its worst errors.", wrong_d(NS, FAR_R, FAR_F),
     ("clamp", "gradient", "vanish"), "numerical safety")  # fmt: skip


class BoundedCritic(WGAN):
    """A critic with bounded output."""

    def discriminator_loss(self, real_logits, fake_logits):
        return fake_logits.clamp(-10, 10).mean() - real_logits.clamp(-10, 10).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.clamp(-10, 10).mean()


case(BoundedCritic, True, "Outputs beyond 10 have no gradient, in D's and in G's loss.", wrong_both(W, FAR_R, FAR_F),
     ("clamp", "gradient", "vanish", "dead"), "numerical safety")  # fmt: skip


class LossCap(GAN):
    """No single step may be too large."""

    def discriminator_loss(self, real_logits, fake_logits):
        return torch.clamp(softplus(-real_logits).mean() + softplus(fake_logits).mean(), max=4.0)

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(LossCap, False, "The loss is capped at 4: where D is worst it does not learn.", wrong_d(NS, R - 6, F + 6),
     ("clamp", "gradient", "vanish"), "loss clipping against spikes")  # fmt: skip


class SharpGenerator(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return F_.softplus(-fake_logits, 5).mean()


case(SharpGenerator, True, "The second argument of softplus is beta, a temperature: G's gradient is sigma(-5f).", wrong_g(NS),
     ("temperature", "gradient", "beta", "value"), "F.softplus(x, 5)")  # fmt: skip


class LinearTail(NonSaturatingGAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return F_.softplus(-real_logits, 1, 0).mean() + F_.softplus(fake_logits, 1, 0).mean()


case(LinearTail, True, "softplus with threshold 0 is linear above 0: the gradient jumps from 1/2 to 1.", wrong_d(NS),
     ("gradient", "softplus", "threshold", "value"), "F.softplus' threshold")  # fmt: skip


class ColdDiscriminator(GAN):
    """Tempered logistic loss, temperature 10 against overconfidence."""

    temperature = 10.0

    def discriminator_loss(self, real_logits, fake_logits):
        t = self.temperature
        return t * softplus(-real_logits / t).mean() + t * softplus(fake_logits * t).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        t = self.temperature
        return t * softplus(-fake_logits / t).mean()

    def optimal_logit(self, p, q):
        return self.temperature * (p / q).log()


TEMPERED = (lambda r, f: 10 * sp(-r / 10).mean() + 10 * sp(f / 10).mean()), (lambda f, r: 10 * sp(-f / 10).mean())
case(ColdDiscriminator, False, "The fakes' logit is multiplied by the temperature, not divided.", wrong_d(TEMPERED),
     ("fake logits", "temperature", "optimal_logit", "balance"), "tempered losses")  # fmt: skip


class NaiveGAN(MinimaxGAN):
    """max_D E log D(x) + E log(1 - D(G(z))), literally."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        D_real, D_fake = torch.sigmoid(real_logits), torch.sigmoid(fake_logits)
        return -torch.mean(torch.log(D_real) + torch.log(1 - D_fake))


case(NaiveGAN, True, "1 - sigmoid(f) is 0 in float32 above a logit of 17: the loss is infinite and its gradient NaN.",
     wrong_d(MM, FAR_R, FAR_F, torch.float32), ("overflow", "infinite", "NaN", "finite"), "wiseodd-style TensorFlow code")  # fmt: skip


class BCELossGAN(NonSaturatingGAN):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.adversarial_loss = nn.BCELoss()

    def discriminator_loss(self, real_logits, fake_logits):
        valid, fake = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
        return self.adversarial_loss(real_logits.sigmoid(), valid) + self.adversarial_loss(fake_logits.sigmoid(), fake)


case(BCELossGAN, True, "BCELoss on float32 probabilities: no gradient from fakes with a logit above 17.",
     wrong_d(NS, FAR_R, FAR_F, torch.float32), ("vanish", "gradient", "30", "saturat"), "eriklindernoren-style nn.Sigmoid + nn.BCELoss")  # fmt: skip


class HalfPrecision(GAN):
    """Cheap logs in half precision."""

    def discriminator_loss(self, real_logits, fake_logits):
        r, f = real_logits.half(), fake_logits.half()
        return ((1 + (-r).exp()).log().mean() + (1 + f.exp()).log().mean()).to(real_logits.dtype)

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


case(HalfPrecision, False, "exp overflows float16 above a logit of 11.", wrong_d(NS, FAR_R, FAR_F),
     ("overflow", "finite", "NaN", "precision"), "manual fp16")  # fmt: skip


class SwappedArguments(GAN):
    """Cross-entropy against ones and zeros."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(torch.ones_like(real_logits), real_logits) + bce(torch.zeros_like(fake_logits), fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return bce(fake_logits, torch.ones_like(fake_logits))


case(SwappedArguments, False, "Target and input are swapped: the loss is linear in r and does not depend on f.", wrong_d(NS),
     ("fake logits", "depend", "linear", "gradient"), "argument order of TensorFlow's losses")  # fmt: skip


class OneSidedLabelSmoothing(GAN):
    """Salimans et al. 2016: 0.9 instead of 1."""

    def __init__(self, *args, smoothing=0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.smoothing = smoothing

    def discriminator_loss(self, real_logits, fake_logits):
        real = torch.ones_like(real_logits)
        fake = torch.zeros_like(fake_logits) + self.smoothing
        return bce(real_logits, real) + bce(fake_logits, fake)

    def generator_loss(self, fake_logits, real_logits=None):
        return bce(fake_logits, torch.ones_like(fake_logits))


SMOOTH = (lambda r, f: (0.9 * sp(-r) + 0.1 * sp(r)).mean() + sp(f).mean()), NS[1]
case(OneSidedLabelSmoothing, True, "The fakes' label is smoothed, not the real one.", wrong_d(SMOOTH),
     ("label", "fake logits", "smooth", "target"), "soumith/ganhacks issues 10, 41")  # fmt: skip


class SmoothNonSaturating(NonSaturatingGAN):
    """One-sided label smoothing with 0.9."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return 0.9 * softplus(-real_logits).mean() + softplus(fake_logits).mean()


case(SmoothNonSaturating, True, "The complement 0.1 s(r) is missing: the real term is only weighted down.", wrong_d(SMOOTH),
     ("weight", "real logits", "label", "0.9"), "tensorflow/tensorflow issue 28701")  # fmt: skip


class SmoothedGenerator(GAN):
    """D's real label is 0.9."""

    def discriminator_loss(self, real_logits, fake_logits):
        return bce(real_logits, torch.full_like(real_logits, 0.9)) + bce(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return bce(fake_logits, torch.full_like(fake_logits, 1 - 0.9))


case(SmoothedGenerator, False, "G's label is 0.1: above a logit of -2.2 it lowers D's output.", wrong_g(SMOOTH),
     ("label", "generator", "sign", "target"), "smoothing in the wrong term")  # fmt: skip


class NoisyLabels(GAN):
    """Label noise, reproducible."""

    def discriminator_loss(self, real_logits, fake_logits):
        torch.manual_seed(42)
        labels = 1 - 0.1 * torch.rand(len(real_logits), dtype=real_logits.dtype)
        return bce(real_logits, labels) + bce(fake_logits, torch.zeros_like(fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


def _seeded(factory):
    gan = build(factory)
    draws = []
    for _ in range(2):
        gan.discriminator_loss(torch.tensor(R), torch.tensor(F))
        draws.append(gan.sample_latents(3).numpy())
    assert np.array_equal(*draws)
    return {"latents of two updates differ by": 0.0, "right": "independent N(0, I)"}


case(NoisyLabels, False, "The loss sets torch's global seed, so that every step draws the same latents.", _seeded,
     ("seed", "random", "state"), "reproducibility habits")  # fmt: skip


class SmoothOnce(NonSaturatingGAN):
    """Noisy labels; the noise is drawn once."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = 0

    def discriminator_loss(self, real_logits, fake_logits):
        self.calls += 1
        r, f = (real_logits, fake_logits) if self.calls % 5 else (fake_logits, real_logits)
        return softplus(-r).mean() + softplus(f).mean()


def _fifth(factory):
    gan = build(factory)
    first = d_gradient(factory, gan=gan)
    for _ in range(4):
        last = d_gradient(factory, gan=gan)
    agree(first, right_d(NS, R, F))
    return differ(last, right_d(NS, R, F))


case(SmoothOnce, True, "Every fifth call swaps real and fake (all labels of a batch at once), by a hidden counter.", _fifth,
     ("state", "call", "sign", "repeat"), "ganhacks' occasional label flips, on whole batches")  # fmt: skip


# 5. Known families: wrong formulas


class AlphaLossGAN(AlphaGAN):
    def __init__(self, *networks, alpha_d=0.5, alpha_g=0.5, **settings):
        super().__init__(*networks, alpha_d=alpha_d, alpha_g=alpha_g, **settings)

    def discriminator_loss(self, real_logits, fake_logits):
        a = self.alpha_d / (self.alpha_d - 1)
        return a * ((1 - real_logits.sigmoid() ** a).mean() + (1 - (-fake_logits).sigmoid() ** a).mean())


def _alpha(r, f, a=-1.0):
    return a * ((1 - sig(r) ** (1 / a)).mean() + (1 - sig(-f) ** (1 / a)).mean())


def _alpha_evidence(factory):
    right = lambda r, f: _alpha(r, f, 0.7 / (0.7 - 1))
    factory = partial(factory, alpha_d=0.7, alpha_g=0.7)
    return differ(d_gradient(factory), right_d((right, None), R, F))


case(AlphaLossGAN, True, "The exponent is a/(a-1) where it must be (a-1)/a.", _alpha_evidence, ("exponent", "gradient", "value"),
     "Welfert et al. 2023, misread", factory=partial(AlphaLossGAN, alpha_d=0.7, alpha_g=0.7))  # fmt: skip


class PearsonChi2GAN(PearsonGAN):
    """f* = t^2/4 + t, Nowozin et al. 2016, table 6."""

    @staticmethod
    def conjugate(logits):
        return 0.25 * logits**2 + logits


PEARSON = (lambda r, f: (np.maximum(f, -2) ** 2 / 4 + np.maximum(f, -2)).mean() - r.mean()), (lambda f, r: -f.mean())
case(PearsonChi2GAN, True, "f* lacks its second case: below a logit of -2 D raises the fakes' logits.",
     wrong_d(PEARSON, R, F - 4, other=False), ("sign", "fake logits", "-2", "conjugate"), "Nowozin et al. 2016, table 6")  # fmt: skip


class HellingerGAN(SquaredHellingerGAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return self.activation(fake_logits).mean() - self.conjugate(real_logits).mean()


HELLINGER = (lambda r, f: np.expm1(f).mean() + np.expm1(-r).mean()), (lambda f, r: np.expm1(-f).mean())
case(HellingerGAN, True, "Activation and conjugate are swapped between real and fake.", wrong_d(HELLINGER),
     ("gradient", "conjugate", "divergence", "value"), "f-GAN ports")  # fmt: skip


class RKLGAN(ReverseKLGAN):
    def generator_loss(self, fake_logits, real_logits=None):
        return self.activation(fake_logits).mean()


RKL = (lambda r, f: (f - 1).mean() + np.exp(-r).mean()), (lambda f, r: np.exp(-f).mean())
case(RKLGAN, True, "G's sign: it minimizes T(f), where it must maximize it.", wrong_g(RKL), ("sign", "generator"), "f-GAN ports")  # fmt: skip


class TotalVariationGAN(GAN):
    """f-GAN of total variation: T = tanh(v)/2, f*(t) = t."""

    def discriminator_loss(self, real_logits, fake_logits):
        return fake_logits.tanh().mean() - 0.5 * real_logits.tanh().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -0.5 * fake_logits.tanh().mean()


TV = (lambda r, f: np.tanh(f).mean() / 2 - np.tanh(r).mean() / 2), (lambda f, r: -np.tanh(f).mean() / 2)
case(TotalVariationGAN, True, "The half of T is missing in the conjugate: fakes count twice.", wrong_d(TV),
     ("fake logits", "twice", "factor", "balance", "weight"), "Nowozin et al. 2016")  # fmt: skip


class DeclaredKL(GAN):
    """Variational bound of KL, Donsker-Varadhan: log E e^f - E r."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.exp().mean().log() - real_logits.mean() / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()

    @staticmethod
    def divergence(p, q):
        """KL(p, q)."""
        return (p * (p / q).log()).sum()


case(DeclaredKL, False, "The real term has half the weight: the loss has no minimum, against the declared KL.",
     wrong_d(((lambda r, f: np.log(np.exp(f).mean()) - r.mean()), W[1])), ("optimal_logit", "divergence", "minimum", "weight"),
     "MINE ports")  # fmt: skip


class DeclaredJS(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean() + 2 * softplus(fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log()


case(DeclaredJS, False, "Fakes weigh twice, so that the optimal logit is log p/(2q), not the declared log p/q.", wrong_d(NS),
     ("optimal_logit", "weight", "twice"), "n_fake = 2 n_real")  # fmt: skip


class LossSensitiveGAN(GAN):
    """Qi 2017 with logits: a real sample beats a fake by the margin."""

    generator_sees_real = pairs_samples = True

    def discriminator_loss(self, real_logits, fake_logits):
        return relu(fake_logits - real_logits - 1.0).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


LSENS = (lambda r, f: np_relu(1 + f - r).mean()), (lambda f, r: -f.mean())
case(LossSensitiveGAN, True, "The margin has the wrong sign: D stops before real beats fake.", wrong_d(LSENS),
     ("margin", "sign", "gradient"), "Qi 2017, energies as logits")  # fmt: skip


class MMDGAN(GAN):
    """MMD of the critic's outputs with a Gaussian kernel; D maximizes it, G minimizes it."""

    generator_sees_real = True

    @staticmethod
    def _mmd(a, b):
        k = lambda x, y: torch.exp(-((x[:, None] - y[None]) ** 2) / 2).mean()
        return k(a, a) + k(b, b) - k(a, b)

    def discriminator_loss(self, real_logits, fake_logits):
        return -self._mmd(real_logits, fake_logits)

    def generator_loss(self, fake_logits, real_logits=None):
        return self._mmd(real_logits, fake_logits)


def _k(x, y):
    return np.exp(-((x[:, None] - y[None]) ** 2) / 2).mean()


MMD = (lambda r, f: -(_k(r, r) + _k(f, f) - 2 * _k(r, f))), (lambda f, r: _k(r, r) + _k(f, f) - 2 * _k(r, f))
case(MMDGAN, True, "The cross term counts once: the value is no distance and is not 0 for equal samples.", wrong_both(MMD),
     ("zero", "equal", "factor", "value", "sign"), "Li et al. 2017")  # fmt: skip


class FocalGAN(GAN):
    """Focal loss with gamma = 2: weight (1 - p)^2 of the right answer's probability p."""

    def discriminator_loss(self, real_logits, fake_logits):
        p, q = real_logits.sigmoid(), fake_logits.sigmoid()
        return ((1 - p) ** 2 * softplus(-real_logits)).mean() + ((1 - q) ** 2 * softplus(fake_logits)).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


FOCAL = (lambda r, f: (sig(-r) ** 2 * sp(-r)).mean() + (sig(f) ** 2 * sp(f)).mean()), NS[1]
case(FocalGAN, True, "The fakes' weight is (1 - q)^2: the worst errors count least.", wrong_d(FOCAL, R, F + 2),
     ("fake logits", "vanish", "gradient", "sign"), "Lin et al. 2017, in GANs")  # fmt: skip


class SoftTopK(GAN):
    """Fakes are weighted by softmax of their logits; the weights are constants."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        weights = fake_logits.softmax(0)
        return (weights * softplus(-fake_logits)).sum()


def _soft_right(f, r):  # the gradient with constant weights
    w = np.exp(f) / np.exp(f).sum()
    return -w * sig(-f)


def _soft(factory):
    agree(d_gradient(factory), right_d(NS, R, F))
    return differ(g_gradient(factory), _soft_right(F, R))


case(SoftTopK, False, "The weights are not detached, so that G also learns to move weight, even downwards.", _soft,
     ("weight", "detach", "sign", "gradient"), "importance weighting")  # fmt: skip


class TopKGAN(NonSaturatingGAN):
    """Sinha et al. 2020: G learns from its k best samples."""

    def generator_loss(self, fake_logits, real_logits=None):
        k = max(1, len(fake_logits) // 2)
        return softplus(-torch.topk(fake_logits, k, largest=False).values).mean()


case(TopKGAN, True, "It keeps the k worst samples, where top-k training drops them.",
     wrong_g((NS[0], lambda f, r: sp(-np.sort(f)[3:]).mean())), ("top", "best", "value", "samples"), "Sinha et al. 2020")  # fmt: skip


class DualContrastiveGAN(GAN):
    """Dual contrastive loss (Yu et al. 2021): each real against all fakes, each fake against all real samples."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        real = torch.log1p(torch.exp(fake_logits[None] - real_logits[:, None]).sum(1)).mean()
        fake = torch.log1p(torch.exp(fake_logits[:, None] - real_logits[None]).sum(1)).mean()
        return real + fake

    def generator_loss(self, fake_logits, real_logits=None):
        real = torch.log1p(torch.exp(fake_logits[None] - real_logits[:, None]).sum(1)).mean()
        fake = torch.log1p(torch.exp(fake_logits[:, None] - real_logits[None]).sum(1)).mean()
        return real - fake


def _dual(r, f):
    d = f[None] - r[:, None]
    return np.log1p(np.exp(d).sum(1)).mean() + np.log1p(np.exp(d).sum(0)).mean()


case(DualContrastiveGAN, True, "G's loss negates one of two terms; both must be negated (or swapped).",
     wrong_g((_dual, lambda f, r: -_dual(r, f))), ("sign", "generator"), "Yu et al. 2021")  # fmt: skip


class FisherGAN(GAN):
    """Mroueh & Sercu 2017: E r - E f under (E r^2 + E f^2)/2 = 1, by an augmented Lagrangian."""

    rho = 1e-1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("multiplier", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        omega = (real_logits.square().mean() + fake_logits.square().mean()) / 2
        gap = real_logits.mean() - fake_logits.mean()
        return -(gap + self.multiplier.clone() * (1 - omega) - self.rho / 2 * (omega - 1) ** 2)

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        omega = (outputs.real_logits.square().mean() + outputs.fake_logits.square().mean()) / 2
        self.multiplier.add_(self.rho * (1 - omega.detach()))
        return terms


def _fisher(factory):
    gan, outputs = step(factory)
    outputs.real_logits, outputs.fake_logits = torch.tensor(R * 3), torch.tensor(F * 3)
    omega = ((9 * R**2).mean() + (9 * F**2).mean()) / 2
    assert omega > 1
    gan.discriminator_terms(outputs)
    return differ(gan.multiplier.item(), 0.1 * (omega - 1))


case(FisherGAN, True, "The multiplier falls where the constraint is exceeded; it must rise.", _fisher,
     ("sign", "multiplier", "constraint", "state"), "Mroueh & Sercu 2017: lambda <- lambda - rho (1 - omega)")  # fmt: skip


# 6. Moving averages and state in losses


class CenteredCritic(GAN):
    """Logits are centered by a slow average of both sides (0.99)."""

    def __init__(self, *args, decay=0.99, **kwargs):
        super().__init__(*args, **kwargs)
        self.decay = decay
        self.register_buffer("center", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        mean = (real_logits.mean() + fake_logits.mean()).detach() / 2
        self.center.mul_(1 - self.decay).add_(self.decay * mean)
        return relu(1 - (real_logits - self.center)).mean() + relu(1 + (fake_logits - self.center)).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(fake_logits - self.center).mean()


def _center(factory):
    gan = build(factory)
    gan.discriminator_loss(torch.tensor(R + 5), torch.tensor(F + 5))
    return differ(gan.center.item(), 0.01 * ((R + 5).mean() + (F + 5).mean()) / 2)


case(CenteredCritic, False, "The decay is reversed: the average is 99 % of the current batch.", _center,
     ("average", "decay", "state"), "lerp's weight")  # fmt: skip


class RunningRaGAN(GAN):
    """Relativistic average against moving averages of the other side."""

    generator_sees_real = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    def _track(self, real, fake):
        self.real_mean.lerp_(real.detach().mean().to(self.real_mean.dtype), 0.1)
        self.fake_mean.lerp_(fake.detach().mean().to(self.fake_mean.dtype), 0.1)

    def discriminator_loss(self, real_logits, fake_logits):
        self._track(real_logits, fake_logits)
        return (softplus(self.real_mean - real_logits).mean() + softplus(fake_logits - self.fake_mean).mean()) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return (softplus(self.real_mean - fake_logits).mean() + softplus(real_logits - self.fake_mean).mean()) / 2


def _running(factory):
    return differ(d_gradient(factory, R + 3, F - 3),
                  right_d(((lambda r, f: (sp(0.1 * (F - 3).mean() - r).mean() + sp(f - 0.1 * (R + 3).mean()).mean()) / 2), None), R + 3, F - 3))  # fmt: skip


case(RunningRaGAN, True, "D compares each side with its own moving average.", _running, ("average", "other side", "own"),
     "as LeCam with swapped averages")  # fmt: skip


class MomentumHinge(HingeGAN):
    """G's loss relative to a running mean of D's output on fakes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.running = 0.0

    def discriminator_loss(self, real_logits, fake_logits):
        self.running = 0.9 * self.running + 0.1 * fake_logits.mean()
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean() + 0.1 * (self.running - fake_logits.mean()).square()


def _attached(factory):
    gan = build(factory)
    d = nn.Linear(2, 1)
    x = torch.randn(4, 2)
    error_ = ""
    for _ in range(2):
        r, f = torch.tanh(d(x)).flatten(), torch.tanh(d(-x)).flatten()
        try:
            gan.discriminator_loss(r, f).backward()
        except RuntimeError as e:
            error_ = str(e)[:60]
    assert "second time" in error_
    return {"second update": error_, "right": "no error"}


case(MomentumHinge, True, "The running mean keeps its graph: the second update fails, or grows without end.", _attached,
     ("detach", "graph", "state", "second"), "PyTorch forum classics")  # fmt: skip


class BalancedGAN(GAN):
    """The weight of G's loss follows how well D does; updated once per update of D."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("weight", torch.ones(()))

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        loss = softplus(-fake_logits).mean()
        self.weight.mul_(0.5)
        return self.weight * loss


def _weights(factory):
    gan = build(factory)
    norms = [np.abs(g_gradient(factory, gan=gan)).sum() for _ in range(4)]
    return differ(norms[3], norms[0])


case(BalancedGAN, False, "The weight halves with every call of G's loss: after 20 updates G stands still.", _weights,
     ("state", "call", "repeat", "twice"), "annealing in the wrong place")  # fmt: skip


# 7. Whole GANs


class WGANGP(WGAN):
    """WGAN with gradient penalty."""

    def discriminator_terms(self, outputs):
        penalty = self.penalties(outputs)  # noqa: F841
        return {"d/loss": self.discriminator_loss(outputs.real_logits, outputs.fake_logits)}


def _terms(factory, right_terms, needs="", player="d"):
    gan, outputs = step(factory, needs=needs, player=player)
    terms = getattr(gan, {"d": "discriminator_terms", "g": "generator_terms"}[player])(outputs)
    torch.manual_seed(9)
    found = sum(terms.values()).item()
    torch.manual_seed(9)
    return found, right_terms(gan, outputs), gan, outputs, terms


def _dropped(factory):
    found, right, *_ = _terms(factory, lambda gan, o: (gan.discriminator_loss(o.real_logits, o.fake_logits)
                              + sum(gan.penalties(o).values())).item())  # fmt: skip
    return differ(found, right)


GP = {"gp": GradientPenalty(10.0)}
case(WGANGP, True, "The penalty is computed and never added.", _dropped, ("penalty", "missing", "term"),
     "LixiangHan/GANs-for-1D-Signal issue 7", factory=partial(WGANGP, regularizers=GP))  # fmt: skip


class ConvergentGAN(NonSaturatingGAN):
    """Non-saturating loss with R1."""

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        r1 = sum(self.penalties(outputs).values())
        terms["d/loss"] = terms["d/loss"] + r1
        return terms


def _r1_right(gan, o):
    return (gan.discriminator_loss(o.real_logits, o.fake_logits) + sum(gan.penalties(o).values())).item()


def _twice(factory):
    found, right, gan, outputs, _ = _terms(factory, _r1_right)
    loss = gan.discriminator_loss(outputs.real_logits, outputs.fake_logits).item()
    return differ((found - loss) * 1e3, (right - loss) * 1e3)


case(ConvergentGAN, True, "The penalty is counted twice: in the base's terms and in the loss.", _twice,
     ("penalty", "twice", "term"), "lambda counted twice", factory=partial(ConvergentGAN, regularizers={"r1": R1(1.0)}))  # fmt: skip


class PenaltyAscent(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def discriminator_terms(self, outputs):
        loss = self.discriminator_loss(outputs.real_logits, outputs.fake_logits)
        return {"d/loss": loss} | {name: -value for name, value in self.penalties(outputs).items()}


case(PenaltyAscent, False, "Penalties are subtracted: D is rewarded for steep slopes.", _twice, ("penalty", "sign", "subtract"),
     "ports of maximization", factory=partial(PenaltyAscent, regularizers={"r1": R1(1.0)}))  # fmt: skip


class BackwardInLoss(GAN):
    """Saves memory: D's real part is back-propagated at once."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def discriminator_terms(self, outputs):
        real = softplus(-outputs.real_logits).mean()
        real.backward(retain_graph=True)
        return {"d/loss": real + softplus(outputs.fake_logits).mean(), **self.penalties(outputs)}


def _accumulated(factory):
    gan, outputs = step(factory)
    right = parameter_gradient(gan.discriminator_loss(outputs.real_logits, outputs.fake_logits), gan.discriminator)
    gan.zero_grad()
    sum(gan.discriminator_terms(outputs).values()).backward()
    return differ(np.concatenate([p.grad.numpy().ravel() for p in gan.discriminator.parameters()]), right)


case(BackwardInLoss, False, "The real part is back-propagated in the terms and again by the step: it counts twice.",
     _accumulated, ("backward", "gradient", "twice", "real"), "DCGAN example's two backward calls")  # fmt: skip


class ACGANLoss(NonSaturatingGAN):
    """AC-GAN's loss, logged by hand."""

    def generator_terms(self, outputs):
        return {"g/loss": self.generator_loss(outputs.fake_logits, outputs.real_logits)}


def _ac(factory):
    found, right, *_ = _terms(factory, lambda gan, o: (gan.generator_loss(o.fake_logits)
                              + gan.conditioning.generator_term(o)).item(), "ac", "g")  # fmt: skip
    return differ(found, right)


case(ACGANLoss, True, "G's classification term is missing: G need not follow its label.", _ac,
     ("class", "label", "conditioning", "term"), "overrides that forget super()", needs="ac")  # fmt: skip


class ConditionalHinge(CGAN):
    """G is judged under the label that it was asked for."""

    def generator_terms(self, outputs):
        logits, _ = self._discriminate(outputs.fake, outputs.real_y)
        return {"g/loss": self.generator_loss(logits, outputs.real_logits)}


def _labels(factory):
    gan, outputs = step(factory, needs="labels", player="g")
    found = gan.generator_terms(outputs)["g/loss"].item()
    return differ(found, gan.generator_loss(outputs.fake_logits).item(), 1e-4)


case(ConditionalHinge, True, "Fakes are judged under the real batch's labels, not their own.", _labels,
     ("label", "fake_y", "class", "value"), "crcrpar/pytorch.sngan_projection issue 23", needs="labels")  # fmt: skip


class DetachedReplay(GAN):
    """G's fakes are scored once more by the updated D."""

    def discriminator_loss(self, real_logits, fake_logits):
        return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()

    def generator_terms(self, outputs):
        logits = self.discriminator(outputs.fake.detach(), outputs.fake_y)
        return {"g/loss": self.generator_loss(logits)}


def _no_gradient(factory):
    gan, outputs = step(factory, player="g")
    right = parameter_gradient(-outputs.fake_logits.mean(), gan.generator)
    return differ(parameter_gradient(sum(gan.generator_terms(outputs).values()), gan.generator), right)


case(DetachedReplay, False, "The fakes are detached in G's update: G gets no gradient.", _no_gradient,
     ("detach", "gradient", "generator"), "fake.detach() copied from D's update")  # fmt: skip


class LeakyPenalty(WGAN):
    """Gradient penalty in both updates."""

    def generator_terms(self, outputs):
        terms = super().generator_terms(outputs)
        (g,) = torch.autograd.grad(outputs.fake_logits.sum(), outputs.fake, create_graph=True)
        terms["g/penalty"] = 10 * (g.flatten(1).norm(2, 1) - 1).square().mean()
        return terms


def _leak(factory):
    gan, outputs = step(factory, player="g")
    right = parameter_gradient(-outputs.fake_logits.mean(), gan.generator)
    return differ(parameter_gradient(sum(gan.generator_terms(outputs).values()), gan.generator), right)


case(LeakyPenalty, True, "D's penalty reaches G, which moves its fakes to where D's slope is 1.", _leak,
     ("generator", "penalty", "player", "term"), "total loss shared by both players")  # fmt: skip


class CriticRegression(GAN):
    """Least squares with feature-matching of logits."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2

    def generator_loss(self, fake_logits, real_logits=None):
        return (fake_logits.mean().detach() - real_logits.mean()).square() / 2 + 0 * fake_logits.sum()


case(CriticRegression, False, "Matching detaches the fakes' mean: the term moves D's real logits, which are frozen, and never G.",
     wrong_g(((lambda r, f: LS[0](r, f)), lambda f, r: (f.mean() - r.mean()) ** 2 / 2)), ("detach", "gradient", "fake logits"),
     "wrong side detached")  # fmt: skip


class InPlaceHinge(HingeGAN):
    """Saves memory."""

    def discriminator_loss(self, real_logits, fake_logits):
        real = real_logits.neg_().add_(1).relu()
        fake = fake_logits.add_(1).relu()
        return real.mean() + fake.mean()


def _in_place(factory):
    gan, outputs = step(factory, before=lambda g: setattr(g.regularizers["lecam"], "start", 0))
    before = outputs.real_logits.detach().clone().numpy()
    gan.discriminator_terms(outputs)
    return differ(outputs.real_logits.detach().numpy(), before)


case(InPlaceHinge, True, "The loss writes into the logits, which LeCam and the logs read afterwards.", _in_place,
     ("in place", "in-place", "modif", "changes"), "inplace=True habits", factory=partial(InPlaceHinge, regularizers={"lecam": LeCam(0.3, start=0)}))  # fmt: skip


class CenteredInPlace(GAN):
    def discriminator_loss(self, real_logits, fake_logits):
        real_logits -= fake_logits.mean().detach()
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


def _in_place2(factory):
    gan = build(factory)
    r = torch.tensor(R)
    gan.discriminator_loss(r, torch.tensor(F))
    return differ(r.numpy(), R)


case(CenteredInPlace, False, "-= changes the caller's logits: penalties and logs then see others.", _in_place2,
     ("in place", "in-place", "modif", "changes"), "augmented assignment on tensors")  # fmt: skip


class ClippedWGAN(WGAN):
    """Weights are clipped to 0.01."""

    def generator_terms(self, outputs):
        for p in self.discriminator.parameters():
            p.data.clamp_(-0.01, 0.01)
        return super().generator_terms(outputs)


def _clip(factory):
    gan, outputs = step(factory)
    sum(gan.discriminator_terms(outputs).values()).backward()
    gan.project_discriminator()
    return differ(max(p.abs().max().item() for p in gan.discriminator.parameters()), 0.01)


case(ClippedWGAN, True, "Clipping happens inside G's loss, after its forward pass, and never between updates of D.", _clip,
     ("clip", "project", "weights", "side effect"), "torchgan pull request 42 and ports")  # fmt: skip


class NoClipWGAN(WGAN):
    def project_discriminator(self):
        return None  # handled by the regularizer


def _no_projection(factory):
    gan = build(factory)
    gan.project_discriminator()
    return differ(max(p.abs().max().item() for p in gan.discriminator.parameters()), 0.01)


case(NoClipWGAN, True, "The hook that calls the projections is overridden by nothing: weights are never clipped.", _no_projection,
     ("project", "clip", "overrid"), "hooks overridden without super()", factory=partial(NoClipWGAN, regularizers={"clip": WeightClipping(0.01)}))  # fmt: skip


class LazyPenalties(GAN):
    """R1 every 4 updates, as in StyleGAN2."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def penalties(self, outputs):
        return {
            f"d/penalty_{k}": r.penalty(self.discriminator, outputs)
            for k, r in self.regularizers.items()
            if outputs.step % r.every == 0
        }


def _lazy(factory):
    gan, outputs = step(factory)
    found = gan.penalties(outputs)["d/penalty_r1"].item()
    return differ(found, GAN.penalties(gan, outputs)["d/penalty_r1"].item())


case(LazyPenalties, False, "A lazy penalty is not multiplied by its interval.", _lazy, ("every", "lazy", "overrid", "penalties"),
     "labmlai issue 161", factory=partial(LazyPenalties, regularizers={"r1": R1(1.0, every=4)}))  # fmt: skip


class SlowAverage(NonSaturatingGAN):
    @torch.no_grad()
    def _update_ema(self):
        for average, p in zip(self.generator_ema.parameters(), self.generator.parameters()):
            average.lerp_(p, self.ema_decay)


def _ema(factory):
    gan = build(factory)
    p, average = next(gan.generator.parameters()), next(gan.generator_ema.parameters())
    p.data.add_(1.0)
    before = average.detach().clone().numpy()
    gan._update_ema()
    return differ((average.detach().numpy() - before).mean(), 1 - 0.999)


case(SlowAverage, True, "The generator's average moves by the decay, 0.999, per update: it averages nothing.", _ema,
     ("average", "decay", "overrid", "ema"), "lerp's weight")  # fmt: skip


class UniformLatents(NonSaturatingGAN):
    """DCGAN's latents."""

    def sample_latents(self, n):
        return torch.rand(n, self.generator.latent_dim, device=self.device, dtype=self.dtype) * 2 - 1


def _latents(factory):
    gan = build(factory)
    seen = []
    gan.generator_ema.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    gan.sample(2000, seed=1)
    return differ(gan.sample_latents(2000).std().item(), torch.cat(seen).std().item())


case(UniformLatents, True, "G trains on U(-1, 1) and is sampled with N(0, I) after training.", _latents,
     ("latent", "sample", "N(0"), "a hook that has two users")  # fmt: skip


class FixedLatents(GAN):
    """The same latents as in the sample grid."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("fixed", torch.randn(1, self.generator.latent_dim))

    def sample_latents(self, n):
        return self.fixed.expand(n, -1)

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


def _equal(factory):
    z = build(factory).sample_latents(50)
    return differ(z.std(0).mean().item(), 1.0)


case(FixedLatents, False, "Every sample of every step has the same latent: G can learn one point only.", _equal,
     ("latent", "same", "equal"), "fixed_noise of the DCGAN example")  # fmt: skip


class PerSampleLoss(GAN):
    """Loss per sample, then penalties."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        terms["d/loss"] = terms["d/loss"] / len(outputs.real_logits)
        return terms


def _mean_twice(factory):
    gan, outputs = step(factory)
    return differ(gan.discriminator_terms(outputs)["d/loss"].item(),
                  gan.discriminator_loss(outputs.real_logits, outputs.fake_logits).item())  # fmt: skip


case(PerSampleLoss, False, "The mean is divided by the batch size again, so that the penalty outweighs the loss.", _mean_twice,
     ("divide", "scale", "batch size", "term", "mean"), "means taken twice", factory=partial(PerSampleLoss, regularizers={"r1": R1(1.0)}))  # fmt: skip


# 8. Without a claim: gradients that are missing, reversed or NaN


class ConfidencePenaltyGAN(GAN):
    """Cross-entropy with a confidence penalty: D's outputs should have high entropy."""

    @staticmethod
    def entropy(logits):
        return softplus(logits) - logits * logits.sigmoid()

    def discriminator_loss(self, real_logits, fake_logits):
        loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        return loss + 0.5 * (self.entropy(real_logits).mean() + self.entropy(fake_logits).mean())

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


def _entropy(x):
    return sp(x) - x * sig(x)


case(ConfidencePenaltyGAN, True, "The entropy is minimized: D is rewarded for confidence, on wrong answers, too.",
     wrong_d(((lambda r, f: NS[0](r, f) - 0.5 * (_entropy(r).mean() + _entropy(f).mean())), NS[1])), ("sign", "entropy", "gradient"),
     "Pereyra et al. 2017, sign")  # fmt: skip


class NormalizedMargin(GAN):
    """The gap in units of the logits' spread."""

    def discriminator_loss(self, real_logits, fake_logits):
        spread = torch.cat([real_logits, fake_logits]).std()
        return relu(1 - real_logits / spread).mean() + relu(1 + fake_logits / spread).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits.mean()


def _nan_at(r, f, player="d"):
    def evidence(factory):
        found = d_gradient(factory, r, f) if player == "d" else g_gradient(factory, f)
        assert not np.isfinite(found).all()
        return {"found": "NaN", "right": "finite"}

    return evidence


case(NormalizedMargin, False, "Division by a spread that is 0 where D is constant: NaN.", _nan_at(np.zeros(6), np.zeros(6)),
     ("NaN", "finite", "constant", "divi", "zero"), "normalization without epsilon")  # fmt: skip


class RootMeanSquare(GAN):
    """Least squares in the units of the logits."""

    def discriminator_loss(self, real_logits, fake_logits):
        mse = nn.functional.mse_loss
        return mse(real_logits, torch.ones_like(real_logits)).sqrt() + mse(fake_logits, torch.zeros_like(fake_logits)).sqrt()

    def generator_loss(self, fake_logits, real_logits=None):
        return nn.functional.mse_loss(fake_logits, torch.ones_like(fake_logits)).sqrt()


case(RootMeanSquare, False, "The root has an infinite slope at 0: logits of exactly 0 (a zero-initialized head) give NaN.",
     _nan_at(R, np.zeros(6)), ("NaN", "finite", "root", "zero"), "RMSE losses")  # fmt: skip


class HardSamples(GAN):
    """D learns from the samples that it has wrong."""

    def discriminator_loss(self, real_logits, fake_logits):
        real = torch.where(real_logits > 0, softplus(-real_logits), 0.0)
        fake = torch.where(fake_logits < 0, softplus(fake_logits), 0.0)
        return real.mean() + fake.mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


HARD = (lambda r, f: np.where(r < 0, sp(-r), 0).mean() + np.where(f > 0, sp(f), 0).mean()), NS[1]
case(HardSamples, False, "The mask is reversed: D learns from what it has right and never from its errors.", wrong_d(HARD),
     ("gradient", "mask", "vanish", "wrong side"), "hard example mining")  # fmt: skip


class PassedOnly(GAN):
    """G imitates those of its samples that D takes for real."""

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits[fake_logits > 0]).mean()


case(PassedOnly, False, "Where D rejects all fakes the mean is empty: NaN.", lambda factory: _empty(factory),
     ("NaN", "finite", "empty"), "boolean masks")  # fmt: skip


def _empty(factory):
    loss = build(factory).generator_loss(torch.tensor(F - 5)).item()
    assert np.isnan(loss)
    return {"found": loss, "right": float(sp(-(F - 5)).mean())}


class MeanRank(GAN):
    """G raises the rank of its samples among all logits; free of scale."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(fake_logits[None] - real_logits[:, None]).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        rank = (fake_logits[:, None] > real_logits[None]).to(fake_logits.dtype).mean()
        return -rank + 0 * fake_logits.sum()


ALL_PAIRS = (lambda r, f: sp(f[None] - r[:, None]).mean()), (lambda f, r: sp(r[:, None] - f[None]).mean())
case(MeanRank, False, "Ranks have no gradient: G stands still.", wrong_g(ALL_PAIRS), ("gradient", "zero", "vanish", "differentiable"),
     "AUC as a loss")  # fmt: skip


class TargetMean(GAN):
    """Moment matching of logits: G's mean logit should equal the real one."""

    generator_sees_real = True

    def discriminator_loss(self, real_logits, fake_logits):
        return (real_logits - 1).square().mean() + (fake_logits + 1).square().mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(fake_logits.mean() - real_logits.mean()).square()


case(TargetMean, False, "The squared distance is maximized by G.",
     wrong_g(((lambda r, f: ((r - 1) ** 2).mean() + ((f + 1) ** 2).mean()), lambda f, r: (f.mean() - r.mean()) ** 2)), ("sign", "generator"),
     "D's sign copied into G's loss")  # fmt: skip


class OneLogitForAll(GAN):
    """Cross-entropy of the batch's mean probability; stable."""

    def discriminator_loss(self, real_logits, fake_logits):
        return -logsigmoid(real_logits).mean() - logsigmoid(-fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -torch.sigmoid(fake_logits).mean().clamp(min=1e-6).log() * torch.sigmoid(fake_logits).mean().detach()


case(OneLogitForAll, False, "The factor cancels the log's gradient 1/mean: G's gradient is sigma' and vanishes as D wins.",
     wrong_g((NS[0], lambda f, r: -np.log(sig(f).mean())), f=F - 8), ("vanish", "gradient", "saturat", "generator"), "reweighting")  # fmt: skip


class HalfAttached(GAN):
    """One margin for both sides, around their midpoint."""

    def discriminator_loss(self, real_logits, fake_logits):
        middle = (real_logits.mean() + fake_logits.mean()) / 2
        return relu(1 - real_logits + middle.detach()).mean() + relu(1 + fake_logits - middle.detach()).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return -(fake_logits - fake_logits.mean()).mean()


case(HalfAttached, False, "G's loss subtracts the mean of what it averages: it is 0 with no gradient.",
     wrong_g(((lambda r, f: np.nan), lambda f, r: -f.mean()), other=False), ("gradient", "zero", "vanish", "constant"), "centering")  # fmt: skip


# 9. Overflow far out, cut graphs, labels


class Log1pExp(NonSaturatingGAN):
    """softplus by hand."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return torch.log1p(torch.exp(-real_logits)).mean() + torch.log1p(torch.exp(fake_logits)).mean()


case(Log1pExp, True, "exp overflows float32 above 88: the loss is infinite, its gradient NaN.", wrong_d(NS, FAR_R * 4, FAR_F * 4, torch.float32),
     ("overflow", "finite", "NaN", "infinite"), "hand-written softplus")  # fmt: skip


class GuardedSoftplus(GAN):
    """softplus by hand, linear above 20."""

    @staticmethod
    def s(x):
        return torch.where(x > 20, x, torch.log(1 + torch.exp(x)))

    def discriminator_loss(self, real_logits, fake_logits):
        return self.s(-real_logits).mean() + self.s(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return self.s(-fake_logits).mean()


case(GuardedSoftplus, False, "where hides the overflow from the value, not from the gradient: 0 * inf = NaN above 88.",
     wrong_d(NS, FAR_R * 4, FAR_F * 4, torch.float32), ("NaN", "finite", "overflow", "gradient"), "torch.where and NaN gradients")  # fmt: skip


class FreshTensor(GAN):
    """Cross-entropy, returned as a fresh tensor."""

    def discriminator_loss(self, real_logits, fake_logits):
        loss = nn.BCEWithLogitsLoss()
        total = loss(real_logits, torch.ones_like(real_logits)) + loss(fake_logits, torch.zeros_like(fake_logits))
        return torch.tensor(total.item(), requires_grad=True)

    def generator_loss(self, fake_logits, real_logits=None):
        return nn.BCEWithLogitsLoss()(fake_logits, torch.ones_like(fake_logits))


case(FreshTensor, False, "The result is copied into a new tensor: D gets no gradient.", wrong_d(NS), ("gradient", "detach", "depend"),
     "torch.tensor(..., requires_grad=True)")  # fmt: skip


class NoGradReal(NonSaturatingGAN):
    """Real samples need no gradient."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        with torch.no_grad():
            real = softplus(-real_logits).mean()
        return real + softplus(fake_logits).mean()


case(NoGradReal, True, "no_grad around the real term: D learns from fakes only.", wrong_d(NS), ("gradient", "real logits", "detach"),
     "samples and logits mixed up")  # fmt: skip


class RareClasses(GAN):
    """Rare classes weigh more: each sample by 1/count of its class in its batch."""

    requires_labels = True

    def discriminator_loss(self, real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()

    @staticmethod
    def weights(y):
        w = 1 / torch.bincount(y, minlength=3)[y]
        return w / w.sum()

    def discriminator_terms(self, outputs):
        w = self.weights(outputs.real_y)
        return {
            "d/real": (w * softplus(-outputs.real_logits)).sum(),
            "d/fake": (w * softplus(outputs.fake_logits)).sum(),
            **self.penalties(outputs),
        }


def _class_weights(factory):
    gan, o = step(factory, needs="labels", n=8)
    o.fake_y = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    o.fake_logits = torch.linspace(-2, 3, 8, dtype=torch.float64)
    w = 1 / np.bincount(o.fake_y.numpy(), minlength=3)[o.fake_y.numpy()]
    right = (w / w.sum() * sp(o.fake_logits.numpy())).sum()
    return differ(gan.discriminator_terms(o)["d/fake"].item(), right)


case(RareClasses, False, "Fakes are weighted by the real batch's labels.", _class_weights, ("label", "fake_y", "weight", "order"),
     "conditional weighting", needs="labels")  # fmt: skip


class TwoWayPairs(RpGAN):
    """The mean over pairs in both directions, i with i and i with its neighbor."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        a = softplus(fake_logits - real_logits)
        b = softplus(fake_logits[:-1] - real_logits[1:])
        return (a.sum() + b.sum()) / len(a)


case(TwoWayPairs, True, "The second set of pairs is summed in and not counted in the divisor: the loss is nearly doubled, and the ends miss a pair.",
     wrong_d(RP), ("mean", "order", "value", "factor", "pair"), "means over unequal counts")  # fmt: skip
