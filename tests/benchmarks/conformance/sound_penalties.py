"""Penalties, projections and augmentations that are right and unusual."""

from functools import partial

import numpy as np
import torch
from bench_common import (
    QuadraticD,
    Sound,
    agree,
    batch,
    build,
    numpy_parameter_gradient,
    parameter_gradient,
    penalty_at,
    penalty_proof,
    quad_gradients,
    register,
    sig,
    sp,
    step,
)  # fmt: skip
from bench_common import relu as np_relu
from torch import nn
from torch.nn.functional import relu, softplus

from ganlab import WGAN, HingeGAN, NonSaturatingGAN, RpGAN
from ganlab.regularizers import (
    R1,
    R2,
    Consistency,
    DiffAugment,
    FiniteDifferenceR1,
    GradientPenalty,
    InstanceNoise,
    Regularizer,
    WeightClipping,
    at_least_float32,
    elementwise,
    squared_gradient_norm,
)  # fmt: skip

CASES: list[Sound] = []
_case = register(CASES, Sound)


def case(cls, claims, why, check, source, family=NonSaturatingGAN, needs="", **settings):
    factory = partial(family, regularizers={"mine": cls(**settings)})
    _case(cls, claims, why, check, source, factory=factory, needs=needs, name=cls.__name__)


def sq(x, a, w):
    return (quad_gradients(x, a, w) ** 2).sum(1)


def logit(x, a, w):
    x = x.reshape(len(x), -1)
    return (a * x**2 / 2 + w * x).sum(1)


def exact(value, **settings):
    """Value and gradient agree with NumPy."""

    def check(factory):
        penalty_proof(value, ok=True, what="value", **settings)(factory)
        return penalty_proof(value, ok=True, **settings)(factory)

    return check


def slopes(right, values=(0.2, 0.7, 1.0, 1.5, 3.0), n=6, within=1e-3, shape=(2,)):
    """On linear critics; for means of random penalties, n is large."""

    def check(factory):
        found = []
        for slope in values:
            d = QuadraticD(shape, a=0.0, w=1.0)
            with torch.no_grad():
                d.w.mul_(slope / d.w.norm())
            p = penalty_at(factory, shape=shape, n=n, discriminator=d)[0]
            assert np.abs(parameter_gradient(p, d)).sum() > 0 or p == 0
            found.append(p.item())
        return agree(found, [right(s) for s in values], within)

    return check


def matrices(right):
    def check(factory):
        gan, outputs = step(factory)
        found = gan.regularizers["mine"].penalty(gan.discriminator, outputs).item()
        return agree(found, right([p.detach().numpy() for p in gan.discriminator.parameters()]), 1e-2)

    return check


# 1. On the gradient


class RealPenalty(R1):
    """R1 with plain autograd."""

    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().clone().requires_grad_(True)
        scores = discriminator(x, outputs.real_y)
        grad = torch.autograd.grad(scores, x, grad_outputs=torch.ones_like(scores), create_graph=True, retain_graph=True)[0]
        return self.gamma * 0.5 * grad.reshape(grad.size(0), -1).norm(2, dim=1).pow(2).mean()


case(
    RealPenalty,
    True,
    "The inherited formula, in other words.",
    exact(lambda real, fake, a, w: sq(real, a, w).mean(), shape=(1, 4, 4)),
    "StyleGAN",
    gamma=2.0,
)


class BothSides(Regularizer):
    """R1 + R2 in one pass: gamma/2 (E ||grad||^2 at real + the same at fakes)."""

    per_sample = True

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def penalty(self, discriminator, outputs):
        x = torch.cat([outputs.real, outputs.fake]).detach()
        y = None if outputs.real_y is None else torch.cat([outputs.real_y, outputs.fake_y])
        return self.gamma * squared_gradient_norm(discriminator, x, y).mean()

    def closed_form_linear(self, slope):
        return self.gamma * slope**2


case(
    BothSides,
    False,
    "The mean over both halves is half the sum of both means.",
    exact(lambda real, fake, a, w: sq(real, a, w).mean() + sq(fake, a, w).mean()),
    "R3GAN",
)


