"""The training step against hand-written PyTorch: which network is updated when and by how much, and the counters."""

import copy
import inspect
import os
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import ganlab.losses
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
from ganlab.networks import DCGANDiscriminator, DCGANGenerator
from ganlab.regularizers import R1, R2, GradientPenalty, InstanceNoise, LeCam, Regularizer, WeightClipping


def sgd(lr, **options):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **options)


def adam(lr=1e-2, betas=(0.0, 0.9), **options):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=betas, **options)


def parameters(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(before, after):
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def moved(before, after):
    return all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


class Updates(Callback):
    """Both networks' parameters and gradients just before each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, gan, optimizer):
        owner = "d" if optimizer.param_groups[0]["params"][0] is next(gan.discriminator.parameters()) else "g"
        gradients = {
            name: [None if p.grad is None else p.grad.clone() for p in network.parameters()]
            for name, network in (("d", gan.discriminator), ("g", gan.generator))
        }
        self.steps.append((owner, {"d": parameters(gan.discriminator), "g": parameters(gan.generator)}, gradients))


# Counters


@pytest.mark.parametrize("n_critic", [1, 2, 5])
@pytest.mark.parametrize("batches", [1, 7, 10])
def test_counters(make_gan, make_batches, fit, n_critic, batches):
    gan = make_gan(n_critic=n_critic)
    fit(gan, make_batches(batches, size=6))
    assert (gan.d_updates, gan.g_updates, gan.images_seen) == (batches, batches // n_critic, 6 * batches)


def test_nvml_variable_is_unset(make_gan, make_batches, fit, monkeypatch):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as `import lightning` leaves it
    fit(make_gan(), make_batches(1))
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_counters_continue_over_epochs(make_gan, make_batches, fit):
    gan = make_gan(n_critic=2)
    fit(gan, make_batches(3, size=4), max_epochs=3)
    assert (gan.d_updates, gan.g_updates, gan.images_seen) == (9, 4, 36)


def test_generator_updates_after_n_critic_updates(make_gan, make_batches, fit):
    updates = Updates()
    fit(make_gan(n_critic=3), make_batches(7), updates)
    assert "".join(owner for owner, *_ in updates.steps) == "dddgdddgd"


def test_warmup_schedule(make_gan):
    """100 critic updates before each of the first 25 generator updates and each 500th (Arjovsky et al. 2017, authors' code)."""
    gan = make_gan(n_critic=5, critic_warmup=True)
    n_critic = {}
    for gan.g_updates in range(1502):
        n_critic[gan.g_updates] = gan.current_n_critic()
    long = [g for g, n in n_critic.items() if n == 100]
    assert long == [*range(25), 500, 1000, 1500]
    assert set(n_critic.values()) == {5, 100}
    plain = make_gan(n_critic=5)
    for plain.g_updates in (0, 24, 25, 500):
        assert plain.current_n_critic() == 5


def test_warmup_in_training(make_gan, make_batches, fit):
    gan = make_gan(n_critic=2, critic_warmup=True)
    gan.g_updates = 24
    fit(gan, make_batches(109, size=2))
    assert (gan.d_updates, gan.g_updates) == (109, 24 + 1 + 4)  # 100, then 2, 2, 2, 2


def test_counters_survive_a_checkpoint(make_gan, make_batches, fit, tmp_path):
    gan = make_gan(n_critic=3)
    fit(gan, make_batches(5)).save_checkpoint(tmp_path / "a.ckpt")
    clocks = {"images_seen": 30, "d_updates": 5, "g_updates": 1, "d_steps_since_g": 2}
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["state_dict"]["_extra_state"] == clocks

    other = make_gan(n_critic=3, seed=9)
    other.load_state_dict(saved["state_dict"])
    assert {name: getattr(other, name) for name in clocks} == clocks

    resumed = make_gan(n_critic=3, seed=9)
    fit(resumed, make_batches(5), ckpt_path=tmp_path / "a.ckpt", max_epochs=2)
    assert (resumed.images_seen, resumed.d_updates, resumed.g_updates, resumed.d_steps_since_g) == (60, 10, 3, 1)


# Which network is updated when


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_each_update_changes_one_network_only(family, make_gan, make_batches, fit, norm):
    updates = Updates()
    gan = make_gan(family, norm=norm, n_critic=2, optimizer=adam())
    fit(gan, make_batches(7), updates)
    steps = updates.steps
    assert "".join(owner for owner, *_ in steps) == "ddgddgddgd"
    assert all(g is None for g in steps[0][2]["g"]) and all(g is None for g in steps[1][2]["g"])
    for (owner, before, grads), (next_owner, after, next_grads) in pairwise(steps):
        other = "g" if owner == "d" else "d"
        assert equal(before[other], after[other])
        assert not equal(before[owner], after[owner])
        if owner != next_owner:  # the other network's gradients are as they were
            assert equal(grads[owner], next_grads[owner])
    assert all(p.requires_grad for p in [*gan.generator.parameters(), *gan.discriminator.parameters()])
    assert not any(p.requires_grad for p in gan.generator_ema.parameters())


def test_all_weights_are_updated(make_gan, make_batches, fit):
    gan = make_gan(g_norm="batch", spectral_norm=True, optimizer=adam())
    d, g = parameters(gan.discriminator), parameters(gan.generator)
    fit(gan, make_batches(4))
    assert moved(d, parameters(gan.discriminator))
    # a bias before batch norm has no effect and no gradient but rounding; every other weight moves
    assert sum(torch.equal(a, b) for a, b in zip(g, parameters(gan.generator))) <= 1


# The step against hand-written PyTorch


def classic_d(r, f):
    return bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f))


