"""Wrong losses, penalties and training steps, each with the checks that must fail; and right ones, written unusually."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy, logsigmoid, mse_loss, relu, softplus
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from ganlab import GAN, LSGAN, WGAN, HingeGAN, MinimaxGAN, NonSaturatingGAN, PearsonGAN, RaGAN
from ganlab.regularizers import R1, GradientPenalty, InstanceNoise, LeCam, Regularizer, WeightClipping


class Planted(NamedTuple):
    """A defect: the family that has it, the names of all checks that fail, and what the message says of it."""

    family: object
    failed: set[str]
    message: str
    where: str = ""
    in_the_wild: bool = False  # seen in a well-known library


PLANTED: dict[str, Planted] = {}


def plant(name, *failed, message, where="", in_the_wild=False):
    def keep(family):
        PLANTED[name] = Planted(family, set(failed), message, where, in_the_wild)
        return family

    return keep


# Losses


@plant(
    "minimax that is the non-saturating loss",
    "the loss its name says",
    message="descends from MinimaxGAN, but its generator gradient is NonSaturatingGAN's: dG/df = -0.99995 at f = -10 "
    "instead of -4.5398e-05",
    where="generator_loss",
    in_the_wild=True,
)
class Original(MinimaxGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits).mean()


@plant(
    "the same by name alone",
    "the loss its name says",
    message="is named like MinimaxGAN, but its generator gradient is NonSaturatingGAN's",
    where="generator_loss",
    in_the_wild=True,
)
class MinimaxLoss(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)
    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@plant(
    "non-saturating that saturates",
    "the loss its name says",
    message="is named like NonSaturatingGAN, but its generator gradient is MinimaxGAN's",
    where="generator_loss",
)
class NSGAN(GAN):
    discriminator_loss = staticmethod(MinimaxGAN.discriminator_loss)
    generator_loss = staticmethod(MinimaxGAN.generator_loss)


@plant(
    "epsilon inside the log",
    "no epsilon, no clamp",
    message="NonSaturatingGAN's for small logits, but its gradient by fake logits is -9.358e-06 at -30",
    where="generator_loss",
    in_the_wild=True,
)
class Epsilon(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -(fake_logits.sigmoid() + 1e-8).log().mean()


@plant(
    "torch's BCELoss on sigmoids, which clamps",
    "no epsilon, no clamp",
    "exact in float32",
    "exact in bf16",
    message="MinimaxGAN's for small logits, but its gradient by fake logits is 0 at 40",
    where="discriminator_loss",
)
class ClampedCrossEntropy(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
        return binary_cross_entropy(real, torch.ones_like(real)) + binary_cross_entropy(fake, torch.zeros_like(fake))

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@plant(
    "clamped logits",
    "no epsilon, no clamp",
    message="its gradient by fake logits is 0 at 18, where it differs most, instead of 1",
    where="discriminator_loss",
)
class ClampedLogits(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        real, fake = real_logits.clamp(-15, 15), fake_logits.clamp(-15, 15)
        return NonSaturatingGAN.discriminator_loss(real, fake)


@plant(
    "log of a sigmoid that rounds to 0",
    "finite up to 1e4",
    message="in float32",
    where="generator_loss",
)
class LogOfZero(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.sigmoid().log().mean()


@plant(
    "LSGAN on sigmoid outputs",
    "declared optimal_logit",
    "logits, not probabilities",
    "the loss its name says",
    message="is LSGAN's generator loss on sigmoid outputs",
    where="generator_loss",
    in_the_wild=True,
)
class LeastSquaresOnSigmoids(LSGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return LSGAN.discriminator_loss(real_logits.sigmoid(), fake_logits.sigmoid())

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return LSGAN.generator_loss(fake_logits.sigmoid())


@plant(
    "a sigmoid before the cross-entropy that has one",
    "logits, not probabilities",
    message="is NonSaturatingGAN's generator loss on sigmoid outputs",
    where="generator_loss",
)
class TwoSigmoids(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return NonSaturatingGAN.discriminator_loss(real_logits.sigmoid(), fake_logits.sigmoid())

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return NonSaturatingGAN.generator_loss(fake_logits.sigmoid())


@plant(
    "Wasserstein on sigmoid outputs",
    "declared divergence",
    "the loss its name says",
    message="descends from WGAN, but its discriminator gradient is WGAN's on sigmoid outputs",
    where="discriminator_loss",
)
class WassersteinOnSigmoids(WGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.sigmoid().mean() - real_logits.sigmoid().mean()


@plant(
    "least squares without the half",
    "the loss its name says",
    message="is named like LSGAN, but its generator gradient is 2 times LSGAN's",
    where="generator_loss",
)
class LeastSquaresGAN(GAN):
    discriminator_loss = staticmethod(LSGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (fake_logits - 1).square().mean()


@plant(
    "a doubled discriminator loss",
    "declared divergence",
    "the loss its name says",
    message="is 2 times MinimaxGAN's",
    where="discriminator_loss",
)
class Doubled(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return 2 * NonSaturatingGAN.discriminator_loss(real_logits, fake_logits)


@plant(
    "another conjugate under the same name",
    "declared divergence",
    "the loss its name says",
    message="descends from PearsonGAN, but its discriminator gradient is that of no known loss",
    where="discriminator_loss",
)
class Unconjugated(PearsonGAN):
    @staticmethod
    def conjugate(logits):
        return logits.clamp(min=-2).square() / 2 + logits


@plant(
    "relativistic average that compares pairs",
    "the loss its name says",
    message="descends from RaGAN, but its discriminator gradient is RpGAN's",
    where="discriminator_loss",
)
class Pairs(RaGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(fake_logits - real_logits).mean()


@plant(
    "real and fake exchanged",
    "sign and order",
    message="pushes real logits the wrong way",
    where="discriminator_loss",
)
class Exchanged(GAN):
    @staticmethod
    def discriminator_loss(fake_logits, real_logits):
        return NonSaturatingGAN.discriminator_loss(real_logits, fake_logits)

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@plant(
    "one side of D with the wrong sign",
    "sign and order",
    message="pushes fake logits the wrong way",
    where="discriminator_loss",
)
class OneSideFlipped(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean() + softplus(-fake_logits).mean()

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@plant(
    "a generator that flees",
    "sign and order",
    "bounded where it should be",
    message="pushes fake logits the wrong way",
    where="generator_loss",
)
class Fleeing(GAN):
    discriminator_loss = staticmethod(HingeGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.mean()


@plant(
    "the sum over the batch",
    "mean over samples",
    message="is 10.125 on a batch and 18.325 on the same batch repeated twice",
    where="discriminator_loss",
)
class Summed(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return relu(1 - real_logits).sum() + relu(1 + fake_logits).mean()

    generator_loss = staticmethod(HingeGAN.generator_loss)


@plant("weights by position", "mean over samples", message="depends on the samples' order", where="generator_loss")
class ByPosition(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        n = len(fake_logits)
        ranks = torch.arange(n) % 4 + 1.0
        return (ranks.to(fake_logits) * softplus(-fake_logits)).mean()


@plant("one sample for all", "mean over samples", message="depends on the samples' order: 1.463", where="generator_loss")
class FirstOnly(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits[0])


@plant("the fakes ignored", "uses its logits", message="does not depend on the fake logits", where="discriminator_loss")
class FakesIgnored(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(-real_logits).mean()


@plant("everything detached", "uses its logits", message="does not depend on the fake logits", where="generator_loss")
class Detached(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits.detach()).mean()


@plant(
    "a gradient that is not the value's",
    "autograd agrees with the value",
    message="a part is detached",
    where="generator_loss",
)
class Normalized(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        loss = softplus(-fake_logits).mean()
        return loss / loss.detach()


@plant("one value per sample", "finite scalar", message="a tensor of shape [4]", where="generator_loss")
class Vector(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits)


@plant("not a number", "finite scalar", message="is nan at typical logits", where="discriminator_loss")
class NotANumber(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.log().mean() - real_logits.log().mean()


@plant("a Python number", "finite scalar", message="a loss must be a tensor", where="discriminator_loss")
class MetricResult(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return NonSaturatingGAN.discriminator_loss(real_logits, fake_logits).item()


@plant("raises", "finite scalar", message="raises KeyError: 'r'", where="discriminator_loss")
class Raises(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return {}["r"]


@plant(
    "needs real logits and does not say so",
    "finite scalar",
    message="declare generator_sees_real = True if it compares with real logits",
    where="generator_loss",
)
class NeedsReal(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(fake_logits - real_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(real_logits - fake_logits).mean()


@plant(
    "takes no real logits",
    "finite scalar",
    message="write def generator_loss(self, fake_logits, real_logits=None)",
    where="generator_loss",
)
class TakesNoReal(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits):
        return softplus(-fake_logits).mean()


@plant("half a family", "can be built", message="abstract", where="__init__")
class Half(GAN):
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)


@plant(
    "breaks in bf16",
    "exact in bf16",
    message="raises TypeError: Got unsupported ScalarType BFloat16",
    where="discriminator_loss",
)
class ThroughNumPy(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        weights = np.ones_like(real_logits.detach().numpy())
        return (torch.from_numpy(weights) * softplus(-real_logits)).mean() + softplus(fake_logits).mean()


@plant(
    "cancels in float32",
    "exact in float32",
    "exact in bf16",
    message="at real [-1e+03, 0.25], fake [1e+03, -0.75], expected -500 as in float64",
    where="discriminator_loss",
)
class Probit(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return -torch.special.log_ndtr(real_logits).mean() - torch.special.log_ndtr(-fake_logits).mean()

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@plant(
    "computed in float16",
    "finite up to 1e4",
    message="in float64 the loss is inf at real [600, 0.25], fake [-600, -0.75], expected a finite number",
    where="discriminator_loss",
)
class InHalf(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (real_logits.half() - 1).square().mean() + fake_logits.half().square().mean()

    generator_loss = staticmethod(LSGAN.generator_loss)


@plant(
    "a linear critic without its Lipschitz constraint",
    "bounded where it should be",
    message="falls without bound while D is right",
    where="discriminator_loss",
)
class Unbounded(GAN):
    discriminator_loss = staticmethod(WGAN.discriminator_loss)
    generator_loss = staticmethod(WGAN.generator_loss)


@plant(
    "more than the declared divergence allows",
    "declared divergence",
    "bounded where it should be",
    message="is -1 for real logits of 30 and fake of -30, expected at least",
    where="discriminator_loss",
)
class BelowItsDivergence(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return HingeGAN.discriminator_loss(real_logits, fake_logits) - 1

    generator_loss = staticmethod(HingeGAN.generator_loss)
    divergence = staticmethod(HingeGAN.divergence)


@plant(
    "Pearson's conjugate without its bend, minimized",
    "sign and order",
    "bounded where it should be",
    message="falls without bound as D recognizes the fakes",
    where="generator_loss",
)
class Unbent(GAN):
    discriminator_loss = staticmethod(LSGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -(fake_logits.square() / 4 + fake_logits).mean()


# Penalties


def penalty(name, *failed, message, in_the_wild=False, **settings):
    def keep(kind):
        family = partial(NonSaturatingGAN, regularizers={"mine": kind(**settings)})
        PLANTED[name] = Planted(family, set(failed), message, "regularizers.mine", in_the_wild)
        return kind

    return keep


def gradient(discriminator, x, y=None, create_graph=True):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(discriminator(x, y).sum(), x, create_graph=create_graph)[0]


@penalty(
    "the norm over dim 1 only",
    "penalty on a linear critic",
    message="as if the norm ran over dim 1 only, per pixel",
    in_the_wild=True,
    weight=10.0,
)
class PerPixel(GradientPenalty):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, self.points(outputs), outputs.real_y)
        return self.weight * ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


@penalty(
    "the same, from scratch",
    "penalty on a linear critic",
    message="depends on where the critic's weights are",
    in_the_wild=True,
    weight=10.0,
)
class PerPixelFromScratch(Regularizer):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, GradientPenalty(1.0).points(outputs), outputs.real_y)
        return self.weight * ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


@penalty(
    "the norm over the whole batch",
    "penalty on a linear critic",
    "penalty is a mean over samples",
    message="as if the norm ran over the whole batch",
    in_the_wild=True,
    weight=10.0,
)
class WholeBatch(GradientPenalty):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, self.points(outputs), outputs.real_y)
        return self.weight * ((slope.square().sum() + 1e-12).sqrt() - 1).square()


@penalty(
    "the penalty of the mean norm",
    "penalty is a mean over samples",
    message="penalize each sample's norm, then take the mean",
    weight=10.0,
)
class OfTheMean(GradientPenalty):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, self.points(outputs), outputs.real_y)
        return self.weight * ((slope.flatten(1).square().sum(1) + 1e-12).sqrt().mean() - 1).square()


@penalty(
    "one epsilon for the whole batch",
    "penalty interpolates per sample",
    message="for the whole batch of 512 samples",
    in_the_wild=True,
    weight=10.0,
)
class OneEpsilon(GradientPenalty):
    def points(self, outputs):
        u = torch.rand(())
        return u * outputs.real + (1 - u) * outputs.fake.detach()


@penalty(
    "one epsilon per value",
    "penalty interpolates per sample",
    message="mixes each value of a sample in its own proportion",
    weight=10.0,
)
class EpsilonPerValue(GradientPenalty):
    def points(self, outputs):
        u = torch.rand_like(outputs.real)
        return u * outputs.real + (1 - u) * outputs.fake.detach()


@penalty(
    "epsilon near the real samples only",
    "penalty interpolates per sample",
    message="not from U[0, 1]",
    weight=10.0,
)
class NarrowEpsilon(GradientPenalty):
    def points(self, outputs):
        u = 0.7 + 0.3 * torch.rand(len(outputs.real), *[1] * (outputs.real.ndim - 1))
        return u * outputs.real + (1 - u) * outputs.fake.detach()


@penalty(
    "lambda counted twice",
    "penalty on a linear critic",
    "lambda scales the penalty",
    message="10 times that",
    in_the_wild=True,
    weight=10.0,
)
class LambdaTwice(GradientPenalty):
    def penalty(self, discriminator, outputs):
        return self.weight * super().penalty(discriminator, outputs)


@penalty(
    "lambda ignored",
    "penalty on a linear critic",
    "lambda scales the penalty",
    message="0.1 times that",
    weight=10.0,
)
class LambdaIgnored(GradientPenalty):
    def penalty(self, discriminator, outputs):
        return super().penalty(discriminator, outputs) / self.weight


@penalty("R1 without its half", "penalty on a linear critic", message="2 times that", gamma=3.0)
class WithoutTheHalf(R1):
    def penalty(self, discriminator, outputs):
        return 2 * super().penalty(discriminator, outputs)


@penalty(
    "R1 on fakes",
    "penalty is evaluated where its name says",
    message="descends from R1, but evaluates D at fakes, where R1 does so at real samples",
    gamma=3.0,
)
class OnFakes(R1):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, outputs.fake, outputs.fake_y)
        return self.gamma / 2 * slope.flatten(1).square().sum(1).mean()


@penalty(
    "crashes on grayscale",
    "penalty takes every shape",
    message="fails on samples [8, 1, 8, 8] with RuntimeError",
    in_the_wild=True,
    weight=10.0,
)
class ColorOnly(GradientPenalty):
    def points(self, outputs):
        u = torch.rand(len(outputs.real), 3, 1, 1).expand(-1, 3, *outputs.real.shape[2:])
        return torch.lerp(outputs.fake.detach(), outputs.real, u.reshape(outputs.real.shape))


@penalty(
    "crashes on flat samples",
    "penalty takes every shape",
    message="fails on samples [8, 5] with ValueError: not enough values to unpack",
    weight=10.0,
)
class ImagesOnly(GradientPenalty):
    def points(self, outputs):
        n, _, _, _ = outputs.real.shape
        u = torch.rand(n, 1, 1, 1)
        return u * outputs.real + (1 - u) * outputs.fake.detach()


@penalty(
    "no graph through the gradient",
    "penalty trains the critic",
    message="autograd.grad needs create_graph=True",
    gamma=3.0,
)
class NoGraph(R1):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, outputs.real, outputs.real_y, create_graph=False)
        return self.gamma / 2 * slope.flatten(1).square().sum(1).mean()


@penalty(
    "a square root at 0",
    "penalty is finite on a constant critic",
    message="has the gradient nan by the weights of a critic of slope 0",
    weight=10.0,
)
class RootOfZero(GradientPenalty):
    def penalty(self, discriminator, outputs):
        norm = gradient(discriminator, self.points(outputs), outputs.real_y).flatten(1).square().sum(1).sqrt()
        return self.weight * (norm - 1).square().mean()


@penalty(
    "the sum over samples",
    "penalty on a linear critic",
    "penalty is a mean over samples",
    message="or the samples were summed",
    gamma=3.0,
)
class SumOverSamples(R1):
    def penalty(self, discriminator, outputs):
        return len(outputs.real) * super().penalty(discriminator, outputs)


@penalty(
    "one value per sample in a penalty",
    "penalty takes every shape",
    message="returns a tensor of shape [8]",
    gamma=3.0,
)
class PerSampleVector(R1):
    def penalty(self, discriminator, outputs):
        slope = gradient(discriminator, outputs.real, outputs.real_y)
        return self.gamma / 2 * slope.flatten(1).square().sum(1)


@penalty(
    "augmentation that stops gradients",
    "augmentation lets gradients through",
    "training step runs",
    message="gives G no gradient: something is detached",
    sigma=0.2,
)
class StopsGradients(InstanceNoise):
    def augment(self, x):
        return super().augment(x.detach())


@penalty(
    "laziness counted twice",
    "lazy penalty keeps its mean",
    message="3 times",
    gamma=3.0,
)
class LazyTwice(R1):
    def penalty(self, discriminator, outputs):
        return self.every * super().penalty(discriminator, outputs)


# The training step and the terms, which a subclass changes


@plant(
    "the penalty in a step of its own",
    "the training step is ganlab's",
    message="overrides TwoSteps.training_step (planted.py, line",
    where="training_step",
    in_the_wild=True,
)
class TwoSteps(NonSaturatingGAN):
    def training_step(self, batch, batch_idx=0):
        d, _ = self.optimizers()
        outputs = self.forward_pass(*batch, with_real=True, grad_to_generator=False)
        for loss in (self.discriminator_loss(outputs.real_logits, outputs.fake_logits), *self.penalties(outputs).values()):
            d.zero_grad()
            self.manual_backward(loss)
            d.step()


@plant(
    "the penalty in an Adam step of its own",
    "D's terms are its loss and penalties",
    message="d/penalty_weight_decay is 0, expected 1.92 (discriminator_terms leaves it out",
    where="training_step",
    in_the_wild=True,
)
class OwnAdam(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        adam = torch.optim.Adam(self.discriminator.parameters(), lr=0.0, betas=(0.0, 0.9))
        adam.zero_grad()
        sum(self.penalties(outputs).values(), outputs.real_logits.sum() * 0).backward(retain_graph=True)
        adam.step()
        return {"d/loss": self.discriminator_loss(outputs.real_logits, outputs.fake_logits)}


@plant(
    "a critic loss that is never back-propagated",
    "training step runs",
    message="the sum of the discriminator's terms has no gradient by its weights",
    where="training_step",
    in_the_wild=True,
)
class NoBackward(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        return {name: term.detach() for name, term in super().discriminator_terms(outputs).items()}


@plant(
    "a critic loss that is detached from its penalty",
    "D's terms are its loss and penalties",
    message="the gradient of d/loss by the player's weights has the norm 0, expected",
    where="training_step",
)
class PenaltyAlone(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        return terms | {"d/loss": terms["d/loss"].detach(), "d/of_its_own": 0 * outputs.real_logits.sum()}


@plant(
    "a critic that never steps",
    "the training step is ganlab's",
    message="overrides NoStep._update (planted.py, line",
    where="training_step",
)
class NoStep(NonSaturatingGAN):
    def _update(self, network, step, real, y):
        if network == "g":
            super()._update(network, step, real, y)


@plant(
    "lambda counted twice in the sum",
    "D's terms are its loss and penalties",
    message="d/penalty_weight_decay is 3.84, expected 1.92",
    where="training_step",
    in_the_wild=True,
)
class LambdaTwiceInTheSum(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        weighted = {f"d/penalty_{name}": r.weight for name, r in self.regularizers.items()}
        return {name: weighted.get(name, 1) * term for name, term in terms.items()}


@plant(
    "a generator that follows another loss than generator_loss",
    "G's term is its loss",
    message="g/loss is",
    where="training_step",
)
class TwoGenerators(NonSaturatingGAN):
    def generator_terms(self, outputs):
        return {"g/loss": 0.5 * self.generator_loss(outputs.fake_logits)}


@plant(
    "lazy without its factor",
    "D's terms are its loss and penalties",
    message="d/penalty_weight_decay is 0.64, expected 1.92",
    where="training_step",
)
class LazyOnce(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        factors = {f"d/penalty_{name}": r.every for name, r in self.regularizers.items()}
        return {name: term / factors.get(name, 1) for name, term in terms.items()}


@plant(
    "fakes that stay attached in D's step",
    "the training step is ganlab's",
    message="overrides Attached.discriminator_step (planted.py, line",
    where="training_step",
)
class Attached(NonSaturatingGAN):
    def discriminator_step(self, real, y, *noise):
        outputs = self.forward_pass(real, y, *noise, with_real=True, grad_to_generator=True)
        return self.discriminator_terms(outputs), {}


@plant(
    "a discriminator that is not frozen in G's step",
    "the training step is ganlab's",
    message="overrides NotFrozen.training_step (planted.py, line",
    where="training_step",
)
class NotFrozen(NonSaturatingGAN):
    def training_step(self, batch, batch_idx=0):
        real, y = batch
        self._update("d", self.discriminator_step, real, y)
        self._update("g", self.generator_step, real, y)


@plant(
    "no training step at all",
    "the training step is ganlab's",
    message="overrides NoTrainingStep.training_step (planted.py, line",
    where="training_step",
)
class NoTrainingStep(NonSaturatingGAN):
    def training_step(self, batch, batch_idx=0):
        pass


class ClipsBefore(NonSaturatingGAN):
    """An ancestor of the family that is checked."""

    def on_before_optimizer_step(self, optimizer):
        for regularizer in self.regularizers.values():
            regularizer.project(self.discriminator)


class ClipsFirst(ClipsBefore):
    pass


plant(
    "weights clipped before the step",
    "the training step is ganlab's",
    message="overrides ClipsBefore.on_before_optimizer_step (planted.py, line",
    where="training_step",
)(partial(ClipsFirst, regularizers={"clip": WeightClipping(0.05)}))


# What is remembered, drawn and changed


@plant("a hidden counter", "the same at each call", message="its call no. 3 with the same logits", where="generator_loss")
class Counts(NonSaturatingGAN):
    calls = 0

    def generator_loss(self, fake_logits, real_logits=None):
        self.calls += 1
        return (-1 if self.calls == 3 else 1) * softplus(-fake_logits).mean()


@plant(
    "logits changed in place", "the same at each call", message="changes the real logits in place", where="discriminator_loss"
)
class InPlace(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return softplus(real_logits.neg_()).mean() + softplus(fake_logits).mean()


@plant(
    "one latent for all", "latents are fresh", message="gives each sample of a batch the same latents", where="training_step"
)
class OneLatent(NonSaturatingGAN):
    def sample_latents(self, n):
        return super().sample_latents(1).expand(n, -1)


@plant("weights clipped in a term", "terms have no side effects", message="changes D's weights", where="training_step")
class ClipsInG(NonSaturatingGAN):
    def generator_terms(self, outputs):
        for p in self.discriminator.parameters():
            p.data.clamp_(-0.01, 0.01)
        return super().generator_terms(outputs)


@plant(
    "fakes weighted by real labels",
    "labels stay with their side",
    message="exchanged: fakes are weighted",
    where="training_step",
)
class RareLabels(GAN):
    requires_labels = True
    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)
    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)

    def discriminator_terms(self, outputs):
        weights = 1 / torch.bincount(outputs.real_y)[outputs.real_y]
        real, fake = softplus(-outputs.real_logits), softplus(outputs.fake_logits)
        return {"d/real": (weights * real).sum(), "d/fake": (weights * fake).sum(), **self.penalties(outputs)}


def plant_regularizer(name, *failed, message, **settings):
    return lambda kind: plant(name, *failed, message=message, where="regularizers")(
        partial(NonSaturatingGAN, regularizers={"mine": kind(**settings)})
    )


@plant_regularizer(
    "noise on real samples only", "augmentation treats both sides alike", message="treats real samples and fakes differently",
    sigma=0.5,
)  # fmt: skip
class OnRealOnly(InstanceNoise):
    def augment(self, x):
        return x if x.requires_grad else super().augment(x)


@plant_regularizer(
    "noise that grows", "augmentation treats both sides alike", message="adds noise of size 0 in step 0, expected 0.5009 as InstanceNoise", sigma=0.5,
    fade=100,
)  # fmt: skip
class Grows(InstanceNoise):
    def on_step_start(self, step):
        self.left.fill_(min(1.0, step / self.fade))


@plant_regularizer("R1 with the fakes' labels", "penalty passes labels", message="gives D the labels [1, 2, 0", gamma=1.0)
class OtherLabels(R1):
    def penalty(self, discriminator, outputs):
        squared = gradient(discriminator, outputs.real, outputs.fake_y).flatten(1).square().sum(1)
        return self.gamma / 2 * squared.mean()


@plant("a loss divided by the pack", "the same at each call", message="depends on gan.pack", where="generator_loss")
class ByPack(NonSaturatingGAN):
    def generator_loss(self, fake_logits, real_logits=None):
        return softplus(-fake_logits).mean() / self.pack


@plant_regularizer("half a clip", "critic's slope is bounded", message="as WeightClipping with the same bound", bound=0.01)
class HalfClip(WeightClipping):
    def project(self, discriminator):
        for p in discriminator.parameters():
            p.data.clamp_(max=self.bound)


@plant_regularizer(
    "averages without buffers", "state is saved with checkpoints", message="remembers something that checkpoints lose"
)
class Forgets(Regularizer):
    average = 0.0

    def penalty(self, discriminator, outputs):
        self.average = 0.9 * self.average + 0.1 * outputs.real_logits.detach().mean()
        return relu(outputs.real_logits - self.average).square().mean()


@plant_regularizer(
    "a one-sided penalty the other way round", "penalty on a linear critic", "critic's slope is bounded", message="expected GradientPenalty's closed form",
    weight=10.0, one_sided=True,
)  # fmt: skip
class BelowOne(GradientPenalty):
    def _value(self, norm):
        return self.weight * relu(self.center - torch.as_tensor(norm)).square()


@plant_regularizer(
    "LeCam against its own side",
    "penalty on a linear critic",
    message="descends from LeCam, but in step 0",
    weight=0.3,
    start=0,
)
class OwnSide(LeCam):
    def penalty(self, discriminator, outputs):
        super().penalty(discriminator, outputs)
        real, fake = outputs.real_logits - self.real_average, self.fake_average - outputs.fake_logits
        return self.weight * (relu(real).square().mean() + relu(fake).square().mean())


# Right, but unusual: no check may fail

RIGHT = {}


def right(family):
    RIGHT[getattr(family, "__name__", None) or type(family.keywords["regularizers"]["mine"]).__name__] = family
    return family


def right_penalty(**settings):
    def keep(kind):
        right(partial(NonSaturatingGAN, regularizers={"mine": kind(**settings)}))
        return kind

    return keep


@right
class MoreTerms(NonSaturatingGAN):
    """Adds a term to each player's."""

    def discriminator_terms(self, outputs):
        return super().discriminator_terms(outputs) | {"d/drift": 1e-3 * outputs.real_logits.square().mean()}

    def generator_terms(self, outputs):
        return super().generator_terms(outputs) | {"g/size": outputs.fake.square().mean()}