class GANStabilityR1(Regularizer):
    """reg_param * E ||grad||^2 at real samples: the convention of GAN_stability, without 1/2."""

    per_sample = True

    def __init__(self, reg_param: float = 10.0):
        super().__init__()
        self.reg_param = reg_param

    def penalty(self, discriminator, outputs):
        x_in = outputs.real.detach().requires_grad_()
        d_out = discriminator(x_in, outputs.real_y)
        grad_dout = torch.autograd.grad(outputs=d_out.sum(), inputs=x_in, create_graph=True, only_inputs=True)[0]
        grad_dout2 = grad_dout.pow(2)
        return self.reg_param * grad_dout2.view(x_in.size(0), -1).sum(1).mean()

    def closed_form_linear(self, slope):
        return self.reg_param * slope**2


case(
    GANStabilityR1,
    True,
    "Another convention, named, with its own coefficient and closed form.",
    exact(lambda real, fake, a, w: 10 * sq(real, a, w).mean()),
    "Mescheder et al. 2018, code",
)


class FunctionalR1(Regularizer):
    """gamma/2 E ||grad||^2 by torch.func: a gradient per sample under vmap."""

    per_sample = True

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def penalty(self, discriminator, outputs):
        if outputs.real_y is None:
            gradient = torch.func.vmap(torch.func.grad(lambda x: discriminator(x[None])[0]))(outputs.real.detach())
        else:
            gradient = torch.func.vmap(torch.func.grad(lambda x, y: discriminator(x[None], y[None])[0]))(
                outputs.real.detach(), outputs.real_y
            )
        return self.gamma / 2 * gradient.flatten(1).square().sum(1).mean()

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


class _QuietD(QuadraticD):
    """Without the recording, which vmap does not allow."""

    def forward(self, x, y=None):
        flat = x.flatten(1)
        return (self.a * flat.square() / 2 + self.w * flat).sum(1)


def _functional(factory):
    p, d, real, fake = penalty_at(factory, discriminator=_QuietD())
    value = lambda a, w: sq(real, a, w).mean()
    agree(p.item(), value(*d.numbers()))
    return agree(parameter_gradient(p, d), numpy_parameter_gradient(value, *d.numbers()))


case(
    FunctionalR1,
    True,
    "The gradient per sample is the gradient of the sum where samples do not mix.",
    _functional,
    "torch.func",
)


class HutchinsonR1(Regularizer):
    """gamma/2 E (v . grad D)^2 with v ~ N(0, I): an unbiased estimate of R1."""

    per_sample = True

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def penalty(self, discriminator, outputs):
        x = outputs.real.detach().requires_grad_()
        (g,) = torch.autograd.grad(discriminator(x, outputs.real_y).sum(), x, create_graph=True)
        return self.gamma / 2 * (torch.randn_like(g) * g).flatten(1).sum(1).square().mean()

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


case(HutchinsonR1, True, "E (v . g)^2 = ||g||^2.", slopes(lambda s: s**2, n=20000, within=0.05), "Hutchinson's estimator")


class RademacherR1(FiniteDifferenceR1):
    """Finite differences along random signs."""

    def _penalty(self, discriminator, x, y):
        x = at_least_float32(x.detach())
        signs = torch.randint_like(x, 2) * 2 - 1
        change = discriminator(x + self.sigma * signs, y) - discriminator(x, y)
        return self.gamma / 2 * (change / self.sigma).square().mean()


case(
    RademacherR1,
    True,
    "Random signs have covariance I, too.",
    slopes(lambda s: s**2, n=20000, within=0.05),
    "Rademacher directions",
    gamma=2.0,
    sigma=0.01,
)


class CentralDifferenceR2(Regularizer):
    """gamma/2 E ((D(x + s v) - D(x - s v))/(2s))^2 at fakes, v ~ N(0, I)."""

    per_sample = True

    def __init__(self, gamma: float = 2.0, sigma: float = 0.01):
        super().__init__()
        self.gamma, self.sigma = gamma, sigma

    def penalty(self, discriminator, outputs):
        x, y = outputs.fake.detach(), outputs.fake_y
        v = self.sigma * torch.randn_like(x)
        slope = (discriminator(x + v, y) - discriminator(x - v, y)) / (2 * self.sigma)
        return self.gamma / 2 * slope.square().mean()

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


case(
    CentralDifferenceR2,
    True,
    "Central differences are exact to second order.",
    slopes(lambda s: s**2, n=20000, within=0.05),
    "finite differences",
)


