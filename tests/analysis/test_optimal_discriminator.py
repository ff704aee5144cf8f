"""Optimal logits and divergences against SciPy, and wrong declarations."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

from ganlab.analysis.minimal import minimal_gan
from ganlab.analysis.optimal_discriminator import best_logits, logit_where_equal, optimal_discriminator
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


def js(p, q):
    return jensenshannon(p, q) ** 2


def log_odds(p, q):
    return np.log(p) - np.log(q)


def of_pairs(p, q):
    return js(np.outer(p, q).ravel(), np.outer(q, p).ravel()) - np.log(2)


def relativistic_average(p, q):
    """No closed form is known: SciPy's minimizer."""

    def loss(logits):
        real, fake = logits - q @ logits, logits - p @ logits
        return (p @ np.logaddexp(0, -real) + q @ np.logaddexp(0, fake)) / 2

    return -minimize(loss, np.zeros(len(p)), tol=1e-12).fun


# what D measures at its best, its best logit (Goodfellow et al. 2014, prop. 1; Mao et al. 2017, eq. 5; Nowozin et al.
# 2016, table 2 and 5; Lim & Ye 2017, sec. 3; WGAN's logit and RaGAN's are no functions of the densities at one point)
CLOSED_FORMS = {
    MinimaxGAN: (lambda p, q: 2 * js(p, q) - np.log(4), log_odds),
    NonSaturatingGAN: (lambda p, q: 2 * js(p, q) - np.log(4), log_odds),
    CGAN: (lambda p, q: 2 * js(p, q) - np.log(4), log_odds),
    AlphaGAN: (lambda p, q: 2 * js(p, q) - np.log(4), log_odds),
    LSGAN: (lambda p, q: -np.sum(p * q / (p + q)) / 2, lambda p, q: p / (p + q)),
    HingeGAN: (lambda p, q: np.abs(p - q).sum() - 2, lambda p, q: np.where(p > q, 1.0, -1.0)),
    WGAN: (lambda p, q: wasserstein_distance(np.arange(len(p)), np.arange(len(p)), p, q), None),
    RpGAN: (of_pairs, log_odds),
    RaGAN: (relativistic_average, None),
    KLGAN: (lambda p, q: rel_entr(p, q).sum(), lambda p, q: 1 + log_odds(p, q)),
    ReverseKLGAN: (lambda p, q: rel_entr(q, p).sum(), log_odds),
    PearsonGAN: (lambda p, q: np.sum(p**2 / q) - 1, lambda p, q: 2 * (p - q) / q),
    SquaredHellingerGAN: (lambda p, q: 2 - 2 * np.sum(np.sqrt(p * q)), lambda p, q: log_odds(p, q) / 2),
    JensenShannonGAN: (lambda p, q: 2 * js(p, q), log_odds),
}


def pairs(found):
    return list(zip(found.p.numpy(), found.q.numpy()))


def test_numeric_optimum_matches_closed_forms(family):
    value, logit = CLOSED_FORMS[family]
    found = optimal_discriminator(family)
    assert found.attained
    np.testing.assert_allclose(found.value, [value(p, q) for p, q in pairs(found)], rtol=1e-8, atol=1e-9)
    if logit is not None:
        np.testing.assert_allclose(found.logits, [logit(p, q) for p, q in pairs(found)], rtol=0, atol=1e-8)


def test_declarations_of_every_family_are_right(family):
    found = optimal_discriminator(family)
    assert (found.declared_logits is None) == (found.error is None) == (family.optimal_logit is None)
    assert (found.declared_value is None) == (found.value_error is None) == (family.divergence is None)
    assert (found.name is None) == (family.divergence is None)
    if found.error is not None:
        assert found.error < 1e-8
    if found.value_error is not None:
        assert found.value_error < 1e-9


@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.0, 1.5, 3.0])
def test_alpha_families(alpha):
    """Welfert et al. 2023: D's best logit is alpha log p/q, also where the loss is not convex (alpha > 1)."""
    found = optimal_discriminator(partial(AlphaGAN, alpha_d=alpha))
    expected = [alpha * log_odds(p, q) for p, q in pairs(found)]
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=1e-8)
    assert found.error < 1e-8
    assert found.value_error < 1e-9


def test_alpha_of_1000_has_the_declared_value():
    """The best logits are beyond reach there, but the value is not: 0.08 to the power of 1000 is no number."""
    found = optimal_discriminator(partial(AlphaGAN, alpha_d=1000))
    assert not found.attained and found.value_error < 1e-6


def test_wgan_critic_solves_the_linear_program():
    """WGAN's critic: the best logits with slopes in [-1, 1], which SciPy finds as a linear program."""
    found = optimal_discriminator(WGAN, pairs=5, seed=3)
    slopes = np.diff(found.logits.numpy(), axis=1)
    assert np.abs(slopes).max() <= 1 + 1e-8
    for (p, q), value in zip(pairs(found), found.value):
        steps = np.diff(np.eye(len(p)), axis=0)
        best = linprog(q - p, A_ub=np.vstack([steps, -steps]), b_ub=np.ones(2 * len(steps)), bounds=(-9, 9))
        assert value.item() == pytest.approx(-best.fun, abs=1e-8)