def classic_g(f, r):
    return bce(f, torch.ones_like(f))


def average_d(r, f):
    return classic_d(r - f.mean(), f - r.mean()) / 2


HAND_WRITTEN = {  # D(r, f), G(f, r); families with settings at their defaults
    MinimaxGAN: (classic_d, lambda f, r: -bce(f, torch.zeros_like(f))),
    NonSaturatingGAN: (classic_d, classic_g),
    CGAN: (classic_d, classic_g),
    AlphaGAN: (classic_d, classic_g),
    JensenShannonGAN: (classic_d, classic_g),
    WGAN: (lambda r, f: f.mean() - r.mean(), lambda f, r: -f.mean()),
    HingeGAN: (lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(), lambda f, r: -f.mean()),
    LSGAN: (lambda r, f: ((r - 1) ** 2 / 2).mean() + (f**2 / 2).mean(), lambda f, r: ((f - 1) ** 2 / 2).mean()),
    RpGAN: (lambda r, f: bce(r - f, torch.ones_like(r)), lambda f, r: bce(f - r, torch.ones_like(r))),
    RaGAN: (average_d, lambda f, r: average_d(f, r)),
    KLGAN: (lambda r, f: (f - 1).exp().mean() - r.mean(), lambda f, r: -f.mean()),
    ReverseKLGAN: (lambda r, f: f.mean() + (-r).exp().mean(), lambda f, r: (-f).exp().mean()),
    PearsonGAN: (
        lambda r, f: torch.where(f < -2, -torch.ones_like(f), f**2 / 4 + f).mean() - r.mean(),
        lambda f, r: -f.mean(),
    ),
    SquaredHellingerGAN: (lambda r, f: (f.exp() + (-r).exp()).mean(), lambda f, r: (-f).exp().mean()),
}
SHAPES_OF_A_STEP = [MinimaxGAN, WGAN, CGAN, RpGAN]  # plain, its own penalties, labels, reals in G's step


def hand_r1(D, real, fake, y, gamma=2.0):
    x = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
    return gamma / 2 * (slope**2).sum() / len(x)