class ZeroCenteredGP(GradientPenalty):
    """Zero-centered, between real and fake (Thanh-Tung et al. 2019); the square needs no root."""

    def penalty(self, discriminator, outputs):
        return self.weight * squared_gradient_norm(discriminator, self.points(outputs), outputs.real_y).mean()

    def closed_form_linear(self, slope):
        return self.weight * slope**2


case(
    ZeroCenteredGP,
    True,
    "(||g|| - 0)^2 = ||g||^2, with its own closed form.",
    slopes(lambda s: 10 * s**2),
    "Thanh-Tung et al. 2019",
    WGAN,
    weight=10.0,
    center=0.0,
)


class WGANLP(GradientPenalty):
    """Petzka et al. 2018: max(0, ||g|| - 1)^2."""

    def __init__(self, weight: float = 10.0):
        super().__init__(weight, one_sided=True)

    def _value(self, norm):
        norm = torch.as_tensor(norm)
        return self.weight * torch.clamp(norm - 1, min=0) ** 2


case(
    WGANLP, True, "The one-sided penalty in other words.", slopes(lambda s: 10 * max(s - 1, 0) ** 2), "Petzka et al. 2018", WGAN
)


class ArcsineGP(GradientPenalty):
    """WGAN-GP with u ~ Beta(1/2, 1/2): still on the lines, more often near their ends."""

    def points(self, outputs):
        real, fake = outputs.real, outputs.fake.detach()
        u = torch.sin(
            torch.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device) * torch.pi / 2
        ).square()
        return torch.lerp(fake, real, u)


def _on_lines(factory):
    p, d, real, fake = penalty_at(factory, shape=(1, 4, 4))
    u = ((d.seen[-1] - fake) / (real - fake)).reshape(6, -1)
    assert (u.std(1) < 1e-9).all() and (u > 0).all() and (u < 1).all() and u.std() > 0.1
    return slopes(lambda s: 10 * (s - 1) ** 2)(factory)


case(
    ArcsineGP, True, "One u per sample in (0, 1), of another law, as it says.", _on_lines, "WGAN-GP variants", WGAN, weight=10.0
)


class LinfLipschitz(Regularizer):
    """Slope at most 1 with respect to the max norm: (||g||_1 - 1)_+^2 (Adler & Lunz 2018, Banach WGAN)."""

    lipschitz = per_sample = True

    def penalty(self, discriminator, outputs):
        u = torch.rand(len(outputs.real), *[1] * (outputs.real.ndim - 1), dtype=outputs.real.dtype)
        x = (u * outputs.real + (1 - u) * outputs.fake).detach().requires_grad_()
        (g,) = torch.autograd.grad(discriminator(x, outputs.real_y).sum(), x, create_graph=True)
        return 10 * relu(g.flatten(1).abs().sum(1) - 1).square().mean()


def _dual(factory):
    d = QuadraticD(a=0.0, w=3.0)
    p = penalty_at(factory, discriminator=d)[0].item()
    return agree(p, 10 * max(d.w.abs().sum().item() - 1, 0) ** 2)


case(
    LinfLipschitz,
    False,
    "The dual norm of the max norm is the L1 norm; the docstring says which norm is meant.",
    _dual,
    "Adler & Lunz 2018",
    WGAN,
)


class MaxGP(Regularizer):
    """Maximum gradient penalty (Zhou et al. 2019): weight * the largest squared slope of the batch, on lines."""

    lipschitz = per_sample = True

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        u = torch.rand(len(outputs.real), *[1] * (outputs.real.ndim - 1), dtype=outputs.real.dtype)
        x = outputs.fake.detach() + u * (outputs.real - outputs.fake.detach())
        return self.weight * squared_gradient_norm(discriminator, x, outputs.real_y).amax()

    def closed_form_linear(self, slope):
        return self.weight * slope**2


case(
    MaxGP,
    True,
    "The maximum is the published Lipschitz regularization, and named so.",
    slopes(lambda s: s**2),
    "Zhou et al. 2019, Lipschitz GANs",
    WGAN,
)