def test_random_distributions():
    found = optimal_discriminator(WGAN, pairs=6)
    for densities, total in ((found.p, 11), (found.q, 13)):
        np.testing.assert_allclose(densities.sum(1), 1, rtol=1e-12)
        np.testing.assert_allclose(densities * total, (densities * total).round(), atol=1e-12)
        assert (densities > 0).all()
    assert ((found.p - found.q).abs() > 1e-3).all()
    assert len(found.p.unique(dim=0)) > 3
    again = optimal_discriminator(WGAN, pairs=6)
    torch.testing.assert_close(found.p, again.p, rtol=0, atol=0)
    assert not torch.equal(found.p, optimal_discriminator(WGAN, pairs=6, seed=1).p)


class WrongLogit(MinimaxGAN):
    @staticmethod
    def optimal_logit(p, q):
        return p / (p + q)


class Swapped(MinimaxGAN):
    @staticmethod
    def optimal_logit(p, q):
        return (q / p).log()


class WrongScale(MinimaxGAN):
    @staticmethod
    def divergence(p, q):
        """JS(p, q) - log 4."""
        m = (p + q) / 2
        return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2 - np.log(4)


class Backwards(KLGAN):
    @staticmethod
    def divergence(p, q):
        """KL(q, p)."""
        return (q * (q / p).log()).sum()


def test_wrong_declarations_have_errors():
    assert optimal_discriminator(WrongLogit).error > 0.1
    assert optimal_discriminator(Swapped).error > 0.1
    scaled = optimal_discriminator(WrongScale)
    assert scaled.error < 1e-8
    assert scaled.value_error > 0.01
    assert scaled.name == "JS(p, q) - log 4"
    assert optimal_discriminator(Backwards).value_error > 0.01


class Shifted(RpGAN):
    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log() + 3


class ShiftedMinimax(MinimaxGAN):
    @staticmethod
    def optimal_logit(p, q):
        return (p / q).log() + 3


def test_a_common_shift_is_ignored_only_where_differences_matter():
    assert optimal_discriminator(Shifted).error < 1e-8
    assert optimal_discriminator(ShiftedMinimax).error == pytest.approx(3, abs=1e-7)


class Unbounded(WGAN):
    requires_lipschitz = False


def test_losses_without_a_minimum_are_not_attained():
    assert not optimal_discriminator(Unbounded).attained
    sure = optimal_discriminator(partial(AlphaGAN, alpha_d=float("inf")))  # D wants the logits ±infinity
    assert not sure.attained
    assert sure.error is None
    assert sure.value_error < 1e-6


class RelativisticHinge(RpGAN):
    """Corners and a free shift at once (Jolicoeur-Martineau 2018)."""

    optimal_logit = divergence = None

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return torch.relu(1 - (real_logits - fake_logits)).mean()


def test_corners_with_a_free_shift():
    found = optimal_discriminator(RelativisticHinge)
    for (p, q), value in zip(pairs(found), found.value):
        k = len(p)  # minimize sum p_i q_j t_ij with t_ij >= 1 - l_i + l_j, t_ij >= 0, l_0 = 0
        rows, weights = [], np.concatenate([np.zeros(k), np.outer(p, q).ravel()])
        for pair in range(k * k):
            row = np.zeros(k + k * k)
            row[pair // k] -= 1
            row[pair % k] += 1
            row[k + pair] = -1
            rows.append(row)
        bounds = [(0, 0)] + [(None, None)] * (k - 1) + [(0, None)] * (k * k)
        best = linprog(weights, A_ub=np.array(rows), b_ub=-np.ones(k * k), bounds=bounds)
        assert value.item() == pytest.approx(-best.fun, abs=1e-8)


def test_pairs_see_the_product_of_the_two_distributions():
    gan = minimal_gan(RpGAN)
    counts = torch.tensor([5, 1, 2]), torch.tensor([1, 1, 5])
    logits, loss = best_logits(gan, *counts)
    p, q = (c.numpy() / c.sum().item() for c in counts)
    np.testing.assert_allclose(logits - logits[0], log_odds(p, q) - log_odds(p, q)[0], atol=1e-8)
    assert loss.item() == pytest.approx(-of_pairs(p, q), rel=1e-10)


def test_logit_where_real_and_fake_are_equally_likely_is_the_declared_one(family):
    gan, one = minimal_gan(family), torch.tensor(1.0)
    declared = 0.0 if gan.optimal_logit is None else gan.optimal_logit(one, one).item()
    assert logit_where_equal(gan) == pytest.approx(declared, abs=1e-8)


class Vector(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return real_logits - fake_logits


class Learned(LSGAN):
    def __init__(self, *players, **settings):
        super().__init__(*players, **settings)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def discriminator_loss(self, real_logits, fake_logits):
        return self.scale * LSGAN.discriminator_loss(real_logits, fake_logits)


def test_a_loss_may_have_parameters():
    found = optimal_discriminator(Learned)
    torch.testing.assert_close(found.value, optimal_discriminator(LSGAN).value)
    assert not found.value.requires_grad and not found.logits.requires_grad


def test_a_loss_that_is_not_a_scalar_is_refused():
    with pytest.raises(ValueError, match=r"one number as a tensor, got a tensor \[3\]"):
        optimal_discriminator(Vector)
