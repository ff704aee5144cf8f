"""The Dirac-GAN against the eigenvalues and figures of Mescheder et al. 2018, and a second implementation in NumPy."""

import cmath
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ganlab.analysis.dirac_gan import dirac_gan
from ganlab.losses import KLGAN, LSGAN, WGAN, AlphaGAN, HingeGAN, MinimaxGAN, NonSaturatingGAN, RpGAN
from ganlab.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    DiffAugment,
    FiniteDifferenceR1,
    FiniteDifferenceR2,
    GradientPenalty,
    InstanceNoise,
    LeCam,
    Regularizer,
    WeightClipping,
)

LOGISTIC = [MinimaxGAN, NonSaturatingGAN, RpGAN]
F1, F2 = 1 / 2, -1 / 4  # f'(0) and f''(0) of the paper's f(t) = -log(1 + e^-t)


def regularized(family, *regularizers, **settings):
    return partial(family, regularizers={str(i): r for i, r in enumerate(regularizers)}, **settings)


def assert_eigenvalues(found, *expected):
    assert not found.discontinuous
    first, second = found.eigenvalues
    straight = max(abs(first - expected[0]), abs(second - expected[1]))
    crossed = max(abs(first - expected[1]), abs(second - expected[0]))
    assert min(straight, crossed) < 1e-6, f"{found.eigenvalues} is not {expected}"


def around(real, squared):
    """The pair real ± sqrt(squared)."""
    return real + cmath.sqrt(squared), real - cmath.sqrt(squared)


# Every row of facts, section 2


@pytest.mark.parametrize("family", LOGISTIC)
def test_logistic_losses_circle(family):
    found = dirac_gan(family, steps=1)
    assert_eigenvalues(found, 0.5j, -0.5j)
    assert found.verdict == "center"


@pytest.mark.parametrize("family", [WGAN, HingeGAN, regularized(WGAN, WeightClipping(1.0))])
def test_linear_losses_circle_twice_as_fast(family):
    found = dirac_gan(family, steps=1)
    assert_eigenvalues(found, 1j, -1j)
    assert found.verdict == "center"


@pytest.mark.parametrize("family", [WGAN, NonSaturatingGAN])
@pytest.mark.parametrize("penalty", [GradientPenalty(10.0), GradientPenalty(0.35), DRAGAN(10.0, 0.5)])
def test_one_centered_penalties_are_discontinuous(family, penalty):
    found = dirac_gan(regularized(family, penalty), steps=1)
    assert found.discontinuous
    assert found.eigenvalues is None
    assert found.verdict == "undefined"
    jump = float(re.search(r"jumps by (\S+)", found.reason)[1])
    assert jump == pytest.approx(4 * penalty.weight, rel=0.02)  # from -2 weight to +2 weight


@pytest.mark.parametrize("family", LOGISTIC)
@pytest.mark.parametrize("sigma", [0.3, 0.7, 2.0])
def test_instance_noise_converges(family, sigma):
    found = dirac_gan(regularized(family, InstanceNoise(sigma)), steps=1)
    assert_eigenvalues(found, *around(sigma**2 * F2, sigma**4 * F2**2 - F1**2))
    assert found.verdict == "convergent"


@pytest.mark.parametrize("family", LOGISTIC)
def test_fading_instance_noise_leaves_the_eigenvalues_of_the_unregularized_game(family):
    """The eigenvalues are those late in training; trajectories are damped early on."""
    found, unregularized = dirac_gan(regularized(family, InstanceNoise(1.0, fade=100)), steps=200), dirac_gan(family, steps=200)
    assert (found.verdict, found.spectrum) == (unregularized.verdict, unregularized.spectrum) == ("center", "±0.5i")
    kept = dirac_gan(regularized(family, InstanceNoise(1.0)), steps=200).radius_alternating
    assert 10 * kept < found.radius_alternating < unregularized.radius_alternating / 2
    slow = dirac_gan(regularized(family, InstanceNoise(0.7, fade=10**12)), steps=1)
    assert_eigenvalues(slow, *around(0.49 * F2, 0.49**2 * F2**2 - F1**2))