class JSRegularizer(Regularizer):
    """Roth et al. 2017, eq. 20: gamma/2 (E (1 - s(r))^2 ||grad||^2 at real + E s(f)^2 ||grad||^2 at fakes)."""

    per_sample = True

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def _side(self, discriminator, x, y, sign):
        x = x.detach().requires_grad_()
        logits = discriminator(x, y)
        (g,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return (torch.sigmoid(sign * logits).square() * g.flatten(1).square().sum(1)).mean()

    def penalty(self, discriminator, outputs):
        real = self._side(discriminator, outputs.real, outputs.real_y, -1)
        return self.gamma / 2 * (real + self._side(discriminator, outputs.fake, outputs.fake_y, 1))


case(JSRegularizer, True, "As published; the weights carry gradients, too.", exact(
    lambda real, fake, a, w: (sig(-logit(real, a, w)) ** 2 * sq(real, a, w)).mean() + (sig(logit(fake, a, w)) ** 2 * sq(fake, a, w)).mean()), "Roth et al. 2017")  # fmt: skip


class DRAGANUniform(GradientPenalty):
    """DRAGAN as in the authors' code: d ~ U(0, noise * s), to one side; weight (||grad|| - 1)^2 around the data."""

    lipschitz = False
    noise = 0.5

    def points(self, outputs):
        x = outputs.real
        return x + self.noise * x.std(correction=0) * torch.rand_like(x)


def _one_side(factory):
    real = batch(500)
    d = penalty_at(factory, real=real, fake=real)[1]
    delta = d.seen[-1] - real
    assert delta.min() >= 0
    agree(delta.max(), 0.5 * real.std(), 0.02)
    return slopes(lambda s: 10 * (s - 1) ** 2)(factory)


case(DRAGANUniform, True, "The published code's noise, stated.", _one_side, "Kodali et al. 2017, code", weight=10.0)


class NeighborhoodPenalty(GradientPenalty):
    """Slope 1 around the data, at a random distance per sample, up to half the batch's spread."""

    lipschitz = False
    noise = 0.5

    def points(self, outputs):
        x = outputs.real
        alpha = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x + alpha * self.noise * x.std(correction=0) * torch.randn_like(x)


case(
    NeighborhoodPenalty,
    False,
    "Points around the data, at random distances; said so.",
    slopes(lambda s: 10 * (s - 1) ** 2),
    "DRAGAN variants",
    weight=10.0,
)


class SlopeLength(Regularizer):
    """As StyleGAN2's path length, for D: (||grad|| - a)^2 at fakes, a = moving average (0.99) of the norms, no gradient."""

    per_sample = True

    def __init__(self, weight: float = 1.0, decay: float = 0.99):
        super().__init__()
        self.weight, self.decay = weight, decay
        self.register_buffer("average", torch.zeros(()))

    def graph_key(self, step):
        return super().graph_key(step), step == 0

    def penalty(self, discriminator, outputs):
        norm = (squared_gradient_norm(discriminator, outputs.fake, outputs.fake_y) + 1e-12).sqrt()
        decay = 0.0 if outputs.step == 0 else self.decay
        self.average.mul_(decay).add_((1 - decay) * norm.detach().mean())
        return self.weight * (norm - self.average).square().mean()


def _length(factory):
    gan = build(factory)
    p0, d, real, fake = penalty_at(factory, gan=gan, number=0)
    norm = np.sqrt(sq(fake, *d.numbers()))
    agree(p0.item(), ((norm - norm.mean()) ** 2).mean())
    p1, _, _, fake1 = penalty_at(factory, gan=gan, number=1, fake=fake + 2)
    norm1 = np.sqrt(sq(fake1, *d.numbers()))
    return agree(p1.item(), ((norm1 - 0.99 * norm.mean() - 0.01 * norm1.mean()) ** 2).mean())


case(
    SlopeLength,
    False,
    "Equal slopes cost nothing, whatever they are; the average is detached and saved.",
    _length,
    "Karras et al. 2020",
)


class VirtualAdversarial(Regularizer):
    """Change of D along its normalized, detached gradient, squared (Miyato et al. 2018, VAT), at real samples and fakes."""

    per_sample = True

    def __init__(self, weight: float = 1.0, radius: float = 0.1):
        super().__init__()
        self.weight, self.radius = weight, radius

    def _change(self, discriminator, x, y):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(discriminator(x, y).sum(), x)
        direction = nn.functional.normalize(g.flatten(1), dim=1).reshape(x.shape)
        x = x.detach()
        return (discriminator(x + self.radius * direction, y) - discriminator(x, y)).square().mean()

    def penalty(self, discriminator, outputs):
        return self.weight * (
            self._change(discriminator, outputs.real, outputs.real_y)
            + self._change(discriminator, outputs.fake, outputs.fake_y)
        )

    def closed_form_linear(self, slope):
        return 2 * self.weight * (self.radius * slope) ** 2


case(
    VirtualAdversarial,
    True,
    "The direction is a constant, as in VAT; the change has a gradient.",
    slopes(lambda s: 2 * (0.1 * s) ** 2),
    "Miyato et al. 2018",
)


class DelayedPenalty(R1):
    """R1 that starts after a number of updates of D."""

    def __init__(self, gamma: float = 2.0, start: int = 3):
        super().__init__(gamma)
        self.start = start

    def graph_key(self, step):
        return super().graph_key(step), step >= self.start

    def penalty(self, discriminator, outputs):
        return None if outputs.step < self.start else super().penalty(discriminator, outputs)


def _delayed(factory):
    assert penalty_at(factory, number=2)[0] is None
    return penalty_proof(lambda real, fake, a, w: sq(real, a, w).mean(), ok=True, number=3)(factory)


case(DelayedPenalty, True, "None before the start is allowed; the graph key tells the two apart.", _delayed, "warm-up")


class LazyBoth(R2):
    """R2 every 4 updates; the base class multiplies."""

    def __init__(self, gamma: float = 2.0):
        super().__init__(gamma, every=4)


def _lazy(factory):
    gan, outputs = step(factory)
    found = []
    for outputs.step in range(8):
        found.append(sum(gan.penalties(outputs).values(), torch.tensor(0.0)).item())
    once = gan.regularizers["mine"].penalty(gan.discriminator, outputs).item()
    return agree(np.mean(found), once)


case(LazyBoth, True, "Its mean over steps is that of the penalty at every step.", _lazy, "StyleGAN2")


class BoundedSlope(Regularizer):
    """E (1 - exp(-||grad||^2)) at real samples: R1 for small slopes, at most 1 for large ones."""

    per_sample = True

    def penalty(self, discriminator, outputs):
        squared = squared_gradient_norm(discriminator, outputs.real, outputs.real_y)
        return (-torch.expm1(-squared)).mean()

    @staticmethod
    def closed_form_linear(slope):
        return 1 - np.exp(-(slope**2))


case(
    BoundedSlope,
    False,
    "Increasing in the slope, 0 for a constant critic, smooth.",
    slopes(lambda s: 1 - np.exp(-(s**2))),
    "robust penalties",
)


# 2. On the logits


class CRGAN(Regularizer):
    """Consistency (Zhang et al. 2020): weight E (D(x) - D(T x))^2 on real samples, T = small noise."""

    def __init__(self, weight: float = 10.0, sigma: float = 0.1):
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def penalty(self, discriminator, outputs):
        x, y = outputs.real.detach(), outputs.real_y
        moved = discriminator(x + self.sigma * torch.randn_like(x), y)
        return self.weight * torch.nn.functional.mse_loss(moved, discriminator(x, y))

    def closed_form_linear(self, slope):
        return self.weight * (self.sigma * slope) ** 2


case(
    CRGAN,
    True,
    "On a linear critic the change has variance sigma^2 ||w||^2; both sides carry gradients.",
    slopes(lambda s: 10 * (0.1 * s) ** 2, n=20000, within=0.05),
    "Zhang et al. 2020",
)


class MirrorConsistency(Regularizer):
    """Balanced consistency (Zhao et al. 2021) with mirrored images, deterministic: no random numbers at all."""

    def __init__(self, weight: float = 10.0):
        super().__init__()
        self.weight = weight

    def penalty(self, discriminator, outputs):
        total = 0.0
        for x, y in ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y)):
            x = x.detach()
            total = total + (discriminator(x.flip(-1), y) - discriminator(x, y)).square().mean()
        return self.weight * total


