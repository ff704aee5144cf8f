"""Penalties, projections and augmentations with one defect each, as users write them."""

from functools import partial

import numpy as np
import torch
from bench_common import (
    QuadraticD,
    Wrong,
    batch,
    build,
    differ,
    numpy_parameter_gradient,
    parameter_gradient,
    penalty_at,
    penalty_proof,
    quad_gradients,
    register,
    sig,
    step,
)  # fmt: skip
from bench_common import relu as np_relu
from torch import autograd, nn
from torch.nn.functional import relu, softplus

from ganlab import WGAN, HingeGAN, NonSaturatingGAN
from ganlab.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    DiffAugment,
    FiniteDifferenceR1,
    GradientPenalty,
    InstanceNoise,
    LeCam,
    Regularizer,
    WeightClipping,
    squared_gradient_norm,
)  # fmt: skip

CASES: list[Wrong] = []
_case = register(CASES, Wrong)
IMAGES = (1, 4, 4)


def case(cls, claims, defect, evidence, reasons, source, family=NonSaturatingGAN, needs="", **settings):
    factory = partial(family, regularizers={"mine": cls(**settings)})
    _case(cls, claims, defect, evidence, reasons, source, factory=factory, needs=needs, name=cls.__name__)


def sq(x, a, w):
    return (quad_gradients(x, a, w) ** 2).sum(1)


def r1(gamma, real, a, w):
    return gamma / 2 * sq(real, a, w).mean()


def right_r1(gamma=2.0):
    return lambda real, fake, a, w: r1(gamma, real, a, w)


def right_r2(gamma=2.0):
    return lambda real, fake, a, w: r1(gamma, fake, a, w)


def points_seen(factory, shape=(2,), n=6, **settings):
    """Where the penalty evaluates D, with real and fake."""
    _, d, real, fake = penalty_at(factory, shape=shape, n=n, **settings)
    return d.seen[-1], real, fake


def slope_curve(factory, slopes, shape=(2,)):
    """The penalty on linear critics of these slopes."""
    values = []
    for slope in slopes:
        d = QuadraticD(shape, a=0.0, w=1.0)
        with torch.no_grad():
            d.w.mul_(slope / d.w.norm())
        p = penalty_at(factory, shape=shape, discriminator=d)[0]
        values.append(p.item())
    return np.array(values)


def on_slopes(right, slopes=(0.2, 0.7, 1.0, 1.5, 3.0), shape=(2,)):
    return lambda factory: differ(slope_curve(factory, slopes, shape), np.array([right(s) for s in slopes]))


def gp(weight=10.0):
    return lambda s: weight * (s - 1) ** 2


# 1. WGAN-GP


class WGANGP(Regularizer):
    """10 (||grad||_2 - 1)^2 on random lines between real and fake."""

    lipschitz = per_sample = True

    def __init__(self, lambda_gp=10.0):
        super().__init__()
        self.lambda_gp = lambda_gp

    def penalty(self, discriminator, outputs):
        alpha = torch.rand(outputs.real.size(0), *[1] * (outputs.real.ndim - 1), dtype=outputs.real.dtype)
        x = (alpha * outputs.real + (1 - alpha) * outputs.fake.detach()).requires_grad_(True)
        d = discriminator(x, outputs.real_y)
        gradients = autograd.grad(d, x, torch.ones_like(d), create_graph=True, retain_graph=True, only_inputs=True)[0]
        return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * self.lambda_gp


case(WGANGP, True, "The norm runs over dim 1 only: on images it is each pixel's absolute value.", on_slopes(gp(), shape=IMAGES),
     ("norm", "axis", "dim", "pixel", "closed form"), "caogang/wgan-gp issues 25, 27, 56; Zeleni9 issue 40; PyTorch-GAN issue 20",
     WGAN, "images")  # fmt: skip


class GradientPenaltyBatchNorm(GradientPenalty):
    """Gulrajani et al. 2017."""

    def penalty(self, discriminator, outputs):
        x = self.points(outputs).requires_grad_()
        (g,) = autograd.grad(discriminator(x, outputs.real_y).sum(), x, create_graph=True)
        return self.weight * (g.norm(2) - 1) ** 2


case(GradientPenaltyBatchNorm, True, "One norm over the whole batch: a slope of 1 costs (sqrt(n) - 1)^2.", on_slopes(gp()),
     ("norm", "batch", "per sample", "closed form"), "penalties of well-known libraries", WGAN, weight=10.0)  # fmt: skip


class OneEpsilonGP(GradientPenalty):
    def points(self, outputs):
        epsilon = torch.rand(1, dtype=outputs.real.dtype)
        return epsilon * outputs.real + (1 - epsilon) * outputs.fake.detach()


def u_of(x, real, fake):
    return ((x - fake) / (real - fake)).reshape(len(x), -1)


def _one_epsilon(factory):
    u = u_of(*points_seen(factory))
    return differ(u.mean(1).std() + 1e-9, 0.2887, 0.5)


case(OneEpsilonGP, True, "One epsilon for the whole batch.", _one_epsilon, ("epsilon", "per sample", "interpol", "batch"),
     "PyTorch-GAN pull requests 173, 174", WGAN, weight=10.0)  # fmt: skip


class PixelEpsilonGP(GradientPenalty):
    """tf.random_uniform(shape=real.shape)."""

    def points(self, outputs):
        alpha = torch.rand_like(outputs.real)
        return outputs.fake.detach() + alpha * (outputs.real - outputs.fake.detach())


def _pixel_epsilon(factory):
    u = u_of(*points_seen(factory, IMAGES))
    return differ(u.std(1).mean(), 0.0, 0.5)


case(PixelEpsilonGP, True, "An epsilon per value: points fill boxes, not lines.", _pixel_epsilon,
     ("epsilon", "per sample", "interpol", "line"), "hwalsuklee issue 33; preritj/progressive_growing_of_GANs issue 3", WGAN, weight=10.0)  # fmt: skip


class NoGraphGP(GradientPenalty):
    def penalty(self, discriminator, outputs):
        x = self.points(outputs).requires_grad_()
        (g,) = autograd.grad(discriminator(x, outputs.real_y).sum(), x)
        return self.weight * (g.flatten(1).norm(dim=1) - 1).square().mean()


def _no_gradient(right):
    def evidence(factory):
        p, d, real, fake = penalty_at(factory)
        a, w = d.numbers()
        return differ(
            np.abs(parameter_gradient(p, d)).sum(),
            np.abs(numpy_parameter_gradient(lambda s, t: right(real, fake, s, t), a, w)).sum(),
        )

    return evidence


def mid_gp(real, fake, a, w):
    return 10 * ((np.sqrt(sq((real + fake) / 2, a, w)) - 1) ** 2).mean()


case(NoGraphGP, True, "create_graph is missing: the penalty is a number without a gradient.", _no_gradient(mid_gp),
     ("create_graph", "gradient", "weights", "constant"), "many ports", WGAN, weight=10.0)  # fmt: skip


class SquaredNormGP(GradientPenalty):
    def penalty(self, discriminator, outputs):
        squared = squared_gradient_norm(discriminator, self.points(outputs), outputs.real_y)
        return self.weight * (squared - 1).square().mean()


case(SquaredNormGP, True, "The root is missing: (||g||^2 - 1)^2.", on_slopes(gp()), ("norm", "root", "square", "closed form"),
     "TensorFlow ports with reduce_sum(square)", WGAN, weight=10.0)  # fmt: skip