@right
class NonSaturatingLoss(GAN):
    """Under its name, by torch's cross-entropy on logits."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return bce(fake_logits, torch.ones_like(fake_logits))


@right
class SaturatingGAN(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return -logsigmoid(real_logits).mean() - logsigmoid(-fake_logits).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return logsigmoid(-fake_logits).mean()


@right
class Documented(MinimaxGAN):
    """Adds nothing but words."""


@right
class SmoothedLabels(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return bce(real_logits, torch.full_like(real_logits, 0.9)) + bce(fake_logits, torch.zeros_like(fake_logits))

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@right
class NoisyLabels(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return bce(real_logits, 0.8 + 0.2 * torch.rand_like(real_logits)) + softplus(fake_logits).mean()

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@right
class FlippedLabels(GAN):
    """One label in ten is wrong on purpose."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        kept = torch.bernoulli(torch.full_like(real_logits, 0.9))
        return bce(real_logits, kept) + bce(fake_logits, 1 - torch.bernoulli(torch.full_like(fake_logits, 0.9)))

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@right
class OtherTargets(GAN):
    """Mao et al. 2017's second choice, -1, 1 and 0."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return mse_loss(real_logits, torch.ones_like(real_logits)) + (fake_logits + 1).square().mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.square().mean()


@right
class Exponential(GAN):
    """Overflows float32 above 88, as it must."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (-real_logits).exp().mean() + fake_logits.exp().mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (-fake_logits).exp().mean()


