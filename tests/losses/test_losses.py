"""Every family's loss is the loss it says it is: closed forms in float64, independent references, gradients, theory."""

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.spatial.distance import cityblock, jensenshannon, sqeuclidean
from scipy.special import expit, log_expit, rel_entr, softmax
from scipy.stats import chisquare, wasserstein_distance
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import ganlab
from ganlab.analysis.minimal import LinearCritic, Point, family_class, minimal_gan
from ganlab.losses import (
    CGAN,
    KLGAN,
    LSGAN,
    WGAN,
    AlphaGAN,
    HingeGAN,
    JensenShannonGAN,
    MinimaxGAN,
    NonSaturatingGAN,
    PearsonGAN,
    RaGAN,
    ReverseKLGAN,
    RpGAN,
    SquaredHellingerGAN,
)
from ganlab.losses.f_gan import FGAN
from ganlab.models.gan import GAN

R = np.array([1.3, -0.4, 2.2, 0.1, -3.0])  # unsymmetric: more reals than fakes, no mirror image of each other
F = np.array([0.7, -1.9, -0.2])
SATURATING = {"saturating": True}
INF = math.inf


def log1pexp(x):
    return np.logaddexp(0, x)  # softplus, in NumPy's words


# The truths: D's loss, its derivatives by r and by f, G's loss, its derivative by f (facts, section 1)


@dataclass
class Truth:
    """One family with its settings; all functions of (r, f), arrays of logits."""

    family: type
    d: callable
    d_r: callable
    d_f: callable
    g: callable
    g_f: callable
    settings: dict = field(default_factory=dict)
    reach: float = 1e4  # the largest logit at which values are representable in float32
    paired: bool = False  # needs as many reals as fakes


def separable(family, real, real_slope, fake, fake_slope, g, g_slope, **options):
    """D: mean real(r) + mean fake(f); G: mean g(f)."""
    return Truth(
        family,
        lambda r, f: real(r).mean() + fake(f).mean(),
        lambda r, f: real_slope(r) / r.size,
        lambda r, f: fake_slope(f) / f.size,
        lambda r, f: g(f).mean(),
        lambda r, f: g_slope(f) / f.size,
        **options,
    )


def alpha_truth(alpha_d, alpha_g, saturating, **options):
    """Facts §1: A (1 - y p^(1/A) - (1-y) (1-p)^(1/A)), A = alpha/(alpha - 1), p = sigma(l); alpha = 1 is -log."""

    def loss(logit, alpha):
        if alpha == 1:
            return log1pexp(-logit)
        A = 1.0 if alpha == INF else alpha / (alpha - 1)
        return A * (1 - np.exp(log_expit(logit) / A))

    def slope(logit, alpha):  # d loss(sigma(l)) / d l = -p^(1/A - 1) p (1 - p) = -p^(1/A) sigma(-l)
        power = 1.0 if alpha == INF else 1 - 1 / alpha
        return -np.exp(power * log_expit(logit)) * expit(-logit)

    if saturating:
        g, g_slope = lambda f: -loss(-f, alpha_g), lambda f: slope(-f, alpha_g)
    else:
        g, g_slope = lambda f: loss(f, alpha_g), lambda f: slope(f, alpha_g)
    return separable(
        AlphaGAN,
        lambda r: loss(r, alpha_d),
        lambda r: slope(r, alpha_d),
        lambda f: loss(-f, alpha_d),
        lambda f: -slope(-f, alpha_d),
        g,
        g_slope,
        settings={"alpha_d": alpha_d, "alpha_g": alpha_g, "saturating": saturating},
        **options,
    )


def f_gan_truths(family, T, T_slope, conjugate, conjugate_slope, **options):
    """Nowozin et al. 2016, eq. 6-7, both forms of G; the conjugates are held to their definition below."""
    real, real_slope = lambda r: -T(r), lambda r: -T_slope(r)
    return [
        separable(family, real, real_slope, conjugate, conjugate_slope, real, real_slope, **options),
        separable(
            family, real, real_slope, conjugate, conjugate_slope, lambda f: -conjugate(f), lambda f: -conjugate_slope(f),
            settings=SATURATING, **options,
        ),
    ]  # fmt: skip