class MeanNormGP(GradientPenalty):
    def penalty(self, discriminator, outputs):
        norm = (squared_gradient_norm(discriminator, self.points(outputs), outputs.real_y) + 1e-12).sqrt()
        return self.weight * (norm.mean() - 1).square()


def _mean_norm(factory):
    _, d, real, fake = penalty_at(factory)
    a, w = d.numbers()
    x = points_seen(factory)[0]
    norm = np.sqrt(sq(x, a, w))
    return differ(penalty_at(factory)[0].item(), 10 * ((norm - 1) ** 2).mean())


case(MeanNormGP, True, "The mean norm is held at 1, not each sample's.", _mean_norm, ("mean", "per sample", "each", "norm"),
     "as square-of-mean bugs", WGAN, weight=10.0)  # fmt: skip


class ProbabilityGP(GradientPenalty):
    """Gradient of the discriminator's output."""

    def penalty(self, discriminator, outputs):
        x = self.points(outputs).requires_grad_()
        (g,) = autograd.grad(discriminator(x, outputs.real_y).sigmoid().sum(), x, create_graph=True)
        return self.weight * (g.flatten(1).norm(dim=1) - 1).square().mean()


case(ProbabilityGP, True, "The gradient is that of sigmoid(D), at most a quarter of the logit's.", on_slopes(gp()),
     ("sigmoid", "logit", "closed form", "slope"), "hwalsuklee issue 14", WGAN, weight=10.0)  # fmt: skip


class ReversedOneSidedGP(GradientPenalty):
    """Only norms above 1 are penalized."""

    def __init__(self, weight=10.0):
        super().__init__(weight, one_sided=True)

    def _value(self, norm):
        return self.weight * relu(self.center - torch.as_tensor(norm)).square()


case(ReversedOneSidedGP, True, "The side is reversed: slopes below 1 are penalized.", on_slopes(lambda s: 10 * max(s - 1, 0) ** 2),
     ("one-sided", "side", "sign", "above"), "one-sided penalties", WGAN)  # fmt: skip


class RootGP(GradientPenalty):
    def penalty(self, discriminator, outputs):
        norm = squared_gradient_norm(discriminator, self.points(outputs), outputs.real_y).sqrt()
        return self.weight * (norm - self.center).square().mean()


def _constant_critic(factory):
    d = QuadraticD(a=0.0, w=0.0)
    p = penalty_at(factory, discriminator=d)[0]
    found = parameter_gradient(p, d)
    assert not np.isfinite(found).all()
    return {"found": "NaN", "right": "finite"}


case(RootGP, True, "The root has no epsilon: on a constant critic the gradient is NaN.", _constant_critic,
     ("NaN", "finite", "root", "epsilon", "constant"), "norm at 0", WGAN, weight=10.0)  # fmt: skip


class BlurredGP(Regularizer):
    """Two-sided penalty with a safe root."""

    lipschitz = per_sample = True

    def penalty(self, discriminator, outputs):
        u = torch.rand(len(outputs.real), *[1] * (outputs.real.ndim - 1), dtype=outputs.real.dtype)
        x = torch.lerp(outputs.fake.detach(), outputs.real, u)
        norm = (squared_gradient_norm(discriminator, x, outputs.real_y) + 0.3).sqrt()
        return 10 * (norm - 1).square().mean()

    def closed_form_linear(self, slope):
        return 10 * (slope - 1) ** 2


case(BlurredGP, False, "An epsilon of 0.3 under the root holds the slope at 0.84, not 1.", on_slopes(gp()),
     ("epsilon", "root", "slope", "closed form"), "compare_gan's 1e-4, exaggerated", WGAN)  # fmt: skip


class ExtrapolatedGP(GradientPenalty):
    def points(self, outputs):
        u = torch.rand(len(outputs.real), *[1] * (outputs.real.ndim - 1), dtype=outputs.real.dtype)
        return u * outputs.real - (1 - u) * outputs.fake.detach()


def _off_line(factory):
    x, real, fake = points_seen(factory)
    u = u_of(x, real, fake)
    return differ(u.std(1).max(), 0.0)


case(ExtrapolatedGP, True, "A minus for a plus: the points are not between real and fake.", _off_line,
     ("interpol", "between", "points", "sign"), "typing error", WGAN, weight=10.0)  # fmt: skip


class AtFakesOnly(Regularizer):
    """Slope 1 wherever the critic is used: on lines between real samples and fakes."""

    lipschitz = per_sample = True

    def penalty(self, discriminator, outputs):
        u = torch.rand(len(outputs.real), 1, dtype=outputs.real.dtype).view(-1, *[1] * (outputs.real.ndim - 1))
        x = u * outputs.fake.detach() + (1 - u) * outputs.fake.detach()
        return 10 * (squared_gradient_norm(discriminator, x, outputs.real_y).add(1e-12).sqrt() - 1).square().mean()


def _fakes_only(factory):
    x, real, fake = points_seen(factory)
    return differ(u_of(x, real, fake).max() + 1e-9, 1.0, 0.1)


case(AtFakesOnly, False, "The fakes are interpolated with themselves.", _fakes_only, ("interpol", "real", "points", "between"),
     "StudioGAN pull request 174", WGAN)  # fmt: skip


class CentreForgotten(GradientPenalty):
    """WGAN-GP."""

    def _value(self, norm):
        return self.weight * norm**2


case(CentreForgotten, True, "The center 1 is missing.", on_slopes(gp()), ("center", "closed form", "1"), "zero-centered variants", WGAN, weight=10.0)  # fmt: skip


class AbsoluteGP(GradientPenalty):
    def _value(self, norm):
        return self.weight * abs(norm - self.center)


case(AbsoluteGP, True, "The deviation is not squared.", on_slopes(gp()), ("square", "absolute", "closed form"), "ports", WGAN, weight=10.0)  # fmt: skip


class LipschitzPenalty(GradientPenalty):
    """WGAN-LP (Petzka et al. 2018): max(0, ||g|| - 1)^2."""

    def _value(self, norm):
        return self.weight * relu(torch.as_tensor(norm) ** 2 - 1)


case(LipschitzPenalty, True, "The hinge acts on the squared norm and is not squared.", on_slopes(lambda s: 10 * max(s - 1, 0) ** 2),
     ("square", "norm", "closed form"), "Petzka et al. 2018", WGAN, weight=10.0)  # fmt: skip


# 2. R1, R2


class RealGradientPenalty(R1):
    def penalty(self, discriminator, outputs):
        return self.gamma * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).mean()


case(RealGradientPenalty, True, "The half of gamma/2 is missing, against the inherited definition.", penalty_proof(right_r1()),
     ("half", "1/2", "gamma", "closed form", "factor"), "GAN_stability's convention", gamma=2.0)  # fmt: skip


class R1OnFakes(R1):
    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.fake.detach(), outputs.fake_y).mean()


case(R1OnFakes, True, "R1's gradient is taken at fakes.", penalty_proof(right_r1()), ("real", "fake", "points"), "mixed up with R2", gamma=2.0)  # fmt: skip


class R2OnReal(R2):
    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        return self.gamma / 2 * squared_gradient_norm(discriminator, x, y).mean()


case(R2OnReal, True, "R2's gradient is taken at real samples.", penalty_proof(right_r2()), ("real", "fake", "points"), "mixed up with R1", gamma=2.0)  # fmt: skip