@pytest.mark.parametrize("family", LOGISTIC)
@pytest.mark.parametrize("penalty", [R1, R2])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.5])
def test_r1_or_r2_converges(family, penalty, gamma):
    found = dirac_gan(regularized(family, penalty(gamma)), steps=1)
    assert_eigenvalues(found, *around(-gamma / 2, gamma**2 / 4 - F1**2))
    assert found.verdict == "convergent"


@pytest.mark.parametrize("family", LOGISTIC)
@pytest.mark.parametrize("gamma", [0.2, 0.5, 1.3])
def test_r1_and_r2_converge(family, gamma):
    found = dirac_gan(regularized(family, R1(gamma), R2(gamma)), steps=1)
    assert_eigenvalues(found, *around(-gamma, gamma**2 - F1**2))
    assert found.verdict == "convergent"


@pytest.mark.parametrize("penalty", [R1, R2])
def test_the_critical_gamma_is_1(penalty):
    """Below it the players spiral, above they do not."""
    for gamma, spirals in ((0.95, True), (1.05, False)):
        first, _ = dirac_gan(regularized(NonSaturatingGAN, penalty(gamma)), steps=1).eigenvalues
        assert (abs(first.imag) > 0.1) == spirals


@pytest.mark.parametrize(
    ("family", "simultaneous", "alternating"),
    [
        (MinimaxGAN, 3.10, 1.42),
        (NonSaturatingGAN, 0.64, 0.28),
        (regularized(WGAN, WeightClipping(1.0)), 1.00, 1.02),
        (regularized(WGAN, GradientPenalty(0.35)), 1.80, 1.22),
        (regularized(MinimaxGAN, R1(0.3)), 2.6e-6, 2.3e-7),
        (regularized(MinimaxGAN, R1(1.0)), 1e-21, 7e-17),
    ],
    ids=["minimax", "non-saturating", "clip", "gp", "r1-0.3", "r1-1"],
)
def test_radii_match_the_authors_code(family, simultaneous, alternating):
    """Facts, section 2: 500 steps of 0.2, to the figures given."""
    found = dirac_gan(family)
    for radius, expected in ((found.radius_simultaneous, simultaneous), (found.radius_alternating, alternating)):
        figures = 0.005 / expected if expected > 0.1 else 0.08
        assert radius == pytest.approx(expected, rel=figures)


# A second implementation


def penalty_slope(psi):
    return 0.35 * 2 * (abs(psi) - 1) * np.sign(psi)


