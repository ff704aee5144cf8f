"""Generator gradient norms: the right numbers, and an unchanged run."""

import copy
import math

import pytest
import torch

from ganlab import losses
from ganlab.analysis import generator_gradient_norms, shipped_families
from ganlab.analysis.minimal import LinearCritic, Point, minimal_gan
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import InstanceNoise


def point_gan(fake, slope=1.0, dtype=torch.float64):
    """G(z) = fake / slope and D(x) = slope * x, so that dL_G/dtheta = slope * dL_G/df at f = fake."""
    return minimal_gan(losses.WGAN, Point(fake / slope), LinearCritic(torch.tensor([slope]))).to(dtype)


@pytest.mark.parametrize(
    ("family", "slope"),
    [
        (losses.MinimaxGAN, 1 / (1 + math.exp(10))),
        (losses.NonSaturatingGAN, 1 - 1 / (1 + math.exp(10))),
        (losses.LSGAN, 11),
        (losses.WGAN, 1),
        (losses.HingeGAN, 1),
        (losses.RpGAN, 1 / (1 + math.exp(-20))),
    ],
)
@pytest.mark.parametrize("weight", [1.0, -2.5])
def test_closed_forms_at_a_fake_logit_of_minus_10(family, slope, weight):
    gan = point_gan(-10.0, weight)
    real = torch.full((4, 1), 10.0 / weight, dtype=torch.float64)
    norms = generator_gradient_norms(gan, {"it": family}, real, None, gan.sample_latents(4))
    assert float(norms["it"]) == pytest.approx(abs(weight) * slope, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vanished_gradient_is_still_a_number(dtype):
    """sigma(-230) = 1.3e-100, far below float32 and below the square root of the least float64."""
    gan = point_gan(-230.0, dtype=dtype)
    norms = generator_gradient_norms(
        gan, {"minimax": losses.MinimaxGAN}, torch.zeros(3, 1, dtype=dtype), None, gan.sample_latents(3)
    )
    assert float(norms["minimax"]) == pytest.approx(math.exp(-230), rel=1e-5)


@pytest.mark.parametrize("name", sorted(shipped_families()))
def test_each_norm_matches_the_family_s_own_generator_step(make_gan, make_batches, name):
    """By backward through the objective of the family itself, with the same players."""
    run = make_gan(losses.LSGAN, g_norm="batch")
    ((real, y),) = make_batches(1, size=9)
    z = run.sample_latents(9)
    norm = generator_gradient_norms(run, shipped_families(), real, y, z)[name]
    family = make_gan(shipped_families()[name], g_norm="batch")
    family.load_state_dict(run.state_dict())
    family.generator_objective(family.forward_pass(real, y, z=z, with_real=True, grad_to_generator=True)).backward()
    gradient = torch.cat([p.grad.flatten() for p in family.generator.parameters()])
    assert float(norm) == pytest.approx(float(gradient.norm()), rel=1e-5)


def test_a_gan_s_losses_keep_their_settings(make_gan, make_batches):
    run = make_gan(losses.AlphaGAN, alpha_g=0.6)
    ((real, y),) = make_batches(1)
    norms = generator_gradient_norms(run, {"own": run, "default": losses.AlphaGAN}, real, y, run.sample_latents(6))
    assert norms["own"] > 1.1 * norms["default"]


def test_packing_and_augmentation_match_the_generator_step(make_batches):
    torch.manual_seed(0)
    players = MLPGenerator(3, (2,), [8], bounded=False, norm="none"), MLPDiscriminator((2,), [7], "none", pack=3)
    run = losses.RpGAN(
        *players,
        generator_optimizer=torch.optim.SGD,
        discriminator_optimizer=torch.optim.SGD,
        regularizers={"noise": InstanceNoise(0.8)},
        pack=3,
    )
    ((real, _),) = make_batches(1)
    z = run.sample_latents(6)
    torch.manual_seed(7)
    norms = generator_gradient_norms(run, {"own": run}, real, None, z)
    torch.manual_seed(7)
    outputs = run.forward_pass(real, None, z=z, with_real=True, grad_to_generator=True)
    assert outputs.fake_logits.shape == (2,)
    gradient = torch.autograd.grad(run.generator_objective(outputs), list(run.generator.parameters()))
    assert float(norms["own"]) == pytest.approx(float(torch.cat([g.flatten() for g in gradient]).norm()), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_run_is_unchanged(make_gan, make_batches, training):
    """Batch norm in both players, spectral norm, random labels, dropout, and a graph that is still in use."""
    run = make_gan(classes=3, norm="batch", g_norm="batch", spectral_norm=True).train(training)
    run.discriminator.register_forward_hook(lambda module, inputs, logits: torch.dropout(logits, 0.3, True))
    ((real, y),) = make_batches(1)
    for parameter in run.parameters():
        parameter.grad = torch.ones_like(parameter)
    in_use = run.discriminator_objective(run.forward_pass(real, y, with_real=True, grad_to_generator=False))
    z = run.sample_latents(6)
    before, clocks = copy.deepcopy(run.state_dict()), run.get_extra_state()
    random = torch.get_rng_state()
    norms = generator_gradient_norms(run, shipped_families(), real, y, z)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(norm.isfinite() and norm > 0 and norm.shape == () for norm in norms.values())
    after = run.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if key != "_extra_state")
    assert run.get_extra_state() == clocks and run.training == training
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in run.parameters())
    in_use.backward()


def test_it_works_under_no_grad(make_gan, make_batches):
    run = make_gan()
    ((real, y),) = make_batches(1)
    with torch.no_grad():
        assert generator_gradient_norms(run, {"it": losses.WGAN}, real, y, run.sample_latents(6))["it"] > 0


def test_lengths_must_agree(make_gan, make_batches):
    run = make_gan()
    ((real, y),) = make_batches(1)
    with pytest.raises(ValueError, match="as many samples, got 6 and 5"):
        generator_gradient_norms(run, shipped_families(), real, y, run.sample_latents(5))


def test_shipped_families_are_all_public_ones_except_those_that_only_require_labels(family):
    shipped = shipped_families()
    assert (shipped.get(family.__name__) is family) == (not family.requires_labels)
    if family.requires_labels:  # its loss is another family's
        assert any(family.generator_loss is other.generator_loss for other in shipped.values())