class StyleR1(Regularizer):
    """gamma/2 ||grad||^2 at real images, Karras et al. 2019."""

    per_sample = True

    def __init__(self, gamma=10.0):
        super().__init__()
        self.gamma = gamma

    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().requires_grad_()
        hist = -softplus(-discriminator(x, outputs.real_y))
        (g,) = torch.autograd.grad(hist.sum(), x, create_graph=True)
        return self.gamma / 2 * g.pow(2).flatten(1).sum(1).mean()


case(StyleR1, True, "The gradient is that of -softplus(-D), not of D.", penalty_proof(right_r1(10.0)),
     ("logit", "softplus", "closed form", "slope"), "rosinality/style-based-gan-pytorch issue 34")  # fmt: skip


class UnsquaredR1(R1):
    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).sqrt().mean()


case(UnsquaredR1, True, "The norm is not squared.", penalty_proof(right_r1()), ("square", "norm", "closed form"), "ports", gamma=2.0)  # fmt: skip


class SumR1(R1):
    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().clone().requires_grad_(True)
        grad = torch.autograd.grad(outputs=discriminator(x, outputs.real_y).sum(), inputs=x, create_graph=True)[0]
        return 0.5 * self.gamma * grad.pow(2).sum()


case(SumR1, True, "A sum over the batch, not a mean.", penalty_proof(right_r1()), ("sum", "mean", "batch size"), "ports", gamma=2.0)  # fmt: skip


class PixelMeanR1(R1):
    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().clone().requires_grad_(True)
        grad = torch.autograd.grad(outputs=discriminator(x, outputs.real_y).sum(), inputs=x, create_graph=True)[0]
        return 0.5 * self.gamma * grad.pow(2).mean()


case(PixelMeanR1, True, "The mean runs over values, too: the penalty falls with the size of an image.",
     penalty_proof(right_r1(), IMAGES), ("mean", "sum", "axis", "pixel", "closed form"), "grad.pow(2).mean()", needs="images", gamma=2.0)  # fmt: skip


class MeanOutputGradient(Regularizer):
    """Zero-centered penalty at real samples."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().requires_grad_()
        (g,) = torch.autograd.grad(discriminator(x, outputs.real_y).mean(), x, create_graph=True)
        return g.square().flatten(1).sum(1).mean()


case(MeanOutputGradient, False, "The gradient of the batch mean: each sample's is divided by n, the penalty by n^2.",
     penalty_proof(right_r1()), ("batch size", "mean", "sum", "n"), "D(x).mean() for D(x).sum()")  # fmt: skip


class DetachedR1(R1):
    """As proposed in a tracker: no second-order gradients."""

    def penalty(self, discriminator, outputs):
        return super().penalty(discriminator, outputs).detach()


case(DetachedR1, True, "The penalty is detached: a constant.", penalty_proof(right_r1()), ("detach", "gradient", "constant"),
     "brownvc/R3GAN issue 20", gamma=2.0)  # fmt: skip


class LoggedPenalty(Regularizer):
    """Squared gradient norm at real samples, kept as a number for the log."""

    per_sample = True

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma, self.last = gamma, 0.0

    def penalty(self, discriminator, outputs):
        self.last = (self.gamma / 2 * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).mean()).item()
        return torch.tensor(self.last)


case(LoggedPenalty, False, "The logged number is returned: no gradient.", penalty_proof(right_r1()), ("gradient", "constant", "detach"),
     ".item() for the log")  # fmt: skip


class GammaTwice(R1):
    def penalty(self, discriminator, outputs):
        return self.gamma * super().penalty(discriminator, outputs)


case(GammaTwice, True, "gamma counts twice.", penalty_proof(right_r1()), ("twice", "gamma", "closed form", "factor"), "lambda counted twice", gamma=2.0)  # fmt: skip


class StyleGAN2R1(R1):
    """Lazy regularization: the penalty is multiplied by its interval."""

    def penalty(self, discriminator, outputs):
        return self.every * super().penalty(discriminator, outputs)


def _every(factory):
    gan, outputs = step(factory)
    found = gan.penalties(outputs)["d/penalty_mine"].item()
    r = gan.regularizers["mine"]
    return differ(found, r.every * R1(r.gamma).penalty(gan.discriminator, outputs).item())


case(StyleGAN2R1, True, "The base multiplies by `every`, too: the penalty counts every^2 times.", _every,
     ("every", "lazy", "twice", "factor"), "StyleGAN2 ports", gamma=2.0, every=4)  # fmt: skip


class LazySmoothness(Regularizer):
    """Squared slopes at real samples, every 4 updates."""

    per_sample = True

    def __init__(self, weight=1.0, every=4):
        super().__init__(every)
        self.weight = weight

    def penalty(self, discriminator, outputs):
        if (outputs.step + 1) % self.every:
            return None
        return self.weight * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).mean()


def _never(factory):
    gan, outputs = step(factory)
    count = 0
    for outputs.step in range(16):
        count += len(gan.penalties(outputs))
    return differ(count, 4)


case(LazySmoothness, False, "Its own counter is off by one from the base's: the penalty is never due.", _never,
     ("every", "never", "None", "lazy", "step"), "lazy counters from 1")  # fmt: skip


class HalfBatchR1(Regularizer):
    """R1 on a part of the batch, to save time; the mean stands for the batch."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        n = len(outputs.real) // 2
        y = None if outputs.real_y is None else outputs.real_y[:n]
        return squared_gradient_norm(discriminator, outputs.real[:n], y).sum() / len(outputs.real)


case(HalfBatchR1, True, "The sum over half the batch is divided by the whole: the weight is halved, and order matters.",
     penalty_proof(right_r1()), ("order", "mean", "half", "closed form", "batch"), "memory savers")  # fmt: skip


class WrongLabelR1(R1):
    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.real, outputs.fake_y).mean()


def _label_r1(factory):
    d = QuadraticD(classes=3)
    y, fake_y = torch.arange(6) % 3, (torch.arange(6) + 1) % 3
    p, d, real, fake = penalty_at(factory, discriminator=d, y=y, fake_y=fake_y)
    a, w = d.numbers()
    scale = d.scale.detach().numpy()[y.numpy()]
    return differ(p.item(), (scale**2 * sq(real, a, w)).mean())


case(WrongLabelR1, True, "Real samples are differentiated under the fakes' labels.", _label_r1, ("label", "real_y", "fake_y"),
     "conditional ports", needs="labels", gamma=2.0)  # fmt: skip


class PackedR1(R1):
    """R1 per sample of a pack."""

    def penalty(self, discriminator, outputs):
        return super().penalty(discriminator, outputs) / len(outputs.real)


case(PackedR1, True, "The mean is divided by the number of samples again.", penalty_proof(right_r1()),
     ("batch size", "divide", "twice", "closed form", "mean"), "pack divided twice", gamma=2.0)  # fmt: skip


class ApproximateR1(FiniteDifferenceR1):
    """Finite differences."""

    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        change = discriminator(x + self.sigma * torch.randn_like(x), y) - discriminator(x, y)
        return self.gamma / (2 * self.sigma) * change.square().mean()


def _finite(factory):
    return differ(slope_curve(factory, (0.5, 1, 2)) / slope_curve(partial(NonSaturatingGAN, regularizers={"mine": FiniteDifferenceR1(2.0, 0.01)}), (0.5, 1, 2)), np.ones(3))  # fmt: skip