def hand_gp(D, real, fake, y, weight=2.0):
    u = torch.rand(len(real), 1)
    x = (u * real + (1 - u) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(D(x, y).sum(), x, create_graph=True)
    return weight * ((slope.norm(2, dim=1) - 1) ** 2).mean()


def hand_clip(D):
    with torch.no_grad():
        for p in D.parameters():
            p.clamp_(-0.05, 0.05)


PENALTIES = {
    "none": (dict, None, None),
    "r1": (lambda: {"r1": R1(2.0)}, hand_r1, None),
    "gp": (lambda: {"gp": GradientPenalty(2.0)}, hand_gp, None),
    "clip": (lambda: {"clip": WeightClipping(0.05)}, None, hand_clip),
}


def hand_written_run(gan, batches, losses, penalty, project, *, n_critic, optimizer, decay, clip=None, seed=5):
    """The textbook's loop: separate passes for real and fake, penalties inside D's loss, EMA after G's step."""
    d_loss, g_loss = losses
    G, D, ema = copy.deepcopy(gan.generator), copy.deepcopy(gan.discriminator), copy.deepcopy(gan.generator)
    opt_g, opt_d = optimizer(G.parameters()), optimizer(D.parameters())
    classes = gan.conditioning.num_classes
    torch.manual_seed(seed)

    def draw(n):
        y = torch.randint(classes, (n,)) if classes else None
        return torch.randn(n, 3), y

    def step(opt, loss, net):
        opt.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        opt.step()

    t = 0
    for i, (real, y) in enumerate(batches, start=1):
        y = y if classes else None
        z, fake_y = draw(len(real))
        fake = G(z, fake_y).detach()
        loss = d_loss(D(real, y), D(fake, fake_y))
        if penalty is not None:
            loss = loss + penalty(D, real, fake, y)
        step(opt_d, loss, D)
        if project is not None:
            project(D)
        if i % n_critic == 0:
            z, fake_y = draw(len(real))
            fake, real_logits = G(z, fake_y), D(real, y) if gan.generator_sees_real else None
            step(opt_g, g_loss(D(fake, fake_y), real_logits), G)
            t += 1
            keep = min(decay, (1 + t) / (10 + t))
            for a, b in zip(ema.parameters(), G.parameters(), strict=True):
                a.data = keep * a.data + (1 - keep) * b.data
            for a, b in zip(ema.buffers(), G.buffers(), strict=True):
                a.data = b.data.clone()
    return G, D, ema


def assert_same(module, reference):
    for (name, a), b in zip(module.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")


# batch norm does not go with gradient penalties
SETTINGS = [(penalty, norm, n) for penalty in PENALTIES for norm, n in (("none", 1), ("none", 2), ("layer", 1))]
SETTINGS += [(penalty, "batch", n) for penalty in ("none", "clip") for n in (1, 2)]
RUNS = [(family, *settings) for family in SHAPES_OF_A_STEP for settings in SETTINGS]
RUNS += [(family, "r1", "none", 2) for family in HAND_WRITTEN if family not in SHAPES_OF_A_STEP]


def test_every_family_has_a_hand_written_loop():
    assert {family.__name__ for family in HAND_WRITTEN} == set(ganlab.losses.__all__)


@pytest.mark.parametrize(("family", "penalty", "norm", "n_critic"), RUNS)
def test_a_whole_run_equals_a_hand_written_loop(family, make_gan, make_batches, fit, penalty, norm, n_critic):
    regularizers, hand_penalty, project = PENALTIES[penalty]
    gan = make_gan(
        family,
        norm=norm,
        g_norm="batch",
        regularizers=regularizers(),
        n_critic=n_critic,
        optimizer=sgd(0.03, momentum=0.5),
    )
    batches = make_batches(10)
    reference = hand_written_run(
        gan, batches, HAND_WRITTEN[family], hand_penalty, project,
        n_critic=n_critic, optimizer=sgd(0.03, momentum=0.5), decay=0.999,
    )  # fmt: skip
    start = parameters(gan.generator)
    fit(gan, batches)
    assert not equal(start, parameters(gan.generator))
    for module, expected in zip((gan.generator, gan.discriminator, gan.generator_ema), reference, strict=True):
        assert_same(module, expected)


def test_a_whole_run_on_images_with_adam_equals_a_hand_written_loop(make_gan, make_batches, fit):
    gan = make_gan(CGAN, n_critic=2, ema_decay=0.2, gradient_clip=0.5, optimizer=adam(fused=True))
    torch.manual_seed(3)
    gan.generator, gan.discriminator = (
        DCGANGenerator(3, 2, 8, 4, num_classes=3),
        DCGANDiscriminator(2, 8, 4, projection_classes=3),
    )
    gan.generator_ema = copy.deepcopy(gan.generator).requires_grad_(False)
    batches = make_batches(10, shape=(2, 8, 8))
    reference = hand_written_run(
        gan, batches, HAND_WRITTEN[CGAN], None, None, n_critic=2, optimizer=adam(), decay=0.2, clip=0.5
    )
    fit(gan, batches)
    for module, expected in zip((gan.generator, gan.discriminator, gan.generator_ema), reference, strict=True):
        for (name, a), b in zip(module.state_dict().items(), expected.state_dict().values(), strict=True):
            if name != "stem.bias":  # batch norm follows: its gradient is rounding, which Adam blows up to a full step
                torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_generator_gradient_matches_hand_written_loss(family, make_gan, make_batches, fit):
    """SGD of rate 1 for G, 0 for D: what G lost is its gradient at D's own weights."""
    gan = make_gan(family, generator_optimizer=sgd(1.0), discriminator_optimizer=sgd(0.0))
    G, D = copy.deepcopy(gan.generator), copy.deepcopy(gan.discriminator)
    before = parameters(gan.generator)
    batches = make_batches(1)
    fit(gan, batches)
    classes = gan.conditioning.num_classes
    torch.manual_seed(5)
    for _ in range(2):  # D's step draws first
        y = torch.randint(classes, (6,)) if classes else None
        z = torch.randn(6, 3)
    real, real_y = batches[0]
    loss = HAND_WRITTEN[family][1](D(G(z, y), y), D(real, real_y if classes else None))
    gradient = torch.autograd.grad(loss, list(G.parameters()))
    lost = [a - b for a, b in zip(before, parameters(gan.generator), strict=True)]
    for a, b in zip(lost, gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert max(g.abs().max() for g in gradient) > 1e-3


def test_batches_without_labels_train_unconditionally(make_gan, make_batches, fit):
    with_labels, without = make_gan(), make_gan()
    batches = make_batches(3)
    fit(with_labels, batches)
    fit(without, [x for x, _ in batches])
    assert equal(parameters(with_labels), parameters(without))


def test_relativistic_families_get_real_logits_in_both_steps(make_gan, make_batches, fit):
    calls = []

    class Relativistic(NonSaturatingGAN):
        generator_sees_real = True

        @staticmethod
        def generator_loss(fake_logits, real_logits=None):
            calls.append(real_logits)
            return nn.functional.softplus(real_logits - fake_logits).mean()

    for norm in ("none", "batch"):
        gan = make_gan(Relativistic, norm=norm)
        before = parameters(gan.generator)
        fit(gan, make_batches(2))
        assert not equal(before, parameters(gan.generator))
    assert all(r is not None and r.shape == (6,) for r in calls)
    plain = []
    spy = staticmethod(lambda fake_logits, real_logits=None: plain.append(real_logits) or fake_logits.mean())
    fit(make_gan(type("Plain", (NonSaturatingGAN,), {"generator_loss": spy})), make_batches(2))
    assert plain == [None, None]


def test_one_pass_only_where_samples_do_not_mix(make_gan, make_batches, fit):
    for norm, sizes in (("none", [12, 6]), ("layer", [12, 6]), ("batch", [6, 6, 6])):
        seen = []
        gan = make_gan(norm=norm)
        gan.discriminator.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(len(args[0])))
        fit(gan, make_batches(1))
        assert seen == sizes


def test_a_discriminator_without_the_attribute_gets_separate_passes(make_gan, make_batches, fit):
    seen = []

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 1)

        def forward(self, x, y=None):
            seen.append(len(x))
            return self.net(x).squeeze(1)

    gan = make_gan()
    gan.discriminator = Plain()
    fit(gan, make_batches(1))
    assert seen == [6, 6, 6]


@pytest.mark.parametrize("one_pass", [True, False])
def test_logits_of_a_wrong_shape_are_refused(make_gan, make_batches, fit, one_pass):
    gan = make_gan()
    gan.discriminator = nn.Linear(2, 1)
    gan.discriminator.forward = lambda x, y=None: nn.functional.linear(x, gan.discriminator.weight)
    gan.discriminator.one_pass = one_pass
    n = 12 if one_pass else 6  # real and fake together
    with pytest.raises(ValueError, match=rf"one logit per sample, \[{n}\], got \[{n}, 1\]"):
        fit(gan, make_batches(1))


# The objectives, as theory and callbacks use them


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_discriminator_objective_is_loss_plus_due_penalties(family, make_gan, make_batches, step):
    """R1 on every second step counts twice; where nothing is due there is no penalty, not a zero."""
    gan = make_gan(family, regularizers={"r1": R1(2.0, every=2), "lecam": LeCam(3.0, start=2)})
    gan.d_updates = step
    ((real, y),) = make_batches(1)
    outputs = gan.forward_pass(real, y, with_real=True, grad_to_generator=False)
    assert outputs.step == step
    terms = gan.discriminator_terms(outputs)
    lecam = gan.regularizers["lecam"]
    above, below = outputs.real_logits - lecam.fake_average, lecam.real_average - outputs.fake_logits
    expected = {"d/loss": gan.discriminator_loss(outputs.real_logits, outputs.fake_logits)}
    if step % 2 == 0:
        expected["d/penalty_r1"] = 2 * hand_r1(gan.discriminator, outputs.real, outputs.fake, outputs.real_y)
    if step >= 2:
        expected["d/penalty_lecam"] = 3 * (above.relu().square().mean() + below.relu().square().mean())
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        torch.testing.assert_close(term, expected[name])


def test_the_objective_is_the_sum_of_its_terms(family, make_gan, make_batches):
    gan = make_gan(family, regularizers={"r1": R1(2.0), "r2": R2(0.5), "clip": WeightClipping(1.0)})
    ((real, y),) = make_batches(1)
    outputs = gan.forward_pass(real, y, with_real=True, grad_to_generator=False)
    terms = gan.discriminator_terms(outputs)
    assert set(terms) == {"d/loss", "d/penalty_r1", "d/penalty_r2"}
    torch.testing.assert_close(gan.discriminator_objective(outputs), sum(terms.values()))
    assert gan.penalties(outputs).keys() == {"d/penalty_r1", "d/penalty_r2"}
    assert make_gan(family).penalties(outputs) == {}


def test_step_metrics_hold_the_due_terms(make_gan, make_batches, fit):
    gan = make_gan(regularizers={"r1": R1(2.0, every=2)})
    gan.log_next_step = True
    fit(gan, make_batches(1))
    assert {"d/loss", "g/loss", "d/penalty_r1"} <= set(gan.step_metrics)
    assert not any("class_loss" in name for name in gan.step_metrics)
    gan.step_metrics = {}
    fit(gan, make_batches(1, seed=2))
    assert "d/penalty_r1" not in gan.step_metrics and "d/loss" in gan.step_metrics


def test_generator_objective_is_its_loss(family, make_gan, make_batches):
    gan = make_gan(family, regularizers={"r1": R1(2.0)})
    ((real, y),) = make_batches(1)
    outputs = gan.forward_pass(real, y, with_real=gan.generator_sees_real, grad_to_generator=True)
    assert (outputs.real_logits is None) == (not gan.generator_sees_real)
    torch.testing.assert_close(gan.generator_objective(outputs), gan.generator_loss(outputs.fake_logits, outputs.real_logits))


@pytest.mark.parametrize("one_pass", [True, False])
def test_float64_gan_stays_float64(family, make_gan, make_batches, one_pass):
    gan = make_gan(family, regularizers={"gp": GradientPenalty(2.0), "noise": InstanceNoise(0.1)}).double()
    gan.discriminator.one_pass = one_pass
    ((real, y),) = make_batches(1)
    outputs = gan.forward_pass(real.double(), y, with_real=True, grad_to_generator=True)
    values = (
        outputs.fake,
        outputs.real_logits,
        outputs.fake_logits,
        gan.discriminator_objective(outputs),
        gan.generator_objective(outputs),
    )
    assert {value.dtype for value in values} == {torch.float64}


# EMA, schedules, clipping


class GeneratorPath(Callback):
    """G's parameters after each of its updates."""

    def on_train_start(self, trainer, gan):
        self.path = []

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if gan.g_updates > len(self.path):
            self.path.append(parameters(gan.generator))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_ema_is_the_closed_form_recursion(make_gan, make_batches, fit, decay):
    """e_t = k_t e_(t-1) + (1 - k_t) g_t with k_t = min(decay, (1 + t)/(10 + t)); 0.3 is reached at t = 3."""
    path = GeneratorPath()
    gan = make_gan(ema_decay=decay, n_critic=2, g_norm="batch")
    ema = [p.double() for p in parameters(gan.generator)]
    assert equal(parameters(gan.generator), parameters(gan.generator_ema))
    fit(gan, make_batches(16), path)
    assert len(path.path) == 8
    for t, g in enumerate(path.path, start=1):
        k = min(decay, (1 + t) / (10 + t))
        ema = [k * e + (1 - k) * p.double() for e, p in zip(ema, g, strict=True)]
    for e, p in zip(ema, parameters(gan.generator_ema), strict=True):
        torch.testing.assert_close(p.double(), e, rtol=1e-5, atol=1e-7)
    assert equal(gan.generator.buffers(), gan.generator_ema.buffers())
    assert len(list(gan.generator.buffers())) > 0
    assert equal(parameters(gan.generator), parameters(gan.generator_ema)) == (decay == 0)


def test_schedulers_step_with_their_network_s_updates(make_gan, make_batches, fit):
    gan = make_gan(
        n_critic=2,
        generator_optimizer=sgd(1.0),
        discriminator_optimizer=sgd(0.5),
        generator_scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        discriminator_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.1),
    )
    trainer = fit(gan, make_batches(7))
    d, g = trainer.optimizers
    assert d.param_groups[0]["params"][0] is next(gan.discriminator.parameters())
    assert d.param_groups[0]["lr"] == pytest.approx(0.5 * 0.1**2)  # 7 updates, every third
    assert g.param_groups[0]["lr"] == pytest.approx(0.5**3)  # 3 updates