@right
class FourthPowers(GAN):
    """So steep that plain steps of 0.05 would throw the players out of float32."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return ((real_logits - 1) ** 4).mean() + (fake_logits**4).mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return ((fake_logits - 1) ** 4).mean()


@right
class Tempered(GAN):
    def __init__(self, *players, temperature=2.0, **settings):
        super().__init__(*players, **settings)
        self.temperature = temperature

    def discriminator_loss(self, real_logits, fake_logits):
        return NonSaturatingGAN.discriminator_loss(real_logits / self.temperature, fake_logits / self.temperature)

    def generator_loss(self, fake_logits, real_logits=None):
        return NonSaturatingGAN.generator_loss(fake_logits / self.temperature)


@right
class Balanced(GAN):
    """Remembers how far the fakes count (k of BEGAN, Berthelot et al. 2017)."""

    def __init__(self, *players, **settings):
        super().__init__(*players, **settings)
        self.register_buffer("k", torch.tensor(0.5))
        self.register_buffer("average", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        real, fake = softplus(-real_logits).mean(), softplus(fake_logits).mean()
        loss = real + (self.k.clone() - 0.1 * self.average.clone()) * fake
        self.k.copy_((self.k + 0.1 * (0.7 * real - fake)).detach().clamp(0.3, 1))
        self.average.mul_(0.9).add_(0.1 * fake.detach())
        return loss

    generator_loss = staticmethod(NonSaturatingGAN.generator_loss)


@right
class WideHinge(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (5 - real_logits).clamp(min=0).mean() + (5 + fake_logits).clamp(min=0).mean()

    generator_loss = staticmethod(WGAN.generator_loss)


@right
class Critic(GAN):
    requires_lipschitz = True
    discriminator_loss = staticmethod(WGAN.discriminator_loss)
    generator_loss = staticmethod(WGAN.generator_loss)


@right
class EnergyDistance(GAN):
    """Of logits (Bellemare et al. 2017): the same with real and fake exchanged."""

    generator_sees_real = True

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        distance = lambda a, b: (a[:, None] - b).abs().mean()
        between = 2 * distance(real_logits, fake_logits)
        return between - distance(real_logits, real_logits) - distance(fake_logits, fake_logits)

    def discriminator_loss(self, real_logits, fake_logits):
        return -self.generator_loss(fake_logits, real_logits)


@right
class Savage(GAN):
    """LSGAN's formula on sigmoids, by a name of its own (Masnadi-Shirazi & Vasconcelos 2008)."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (1 - real_logits.sigmoid()).square().mean() + fake_logits.sigmoid().square().mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (1 - fake_logits.sigmoid()).square().mean()