case(ApproximateR1, True, "Divided by sigma, not by its square.", _finite, ("sigma", "closed form", "factor"), "R3GAN-like approximations", gamma=2.0, sigma=0.01)  # fmt: skip


class MeanChangeR1(FiniteDifferenceR1):
    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        change = discriminator(x + self.sigma * torch.randn_like(x), y) - discriminator(x, y)
        return self.gamma / (2 * self.sigma**2) * change.mean().square()


def _finite_mean(factory):
    gan = build(factory)
    values = [
        penalty_at(factory, gan=gan, n=32, discriminator=QuadraticD(a=0.0, w=1.0), real=batch(32, seed=s))[0].item()
        for s in range(1)
    ]
    d = QuadraticD(a=0.0, w=1.0)
    return differ(values[0], d.w.detach().square().sum().item())


case(MeanChangeR1, True, "The mean change is squared: changes cancel, the penalty falls with 1/n.", _finite_mean,
     ("mean", "square", "closed form", "batch size"), "order of mean and square", gamma=2.0, sigma=0.01)  # fmt: skip


class SharedNoise(Regularizer):
    """E (D(x + s n) - D(x))^2 / s^2 on real samples."""

    per_sample = True

    def __init__(self, sigma=0.01):
        super().__init__()
        self.sigma = sigma

    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        noise = self.sigma * torch.rand_like(x)
        return ((discriminator(x + noise, y) - discriminator(x, y)) / self.sigma).square().mean()

    def closed_form_linear(self, slope):
        return slope**2


def _uniform_noise(factory):
    d = QuadraticD(a=0.0, w=1.0)
    p = penalty_at(factory, n=4000, discriminator=d)[0].item()
    return differ(p, d.w.detach().square().sum().item(), 0.1)


case(SharedNoise, False, "rand for randn: the noise has a direction and a variance of 1/12 around 1/2.", _uniform_noise,
     ("noise", "closed form", "mean", "direction"), "rand/randn")  # fmt: skip


class JSRegularizer(Regularizer):
    """Roth et al. 2017: E (1 - s(r))^2 ||grad||^2 at real + E s(f)^2 ||grad||^2 at fakes, s = sigmoid."""

    per_sample = True

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def penalty(self, discriminator, outputs):
        real = squared_gradient_norm(discriminator, outputs.real, outputs.real_y)
        fake = squared_gradient_norm(discriminator, outputs.fake, outputs.fake_y)
        p, q = outputs.real_logits.sigmoid(), outputs.fake_logits.sigmoid()
        return self.gamma / 2 * ((p**2 * real).mean() + ((1 - q) ** 2 * fake).mean())


def _quad_logit(x, a, w):
    x = x.reshape(len(x), -1)
    return (a * x**2 / 2 + w * x).sum(1)


def js_right(real, fake, a, w):
    p, q = sig(_quad_logit(real, a, w)), sig(_quad_logit(fake, a, w))
    return ((1 - p) ** 2 * sq(real, a, w)).mean() + (q**2 * sq(fake, a, w)).mean()


case(JSRegularizer, True, "The weights are complements of the right ones: sure samples are penalized, doubtful ones not.",
     penalty_proof(js_right, what="value"), ("weight", "sigmoid", "value"), "Roth et al. 2017")  # fmt: skip


# 3. DRAGAN


class DRAGANVariance(DRAGAN):
    """Noise of half the batch's spread."""

    def points(self, outputs):
        x = outputs.real
        return x + self.noise * x.var(correction=0) * torch.randn_like(x)


def _spread(scale):
    def evidence(factory):
        real = batch(2000) * scale
        x = penalty_at(factory, real=real, fake=real)[1].seen[-1]
        return differ((x - real).std(), 0.5 * real.std(), 0.1)

    return evidence


case(DRAGANVariance, True, "The variance replaces the standard deviation: the noise follows the data's scale squared.", _spread(4.0),
     ("noise", "scale", "standard deviation", "points"), "StudioGAN pull request 8 and others", weight=10.0, noise=0.5)  # fmt: skip


class DRAGANFakes(DRAGAN):
    def points(self, outputs):
        x = outputs.fake.detach()
        return x + self.noise * x.std(correction=0) * torch.randn_like(x)


def _around(factory):
    real, fake = batch(500) + 20, batch(500)
    x = penalty_at(factory, real=real, fake=fake)[1].seen[-1]
    return differ(x.mean(), real.mean())


case(DRAGANFakes, True, "The gradient is taken around fakes.", _around, ("real", "fake", "points", "around"), "mixed-up arguments", weight=10.0, noise=0.5)  # fmt: skip


class DRAGANPoints(DRAGAN):
    def points(self, outputs):
        x = outputs.real
        x.data += self.noise * x.std(correction=0) * torch.randn_like(x)
        return x


def _modified(factory):
    gan, outputs = step(factory)
    before = outputs.real.clone().numpy()
    gan.regularizers["mine"].penalty(gan.discriminator, outputs)
    return differ(outputs.real.numpy(), before)


case(DRAGANPoints, True, "+= on .data changes the real batch itself, for every later penalty and term.", _modified,
     ("in place", "in-place", "modif", "changes"), "in-place arithmetic", weight=10.0, noise=0.5)  # fmt: skip


# 4. LeCam


class OwnAverageLeCam(LeCam):
    def penalty(self, discriminator, outputs):
        decay = 0 if outputs.step == 0 else self.decay
        for average, logits in ((self.real_average, outputs.real_logits), (self.fake_average, outputs.fake_logits)):
            average.mul_(decay).add_((1 - decay) * logits.detach().mean())
        real = relu(outputs.real_logits - self.real_average).square().mean()
        fake = relu(self.fake_average - outputs.fake_logits).square().mean()
        return self.weight * (real + fake)


def lecam_right(real, fake, a, w, decay=0.0):
    r, f = _quad_logit(real, a, w), _quad_logit(fake, a, w)
    return 0.3 * ((np_relu(r - f.mean()) ** 2).mean() + (np_relu(r.mean() - f) ** 2).mean())


case(OwnAverageLeCam, True, "Each side is compared with its own average.", penalty_proof(lecam_right, what="value"),
     ("average", "other side", "own"), "LeCam ports", weight=0.3, start=0)  # fmt: skip


class ReversedLeCam(LeCam):
    def penalty(self, discriminator, outputs):
        super().penalty(discriminator, outputs)
        real = relu(self.fake_average - outputs.real_logits).square().mean()
        fake = relu(outputs.fake_logits - self.real_average).square().mean()
        return self.weight * (real + fake)


case(ReversedLeCam, True, "Both sides are reversed: logits that are not yet apart are pulled together.",
     penalty_proof(lecam_right, what="value"), ("sign", "side", "value"), "LeCam ports", weight=0.3, start=0)  # fmt: skip


def _averages(steps=2):
    def evidence(factory):
        gan = build(factory)
        r = gan.regularizers["mine"].double()
        expected = None
        for i in range(steps):
            real, fake = batch(6, seed=10 + i) + 3 * i, batch(6, seed=20 + i) - 3 * i
            _, d, *_ = penalty_at(factory, gan=gan, number=i, real=real, fake=fake)
            a, w = d.numbers()
            now = np.array([_quad_logit(real, a, w).mean(), _quad_logit(fake, a, w).mean()])
            expected = now if i == 0 else 0.99 * expected + 0.01 * now
        return differ([r.real_average.item(), r.fake_average.item()], expected)

    return evidence


