"""Penalties against closed forms, planted critics for defects that libraries ship, projections, and their cadence."""

import warnings

import pytest
import torch
from lightning import Callback
from torch import nn

import ganlab.regularizers
from ganlab.gan import Play
from ganlab.losses import WGAN, NonSaturatingGAN
from ganlab.networks import DCGANDiscriminator, MLPDiscriminator
from ganlab.regularizers import R1, GradientPenalty, Regularizer, WeightClipping, is_spectrally_normalized

SHAPES = [(2,), (7,), (1, 4, 4), (2, 4, 4), (3, 4, 4)]


def play_of(real, fake, y=None):
    return Play(real, fake, y, y, torch.zeros(len(real)), torch.zeros(len(fake)))


def samples(shape, n=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=random) + 0.5, torch.randn(n, *shape, generator=random) * 2 - 1


class Linear(nn.Module):
    """D(x) = <w, x>: its gradient is w everywhere."""

    def __init__(self, shape, norm):
        super().__init__()
        w = torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)
        self.w = nn.Parameter(w / w.norm() * norm)

    def forward(self, x, y=None):
        return (x * self.w).flatten(1).sum(1)


class Quadratic(nn.Module):
    """D(x) = a/2 ||x||^2: its gradient at x is a·x, so a penalty tells at which points it was taken."""

    def __init__(self, a=1.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x, y=None):
        return self.a / 2 * x.flatten(1).square().sum(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_linear_critic(shape):
    """R1 = gamma/2 ||w||^2, gradient penalty = lambda (||w|| - 1)^2, the norm over all of a sample's values."""
    real, fake = samples(shape)
    for norm in (0.3, 2.5):
        critic = Linear(shape, norm)
        assert R1(3.0).term(critic, play_of(real, fake)).item() == pytest.approx(3 / 2 * norm**2, rel=1e-5)
        assert GradientPenalty(7.0).term(critic, play_of(real, fake)).item() == pytest.approx(
            7 * (norm - 1) ** 2, rel=1e-5
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_by_the_critics_weights_on_a_linear_critic(shape):
    """d/dw gamma/2 ||w||^2 = gamma w; d/dw lambda (||w|| - 1)^2 = 2 lambda (1 - 1/||w||) w."""
    real, fake = samples(shape)
    critic = Linear(shape, 2.5)
    w = critic.w.detach()
    (r1,) = torch.autograd.grad(R1(3.0).term(critic, play_of(real, fake)), critic.w)
    torch.testing.assert_close(r1, 3 * w)
    (gp,) = torch.autograd.grad(GradientPenalty(7.0).term(critic, play_of(real, fake)), critic.w)
    torch.testing.assert_close(gp, 2 * 7 * (1 - 1 / 2.5) * w)


def test_r1_looks_at_the_real_samples_only():
    real, fake = samples((2, 3, 3))
    expected = 3 / 2 * 0.5**2 * real.square().sum((1, 2, 3)).mean()
    assert R1(3.0).term(Quadratic(0.5), play_of(real, fake)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_gradient_penalty_draws_one_u_per_sample(shape):
    """From 0 to a point at distance d the gradient of ||x||^2/2 is u·d: over many samples E (u d - 1)^2 is known."""
    n, d = 20_000, 3.0
    real = torch.full((n, *shape), 1.0) * d / torch.Size(shape).numel() ** 0.5
    fake = torch.zeros_like(real)
    torch.manual_seed(0)
    values = torch.stack([GradientPenalty(1.0).term(Quadratic(), play_of(real, fake)) for _ in range(3)]).detach()
    # E (u d - 1)^2 = d^2/3 - d + 1; one u per batch would scatter over 0 … 4
    torch.testing.assert_close(values, torch.full((3,), d**2 / 3 - d + 1), atol=0.04, rtol=0)


def test_gradient_penalty_draws_u_once_for_all_of_a_samples_values():
    """One u keeps the point on the line between its two ends; one u per pixel would not."""
    seen = []

    class Spy(Quadratic):
        def forward(self, x, y=None):
            seen.append(x.detach())
            return super().forward(x)

    real, fake = samples((2, 3, 3), n=8)
    GradientPenalty(1.0).term(Spy(), play_of(real, fake))
    u = ((seen[0] - fake) / (real - fake)).flatten(1)
    assert (u.std(1) < 1e-3).all()  # the same for all values of a sample
    assert u.mean(1).std() > 0.1  # another one for the next sample
    assert (0 <= u.mean(1)).all() and (u.mean(1) <= 1).all()


def test_gradient_penalty_pairs_each_point_with_the_reals_label():
    seen = []

    class Spy(Quadratic):
        def forward(self, x, y=None):
            seen.append(y)
            return super().forward(x)

    real, fake = samples((2,))
    real_y, fake_y = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 2, 2, 2, 2])
    play = Play(real, fake, real_y, fake_y, torch.zeros(5), torch.zeros(5))
    R1(1.0).term(Spy(), play), GradientPenalty(1.0).term(Spy(), play)
    assert torch.equal(seen[0], real_y) and torch.equal(seen[1], real_y)


def test_a_dead_critic_has_a_finite_gradient():
    critic = Linear((4,), 1.0)
    nn.init.zeros_(critic.w)
    term = GradientPenalty(10.0).term(critic, play_of(*samples((4,))))
    assert term.item() == pytest.approx(10, rel=1e-4)
    term.backward()
    assert critic.w.grad.isfinite().all()


@pytest.mark.parametrize("regularizer", [R1(2.0), GradientPenalty(10.0)])
def test_terms_reach_the_critics_weights_and_not_the_generator(regularizer):
    d = MLPDiscriminator((2,), [6, 6])
    g = nn.Linear(3, 2)
    real, _ = samples((2,))
    regularizer.term(d, play_of(real, g(torch.randn(5, 3)))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in d.named_parameters() if n.endswith("weight"))
    assert all(p.grad is None for p in g.parameters())


@pytest.mark.parametrize("kind", [R1, GradientPenalty])
def test_double_backward_agrees_with_finite_differences(kind):
    torch.manual_seed(0)
    d = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0))

    class Critic(nn.Module):
        def forward(self, x, y=None):
            return d(x)

    play = play_of(*samples((2,)))

    def value():
        torch.manual_seed(1)
        return kind(2.0).term(Critic(), play)

    weight = d[0].weight
    (gradient,) = torch.autograd.grad(value(), weight)
    for i, j in ((0, 0), (3, 1)):
        ends = []
        for step in (2e-3, -2e-3):
            with torch.no_grad():
                weight[i, j] += step
            ends.append(value().item())
            with torch.no_grad():
                weight[i, j] -= step
        assert gradient[i, j].item() == pytest.approx((ends[0] - ends[1]) / 4e-3, rel=0.02, abs=1e-3)