@pytest.mark.parametrize("only", ["d", "g"])
def test_one_network_alone_may_have_a_scheduler(make_gan, make_batches, fit, only):
    name = {"d": "discriminator_scheduler", "g": "generator_scheduler"}[only]
    gan = make_gan(**{name: lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5)})
    d, g = fit(gan, make_batches(2)).optimizers
    rates = {"d": d.param_groups[0]["lr"], "g": g.param_groups[0]["lr"]}
    assert rates == pytest.approx({"d": 0.1, "g": 0.1} | {only: 0.1 / 4})


def amp(kind):
    if kind == "32-true":
        return {}
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=scaler)]}


def gradient_norms(gan, trainer):
    """Of the gradients that Adam really used: with beta1 = 0 its first moment is the last gradient."""
    norms = {}
    for name, optimizer in zip("dg", trainer.optimizers, strict=True):
        used = [s["exp_avg"].flatten() for s in optimizer.state.values()]
        norms[name] = torch.cat(used).norm().item()
    return norms


@pytest.mark.parametrize("log_next_step", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_gradient_clip_limits_unscaled_gradients(make_gan, make_batches, fit, precision, fused, log_next_step):
    """Under fp16 gradients are scaled by 1024 until the step; clipping those would shrink the true ones to nothing."""
    batches = make_batches(1)

    def norms(clip, precision):
        gan = make_gan(optimizer=adam(1e-3, fused=fused), gradient_clip=clip)
        gan.log_next_step = log_next_step
        return gradient_norms(gan, fit(gan, batches, **amp(precision))), gan.step_metrics

    free, step_metrics = norms(None, "32-true")
    if log_next_step:
        assert step_metrics["d/grad_norm"].item() == pytest.approx(free["d"], rel=1e-4)
        assert step_metrics["g/grad_norm"].item() == pytest.approx(free["g"], rel=1e-4)
    for clip in (0.5 * min(free.values()), 2 * max(free.values()), None):
        got, step_metrics = norms(clip, precision)
        for network in "dg":
            expected = min(free[network], clip or 1e9)
            assert got[network] == pytest.approx(expected, rel=1e-4 if precision == "32-true" else 0.02)
            if log_next_step:  # the norm before clipping
                assert step_metrics[f"{network}/grad_norm"].item() == pytest.approx(free[network], rel=0.02)


# Mixed precision


class CachingAutocast(MixedPrecision):
    """Autocast with its cache of cast weights, the default of torch and of Lightning's older plugin."""

    def autocast_context_manager(self):
        return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True)