def _mirror(factory):
    value = lambda real, fake, a, w: 10 * sum(((logit(x[..., ::-1], a, w) - logit(x, a, w)) ** 2).mean() for x in (real, fake))
    return penalty_proof(value, ok=True, shape=(1, 4, 4))(factory)


case(
    MirrorConsistency,
    True,
    "A fixed transform is one; for data whose mirror image is as likely.",
    _mirror,
    "Zhao et al. 2021",
    needs="images",
)


class TeacherConsistency(Regularizer):
    """D's output of noisy samples is pulled to its detached output of clean ones (a teacher), on both sides."""

    def __init__(self, weight: float = 10.0, sigma: float = 0.1):
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def penalty(self, discriminator, outputs):
        total = 0.0
        for x, y, target in (
            (outputs.real, outputs.real_y, outputs.real_logits),
            (outputs.fake, outputs.fake_y, outputs.fake_logits),
        ):
            x = x.detach()
            total = total + (discriminator(x + self.sigma * torch.randn_like(x), y) - target.detach()).square().mean()
        return self.weight * total


case(
    TeacherConsistency,
    False,
    "One side is a constant by intention, as in semi-supervised learning; the other learns.",
    slopes(lambda s: 20 * (0.1 * s) ** 2, n=20000, within=0.05),
    "UDA, Xie et al. 2020",
)