def relativistic_average(r, f):
    """Jolicoeur-Martineau 2018, sec. 4.2, by loops over the samples: (value of D, value of G)."""
    d_real = [log1pexp(-(a - sum(f) / len(f))) for a in r]
    d_fake = [log1pexp(b - sum(r) / len(r)) for b in f]
    g_real = [log1pexp(a - sum(f) / len(f)) for a in r]
    g_fake = [log1pexp(-(b - sum(r) / len(r))) for b in f]
    return (np.mean(d_real) + np.mean(d_fake)) / 2, (np.mean(g_real) + np.mean(g_fake)) / 2


def relativistic_average_slopes(r, f):
    """D by r, D by f, G by f: each logit counts by itself and in its side's mean."""
    d_real, d_fake = -expit(-(r - f.mean())), expit(f - r.mean())
    g_real, g_fake = expit(r - f.mean()), -expit(-(f - r.mean()))
    return (
        (d_real - d_fake.mean()) / (2 * r.size),
        (d_fake - d_real.mean()) / (2 * f.size),
        (g_fake - g_real.mean()) / (2 * f.size),
    )


CLASSIC_D = (lambda r: log1pexp(-r), lambda r: -expit(-r), log1pexp, expit)
NON_SATURATING_G = (lambda f: log1pexp(-f), lambda f: -expit(-f))
CLIMBS = (lambda f: -f, lambda f: np.full(f.shape, -1.0))
EXPONENTIAL = {"reach": 80.0}
TRUTHS = [
    separable(MinimaxGAN, *CLASSIC_D, lambda f: log_expit(-f), lambda f: -expit(f)),
    separable(NonSaturatingGAN, *CLASSIC_D, *NON_SATURATING_G),
    separable(CGAN, *CLASSIC_D, *NON_SATURATING_G),
    separable(WGAN, *CLIMBS, lambda f: f, lambda f: np.ones(f.shape), *CLIMBS),
    separable(
        LSGAN,
        lambda r: (r - 1) ** 2 / 2, lambda r: r - 1,
        lambda f: f**2 / 2, lambda f: f,
        lambda f: (f - 1) ** 2 / 2, lambda f: f - 1,
    ),
    separable(
        HingeGAN,
        lambda r: np.maximum(0, 1 - r), lambda r: -1.0 * (r < 1),
        lambda f: np.maximum(0, 1 + f), lambda f: 1.0 * (f > -1),
        *CLIMBS,
    ),
    Truth(
        RpGAN,
        lambda r, f: log1pexp(-(r - f)).mean(),
        lambda r, f: -expit(f - r) / r.size,
        lambda r, f: expit(f - r) / r.size,
        lambda r, f: log1pexp(-(f - r)).mean(),
        lambda r, f: -expit(r - f) / r.size,
        paired=True,
    ),
    Truth(
        RaGAN,
        lambda r, f: relativistic_average(r, f)[0],
        lambda r, f: relativistic_average_slopes(r, f)[0],
        lambda r, f: relativistic_average_slopes(r, f)[1],
        lambda r, f: relativistic_average(r, f)[1],
        lambda r, f: relativistic_average_slopes(r, f)[2],
    ),
    *(
        alpha_truth(alpha_d, alpha_g, saturating, reach=reach)
        for alpha_d, alpha_g, reach in ((0.3, 2.0, 30), (2.0, 0.5, 80), (0.5, 1.2, 80), (INF, 1.0, 700), (3.0, INF, 700))
        for saturating in (False, True)
    ),
    *f_gan_truths(
        KLGAN, lambda v: v, lambda v: np.ones(v.shape), lambda v: np.exp(v - 1), lambda v: np.exp(v - 1), **EXPONENTIAL
    ),
    *f_gan_truths(
        ReverseKLGAN, lambda v: -np.exp(-v), lambda v: np.exp(-v), lambda v: v - 1, lambda v: np.ones(v.shape), **EXPONENTIAL
    ),
    *f_gan_truths(
        PearsonGAN,
        lambda v: v, lambda v: np.ones(v.shape),
        lambda v: np.where(v > -2, v**2 / 4 + v, -1.0), lambda v: np.where(v > -2, v / 2 + 1, 0.0),
    ),
    *f_gan_truths(
        SquaredHellingerGAN, lambda v: 1 - np.exp(-v), lambda v: np.exp(-v), lambda v: np.exp(v) - 1, np.exp, **EXPONENTIAL
    ),
    *f_gan_truths(
        JensenShannonGAN,
        lambda v: math.log(2) - log1pexp(-v), lambda v: expit(-v), lambda v: log1pexp(v) - math.log(2), expit,
    ),
]  # fmt: skip
TRUTHS += [
    Truth(AlphaGAN, t.d, t.d_r, t.d_f, t.g, t.g_f, {"alpha_d": 1, "alpha_g": 1, "saturating": t.family is MinimaxGAN})
    for t in TRUTHS[:2]  # (1, 1) is minimax, or non-saturating
]