class FastLeCam(LeCam):
    """Moving averages with decay 0.99."""

    def penalty(self, discriminator, outputs):
        alpha = 1.0 if outputs.step == 0 else self.decay
        with torch.no_grad():
            self.real_average.lerp_(outputs.real_logits.mean().to(self.real_average.dtype), alpha)
            self.fake_average.lerp_(outputs.fake_logits.mean().to(self.fake_average.dtype), alpha)
        real = relu(outputs.real_logits - self.fake_average).square().mean()
        return self.weight * (real + relu(self.real_average - outputs.fake_logits).square().mean())


case(FastLeCam, True, "The decay is reversed: the average is the current batch.", _averages(), ("average", "decay"), "lerp's weight", weight=0.3, start=0)  # fmt: skip


class SwappedLeCam(LeCam):
    def penalty(self, discriminator, outputs):
        keep = 0 if outputs.step == 0 else self.decay
        self.real_average.mul_(keep).add_((1 - keep) * outputs.fake_logits.detach().mean())
        self.fake_average.mul_(keep).add_((1 - keep) * outputs.real_logits.detach().mean())
        real = relu(outputs.real_logits - self.fake_average).square().mean()
        return self.weight * (real + relu(self.real_average - outputs.fake_logits).square().mean())


case(SwappedLeCam, True, "The averages are updated with the other side's logits.", _averages(1), ("average", "side", "swap"), "LeCam ports", weight=0.3, start=0)  # fmt: skip


class DriftGuard(Regularizer):
    """Logits must not run away from their moving average (decay 0.99)."""

    def __init__(self, weight=0.1):
        super().__init__()
        self.weight, self.average = weight, 0.0

    def penalty(self, discriminator, outputs):
        both = torch.cat([outputs.real_logits, outputs.fake_logits])
        self.average = 0.99 * self.average + 0.01 * both.mean()
        return self.weight * (both - self.average).square().mean()


def _graph(factory):
    gan = build(factory)
    message, d = "", nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0)).double()
    d.forward_ = d.forward

    class D(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = d

        def forward(self, x, y=None):
            return self.net(x)

    critic = D()
    for i in range(2):
        p = penalty_at(factory, gan=gan, discriminator=critic, number=i)[0]
        try:
            p.backward()
        except RuntimeError as e:
            message = str(e)[:50]
    assert "second time" in message
    return {"second update": message, "right": "no error"}


case(DriftGuard, False, "The average keeps its graph: the second update fails.", _graph, ("detach", "graph", "state", "second"), "PyTorch forum classics")  # fmt: skip


class LateAverage(Regularizer):
    """Keeps real logits near their moving average, from update 1000 on."""

    def __init__(self, weight=0.3, start=1000):
        super().__init__()
        self.weight, self.start = weight, start
        self.register_buffer("average", torch.zeros(()))

    def on_step_start(self, step):
        self.average.mul_(0.99)  # once per step

    def penalty(self, discriminator, outputs):
        self.average.add_(0.01 * outputs.real_logits.detach().mean())
        if outputs.step < self.start:
            return None
        return self.weight * (outputs.real_logits - self.average).square().mean()


def _decays_twice(factory):
    gan = build(factory)
    r = gan.regularizers["mine"].double()
    value = 0.0
    for i in range(3):
        gan.on_step_start()  # D's update
        real = batch(6) + 3
        _, d, *_ = penalty_at(factory, gan=gan, number=i, real=real)
        gan.on_step_start()  # G's update
        value = 0.99 * value + 0.01 * _quad_logit(real, *d.numbers()).mean()
    return differ(r.average.item(), value, 0.01)


case(LateAverage, False, "on_step_start runs before updates of G, too: the average decays twice per update of D.", _decays_twice,
     ("on_step_start", "average", "decay", "state"), "moving averages updated in the wrong place")  # fmt: skip


# 5. Consistency


class CRGAN(Regularizer):
    """Zhang et al. 2020: (D(x) - D(T x))^2 on real samples, T = noise."""

    def __init__(self, weight=10.0, sigma=0.1):
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        with torch.no_grad():
            augmented = discriminator(x + self.sigma * torch.randn_like(x), y)
        return self.weight * (outputs.real_logits.detach() - augmented).square().mean() + 0 * outputs.real_logits.sum()


def cr_right(real, fake, a, w):
    noise = np.random.default_rng(0).normal(size=real.shape) * 0.1
    return 10 * ((_quad_logit(real + noise, a, w) - _quad_logit(real, a, w)) ** 2).mean()


case(CRGAN, True, "Both logits are detached: no gradient.", _no_gradient(cr_right), ("detach", "gradient", "constant"), "teacher-student habits")  # fmt: skip


class ShuffledConsistency(Consistency):
    """bCR on shuffled pairs."""

    def penalty(self, discriminator, outputs):
        total = 0
        for x, y in ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y)):
            t = self.transform.augment(x.detach())[torch.randperm(len(x))]
            total = total + (discriminator(t, y) - discriminator(x.detach(), y)).square().mean()
        return self.weight * total


def _identity_transform(factory):
    # a tiny sigma: the penalty must be nearly 0
    return differ(penalty_at(factory)[0].item(), 0.0)


class _Tiny(InstanceNoise):
    def __init__(self):
        super().__init__(1e-6)


case(ShuffledConsistency, True, "Samples are compared with other samples of the batch.", _identity_transform,
     ("order", "same sample", "pair", "shuffle", "value"), "paired batches out of order", weight=10.0, transform=_Tiny())  # fmt: skip


class MeanConsistency(Consistency):
    def penalty(self, discriminator, outputs):
        total = 0
        for x, y in ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y)):
            x = x.detach()
            total = total + (discriminator(self.transform.augment(x), y).mean() - discriminator(x, y).mean()).square()
        return self.weight * total


def _per_sample_change(factory):
    d = QuadraticD(a=0.0, w=1.0)
    p = penalty_at(factory, n=500, discriminator=d)[0].item()
    return differ(p, 10 * 2 * 0.5**2 * d.w.detach().square().sum().item(), 0.2)


case(MeanConsistency, True, "Batch means are compared: changes of single samples cancel.", _per_sample_change,
     ("mean", "per sample", "cancel", "value"), "order of mean and square", weight=10.0, transform=InstanceNoise(0.5))  # fmt: skip


class BalancedCR(Regularizer):
    """Balanced consistency (Zhao et al. 2021): real samples and fakes."""

    def __init__(self, weight=10.0, sigma=0.5):
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def _change(self, discriminator, x, y):
        return (discriminator(x + self.sigma * torch.randn_like(x), y) - discriminator(x, y)).square().mean()

    def penalty(self, discriminator, outputs):
        real = self._change(discriminator, outputs.real, outputs.real_y)
        fake = self._change(discriminator, outputs.real, outputs.real_y)
        return self.weight * (real + fake)


def _no_fake(factory):
    d = QuadraticD()
    penalty_at(factory, discriminator=d)
    p, d, real, fake = penalty_at(factory)
    used = max(np.abs(x - fake).max() < 1e-12 for x in d.seen)
    return differ(float(used), 1.0)


case(BalancedCR, True, "The fakes' term is computed on real samples.", _no_fake, ("fake", "depend", "real"), "copy and paste")  # fmt: skip