class AuthorsLeCam(Regularizer):
    """LeCam as in its authors' code: the averages follow the current value until `start`."""

    def __init__(self, weight: float = 0.3, start: int = 2, decay: float = 0.99):
        super().__init__()
        self.weight, self.start, self.decay = weight, start, decay
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))

    def graph_key(self, step):
        return step < self.start

    def penalty(self, discriminator, outputs):
        decay = 0.0 if outputs.step < self.start else self.decay
        with torch.no_grad():
            for average, logits in ((self.real_average, outputs.real_logits), (self.fake_average, outputs.fake_logits)):
                average.copy_(decay * average + (1 - decay) * logits.mean())
        if outputs.step < self.start:
            return None
        real = relu(outputs.real_logits - self.fake_average).pow(2).mean()
        fake = relu(self.real_average - outputs.fake_logits).pow(2).mean()
        return self.weight * (real + fake)


def _lecam(factory):
    gan = build(factory)
    gan.regularizers["mine"].start = 2
    for number in range(2):
        assert penalty_at(factory, gan=gan, number=number)[0] is None
    p, d, real, fake = penalty_at(factory, gan=gan, number=2)
    r, f = logit(real, *d.numbers()), logit(fake, *d.numbers())
    return agree(p.item(), 0.3 * ((np_relu(r - f.mean()) ** 2).mean() + (np_relu(r.mean() - f) ** 2).mean()))


case(AuthorsLeCam, True, "The published code's start, stated.", _lecam, "Tseng et al. 2021, code", weight=0.3, start=2)


class LogitDrift(Regularizer):
    """0.001 E r^2 (Karras et al. 2018)."""

    def penalty(self, discriminator, outputs):
        return 0.001 * outputs.real_logits.pow(2).mean()


case(
    LogitDrift,
    True,
    "As published; on real logits only.",
    exact(lambda real, fake, a, w: 0.001 * (logit(real, a, w) ** 2).mean()),
    "Karras et al. 2018",
    WGAN,
)


class CenteredLogits(Regularizer):
    """Holds the midpoint of both sides' mean logits at 0, which relativistic losses leave free."""

    def penalty(self, discriminator, outputs):
        middle = (outputs.real_logits.mean() + outputs.fake_logits.mean()) / 2
        return 0.1 * middle.square()


case(CenteredLogits, False, "The mean is squared on purpose: only the midpoint is held.", exact(
    lambda real, fake, a, w: 0.1 * ((logit(real, a, w).mean() + logit(fake, a, w).mean()) / 2) ** 2), "relativistic GANs", RpGAN)  # fmt: skip


class Entropy(Regularizer):
    """A confidence penalty: minus 0.1 times the entropy of D's decisions, on both sides (Pereyra et al. 2017)."""

    def penalty(self, discriminator, outputs):
        logits = torch.cat([outputs.real_logits, outputs.fake_logits])
        return -0.1 * (softplus(logits) - logits * torch.sigmoid(logits)).mean()


def _entropy(x):
    return sp(x) - x * sig(x)


case(Entropy, False, "Negative by definition, and bounded by -0.1 log 2: it rewards doubt.", exact(
    lambda real, fake, a, w: -0.1 * _entropy(np.concatenate([logit(real, a, w), logit(fake, a, w)])).mean()), "Pereyra et al. 2017")  # fmt: skip