def name_of(truth):
    return ",".join([truth.family.__name__, *(f"{k}={v}" for k, v in truth.settings.items())])


every_truth = pytest.mark.parametrize("truth", TRUTHS, ids=name_of)


def built(family, **settings):
    return minimal_gan(partial(family, **settings), Point(), LinearCritic(torch.ones(1)))


def logits_of(truth):
    return (R[: F.size] if truth.paired else R), F


def leaf(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def generator_loss(gan, f, r):
    return gan.generator_loss(f, r if gan.generator_sees_real else None)


def test_every_public_family_is_held_to_a_closed_form():
    exported = {getattr(ganlab, name) for name in ganlab.__all__}
    exported = {c for c in exported if isinstance(c, type) and issubclass(c, GAN) and c is not GAN}
    defined = {c for n, c in vars(ganlab.losses).items() if isinstance(c, type) and issubclass(c, GAN) and n[0] != "_"}
    truths = {truth.family for truth in TRUTHS}
    assert defined - {GAN} == exported == truths
    defaults = {t.family for t in TRUTHS if not t.settings or t.settings == {"alpha_d": 1, "alpha_g": 1, "saturating": False}}
    assert defaults == truths, "its defaults are among the forms"
    assert set(ganlab.losses.__all__) == {c.__name__ for c in defined}


@every_truth
def test_discriminator_loss_and_gradients(truth):
    gan = built(truth.family, **truth.settings)
    R, F = logits_of(truth)
    r, f = leaf(R), leaf(F)
    loss = gan.discriminator_loss(r, f)
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(truth.d(R, F), rel=1e-12)
    np.testing.assert_allclose(r.grad.numpy(), truth.d_r(R, F), rtol=1e-11)
    np.testing.assert_allclose(f.grad.numpy(), truth.d_f(R, F), rtol=1e-11)


@every_truth
def test_generator_loss_and_gradient(truth):
    gan = built(truth.family, **truth.settings)
    R, F = logits_of(truth)
    f = leaf(F)
    loss = generator_loss(gan, f, torch.tensor(R))
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(truth.g(R, F), rel=1e-12)
    np.testing.assert_allclose(f.grad.numpy(), truth.g_f(R, F), rtol=1e-11)


@every_truth
def test_reference_gradients_match_autograd(truth):
    """A slip of the pen in the table above would otherwise be copied into the code: central differences of its values."""
    R, F = logits_of(truth)
    for value, slope, at in (
        (lambda x: truth.d(x, F), truth.d_r(R, F), R),
        (lambda x: truth.d(R, x), truth.d_f(R, F), F),
        (lambda x: truth.g(R, x), truth.g_f(R, F), F),
    ):
        steps = 1e-5 * np.eye(at.size)
        differences = [(value(at + step) - value(at - step)) / 2e-5 for step in steps]
        np.testing.assert_allclose(differences, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("classic", [MinimaxGAN, NonSaturatingGAN, CGAN])
def test_agrees_with_torchs_binary_cross_entropy(classic):
    """Goodfellow et al. 2014 in the words of a classifier: real is class 1; minimax G maximizes D's own loss."""
    r, f = leaf(R), leaf(F)
    assert classic.discriminator_loss(r, f).item() == pytest.approx(
        (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f))).item(), rel=1e-12
    )
    maximized = classic is MinimaxGAN
    reference = -bce(f, torch.zeros_like(f)) if maximized else bce(f, torch.ones_like(f))
    assert classic.generator_loss(f).item() == pytest.approx(reference.item(), rel=1e-12)


