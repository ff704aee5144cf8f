"""Every family's loss is the loss it says it is: closed forms in float64, an independent reference, gradients."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import ganlab
from ganlab.gan import GAN
from ganlab.losses import CGAN, WGAN, MinimaxGAN, NonSaturatingGAN

R = np.array([1.3, -0.4, 2.2, 0.1, -3.0])  # unsymmetric: more reals than fakes, no mirror image of each other
F = np.array([0.7, -1.9, -0.2])


def log1pexp(x):
    return np.logaddexp(0, x)  # softplus, in NumPy's words


# family: D's loss, its derivatives by r and by f, G's loss, its derivative by f (facts, section 1)
CLASSIC_D = (
    lambda r, f: log1pexp(-r).mean() + log1pexp(f).mean(),
    lambda r: -(1 - expit(r)) / r.size,
    lambda f: expit(f) / f.size,
)
NON_SATURATING_G = (lambda f: log1pexp(-f).mean(), lambda f: -(1 - expit(f)) / f.size)
CLOSED_FORMS = {
    MinimaxGAN: (*CLASSIC_D, lambda f: log_expit(-f).mean(), lambda f: -expit(f) / f.size),
    NonSaturatingGAN: (*CLASSIC_D, *NON_SATURATING_G),
    CGAN: (*CLASSIC_D, *NON_SATURATING_G),
    WGAN: (
        lambda r, f: f.mean() - r.mean(),
        lambda r: np.full(r.size, -1 / r.size),
        lambda f: np.full(f.size, 1 / f.size),
        lambda f: -f.mean(),
        lambda f: np.full(f.size, -1 / f.size),
    ),
}
HOOKS = {"discriminator_loss", "generator_loss"}
FACTS = {"generator_sees_real", "requires_labels", "requires_lipschitz"}


def leaf(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def test_every_public_family_is_held_to_a_closed_form():
    exported = {getattr(ganlab, name) for name in ganlab.__all__}
    exported = {c for c in exported if isinstance(c, type) and issubclass(c, GAN) and c is not GAN}
    defined = {c for n, c in vars(ganlab.losses).items() if isinstance(c, type) and issubclass(c, GAN) and n[0] != "_"}
    assert defined - {GAN} == set(CLOSED_FORMS)
    assert exported == set(CLOSED_FORMS)


def test_discriminator_loss_and_gradients(family):
    value, by_r, by_f, *_ = CLOSED_FORMS[family]
    r, f = leaf(R), leaf(F)
    loss = family.discriminator_loss(r, f)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == pytest.approx(value(R, F), rel=1e-12)
    np.testing.assert_allclose(r.grad.numpy(), by_r(R), rtol=1e-12)
    np.testing.assert_allclose(f.grad.numpy(), by_f(F), rtol=1e-12)


def test_generator_loss_and_gradient(family):
    *_, value, by_f = CLOSED_FORMS[family]
    f = leaf(F)
    loss = family.generator_loss(f)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == pytest.approx(value(F), rel=1e-12)
    np.testing.assert_allclose(f.grad.numpy(), by_f(F), rtol=1e-12)


@pytest.mark.parametrize("classic", [MinimaxGAN, NonSaturatingGAN, CGAN])
def test_agrees_with_torchs_binary_cross_entropy(classic):
    """Goodfellow et al. 2014 in the words of a classifier: real is class 1; minimax G maximises D's own loss."""
    r, f = leaf(R), leaf(F)
    assert classic.discriminator_loss(r, f).item() == pytest.approx(
        (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f))).item(), rel=1e-12
    )
    maximised = classic is MinimaxGAN
    reference = -bce(f, torch.zeros_like(f)) if maximised else bce(f, torch.ones_like(f))
    assert classic.generator_loss(f).item() == pytest.approx(reference.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "at_10", "at_5"),
    [
        (MinimaxGAN, 4.5398e-5, 6.6929e-3),
        (NonSaturatingGAN, 0.99995, 0.99331),
        (CGAN, 0.99995, 0.99331),
        (WGAN, 1.0, 1.0),
    ],
)
def test_strength_of_the_generators_gradient_when_the_discriminator_wins(kind, at_10, at_5):
    """Facts, section 1: what separates minimax from non-saturating is this number, not the name."""
    for logit, expected in ((-10.0, at_10), (-5.0, at_5)):
        f = leaf([logit], torch.float32)
        kind.generator_loss(f).backward()
        assert f.grad.item() == pytest.approx(-expected, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_right_at_huge_logits(family, dtype):
    d_value, by_r, by_f, g_value, g_by_f = CLOSED_FORMS[family]
    for r_logit, f_logit in ((1e4, -1e4), (-1e4, 1e4), (1e4, 1e4), (-1e4, -1e4)):
        r, f = leaf([r_logit, 0.5], dtype), leaf([f_logit, -0.3], dtype)
        d_loss, g_loss = family.discriminator_loss(r, f), family.generator_loss(f)
        (d_by_r, d_by_f), (g_grad,) = torch.autograd.grad(d_loss, (r, f)), torch.autograd.grad(g_loss, f)
        exact_r, exact_f = r.detach().double().numpy(), f.detach().double().numpy()
        rounding = 4e4 * torch.finfo(dtype).eps  # terms of 1e4 may cancel
        assert d_loss.item() == pytest.approx(d_value(exact_r, exact_f), rel=1e-6, abs=rounding)
        assert g_loss.item() == pytest.approx(g_value(exact_f), rel=1e-6, abs=rounding)
        for gradient, exact in ((d_by_r, by_r(exact_r)), (d_by_f, by_f(exact_f)), (g_grad, g_by_f(exact_f))):
            np.testing.assert_allclose(gradient.numpy(), exact, rtol=1e-5, atol=1e-30)


def test_high_logit_says_real(family):
    """One convention for all: raising real logits helps D, raising fake logits hurts D and helps G."""
    r, f = torch.tensor(R), torch.tensor(F)
    assert family.discriminator_loss(r + 1, f) < family.discriminator_loss(r, f)
    assert family.discriminator_loss(r, f + 1) > family.discriminator_loss(r, f)
    assert family.generator_loss(f + 1) < family.generator_loss(f)


def test_only_hooks_are_overridden(family):
    """One step for all losses is the point of the project."""
    for c in family.__mro__[: family.__mro__.index(GAN)]:
        own = {n for n in vars(c) if not n.startswith("__") and not n.startswith("_abc_")}
        assert own <= HOOKS | FACTS
        assert all(isinstance(vars(c)[n], staticmethod) for n in own & HOOKS), "hooks are called without an instance"


def test_what_each_family_requires():
    facts = {c: (c.generator_sees_real, c.requires_labels, c.requires_lipschitz) for c in CLOSED_FORMS}
    assert facts == {
        MinimaxGAN: (False, False, False),
        NonSaturatingGAN: (False, False, False),
        WGAN: (False, False, True),
        CGAN: (False, True, False),
    }