class TransformOneSide(Regularizer):
    """D's output is pulled to that of the clean sample; the clean output is the target."""

    def __init__(self, weight=10.0, sigma=0.5):
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def penalty(self, discriminator, outputs):
        x, y = outputs.real, outputs.real_y
        noisy = discriminator(x + self.sigma * torch.randn_like(x), y)
        return self.weight * (outputs.real_logits.detach()[:, None] - noisy[None]).square().mean()


def _cross_pairs(factory):
    d = QuadraticD(a=0.0, w=1.0)
    p = penalty_at(factory, n=300, discriminator=d)[0].item()
    return differ(p, 10 * 0.25 * d.w.detach().square().sum().item(), 0.2)


case(TransformOneSide, False, "Broadcasting compares each sample with all: D's spread over samples is penalized.",
     _cross_pairs, ("pair", "broadcast", "value", "other samples"), "[n, 1] against [n]")  # fmt: skip


# 6. Weights


class ClampingWGAN(WeightClipping):
    @torch.no_grad()
    def project(self, discriminator):
        for p in discriminator.parameters():
            p = p.clamp(-self.bound, self.bound)  # noqa: PLW2901


def _bounded(bound=0.01):
    def evidence(factory):
        gan = build(factory)
        gan.project_discriminator()
        return differ(max(p.abs().max().item() for p in gan.discriminator.parameters()), bound)

    return evidence


case(ClampingWGAN, True, "clamp without _ changes a copy.", _bounded(), ("clip", "bound", "weights", "project"), "clamp/clamp_", WGAN, bound=0.01)  # fmt: skip


class HalfClipping(WeightClipping):
    def project(self, discriminator):
        for p in discriminator.parameters():
            p.data.clamp_(max=self.bound)


case(HalfClipping, True, "Only the upper side is clipped.", _bounded(), ("clip", "bound", "-", "project"), "clamp_(max=)", WGAN, bound=0.01)  # fmt: skip


class BoundWeights(Regularizer):
    """All of D's parameters stay within the bound."""

    lipschitz = True

    def __init__(self, bound=0.01):
        super().__init__()
        self.bound = bound

    def project(self, discriminator):
        for module in discriminator.children():
            if isinstance(module, nn.Linear):
                for p in module.parameters():
                    p.data.clamp_(-self.bound, self.bound)


case(BoundWeights, False, "Only direct children that are linear layers are clipped, not the nested ones.", _bounded(),
     ("clip", "bound", "weights", "project"), "children/modules", WGAN)  # fmt: skip


class GradientClipping(Regularizer):
    """Keeps D's weights small after each update."""

    lipschitz = True

    def project(self, discriminator):
        for p in discriminator.parameters():
            if p.grad is not None:
                p.grad.clamp_(-0.01, 0.01)


case(GradientClipping, False, "Gradients are clipped, after they were used, not weights.", _bounded(), ("clip", "weights", "project"), "names that sound alike", WGAN)  # fmt: skip


class OrthogonalPenalty(Regularizer):
    """||W W^T - I||_F^2 of each layer (Brock et al. 2017)."""

    def __init__(self, weight=0.1):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        total = outputs.real_logits.new_zeros(())
        for p in discriminator.parameters():
            if p.ndim >= 2:
                m = p.flatten(1)
                total = total + (m @ m.T).square().sum()
        return self.weight * total


def _weights_of(d):
    return [p.detach().numpy() for p in d.parameters() if p.ndim >= 2]


def matrices(right):
    def evidence(factory):
        gan, outputs = step(factory)
        found = gan.regularizers["mine"].penalty(gan.discriminator, outputs).item()
        return differ(found, right(_weights_of(gan.discriminator)))

    return evidence


case(OrthogonalPenalty, True, "The identity is missing: weights shrink to 0.", matrices(lambda ws: 0.1 * sum(((w @ w.T - np.eye(len(w))) ** 2).sum() for w in ws)),
     ("identity", "orthogonal", "value", "zero"), "Brock et al. 2017")  # fmt: skip


class WeightDecay(Regularizer):
    """Half the squared weights times 1e-2."""

    def penalty(self, discriminator, outputs):
        return sum(-0.5e-2 * p.square().sum() for p in discriminator.parameters())


def _decay(factory):
    gan, outputs = step(factory)
    found = gan.regularizers["mine"].penalty(gan.discriminator, outputs).item()
    return differ(found, 0.005 * sum((p**2).sum() for p in (q.detach().numpy() for q in gan.discriminator.parameters())))


case(WeightDecay, False, "The sign: weights grow.", _decay, ("sign", "negative", "weights"), "ports of maximization")  # fmt: skip


class LogitDrift(Regularizer):
    """0.001 E r^2 (Karras et al. 2018), so that logits stay near 0."""

    def __init__(self, weight=0.001):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        return self.weight * outputs.real_logits.mean().square()


case(LogitDrift, True, "The mean is squared, not each logit.", penalty_proof(lambda real, fake, a, w: 0.001 * (_quad_logit(real, a, w) ** 2).mean()),
     ("mean", "square", "each"), "Karras et al. 2018")  # fmt: skip


class QuietLogits(Regularizer):
    """Keeps D's outputs small on both sides."""

    def penalty(self, discriminator, outputs):
        return 0.01 * (outputs.real_logits.square() - outputs.fake_logits.square()).mean()


case(QuietLogits, False, "The fakes' term is subtracted: the penalty is unbounded below.", penalty_proof(
    lambda real, fake, a, w: 0.01 * ((_quad_logit(real, a, w) ** 2).mean() + (_quad_logit(fake, a, w) ** 2).mean())),
    ("sign", "negative", "fake"), "typing error")  # fmt: skip


class SmoothDecision(R1):
    """Small slopes at real samples."""

    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).max()


case(SmoothDecision, True, "The largest slope replaces the mean: one sample is regularized per step.", penalty_proof(right_r1()),
     ("max", "mean", "single", "each"), "max for mean", gamma=2.0)  # fmt: skip


class ResidualSlope(Regularizer):
    """Squared slopes at fakes, averaged in a cheap precision."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        squared = squared_gradient_norm(discriminator, outputs.fake, outputs.fake_y)
        return squared.half().mean().to(outputs.fake_logits.dtype)


def _overflow(factory):
    p, d, real, fake = penalty_at(factory, fake=batch(6) * 2, discriminator=QuadraticD(a=400.0, w=1.0))
    a, w = d.numbers()
    return differ(p.item(), sq(batch(6) * 2, a, w).mean())


case(ResidualSlope, False, "The squared norms are cast to float16, which overflows at a slope of 256.", _overflow,
     ("overflow", "precision", "finite", "half"), "manual fp16")  # fmt: skip


# 7. Augmentations


def twin_pass(factory, player="d", shape=(2,)):
    gan = build(factory, shape).double()
    gan_plain = build(NonSaturatingGAN, shape).double()
    out = []
    for g in (gan, gan_plain):
        torch.manual_seed(3)
        x, z = torch.tensor(batch(64, shape)), torch.tensor(batch(64, (4,), seed=2))
        out.append(g.forward_pass(x, None, z=z, with_real=True, grad_to_generator=player == "g"))
    return out


class NoiseInPlace(InstanceNoise):
    def augment(self, x):
        noise = self.sigma * torch.randn_like(x)
        return x + noise if x.requires_grad else x.add_(noise)


def _writes(factory):
    gan = build(factory).double()
    x = torch.tensor(batch(6))
    gan._augment_and_pack(x, None)
    return differ(x.numpy(), batch(6))


case(NoiseInPlace, True, "The noise is added to the batch itself, and stays in the data set that is held in memory.", _writes,
     ("in place", "in-place", "modif", "changes", "input"), "in-place arithmetic", sigma=0.5)  # fmt: skip


class RealOnlyNoise(Regularizer):
    """Noise on D's inputs."""

    def __init__(self, sigma=0.5):
        super().__init__()
        self.sigma, self.fakes_turn = sigma, True

    def augment(self, x):
        self.fakes_turn, fake = not self.fakes_turn, self.fakes_turn
        return x if fake else x + self.sigma * torch.randn_like(x)