BF16 = {
    "lightning": lambda: {"precision": "bf16-mixed"},
    "cached": lambda: {"plugins": [CachingAutocast("bf16-mixed", "cpu")]},
}


@pytest.mark.parametrize(("penalty", "norm"), [("none", "none"), ("none", "batch"), ("r1", "none")])
@pytest.mark.parametrize("plugin", BF16)
def test_bf16_gradients_match_float32(make_gan, make_batches, fit, plugin, penalty, norm):
    """A weight that was cast without a graph (in D's step) and found in the cache (in G's step) gets no gradient."""
    updates = []
    for settings in ({}, BF16[plugin]()):
        gan = make_gan(norm=norm, regularizers=PENALTIES[penalty][0](), optimizer=sgd(0.1))
        before = [*parameters(gan.generator), *parameters(gan.discriminator)]
        fit(gan, make_batches(3, size=64), **settings)
        after = [*parameters(gan.generator), *parameters(gan.discriminator)]
        updates.append([b - a for a, b in zip(before, after, strict=True)])
    for exact, half in zip(*updates, strict=True):
        assert half.dtype == torch.float32
        if exact.norm() > 1e-5:  # a bias before batch norm has only rounding
            assert (half - exact).norm() < 0.25 * exact.norm()


def test_autocast_cache_is_cleared_between_updates(make_gan, make_batches, fit):
    """Under an autocast that lasts for the whole run, nothing but the step itself drops weights cast before an update."""
    runs = []
    for context, settings in (
        (nullcontext(), {"precision": "bf16-mixed"}),
        (nullcontext(), BF16["cached"]()),
        (torch.autocast("cpu", dtype=torch.bfloat16), {}),
    ):
        gan = make_gan(regularizers={"r1": R1(1.0)}, optimizer=sgd(0.5))
        with context:
            fit(gan, make_batches(6), **settings)
        runs.append(parameters(gan))
    assert equal(runs[0], runs[1])
    assert equal(runs[0], runs[2])