@right
class TopK(GAN):
    """Only the better half of the fakes teaches G (Sinha et al. 2020)."""

    discriminator_loss = staticmethod(NonSaturatingGAN.discriminator_loss)

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return softplus(-fake_logits.topk((len(fake_logits) + 1) // 2).values).mean()


@right
class InFloat32(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return NonSaturatingGAN.discriminator_loss(real_logits.float(), fake_logits.float())

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return NonSaturatingGAN.generator_loss(fake_logits.float())


@right
class KullbackLeibler(GAN):
    """Unbounded, since what it measures is; and says so."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (fake_logits - 1).exp().mean() - real_logits.mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits.mean()

    @staticmethod
    def divergence(p, q):
        return (p * (p / q).log()).sum()


@right_penalty(weight=10.0)
class ByTorchsNorm(GradientPenalty):
    """Torch's own norm has a derivative of 0 at 0."""

    def penalty(self, discriminator, outputs):
        norm = gradient(discriminator, self.points(outputs), outputs.real_y).flatten(1).norm(2, 1)
        return self.weight * (norm - 1).square().mean()


@right_penalty(weight=10.0)
class LargestSlope(Regularizer):
    """Another norm, without a closed form on slopes."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        return self.weight * gradient(discriminator, outputs.real, outputs.real_y).flatten(1).abs().sum(1).mean()


@right_penalty(weight=0.1)
class Drift(Regularizer):
    """Karras et al. 2018: weight * E D(real)^2."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        return self.weight * outputs.real_logits.square().mean()


@right_penalty(weight=1.0)
class Collage(Regularizer):
    """D on a patchwork of real and fake (CutMix) as on its parts."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        mask = (torch.rand_like(outputs.real[:1]) < 0.5).to(outputs.real)
        mixed = mask * outputs.real + (1 - mask) * outputs.fake.detach()
        return self.weight * (discriminator(mixed, outputs.real_y) - outputs.real_logits).square().mean()


@right_penalty(weight=1e-3)
class UnitRows(Regularizer):
    """On D's weights alone, row by row."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        lengths = [p.view(len(p), -1).square().sum(1) for p in discriminator.parameters()]
        return self.weight * (torch.cat(lengths) - 1).square().sum()


@right_penalty(weight=10.0)
class UniformAroundReal(Regularizer):
    """DRAGAN as its authors' code has it."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        points = outputs.real + 0.5 * outputs.real.std() * torch.rand_like(outputs.real)
        norm = gradient(discriminator, points, outputs.real_y).flatten(1).norm(2, 1)
        return self.weight * (norm - 1).square().mean()


@right_penalty(strength=0.9)
class Shrinks(Regularizer):
    """A projection that ganlab does not have."""

    def __init__(self, strength):
        super().__init__()
        self.strength = strength

    @torch.no_grad()
    def project(self, discriminator):
        for p in discriminator.parameters():
            p.mul_(self.strength)