def _sides(player):
    def evidence(factory):
        noisy, plain = twin_pass(factory, player)
        found = [(noisy.real - plain.real).std().item(), (noisy.fake - plain.fake).std().item()]
        return differ(found, [0.5, 0.5], 0.5)

    return evidence


case(RealOnlyNoise, False, "Only real samples get noise: D learns the noise, and G must imitate it.", _sides("d"),
     ("fake", "both", "real", "augment", "state"), "augmentations of real data only (Zhao et al. 2021, sec. 4.1)")  # fmt: skip


class TrainingNoise(Regularizer):
    """Instance noise while D trains."""

    def __init__(self, sigma=0.5):
        super().__init__()
        self.sigma = sigma

    def augment(self, x):
        if x.requires_grad:  # G's update
            return x
        return x + self.sigma * torch.randn_like(x)


case(TrainingNoise, False, "Fakes get no noise in G's update: D judges samples that it never sees.", _sides("g"),
     ("generator", "both", "augment", "fake"), "lightweight-gan issue 95; differing passes")  # fmt: skip


class BatchNoise(InstanceNoise):
    def augment(self, x):
        return x + self.sigma * torch.randn(1, *x.shape[1:], dtype=x.dtype)


def _same_noise(factory):
    noisy, plain = twin_pass(factory)
    return differ((noisy.real - plain.real).std(0).mean().item(), 0.5)


case(BatchNoise, True, "One noise for all samples of a batch.", _same_noise, ("per sample", "same", "noise", "batch"), "broadcast shapes", sigma=0.5)  # fmt: skip


class GrowingNoise(InstanceNoise):
    def on_step_start(self, step):
        if self.fade is not None:
            self.left.fill_(min(1.0, step / self.fade))


def _fade(factory):
    r = build(factory).regularizers["mine"]
    found = []
    for s in (0, 50, 100):
        r.on_step_start(s)
        found.append(r.left.item())
    return differ(found, [1, 0.5, 0])


case(GrowingNoise, True, "The noise grows from 0 where it must fall to 0.", _fade, ("fade", "schedule", "noise", "grow"), "schedules", sigma=0.5, fade=100)  # fmt: skip


class QuantizedInputs(Regularizer):
    """D sees what is saved: 8 bits."""

    def augment(self, x):
        return (x.clamp(-1, 1) * 127.5).round() / 127.5


def generator_slope(factory, shape=(2,)):
    gan = build(factory, shape).double()
    z = torch.tensor(batch(8, (4,)))
    out = gan.forward_pass(torch.tensor(batch(8, shape)), None, z=z, with_real=False, grad_to_generator=True)
    return np.abs(parameter_gradient(out.fake_logits.mean(), gan.generator)).sum()


def _dead(factory):
    return differ(generator_slope(factory), generator_slope(NonSaturatingGAN))


case(QuantizedInputs, False, "round has no gradient: G learns nothing.", _dead, ("gradient", "differentiable", "generator"), "DiffAugment's point")  # fmt: skip


class DetachedAugment(DiffAugment):
    """Augmentations need no gradient."""

    def augment(self, x):
        return super().augment(x.detach())


def _dead_images(factory):
    return differ(generator_slope(factory, (1, 8, 8)), generator_slope(NonSaturatingGAN, (1, 8, 8)))


case(DetachedAugment, True, "The augmentation detaches its input: G gets no gradient.", _dead_images,
     ("detach", "gradient", "differentiable", "generator"), "mit-han-lab/data-efficient-gans", needs="images",
     color=True, translation=0.125, cutout=0.0)  # fmt: skip


class SeededNoise(Regularizer):
    """Reproducible noise."""

    def __init__(self, sigma=0.5):
        super().__init__()
        self.sigma = sigma

    def augment(self, x):
        torch.manual_seed(0)
        return x + self.sigma * torch.randn_like(x)


def _reseeds(factory):
    gan = build(factory)
    z = []
    for _ in range(2):
        gan._augment_and_pack(torch.zeros(2, 2), None)
        z.append(gan.sample_latents(3))
    return differ((z[0] - z[1]).std().item(), 2**0.5)


case(SeededNoise, False, "Sets the global seed: noise and latents are the same in every step.", _reseeds,
     ("seed", "random", "state", "same"), "reproducibility habits")  # fmt: skip


class Shuffler(Regularizer):
    """Mixes the batch, so that D cannot memorize orders."""

    def augment(self, x):
        return x[torch.randperm(len(x))]


def _shuffled(factory):
    gan = build(factory, needs="labels")
    x = torch.arange(12.0).reshape(6, 2)
    torch.manual_seed(1)
    mixed, y = gan._augment_and_pack(x, torch.arange(6) % 3)
    return differ(mixed[:, 0].numpy(), x[:, 0].numpy())


case(Shuffler, False, "Samples are permuted and their labels are not: D gets wrong labels.", _shuffled,
     ("order", "permut", "label", "sample"), "augment has no labels", needs="labels")  # fmt: skip


class StepScaled(Regularizer):
    """Inputs are standardized per batch."""

    def augment(self, x):
        return (x - x.mean(0)) / (x.std(0) + 1e-5)


def _standardized(factory):
    gan = build(factory)
    real, fake = torch.tensor(batch(64)), torch.tensor(batch(64)) * 5 + 3
    return differ((gan._augment_and_pack(fake, None)[0].mean() - gan._augment_and_pack(real, None)[0].mean()).item(),
                  (fake.mean() - real.mean()).item())  # fmt: skip


case(StepScaled, False, "Each batch is standardized by itself: D cannot see that fakes have another mean and scale.", _standardized,
     ("batch", "depend", "per sample", "other samples"), "input normalization in training code")  # fmt: skip


class LipschitzClaim(Regularizer):
    """Bounds the critic's slope at real samples."""

    lipschitz = per_sample = True

    def __init__(self, weight=10.0):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        squared = squared_gradient_norm(discriminator, outputs.real, outputs.real_y)
        return self.weight * relu(1 - (squared + 1e-12).sqrt()).square().mean()


case(LipschitzClaim, False, "It bounds the slope from below, and claims `lipschitz`.", on_slopes(lambda s: 10 * max(s - 1, 0) ** 2),
     ("lipschitz", "one-sided", "above", "slope"), "one-sided forms reversed", WGAN)  # fmt: skip


class SlopeTheory(Regularizer):
    """weight * E ||grad||^2 at fakes, with its theory."""

    per_sample = True

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        x = outputs.fake.detach().requires_grad_()
        (g,) = torch.autograd.grad(discriminator(x, outputs.fake_y).sum(), x, create_graph=True)
        return self.weight * g.flatten(1).abs().sum(1).square().mean()

    def closed_form_linear(self, slope):
        return self.weight * slope**2