# Non-finite values


class Nowhere(Regularizer):
    def __init__(self, at, every=1):
        super().__init__(every)
        self.at, self.calls = at, 0

    def penalty(self, discriminator, outputs):
        self.calls += 1
        zero = 0 * discriminator(outputs.real, outputs.real_y).sum()
        return zero + float("inf") if self.calls == self.at else zero


def breaks(side, at, value):
    calls = []

    def loss(*logits):
        calls.append(1)
        return logits[0].mean() * 0 + (value if len(calls) == at else 0.0)

    return type("Breaks", (NonSaturatingGAN,), {side: staticmethod(loss)})


@pytest.mark.parametrize("batches", [12, 70])
@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "inf"), (-float("inf"), "-inf")])
def test_a_loss_that_is_not_finite_stops_the_run_with_term_step_and_value(make_gan, make_batches, fit, batches, value, word):
    gan = make_gan(breaks("discriminator_loss", 6, value))
    with pytest.raises(FloatingPointError, match=f"^d/loss became {word} at discriminator update 5; lower the learning"):
        fit(gan, make_batches(batches))
    assert gan.d_updates <= 6 + 32
    gan = make_gan(breaks("generator_loss", 4, value), n_critic=2)
    with pytest.raises(FloatingPointError, match=f"^g/loss became {word} at discriminator update [78]; "):
        fit(gan, make_batches(batches))