@pytest.mark.parametrize("saturating", [False, True])
def test_jensen_shannon_is_minimax_up_to_constants(saturating):
    r, f = torch.tensor(R), torch.tensor(F)
    gan, classic = built(JensenShannonGAN, saturating=saturating), MinimaxGAN if saturating else NonSaturatingGAN
    assert gan.discriminator_loss(r, f).item() == pytest.approx(
        classic.discriminator_loss(r, f).item() - math.log(4), rel=1e-12
    )
    shift = math.log(2) if saturating else -math.log(2)
    assert gan.generator_loss(f).item() == pytest.approx(classic.generator_loss(f).item() + shift, rel=1e-12)


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("near", [1 - 1e-7, 1 + 1e-7])
def test_alpha_is_continuous_at_1(near, saturating):
    """A = alpha/(alpha - 1) blows up there; the naive formula loses seven digits beside it."""
    at, beside = (built(AlphaGAN, alpha_d=a, alpha_g=a, saturating=saturating) for a in (1.0, near))
    r, f = torch.tensor(R), torch.tensor(F)
    for hook in (lambda gan: gan.discriminator_loss(r, f), lambda gan: gan.generator_loss(f)):
        assert hook(beside).item() == pytest.approx(hook(at).item(), rel=1e-6)
    p, q = (torch.tensor(x) for x in densities())
    assert beside.divergence(p, q).item() == pytest.approx(at.divergence(p, q).item(), rel=1e-5)


@pytest.mark.parametrize("setting", ["alpha_d", "alpha_g"])
@pytest.mark.parametrize("bad", [0, -1.0, math.nan, "2", None, True])
def test_an_alpha_out_of_range_is_refused(setting, bad):
    with pytest.raises(ValueError, match=f"gan.{setting} must be a number above 0, got {bad!r}"):
        built(AlphaGAN, **{setting: bad})


# Strength, range, sign