class Constant(Regularizer):
    """A term that pushes D's first bias by exactly 1 per SGD step of rate 1, and notes when it was asked."""

    def __init__(self, every=1):
        super().__init__(every)
        self.calls = []

    def term(self, discriminator, play):
        self.calls.append(self.gan.d_updates)
        return -discriminator.body[0].bias[0]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_lazy_terms_come_at_the_right_steps_and_count_every_times(make_gan, make_batches, fit, every):
    class Nothing(NonSaturatingGAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            return 0 * real_logits.sum()

    lazy = Constant(every)
    gan = make_gan(Nothing, regularizers={"lazy": lazy}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    lazy.gan = gan
    before = gan.discriminator.body[0].bias[0].item()
    fit(gan, make_batches(6))
    assert lazy.calls == list(range(0, 6, every))
    assert gan.discriminator.body[0].bias[0].item() - before == pytest.approx(6, rel=1e-5)  # whatever `every` is


def test_named_regularizers_add_up_and_none_is_left_out(make_gan, make_batches, fit):
    first, second = Constant(), Constant()

    class Nothing(NonSaturatingGAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            return 0 * real_logits.sum()

    gan = make_gan(
        Nothing, regularizers={"a": first, "b": second, "off": None}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0)
    )
    first.gan = second.gan = gan
    before = gan.discriminator.body[0].bias[0].item()
    fit(gan, make_batches(2))
    assert gan.discriminator.body[0].bias[0].item() - before == pytest.approx(4, rel=1e-5)
    assert list(gan.regularizers) == ["a", "b"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", [R1, GradientPenalty])
def test_terms_are_float32_even_inside_bf16_autocast(make_gan, make_batches, fit, precision, kind):
    terms = []

    class Spy(kind):
        def term(self, discriminator, play):
            probe = discriminator(play.real, play.real_y)
            terms.append((super().term(discriminator, play), probe.dtype, torch.is_autocast_enabled("cpu")))
            return terms[-1][0]

    fit(make_gan(regularizers={"spy": Spy(2.0)}), make_batches(2), precision=precision)
    assert [(t.dtype, probe, autocast) for t, probe, autocast in terms] == [(torch.float32, torch.float32, False)] * 2


class Bounds(Callback):
    """The largest weight of D after every batch, and what D looks like when the generator moves."""

    def on_train_start(self, trainer, gan):
        self.after, self.optimizer_steps = [], []

    def on_before_optimizer_step(self, trainer, gan, optimizer):
        self.optimizer_steps.append(max(p.abs().max().item() for p in gan.discriminator.parameters()))

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        self.after.append([p.detach().clone() for p in gan.discriminator.parameters()])


def test_weight_clipping_holds_all_parameters_after_each_step_of_d(make_gan, make_batches, fit):
    bounds = Bounds()
    gan = make_gan(WGAN, regularizers={"clip": WeightClipping(0.03)}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    g_before = [p.detach().clone() for p in gan.generator.parameters()]
    assert max(p.abs().max() for p in gan.discriminator.parameters()) > 0.1
    fit(gan, make_batches(4), bounds)
    assert bounds.optimizer_steps[1] <= 0.03 + 1e-8  # G's first turn meets a clipped D already
    for parameters in bounds.after:
        assert all(p.abs().max() <= 0.03 for p in parameters)
        assert sum((p.abs() == 0.03).sum().item() for p in parameters) > 10
        assert any((p == 0.03).any() for p in parameters) and any((p == -0.03).any() for p in parameters)
    assert max(p.abs().max() for p in g_before) > 0.03
    assert max(p.abs().max() for p in gan.generator.parameters()) > 0.03  # the generator is not clipped


def test_weight_clipping_clips_convolutions_and_biases_and_leaves_small_values():
    d = DCGANDiscriminator(1, 8, 4, "instance", projection_classes=3)
    before = [p.detach().clone() for p in d.parameters()]
    WeightClipping(0.05).project(d)
    for old, new in zip(before, d.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old.clamp(-0.05, 0.05), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: R1(1.0, every=0), "at least 1, got 0"),
        (lambda: GradientPenalty(1.0, every=1.5), "at least 1, got 1.5"),
        (lambda: R1(1.0, every=True), "at least 1, got True"),
        (lambda: WeightClipping(0), "bound must be above 0, got 0"),
        (lambda: WeightClipping(-0.01), "bound must be above 0, got -0.01"),
        (lambda: WeightClipping(float("nan")), "bound must be above 0, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_lipschitz_facts_of_the_public_regularizers():
    kinds = {k: v for k, v in vars(ganlab.regularizers).items() if isinstance(v, type) and issubclass(v, Regularizer)}
    assert {name: kind.lipschitz for name, kind in kinds.items()} == {
        "Regularizer": False,
        "R1": False,
        "GradientPenalty": True,
        "WeightClipping": True,
    }


class TestWithoutAConstraint:
    """WGAN without one warns; each of the three constraints, and each other family, is silent."""

    @staticmethod
    def warnings_of(family, regularizers=None, spectral_norm=False):
        from ganlab.networks import MLPGenerator

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            family(
                MLPGenerator(2, (2,), [4], bounded=False),
                MLPDiscriminator((2,), [4], spectral_norm=spectral_norm),
                generator_optimizer=torch.optim.SGD,
                discriminator_optimizer=torch.optim.SGD,
                regularizers=regularizers,
            )
        return [str(w.message) for w in caught if "Lipschitz" in str(w.message)]

    def test_wgan_warns(self):
        for regularizers in (None, {}, {"r1": R1(1.0)}, {"off": None}):
            (message,) = self.warnings_of(WGAN, regularizers)
            assert "add regularizer=clip, regularizer=gp or networks.discriminator.spectral_norm=true" in message

    def test_constraints_are_recognised(self):
        assert not self.warnings_of(WGAN, {"clip": WeightClipping(0.01)})
        assert not self.warnings_of(WGAN, {"gp": GradientPenalty(10.0)})
        assert not self.warnings_of(WGAN, spectral_norm=True)

    def test_other_families_need_none(self):
        assert not self.warnings_of(NonSaturatingGAN)
        assert not self.warnings_of(NonSaturatingGAN, spectral_norm=True)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_spectral_norm_is_recognised_only_if_every_layer_carries_it(norm):
    whole = DCGANDiscriminator(1, 16, 4, norm, spectral_norm=True, projection_classes=3)
    assert is_spectrally_normalized(whole)
    assert not is_spectrally_normalized(DCGANDiscriminator(1, 16, 4, norm))
    assert not is_spectrally_normalized(nn.Sequential(whole, nn.Linear(1, 1)))
    weight_norm = nn.utils.parametrizations.weight_norm(nn.Linear(3, 1))
    assert not is_spectrally_normalized(nn.Sequential(weight_norm))
    assert not is_spectrally_normalized(nn.Flatten())