def test_a_penalty_that_is_not_finite_stops_the_run(make_gan, make_batches, fit):
    gan = make_gan(regularizers={"r1": R1(1.0), "mine": Nowhere(at=3, every=2)})
    with pytest.raises(FloatingPointError, match="^d/penalty_mine became inf at discriminator update 4; "):
        fit(gan, make_batches(9))


def test_finite_runs_are_not_stopped(make_gan, make_batches, fit):
    fit(make_gan(regularizers={"mine": Nowhere(at=1000)}), make_batches(80))


# Settings


def test_config_and_constructor_have_the_same_defaults():
    config = yaml.safe_load((Path(__file__).parents[2] / "conf" / "config.yaml").read_text())["gan"]
    arguments = {n: p for n, p in inspect.signature(GAN.__init__).parameters.items() if n != "self"}
    assert config.keys() == arguments.keys()
    plain = {n: v for n, v in config.items() if not (isinstance(v, str) and v.startswith("${"))}
    assert plain == {n: arguments[n].default for n in plain}
    assert set(plain) >= {"n_critic", "critic_warmup", "ema_decay", "gradient_clip", "generator_scheduler"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_critic", 0), ("n_critic", -1), ("n_critic", 1.5), ("n_critic", "2"), ("n_critic", True), ("n_critic", None),
        ("ema_decay", 1.0), ("ema_decay", -0.1), ("ema_decay", "0.9"), ("ema_decay", float("nan")), ("ema_decay", None),
        ("gradient_clip", 0), ("gradient_clip", -1.0), ("gradient_clip", "1"), ("gradient_clip", float("nan")),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(make_gan, setting, value):
    with pytest.raises(ValueError, match=f"gan.{setting} must be .*, got {value!r}"):
        make_gan(**{setting: value})


def test_the_base_class_cannot_be_trained_by_itself(make_gan):
    class Half(GAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            return fake_logits.mean()

    for abstract in (GAN, Half):
        with pytest.raises(TypeError, match="abstract"):
            make_gan(abstract)


# Samples


@pytest.fixture(params=[0, 3], ids=["unconditional", "conditional"])
def trained(request, make_gan, make_batches, fit):
    gan = make_gan(classes=request.param)
    torch.manual_seed(2)
    classes = request.param
    gan.generator = DCGANGenerator(3, 2, 8, 4, num_classes=classes)
    gan.generator_ema = copy.deepcopy(gan.generator).requires_grad_(False)
    gan.discriminator = DCGANDiscriminator(2, 8, 4, projection_classes=classes)
    fit(gan, make_batches(4, shape=(2, 8, 8)))
    return gan


def test_samples_shape_range_and_seed(trained):
    x = trained.sample(7, seed=3)
    assert x.shape == (7, 2, 8, 8) and x.dtype == torch.float32 and not x.requires_grad
    assert -1 <= x.min() < x.max() <= 1
    assert torch.equal(x, trained.sample(7, seed=3))
    assert not torch.equal(x, trained.sample(7, seed=4))
    state = torch.get_rng_state()
    trained.sample(7, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(trained.sample(7), trained.sample(7))


@pytest.mark.parametrize("batch_size", [1, 3, 10, 11, 1000])
def test_batch_size_does_not_change_the_samples(trained, batch_size):
    torch.testing.assert_close(trained.sample(10, seed=3, batch_size=batch_size), trained.sample(10, seed=3), atol=1e-5, rtol=0)


def test_samples_come_from_the_moving_average(trained):
    y = torch.zeros(5, dtype=torch.long) if trained.conditioning.num_classes else None
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    x = trained.sample(5, y, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(x, trained.generator_ema.eval()(z, y))
        assert (x - trained.generator.eval()(z, y)).abs().max() > 1e-3


def test_samples_of_one_label_and_of_many(trained):
    if not trained.conditioning.num_classes:
        with pytest.raises(ValueError, match="unconditional and takes no labels; leave y out"):
            trained.sample(4, 1)
        with pytest.raises(ValueError, match="unconditional and takes no labels; leave y out"):
            trained.sample(4, torch.zeros(4, dtype=torch.long))
        return
    assert torch.equal(trained.sample(4, 1, seed=3), trained.sample(4, torch.tensor([1, 1, 1, 1]), seed=3))
    assert torch.equal(trained.sample(4, [0, 2, 1, 0], seed=3), trained.sample(4, torch.tensor([0, 2, 1, 0]), seed=3))
    other = trained.sample(4, [0, 2, 1, 0], seed=3) - trained.sample(4, [0, 1, 1, 0], seed=3)
    changed = other.flatten(1).abs().amax(1)
    assert changed[1] > 1e-4 and changed[[0, 2, 3]].max() < 1e-5
    for y, message in (
        ([0, 1], "4 samples need 4 labels"),
        (3, r"labels must be integers in 0 … 2, got \[3\]"),
        (-1, "labels must be integers in 0 … 2"),
        ([0, 1, 2, 3], "labels must be integers in 0 … 2"),
        (0.5, "labels must be integers"),
        ("1", "labels must be integers in 0 … 2, got '1'"),
    ):
        with pytest.raises(ValueError, match=message):
            trained.sample(4, y)


@pytest.mark.parametrize("n", [0, -3])
def test_zero_samples_are_refused(trained, n):
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        trained.sample(n)


def test_points_are_samples_too(make_gan):
    assert make_gan().sample(5, seed=0).shape == (5, 2)


# What a subclass may override


def test_overridden_internals_names_methods_outside_the_public_list():
    class Own(NonSaturatingGAN):
        slope = 1.0
        generator_sees_real = True

        def __init__(self, *networks, slope=1.0, **settings):
            super().__init__(*networks, **settings)

        @staticmethod
        def generator_loss(fake_logits, real_logits=None):
            return -fake_logits.mean()

        def discriminator_terms(self, outputs):
            return super().discriminator_terms(outputs)

        def helper(self):
            pass

    class OwnStep(Own):
        def training_step(self, batch, batch_idx=0):
            pass

        def on_after_backward(self):
            pass

    class Mixin:
        def forward_pass(self, *args, **kwargs):
            pass

    class Descendant(Mixin, OwnStep):
        penalties = None

    assert Own.overridden_internals == ()
    assert OwnStep.overridden_internals == ("on_after_backward", "training_step")
    assert Descendant.overridden_internals == ("forward_pass", "on_after_backward", "penalties", "training_step")