# -dL_G/dtheta, -dL_D/dpsi for D(x) = psi x, worked out by hand; and what happens to psi after a step
BY_HAND = {
    "minimax": (MinimaxGAN, lambda t, s: (expit(s * t) * s, -expit(s * t) * t), lambda s: s),
    "non-saturating": (NonSaturatingGAN, lambda t, s: (expit(-s * t) * s, -expit(s * t) * t), lambda s: s),
    "hinge": (HingeGAN, lambda t, s: (s, -t * (1 + s * t > 0)), lambda s: s),
    "clip": (regularized(WGAN, WeightClipping(0.7)), lambda t, s: (s, -t), lambda s: np.clip(s, -0.7, 0.7)),
    "gp": (regularized(WGAN, GradientPenalty(0.35)), lambda t, s: (s, -t - penalty_slope(s)), lambda s: s),
    "lsgan": (LSGAN, lambda t, s: (-(s * t + 0.5 - 1) * s, -(s * t + 0.5) * t), lambda s: s),
    "r1": (
        regularized(NonSaturatingGAN, R1(0.3)),
        lambda t, s: (expit(-s * t) * s, -expit(s * t) * t - 0.3 * s),
        lambda s: s,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_trajectories_match_numpy(name):
    family, field, project = BY_HAND[name]
    start, lr, steps = (0.8, -0.6), 0.13, 60
    found = dirac_gan(family, steps=steps, lr=lr, start=start)
    for alternating, path in ((False, found.simultaneous), (True, found.alternating)):
        expected = [start]
        for _ in range(steps):
            theta, psi = expected[-1]
            moved = theta + lr * field(theta, psi)[0]
            psi = psi + lr * field(moved if alternating else theta, psi)[1]
            expected.append((moved, project(psi)))
        assert path.dtype == torch.float64
        np.testing.assert_allclose(path.numpy(), expected, rtol=0, atol=1e-7 if name == "gp" else 1e-9)


def test_lazy_penalties_act_on_every_kth_step():
    found = dirac_gan(regularized(NonSaturatingGAN, R1(0.05, every=4)), steps=30, start=(0.8, -0.6))
    theta, psi = 0.8, -0.6
    for step in range(30):
        gamma = 4 * 0.05 * (step % 4 == 0)
        theta, psi = (
            theta + 0.2 * expit(-psi * theta) * psi,
            psi - 0.2 * (expit(psi * theta) * theta + gamma * psi),
        )
    np.testing.assert_allclose(found.simultaneous[-1], [theta, psi], rtol=1e-9)


# Verdicts


def test_non_saturating_converges_slower_than_exponentially():
    found = dirac_gan(NonSaturatingGAN)
    radius = found.simultaneous.norm(dim=1)
    assert found.verdict == "center"
    assert radius[500] < radius[250] < radius[0]
    first, second = (math.log(radius[a] / radius[b]) for a, b in ((0, 250), (250, 500)))
    assert second < 0.7 * first  # an exponential would keep its rate


def test_every_family_circles_alone_and_converges_with_r1(family):
    alone = dirac_gan(family, steps=2)
    first, second = alone.eigenvalues
    assert alone.verdict == "center"
    assert abs(first.real) < 1e-9
    assert first.imag > 0.1
    assert second == pytest.approx(first.conjugate())
    penalized = dirac_gan(regularized(family, R1(0.8)), steps=2)
    assert penalized.verdict == "convergent"
    assert_eigenvalues(penalized, *around(-0.4, 0.16 - first.imag**2))


@pytest.mark.parametrize(
    ("family", "on_generator", "on_discriminator"),
    [
        (LSGAN, 1 / 2, 1 / 2),  # c = 1/2: 1 - c, c
        (KLGAN, 1, 1),  # c = 1: 1, e^(c - 1)
        (partial(AlphaGAN, alpha_d=2.0, alpha_g=3.0), 2 ** (1 / 3 - 2), 2 ** (1 / 2 - 2)),  # c = 0: 2^(1/alpha) / 4
    ],
    ids=["least-squares", "kl", "alpha"],
)
def test_eigenvalues_worked_out_by_hand(family, on_generator, on_discriminator):
    """J = ((0, a), (-b, 0)), a = |L_G'(c)|, b = dL_D/df(c), at the logit c that D prefers where p = q."""
    expected = math.sqrt(on_generator * on_discriminator)
    assert_eigenvalues(dirac_gan(family, steps=1), expected * 1j, -expected * 1j)


class WrongWay(NonSaturatingGAN):
    """G climbs where it should descend."""

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.mean()


class Constant(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return torch.tensor(1.0)


class NotANumber(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return (fake_logits * math.nan).mean()


class Vector(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return -torch.stack([fake_logits, fake_logits])


def test_verdicts_of_broken_losses():
    wrong = dirac_gan(WrongWay, steps=3)
    assert_eigenvalues(wrong, math.sqrt(0.5), -math.sqrt(0.5))
    assert wrong.verdict == "divergent"
    constant = dirac_gan(Constant, steps=3)
    assert_eigenvalues(constant, 0, 0)
    assert constant.verdict == "center"
    assert "0" in constant.reason
    nan = dirac_gan(NotANumber, steps=3)
    assert nan.verdict == "undefined"
    assert nan.eigenvalues is None
    with pytest.raises(ValueError, match="one number"):
        dirac_gan(Vector)


def test_an_overflow_has_an_infinite_radius():
    found = dirac_gan(regularized(WGAN, R1(1e3)), steps=300)
    assert found.verdict == "convergent"  # for steps that are small enough
    assert found.radius_simultaneous == math.inf


# Regularizers


@pytest.mark.parametrize(
    ("lazy", "eager"),
    [
        ([R1(0.7, every=8)], [R1(0.7)]),
        ([R1(0.7, every=2), R2(0.4, every=3)], [R1(0.7), R2(0.4)]),
    ],
)
def test_lazy_penalties_count_with_their_mean(lazy, eager):
    found = dirac_gan(regularized(RpGAN, *lazy), steps=1)
    assert_eigenvalues(found, *dirac_gan(regularized(RpGAN, *eager), steps=1).eigenvalues)


@pytest.mark.parametrize(
    ("regularizer", "damping"),
    [
        (FiniteDifferenceR1(0.8, 0.01), 0.8),  # on a line the same as R1
        (FiniteDifferenceR2(0.8, 0.3), 0.8),
        (GradientPenalty(0.4, center=0.0), 0.8),
        (GradientPenalty(0.4, one_sided=True), 0.0),
        (Consistency(1.5, InstanceNoise(0.5)), 1.5),  # 2 weight sigma^2 psi^2
        (LeCam(0.3, start=0), 0.0),  # of fourth order here
        (LeCam(0.3), 0.0),
    ],
)
def test_damping_of_other_regularizers(regularizer, damping):
    found = dirac_gan(regularized(NonSaturatingGAN, regularizer), steps=1)
    assert_eigenvalues(found, *around(-damping / 2, damping**2 / 4 - F1**2))


def test_packing_leaves_the_game_unchanged():
    alone, packed = dirac_gan(RpGAN, steps=5), dirac_gan(partial(RpGAN, pack=3), steps=5)
    assert_eigenvalues(packed, *alone.eigenvalues)
    np.testing.assert_allclose(packed.simultaneous, alone.simultaneous, rtol=1e-12)


@pytest.mark.parametrize("pack", [2, 3, 4])
def test_instance_noise_is_independent_within_a_pack(pack):
    """The mean of a pack has the noise's variance over its size."""
    found = dirac_gan(regularized(MinimaxGAN, InstanceNoise(0.7), pack=pack), steps=1)
    variance = 0.49 / pack
    assert_eigenvalues(found, *around(variance * F2, variance**2 * F2**2 - F1**2))


class Jitter(Regularizer):
    """Uniform instead of normal noise."""

    def augment(self, x):
        return x + 2.4 * (torch.rand_like(x) - 0.5)


def test_uniform_noise_counts_with_its_variance():
    found = dirac_gan(regularized(NonSaturatingGAN, Jitter()), steps=1)
    variance = 2.4**2 / 12
    assert_eigenvalues(found, *around(variance * F2, variance**2 * F2**2 - F1**2))


@pytest.mark.parametrize("draw", [torch.bernoulli, lambda p: (torch.rand_like(p) < p).to(p)])
def test_flipped_labels_count_with_their_mean(draw):
    """Real labels are 1 in seven of ten: where real and fake are alike, D's best probability is 0.7/2."""

    class Flipped(NonSaturatingGAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            labels = draw(torch.full_like(real_logits, 0.7))
            return binary_cross_entropy_with_logits(real_logits, labels) + softplus(fake_logits).mean()

    found = dirac_gan(Flipped, steps=1)
    assert found.verdict == "center"
    assert found.eigenvalues[0].imag == pytest.approx(math.sqrt(0.35 * 0.65), rel=0.03)


def test_regularizers_for_images_only_are_not_defined():
    for part in (DiffAugment(True, 0.1, 0.2), Consistency(1.0, DiffAugment(True, 0.1, 0.2))):
        found = dirac_gan(regularized(NonSaturatingGAN, part))
        assert found.verdict == "undefined"
        assert "cannot be trained on points" in found.reason and "images" in found.reason
        assert found.eigenvalues is found.simultaneous is found.radius_alternating is found.discontinuous is None


def test_it_is_a_pure_function():
    """The same twice, torch's random numbers untouched, the family's own regularizers too."""
    torch.manual_seed(11)
    state = torch.get_rng_state()
    lecam = LeCam(0.3, start=0)
    family = regularized(NonSaturatingGAN, lecam, InstanceNoise(0.4))
    first, second = dirac_gan(family, steps=20), dirac_gan(family, steps=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.eigenvalues == second.eigenvalues
    torch.testing.assert_close(first.alternating, second.alternating, rtol=0, atol=0)
    assert lecam.real_average.item() == 0
    assert lecam.real_average.dtype == torch.float32