@pytest.mark.parametrize(
    ("family", "settings", "at_10", "at_5"),
    [
        (MinimaxGAN, {}, 4.5398e-5, 6.6929e-3),
        (NonSaturatingGAN, {}, 0.99995, 0.99331),
        (CGAN, {}, 0.99995, 0.99331),
        (WGAN, {}, 1.0, 1.0),
        (HingeGAN, {}, 1.0, 1.0),
        (LSGAN, {}, 11.0, 6.0),
        (RpGAN, {}, 1.0, 0.99995),  # the real logit mirrors the fake one: sigma(20), sigma(10)
        (RaGAN, {}, 1.0, 0.99995),  # of one sample a side, the same
        (AlphaGAN, {}, 0.99995, 0.99331),
        (AlphaGAN, SATURATING, 4.5398e-5, 6.6929e-3),
        (AlphaGAN, {"alpha_g": 0.5}, 22026.47, 148.4132),  # p^-1 (1 - p) = e^-f
        (AlphaGAN, {"alpha_g": INF}, 4.53958e-5, 6.6481e-3),  # p (1 - p): the linear loss dies on both sides
        (KLGAN, {}, 1.0, 1.0),
        (KLGAN, SATURATING, 1.67017e-5, 2.47875e-3),  # e^(f - 1)
        (ReverseKLGAN, {}, 22026.47, 148.4132),  # e^-f
        (ReverseKLGAN, SATURATING, 1.0, 1.0),
        (PearsonGAN, {}, 1.0, 1.0),
        (PearsonGAN, SATURATING, 0.0, 0.0),  # beyond the bend at -2 the density ratio is 0
        (SquaredHellingerGAN, {}, 22026.47, 148.4132),
        (SquaredHellingerGAN, SATURATING, 4.53999e-5, 6.73795e-3),  # e^f
        (JensenShannonGAN, {}, 0.99995, 0.99331),
        (JensenShannonGAN, SATURATING, 4.5398e-5, 6.6929e-3),
    ],
)
def test_generator_gradient_when_the_discriminator_wins(family, settings, at_10, at_5):
    """Facts, section 1: what separates minimax from non-saturating is this number, not the name."""
    gan = built(family, **settings)
    for logit, expected in ((-10.0, at_10), (-5.0, at_5)):
        f = leaf([logit], torch.float32)
        generator_loss(gan, f, torch.tensor([-logit])).backward()
        assert f.grad.item() == pytest.approx(-expected, rel=1e-4, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_truth
def test_finite_and_exact_at_huge_logits(truth, dtype):
    gan, far = built(truth.family, **truth.settings), truth.reach
    for r_logit, f_logit in ((far, -far), (-far, far), (far, far), (-far, -far)):
        r, f = leaf([r_logit, 0.5], dtype), leaf([f_logit, -0.3], dtype)
        d_loss, g_loss = gan.discriminator_loss(r, f), generator_loss(gan, f, r.detach())
        (d_by_r, d_by_f), (g_grad,) = torch.autograd.grad(d_loss, (r, f)), torch.autograd.grad(g_loss, f)
        exact = r.detach().double().numpy(), f.detach().double().numpy()
        rounding = 4 * far * torch.finfo(dtype).eps  # terms as large as the logits may cancel
        assert d_loss.item() == pytest.approx(truth.d(*exact), rel=1e-5, abs=rounding)
        assert g_loss.item() == pytest.approx(truth.g(*exact), rel=1e-5, abs=rounding)
        for gradient, slope in ((d_by_r, truth.d_r), (d_by_f, truth.d_f), (g_grad, truth.g_f)):
            np.testing.assert_allclose(gradient.numpy(), slope(*exact), rtol=2e-5, atol=1e-30)


@every_truth
def test_high_logit_says_real(truth):
    """One convention for all: raising real logits helps D, raising fake logits hurts D and helps G."""
    gan = built(truth.family, **truth.settings)
    r, f = map(torch.tensor, logits_of(truth))
    assert gan.discriminator_loss(r + 1, f) < gan.discriminator_loss(r, f)
    assert gan.discriminator_loss(r, f + 1) > gan.discriminator_loss(r, f)
    assert generator_loss(gan, f + 1, r) < generator_loss(gan, f, r)


@pytest.mark.parametrize("family", [RpGAN, RaGAN])
def test_relativistic_losses_depend_on_differences_only(family):
    r, f = torch.tensor(R[:3]), torch.tensor(F)
    assert family.discriminator_loss(r + 7, f + 7).item() == pytest.approx(family.discriminator_loss(r, f).item())
    assert family.generator_loss(f + 7, r + 7).item() == pytest.approx(family.generator_loss(f, r).item())


# f-GANs against the definitions (Nowozin et al. 2016, tables 1, 2 and 6)

ROOT2 = math.sqrt(2)
GENERATORS = {  # family: f(u) of D_f(p, q) = sum q f(p/q), T(v), dT/dv
    KLGAN: (lambda u: u * np.log(u), lambda v: v, lambda v: 1.0),
    ReverseKLGAN: (lambda u: -np.log(u), lambda v: -np.exp(-v), lambda v: np.exp(-v)),
    PearsonGAN: (lambda u: (u - 1) ** 2, lambda v: v, lambda v: 1.0),
    SquaredHellingerGAN: (lambda u: (np.sqrt(u) - 1) ** 2, lambda v: 1 - np.exp(-v), lambda v: np.exp(-v)),
    JensenShannonGAN: (
        lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
        lambda v: math.log(2) - np.log(1 + np.exp(-v)),
        lambda v: 1 / (1 + np.exp(v)),
    ),
}
every_f_gan = pytest.mark.parametrize("family", GENERATORS, ids=lambda c: c.__name__)


def test_every_f_gan_has_a_reference():
    assert {t.family for t in TRUTHS if issubclass(t.family, FGAN)} == set(GENERATORS)


@every_f_gan
@pytest.mark.parametrize("v", [-4.0, -2.3, -1.1, 0.0, 0.4, 2.7])
def test_conjugate_is_the_supremum(family, v):
    """f*(t) = sup over u >= 0 of u t - f(u); its slope in t is the u where the supremum is taken."""
    f, T, T_slope = GENERATORS[family]
    t = T(v)
    found = minimize_scalar(
        lambda x: f(math.exp(x)) - math.exp(x) * t, bounds=(-40, 12), method="bounded", options={"xatol": 1e-9}
    )
    u = math.exp(found.x)
    logit = leaf(v)
    conjugate = family.conjugate(logit)
    conjugate.backward()
    assert family.activation(torch.tensor(v, dtype=torch.float64)).item() == pytest.approx(t, rel=1e-12)
    assert conjugate.item() == pytest.approx(-found.fun, rel=1e-9, abs=1e-9)
    assert logit.grad.item() == pytest.approx(u * T_slope(v), rel=1e-5, abs=1e-9)


@every_f_gan
def test_f_gives_the_declared_divergence(family):
    f, *_ = GENERATORS[family]
    p, q = densities()
    assert family.divergence(torch.tensor(p), torch.tensor(q)).item() == pytest.approx((q * f(p / q)).sum(), rel=1e-12)


# Theory: what D measures


def densities():
    p, q = softmax([[0.2, 1.0, -0.3, 0.6], [0.9, 0.1, 0.4, -0.2]], axis=1)
    return p, q


DECLARED = {  # family with settings: -min_D of its loss in SciPy's words
    MinimaxGAN: lambda p, q: 2 * jensenshannon(p, q) ** 2 - math.log(4),
    NonSaturatingGAN: lambda p, q: 2 * jensenshannon(p, q) ** 2 - math.log(4),
    CGAN: lambda p, q: 2 * jensenshannon(p, q) ** 2 - math.log(4),
    WGAN: lambda p, q: wasserstein_distance(np.arange(4), np.arange(4), p, q),
    LSGAN: lambda p, q: chisquare(p, (p + q) / 2).statistic / 4 - 1 / 4,
    HingeGAN: lambda p, q: cityblock(p, q) - 2,
    RpGAN: lambda p, q: jensenshannon(np.outer(p, q).ravel(), np.outer(q, p).ravel()) ** 2 - math.log(2),
    KLGAN: lambda p, q: rel_entr(p, q).sum(),
    ReverseKLGAN: lambda p, q: rel_entr(q, p).sum(),
    PearsonGAN: lambda p, q: chisquare(p, q).statistic,
    SquaredHellingerGAN: lambda p, q: sqeuclidean(np.sqrt(p), np.sqrt(q)),
    JensenShannonGAN: lambda p, q: 2 * jensenshannon(p, q) ** 2,
    partial(AlphaGAN, alpha_d=1.0): lambda p, q: 2 * jensenshannon(p, q) ** 2 - math.log(4),
    partial(AlphaGAN, alpha_d=0.5): lambda p, q: sqeuclidean(np.sqrt(p), np.sqrt(q)) - 2,
    partial(AlphaGAN, alpha_d=INF): lambda p, q: cityblock(p, q) / 2 - 1,
    partial(AlphaGAN, alpha_d=2.0): lambda p, q: 2 * np.hypot(p, q).sum() - 4,
    partial(AlphaGAN, alpha_d=0.3): lambda p, q: -3 / 7 * ((p**0.3 + q**0.3) ** (10 / 3)).sum() + 6 / 7,
}


def test_which_families_declare_theory():
    declaring = {t.family for t in TRUTHS if t.family.divergence is not None}
    assert declaring == {family_class(family) for family in DECLARED}
    assert {t.family for t in TRUTHS} - declaring == {RaGAN}
    assert {c for c in declaring if c.optimal_logit is None} == {WGAN}, "its best critic is bounded by the constraint"


@pytest.mark.parametrize("family", DECLARED, ids=lambda f: getattr(f, "__name__", None) or str(f.keywords))
def test_divergence_against_scipy(family):
    p, q = densities()
    got = built(family).divergence(torch.tensor(p), torch.tensor(q))
    assert got.shape == () and got.dtype == torch.float64
    assert got.item() == pytest.approx(DECLARED[family](p, q), rel=1e-10)
    name = family_class(family).divergence.__doc__
    assert name and "\n" not in name.strip(), "its docstring is the name that people see"


# a best logit that is finite, or unique, or not that of a pair of logits only
POINTWISE = [t for t in TRUTHS if not t.paired and t.family.optimal_logit and t.settings.get("alpha_d") != INF]


@pytest.mark.parametrize("truth", POINTWISE, ids=name_of)
def test_optimal_logit_attains_the_divergence(truth):
    """At each point D minimizes p real(l) + q fake(l): the zero of its slope, by bisection on the truth's own slopes."""
    p, q = densities()
    one, zero = np.ones(1), np.zeros(1)

    def slope(logit, a, b):
        return (a * truth.d_r(logit * one, zero) + b * truth.d_f(zero, logit * one)).item()

    best = np.array([brentq(slope, -6, 6, args=(a, b), xtol=1e-13) for a, b in zip(p, q, strict=True)])
    gan = built(truth.family, **truth.settings)
    declared = gan.optimal_logit(torch.tensor(p), torch.tensor(q)).numpy()
    np.testing.assert_allclose(declared, best, rtol=1e-9, atol=1e-10)
    reached = sum(a * truth.d(x * one, zero) + b * truth.d(zero, x * one) for a, b, x in zip(p, q, best, strict=True))
    reached -= truth.d(zero, zero)
    assert gan.divergence(torch.tensor(p), torch.tensor(q)).item() == pytest.approx(-reached, rel=1e-9)


def test_optimal_logit_of_pairs():
    """RpGAN compares every real with every fake: the minimum over all four logits, by SciPy."""
    p, q = densities()
    found = minimize(lambda x: (np.outer(p, q) * log1pexp(x[None, :] - x[:, None])).sum(), np.zeros(4), tol=1e-12)
    declared = RpGAN.optimal_logit(torch.tensor(p), torch.tensor(q)).numpy()
    np.testing.assert_allclose(declared - declared.mean(), found.x - found.x.mean(), atol=1e-5)
    assert RpGAN.divergence(torch.tensor(p), torch.tensor(q)).item() == pytest.approx(-found.fun, rel=1e-9)


def test_optimal_logit_of_the_linear_alpha_loss():
    """alpha = infinity: D is as sure as it can be, and where both are as dense it may say anything: 0."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.3, 0.3])
    assert built(AlphaGAN, alpha_d=INF).optimal_logit(p, q).tolist() == [INF, 0.0, -INF]


# How families are made


LOSSES = {"discriminator_loss", "generator_loss"}
FACTS = {"generator_sees_real", "pairs_samples", "requires_labels", "requires_lipschitz"}


def test_families_override_losses_and_theory_only(family):
    """One step for all losses is the point of the project."""
    assert family.overridden_internals == ()
    ancestors = family.__mro__[: family.__mro__.index(GAN)]
    has_settings = any("__init__" in vars(c) for c in ancestors)
    assert has_settings == (family is AlphaGAN or issubclass(family, FGAN))
    for c in ancestors:
        assert LOSSES & vars(c).keys() in (set(), LOSSES), "both losses are written where one is"
        if not has_settings:
            theory = [vars(c)[n] for n in (*LOSSES, "optimal_logit", "divergence") if n in vars(c)]
            assert all(isinstance(function, staticmethod) for function in theory), "called without an instance"


def test_what_each_family_requires():
    facts = {}
    for truth in TRUTHS:
        c = truth.family
        facts[c] = {name for name in FACTS if getattr(c, name)}
    assert {c: names for c, names in facts.items() if names} == {
        WGAN: {"requires_lipschitz"},
        CGAN: {"requires_labels"},
        RpGAN: {"generator_sees_real", "pairs_samples"},
        RaGAN: {"generator_sees_real"},
    }