case(SlopeTheory, False, "The L1 norm, where the declared theory has the L2 norm.", penalty_proof(lambda real, fake, a, w: sq(fake, a, w).mean()),
     ("norm", "closed form", "L2", "axis"), "norm(1)")  # fmt: skip


class SpectralPenalty(Regularizer):
    """Sum of the squared largest singular values of D's matrices (Yoshida & Miyato 2017)."""

    def penalty(self, discriminator, outputs):
        return 0.01 * sum(p.flatten(1).norm() ** 2 for p in discriminator.parameters() if p.ndim >= 2)


case(SpectralPenalty, True, "The Frobenius norm replaces the largest singular value.",
     matrices(lambda ws: 0.01 * sum(np.linalg.svd(w, compute_uv=False)[0] ** 2 for w in ws)), ("singular", "norm", "spectral", "value"),
     "torch's default matrix norm", HingeGAN)  # fmt: skip


# 8. Packs, checkpoints, side effects, points


class PackAwareR1(R1):
    """R1 of packed samples."""

    def penalty(self, discriminator, outputs):
        return super().penalty(discriminator, outputs) / outputs.pack


case(PackAwareR1, True, "The mean over packs is divided by the pack's size again.", penalty_proof(
    lambda real, fake, a, w: (quad_gradients(real, a, w) ** 2).sum(1).mean(), shape=(4,), discriminator=QuadraticD((4,)), pack=2),
    ("pack", "divide", "twice"), "PacGAN ports", needs="pack", gamma=2.0)  # fmt: skip


class PackNoiseR1(FiniteDifferenceR1):
    """The same noise on all samples of a pack."""

    def penalty(self, discriminator, outputs):
        x = outputs.real.detach()
        n = x.shape[1] // outputs.pack
        noise = self.sigma * torch.randn_like(x[:, :n]).repeat(1, outputs.pack, *[1] * (x.ndim - 2))
        change = discriminator(x + noise, outputs.real_y) - discriminator(x, outputs.real_y)
        return self.gamma / (2 * self.sigma**2) * change.square().mean()


def _pack_noise(factory):
    d = QuadraticD((4,), a=0.0)
    with torch.no_grad():
        d.w.copy_(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    p = penalty_at(factory, shape=(4,), n=4000, discriminator=d, pack=2)[0].item()
    return differ(p, 4.0, 0.2)


case(PackNoiseR1, True, "Correlated noise in a pack: slopes of its samples add up instead of their squares.", _pack_noise,
     ("pack", "noise", "closed form"), "PacGAN ports", needs="pack", gamma=2.0, sigma=0.01)  # fmt: skip


class ForgetfulLeCam(Regularizer):
    """LeCam with its averages in an object of its own."""

    def __init__(self, weight=0.3, decay=0.99):
        super().__init__()
        self.weight, self.decay = weight, decay
        self.ema = {"real": 0.0, "fake": 0.0}

    def penalty(self, discriminator, outputs):
        decay = 0.0 if outputs.step == 0 else self.decay
        for side, logits in (("real", outputs.real_logits), ("fake", outputs.fake_logits)):
            self.ema[side] = decay * self.ema[side] + (1 - decay) * logits.detach().mean()
        real = relu(outputs.real_logits - self.ema["fake"]).square().mean()
        return self.weight * (real + relu(self.ema["real"] - outputs.fake_logits).square().mean())


def _resumed(factory):
    gan = build(factory)
    penalty_at(factory, gan=gan, number=0)
    resumed = build(factory)
    resumed.regularizers["mine"].load_state_dict(gan.regularizers["mine"].state_dict())
    found = penalty_at(factory, gan=resumed, number=500)[0].item()
    return differ(found, penalty_at(factory, gan=gan, number=500)[0].item())


case(ForgetfulLeCam, True, "The averages are no buffers: checkpoints lose them, and a resumed run goes on from 0.", _resumed,
     ("buffer", "checkpoint", "state", "saved"), "StudioGAN pull request 150")  # fmt: skip


class EvalSlope(Regularizer):
    """Squared slopes at real samples, without dropout's noise."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        discriminator.eval()
        return squared_gradient_norm(discriminator, outputs.real, outputs.real_y).mean()


def _left_in_eval(factory):
    gan, outputs = step(factory)
    gan.regularizers["mine"].penalty(gan.discriminator, outputs)
    return differ(float(gan.discriminator.training), 1.0)


case(EvalSlope, False, "D stays in evaluation mode for the rest of training.", _left_in_eval, ("eval", "mode", "state", "side effect"),
     "train()/eval() habits")  # fmt: skip


class FrozenSlope(Regularizer):
    """Slopes at fakes; D's weights need no gradient of the first pass."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        for p in discriminator.parameters():
            p.requires_grad_(False)
        value = squared_gradient_norm(discriminator, outputs.fake, outputs.fake_y).mean()
        for p in discriminator.parameters():
            p.requires_grad_(True)
        return value


case(FrozenSlope, False, "The weights are frozen while the penalty is built: it has no gradient in them.",
     penalty_proof(lambda real, fake, a, w: sq(fake, a, w).mean()),
     ("gradient", "weights", "constant", "detach"), "requires_grad toggles")  # fmt: skip


class MeanPoint(Regularizer):
    """Squared slope, averaged over the real batch."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        y = None if outputs.real_y is None else outputs.real_y[:1]
        return squared_gradient_norm(discriminator, outputs.real.mean(0, keepdim=True), y).mean()


case(MeanPoint, False, "The batch is averaged before the slope: one point, which is no sample.", penalty_proof(
    lambda real, fake, a, w: sq(real, a, w).mean()), ("mean", "points", "per sample", "batch"), "order of mean and gradient")  # fmt: skip


class PairSlope(Regularizer):
    """(D(x) - D(x'))^2/||x - x'||^2 above 1 costs, for pairs of real and fake."""

    lipschitz = True

    def penalty(self, discriminator, outputs):
        distance = (outputs.real - outputs.fake.detach()).norm()
        slope = (outputs.real_logits - outputs.fake_logits).abs() / (distance + 1e-8)
        return 10 * relu(slope - 1).square().mean()


def _pair_slope(real, fake, a, w):
    distance = np.sqrt(((real - fake).reshape(len(real), -1) ** 2).sum(1))
    return 10 * (np_relu(np.abs(logit_of(real, a, w) - logit_of(fake, a, w)) / distance - 1) ** 2).mean()


logit_of = _quad_logit
case(PairSlope, False, "The distance is the norm of the whole batch's differences: slopes look sqrt(n) times too small.", penalty_proof(
    _pair_slope, discriminator=QuadraticD(a=2.0, w=4.0), what="value"), ("norm", "batch", "per sample", "distance"), "norm without dim", WGAN)  # fmt: skip


class QuietReal(Regularizer):
    """0.1 E r^2: real logits stay small."""

    def penalty(self, discriminator, outputs):
        return 0.1 * outputs.real_logits.data.square().mean()


case(QuietReal, False, ".data cuts the graph: the penalty has no gradient.", penalty_proof(lambda real, fake, a, w: 0.1 * (_quad_logit(real, a, w) ** 2).mean()),
     ("detach", "gradient", "constant"), "old .data habits")  # fmt: skip