class Together(Regularizer):
    """Two regularizers as one: the sum of their penalties."""

    per_sample = True

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([R1(2.0), LogitDrift()])

    def on_step_start(self, step):
        for part in self.parts:
            part.on_step_start(step)

    def penalty(self, discriminator, outputs):
        return sum(part.penalty(discriminator, outputs) for part in self.parts)


case(
    Together,
    False,
    "A sum of two sound penalties.",
    exact(lambda real, fake, a, w: sq(real, a, w).mean() + 0.001 * (logit(real, a, w) ** 2).mean()),
    "composition",
)


# 3. On the weights


class OrthogonalPenalty(Regularizer):
    """||W W^T - I||_F^2 (Brock et al. 2017), of W^T where W is tall."""

    def penalty(self, discriminator, outputs):
        total = 0.0
        for p in discriminator.parameters():
            if p.ndim >= 2:
                m = p.flatten(1)
                m = m if m.shape[0] <= m.shape[1] else m.T
                gram = m @ m.T
                total = total + (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum()
        return 1e-2 * total


def _orthogonal(ws):
    ws = [w.reshape(len(w), -1) for w in ws if w.ndim >= 2]
    ws = [w if w.shape[0] <= w.shape[1] else w.T for w in ws]
    return 1e-2 * sum(((w @ w.T - np.eye(len(w))) ** 2).sum() for w in ws)


case(
    OrthogonalPenalty,
    True,
    "The smaller Gram matrix can be the identity; the other cannot.",
    matrices(_orthogonal),
    "Brock et al. 2017",
)


class OffDiagonal(Regularizer):
    """BigGAN's orthogonality: ||W W^T * (1 - I)||_F^2, leaving the norms free."""

    def penalty(self, discriminator, outputs):
        total = 0.0
        for p in discriminator.parameters():
            if p.ndim >= 2:
                gram = p.flatten(1) @ p.flatten(1).T
                total = total + (gram - torch.diag(gram.diagonal())).square().sum()
        return 1e-4 * total


def _off(ws):
    grams = [w.reshape(len(w), -1) @ w.reshape(len(w), -1).T for w in ws if w.ndim >= 2]
    return 1e-4 * sum(((g * (1 - np.eye(len(g)))) ** 2).sum() for g in grams)


case(OffDiagonal, False, "As BigGAN's modified regularization.", matrices(_off), "Brock et al. 2019")


class SpectralPenalty(Regularizer):
    """0.005 * the sum of squared largest singular values (Yoshida & Miyato 2017)."""

    def penalty(self, discriminator, outputs):
        return 0.005 * sum(
            torch.linalg.matrix_norm(p.flatten(1), ord=2).square() for p in discriminator.parameters() if p.ndim >= 2
        )


case(
    SpectralPenalty,
    True,
    "Exact singular values.",
    matrices(lambda ws: 0.005 * sum(np.linalg.svd(w, compute_uv=False)[0] ** 2 for w in ws if w.ndim >= 2)),
    "Yoshida & Miyato 2017",
    HingeGAN,
)


class WeightDecay(Regularizer):
    """1e-3/2 ||w||^2 of D's matrices, not of its biases; it uses no samples."""

    def penalty(self, discriminator, outputs):
        return 0.5e-3 * torch.stack([p.square().sum() for p in discriminator.parameters() if p.ndim > 1]).sum()


case(
    WeightDecay,
    False,
    "A sum over weights, not over samples: the batch size does not enter.",
    matrices(lambda ws: 0.5e-3 * sum((w**2).sum() for w in ws if w.ndim > 1)),
    "weight decay",
)


class SpectralProjection(Regularizer):
    """After each update, divides matrices whose largest singular value exceeds 1 by it: a 1-Lipschitz MLP."""

    lipschitz = True

    @torch.no_grad()
    def project(self, discriminator):
        for p in discriminator.parameters():
            if p.ndim >= 2:
                p.div_(torch.linalg.matrix_norm(p.flatten(1), ord=2).clamp(min=1.0))


def _projected(factory):
    gan = build(factory)
    for p in gan.discriminator.parameters():
        p.data.mul_(10)
    gan.project_discriminator()
    return agree(
        [np.linalg.svd(p.detach().numpy(), compute_uv=False)[0] for p in gan.discriminator.parameters() if p.ndim > 1], [1, 1]
    )


case(SpectralProjection, False, "A projection onto a product of balls, idempotent.", _projected, "Gouk et al. 2018", WGAN)


class ClampByData(WeightClipping):
    """Weight clipping, by clamp_ on each parameter."""

    @elementwise
    def project(self, discriminator):
        for p in discriminator.parameters():
            p.data.clamp_(-self.bound, self.bound)


def _clamped(factory):
    gan = build(factory)
    gan.project_discriminator()
    return agree(max(p.abs().max().item() for p in gan.discriminator.parameters()), 0.01)


case(ClampByData, True, "The published loop over parameters.", _clamped, "Arjovsky et al. 2017", WGAN, bound=0.01)


# 4. Augmentations


class FadingNoise(Regularizer):
    """Instance noise that falls exponentially: half of it is left after every `half_life` updates of D."""

    def __init__(self, sigma: float = 0.5, half_life: int = 100):
        super().__init__()
        self.sigma, self.half_life = sigma, half_life
        self.register_buffer("left", torch.ones(()), persistent=False)

    @elementwise
    def on_step_start(self, step):
        self.left.fill_(0.5 ** (step / self.half_life))

    def augment(self, x):
        return x + self.sigma * self.left.to(x.dtype) * torch.randn_like(x)


def _halves(factory):
    r = build(factory).regularizers["mine"]
    found = []
    for s in (0, 100, 200):
        r.on_step_start(s)
        found.append(r.left.item())
    x = torch.zeros(20000, 2)
    return agree([*found, r.augment(x).std().item()], [1, 0.5, 0.25, 0.125], 0.02)


case(FadingNoise, True, "A schedule of the step alone; the same for real samples and fakes.", _halves, "Sønderby et al. 2017")


class ScaledNoise(Regularizer):
    """Noise whose strength is drawn per sample, |N(0, 0.3)|: a mixture of levels (Diffusion-GAN's idea)."""

    def augment(self, x):
        level = 0.3 * torch.randn(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype).abs()
        return x + level * torch.randn_like(x)


def _levels(factory):
    r = build(factory).regularizers["mine"]
    x = torch.zeros(40000, 2)
    return agree(r.augment(x).std().item(), 0.3, 0.03)


case(ScaledNoise, False, "Additive noise on both sides, independent per sample and per call.", _levels, "Wang et al. 2023")


class Scramble(Regularizer):
    """Samples are negated, x -> -x, with probability 0.3 each: invertible in distribution."""

    def augment(self, x):
        flip = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < 0.3
        return torch.where(flip, -x, x)


def _scrambled(factory):
    r = build(factory).regularizers["mine"]
    x = torch.ones(20000, 2, requires_grad=True)
    y = r.augment(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(g, y.detach())
    return agree(y.mean().item(), 0.4, 0.05)


case(
    Scramble,
    False,
    "At a probability below 1/2 the distribution is recovered (Karras et al. 2020, non-leaking); differentiable.",
    _scrambled,
    "StyleGAN2-ADA, sec. 2.2",
)


class ImageFlip(DiffAugment):
    """Mirrors half of the images; nothing else."""

    def __init__(self):
        super().__init__(color=False, translation=0.0, cutout=0.0, flip=True)


def _flip(factory):
    r = build(factory, (1, 8, 8)).regularizers["mine"]
    x = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(2000, 1, 1, 1)
    flipped = (r.augment(x) != x).flatten(1).any(1).float().mean().item()
    return agree(flipped, 0.5, 0.1)


case(ImageFlip, True, "A subset of DiffAugment, for data with mirror images.", _flip, "Zhao et al. 2020", needs="images")


class NoisyConsistency(Consistency):
    """bCR on points: T = instance noise."""

    def __init__(self, weight: float = 10.0, sigma: float = 0.1):
        super().__init__(weight, InstanceNoise(sigma))

    def closed_form_linear(self, slope):
        return 2 * self.weight * (self.transform.sigma * slope) ** 2


case(
    NoisyConsistency,
    True,
    "The inherited penalty with a fixed transform, and its closed form.",
    slopes(lambda s: 20 * (0.1 * s) ** 2, n=20000, within=0.05),
    "Zhao et al. 2021",
)
