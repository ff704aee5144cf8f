"""Saturation against the papers' closed forms, its verdicts, and unusual losses."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import expit

from ganlab.analysis import dirac_gan, optimal_discriminator, saturation
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
from ganlab.models.gan import GAN

VANISHES, BOUNDED, GROWS = "vanishes when the critic wins", "bounded", "grows"

# |dL_G/df|; relativistic: one real sample at -f (facts, section 1; f-GANs: T' for G's loss -T, Nowozin et al., table 6)
CLOSED_FORMS = {
    MinimaxGAN: (expit, VANISHES),
    NonSaturatingGAN: (lambda f: expit(-f), BOUNDED),
    CGAN: (lambda f: expit(-f), BOUNDED),
    WGAN: (np.ones_like, BOUNDED),
    HingeGAN: (np.ones_like, BOUNDED),
    LSGAN: (lambda f: np.abs(f - 1), GROWS),
    RpGAN: (lambda f: expit(-2 * f), BOUNDED),
    RaGAN: (lambda f: expit(-2 * f), BOUNDED),
    AlphaGAN: (lambda f: expit(-f), BOUNDED),
    KLGAN: (np.ones_like, BOUNDED),
    ReverseKLGAN: (lambda f: np.exp(-f), GROWS),
    PearsonGAN: (np.ones_like, BOUNDED),
    SquaredHellingerGAN: (lambda f: np.exp(-f), GROWS),
    JensenShannonGAN: (lambda f: expit(-f), BOUNDED),
}


def test_every_family_matches_its_closed_form_from_minus_30_to_30(family):
    gradient, verdict = CLOSED_FORMS[family]
    found = saturation(family)
    f = found.logits.numpy()
    assert found.logits.dtype == found.gradient.dtype == torch.float64
    assert (f[0], f[-1]) == (-30, 30)
    np.testing.assert_allclose(found.gradient.numpy(), gradient(f), rtol=1e-8)  # torch's softplus is linear above 20
    assert found.at_minus_10 == pytest.approx(gradient(np.float64(-10)), rel=1e-10)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("family", "at_10", "at_5"),
    [
        (MinimaxGAN, 4.5398e-5, 6.6929e-3),
        (NonSaturatingGAN, 0.99995, 0.99331),
        (LSGAN, 11, 6),
        (WGAN, 1, 1),
        (HingeGAN, 1, 1),
        (RpGAN, 1.0000, 0.99995),
    ],
)
def test_gradients_at_minus_10_and_minus_5(family, at_10, at_5):
    """Facts, section 1; RpGAN at r = 10 for f = -10, and at r = 5 for f = -5."""
    found = saturation(family)
    assert found.at_minus_10 == pytest.approx(at_10, rel=1e-4)
    assert found.gradient[found.logits == -10].item() == found.at_minus_10
    assert found.gradient[found.logits == -5].item() == pytest.approx(at_5, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "verdict"),
    [
        (partial(AlphaGAN, saturating=True), VANISHES),
        (partial(AlphaGAN, alpha_g=1.2), VANISHES),  # (alpha_g > 1: sigma(f)^(1 - 1/alpha_g) goes to 0)
        (partial(AlphaGAN, alpha_g=0.5), GROWS),
        (partial(JensenShannonGAN, saturating=True), VANISHES),
        (partial(KLGAN, saturating=True), VANISHES),
        (partial(ReverseKLGAN, saturating=True), BOUNDED),
    ],
)
def test_verdict_depends_on_a_family_s_settings(family, verdict):
    assert saturation(family).verdict == verdict


class Summed(WGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -fake_logits


class NotANumber(WGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (fake_logits * float("nan")).mean()


class Constant(WGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return torch.tensor(1.0)


class PythonNumber(WGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return 0.5


def test_losses_that_are_not_scalar_tensors_are_refused():
    with pytest.raises(ValueError, match=r"one number as a tensor, got a tensor \[1\]; take the mean"):
        saturation(Summed)
    with pytest.raises(ValueError, match="got a float"):
        saturation(PythonNumber)


def test_verdicts_of_nan_and_of_a_constant_loss():
    assert saturation(NotANumber).verdict == "not finite"
    assert saturation(Constant).verdict == VANISHES
    assert saturation(Constant).at_minus_10 == 0


def test_relativistic_families_get_real_logits_of_opposite_sign():
    seen = []

    class Spy(WGAN):
        generator_sees_real = True

        @staticmethod
        def generator_loss(fake_logits, real_logits=None):
            seen.append((fake_logits.item(), real_logits.item()))
            return -fake_logits.mean()

    saturation(Spy)
    assert len(seen) == 241
    assert all(real == -fake for fake, real in seen)
    assert issubclass(Spy, GAN)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_analysis_works_under_no_grad_and_inference_mode(off):
    with off():
        assert saturation(NonSaturatingGAN).verdict == BOUNDED
        assert dirac_gan(NonSaturatingGAN, steps=1).eigenvalues[0].imag == pytest.approx(0.5)
        assert optimal_discriminator(NonSaturatingGAN, pairs=1).error < 1e-6
