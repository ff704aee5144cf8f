"""Terms against closed forms, planted critics for defects that libraries ship, projections, and their cadence."""

import math

import numpy as np
import pytest
import torch
from lightning import Callback
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrizations import spectral_norm

import ganlab.regularizers
from ganlab.losses import WGAN, NonSaturatingGAN
from ganlab.models.gan import StepOutputs
from ganlab.networks import DCGANDiscriminator, MLPDiscriminator
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
    is_spectrally_normalized,
)

SHAPES = [(2,), (7,), (1, 4, 4), (2, 4, 4), (3, 4, 4)]
TERMS = {  # everything that asks D about samples
    "r1": lambda: R1(2.0),
    "r2": lambda: R2(2.0),
    "fd_r1": lambda: FiniteDifferenceR1(2.0, 0.1),
    "fd_r2": lambda: FiniteDifferenceR2(2.0, 0.1),
    "gp": lambda: GradientPenalty(10.0),
    "gp_one_sided": lambda: GradientPenalty(10.0, center=0.01, one_sided=True),
    "gp_zero": lambda: GradientPenalty(10.0, center=0),
    "dragan": lambda: DRAGAN(10.0, 0.5),
    "consistency": lambda: Consistency(10.0, InstanceNoise(0.5)),
}
every_term = pytest.mark.parametrize("kind", TERMS)


def outputs_of(real, fake, real_y=None, fake_y=None, step=0):
    return StepOutputs(real, fake, real_y, fake_y, torch.zeros(len(real)), torch.zeros(len(fake)), step)


def public_regularizers():
    found = vars(ganlab.regularizers).values()
    return {c for c in found if isinstance(c, type) and issubclass(c, Regularizer) and c is not Regularizer}


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


# On linear critics


def measured_on_linear(build, shape, norm, n=4):
    critic = Linear(shape, norm)
    torch.manual_seed(0)
    return build.penalty(critic, outputs_of(*samples(shape, n))), critic


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", [0.3, 2.5])
@pytest.mark.parametrize(
    ("regularizer", "value", "slope"),  # of ||w||
    [
        (R1(3.0), lambda w: 3 / 2 * w**2, lambda w: 3 * w),
        (R2(3.0), lambda w: 3 / 2 * w**2, lambda w: 3 * w),
        (GradientPenalty(7.0), lambda w: 7 * (w - 1) ** 2, lambda w: 14 * (w - 1)),
        (GradientPenalty(7.0, center=0), lambda w: 7 * w**2, lambda w: 14 * w),
        (GradientPenalty(7.0, center=0.4), lambda w: 7 * (w - 0.4) ** 2, lambda w: 14 * (w - 0.4)),
        (GradientPenalty(7.0, one_sided=True), lambda w: 7 * max(0, w - 1) ** 2, lambda w: 14 * max(0, w - 1)),
        (DRAGAN(7.0, 0.5), lambda w: 7 * (w - 1) ** 2, lambda w: 14 * (w - 1)),
    ],
)
def test_value_and_gradient_on_a_linear_critic(shape, norm, regularizer, value, slope):
    """The norm is over all of a sample's values; d value(||w||)/dw = value'(||w||) w/||w||."""
    term, critic = measured_on_linear(regularizer, shape, norm)
    assert term.shape == () and term.item() == pytest.approx(value(norm), rel=1e-5)
    (gradient,) = torch.autograd.grad(term, critic.w)
    torch.testing.assert_close(gradient, slope(norm) / norm * critic.w.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [FiniteDifferenceR1, FiniteDifferenceR2])
@pytest.mark.parametrize("sigma", [1e-2, 2.0])
def test_finite_differences_equal_r1_on_a_linear_critic(kind, sigma):
    """E (<w, sigma n>)^2 = sigma^2 ||w||^2; the mean of 20,000 squares of Gaussians scatters by 1 %."""
    term, _ = measured_on_linear(kind(3.0, sigma), (3,), 2.5, n=20_000)
    assert term.item() == pytest.approx(3 / 2 * 2.5**2, rel=0.05)


def test_closed_form_linear_of_each_regularizer():
    declaring = {
        R1(3.0), R2(3.0), FiniteDifferenceR1(3.0, 0.1), FiniteDifferenceR2(3.0, 0.1), DRAGAN(3.0, 0.5),
        GradientPenalty(3.0), GradientPenalty(3.0, center=0.0), GradientPenalty(3.0, one_sided=True),
    }  # fmt: skip
    silent = {LeCam, WeightClipping, InstanceNoise, DiffAugment, Consistency}
    assert public_regularizers() == silent | {type(r) for r in declaring}
    assert all(kind.closed_form_linear is None for kind in silent)
    for regularizer in declaring:
        exact = not isinstance(regularizer, FiniteDifferenceR1)
        for norm in (0.3, 2.5):
            term, _ = measured_on_linear(regularizer, (4,), norm, n=4 if exact else 20_000)
            declared = regularizer.closed_form_linear(torch.tensor(norm))
            assert declared.shape == ()
            assert term.item() == pytest.approx(declared.item(), rel=1e-5 if exact else 0.05, abs=1e-6)


# Where they look: a quadratic critic's gradient at x is a·x


@pytest.mark.parametrize(("kind", "side"), [(R1, 0), (R2, 1)])
def test_r1_uses_real_samples_and_r2_fakes(kind, side):
    sides = samples((2, 3, 3))
    expected = 3 / 2 * 0.5**2 * sides[side].square().sum((1, 2, 3)).mean()
    assert kind(3.0).penalty(Quadratic(0.5), outputs_of(*sides)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "side"), [(FiniteDifferenceR1, 0), (FiniteDifferenceR2, 1)])
@pytest.mark.parametrize("sigma", [2e-3, 0.5, 1.5])
def test_finite_differences_differ_from_r1_by_the_curvature(kind, side, sigma):
    """D(x + s n) - D(x) = a (s <x, n> + s^2/2 ||n||^2); its square / s^2 has the mean a^2 (||x||^2 + s^2/4 (d^2 + 2d))."""
    d, a = 3, 0.5
    sides = [x.double() for x in samples((d,), n=60_000)]
    torch.manual_seed(0)
    term = kind(3.0, sigma).penalty(Quadratic(a).double(), outputs_of(*sides))
    bias = sigma**2 / 4 * (d**2 + 2 * d)
    expected = 3 / 2 * a**2 * (sides[side].square().sum(1).mean() + bias)
    assert term.item() == pytest.approx(expected.item(), rel=0.03)
    r1 = (R1, R2)[side](3.0).penalty(Quadratic(a).double(), outputs_of(*sides)).item()
    assert (term.item() == pytest.approx(r1, rel=0.03)) == (sigma == 2e-3), "R1 in the limit, and not before"


@pytest.mark.parametrize("kind", [FiniteDifferenceR1, FiniteDifferenceR2])
def test_finite_differences_use_one_state_of_spectral_norm(kind):
    """E (<w, sigma n>)^2 = sigma^2 ||w||^2 with the w of that pass, not of two; the offset of D(x) must cancel."""
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(8, 8), n_power_iterations=1)
    with torch.no_grad():  # as after a long step: the estimate is not there yet
        layer.parametrizations.weight.original.normal_()
        layer.bias.zero_()
    term = kind(3.0, 0.01).penalty(lambda x, y: 5 * layer(x).sum(1), outputs_of(*samples((8,), n=20_000)))
    w = 5 * layer.eval().weight.sum(0)  # evaluation keeps the estimate of the last pass
    assert term.item() == pytest.approx(3 / 2 * w.square().sum().item(), rel=0.05)


class SquareOnce(torch.autograd.Function):
    """x^2, whose derivative has none itself."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


@pytest.mark.parametrize("kind", ["fd_r1", "fd_r2", "consistency", "r1", "r2", "gp", "dragan"])
def test_finite_differences_need_no_double_backward(kind):
    class Critic(Quadratic):
        def forward(self, x, y=None):
            return self.a * SquareOnce.apply(x).sum(1)

    def run():
        TERMS[kind]().penalty(Critic(), outputs_of(*samples((3,)))).backward()

    if kind in ("fd_r1", "fd_r2", "consistency"):
        run()
    else:
        with pytest.raises(RuntimeError, match="once_differentiable"):
            run()


@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_gradient_penalty_draws_one_u_per_sample(shape):
    """From 0 to a point at distance d the gradient of ||x||^2/2 is u·d: over many samples E (u d - 1)^2 is known."""
    n, d = 20_000, 3.0
    real = torch.full((n, *shape), 1.0) * d / torch.Size(shape).numel() ** 0.5
    fake = torch.zeros_like(real)
    torch.manual_seed(0)
    values = torch.stack([GradientPenalty(1.0).penalty(Quadratic(), outputs_of(real, fake)) for _ in range(3)]).detach()
    # E (u d - 1)^2 = d^2/3 - d + 1; one u per batch would scatter over 0 … 4
    torch.testing.assert_close(values, torch.full((3,), d**2 / 3 - d + 1), atol=0.04, rtol=0)


def test_one_sided_and_center_where_slopes_differ():
    """Slopes u·d, u ~ U(0, 1): E max(0, u d - c)^2 = (d - c)^3/(3 d); two-sided: d^2/3 - d c + c^2."""
    n, d, c = 40_000, 3.0, 0.8
    real = torch.full((n, 1), d)
    torch.manual_seed(0)
    outputs = outputs_of(real, torch.zeros_like(real))
    one_sided = GradientPenalty(5.0, center=c, one_sided=True).penalty(Quadratic(), outputs)
    assert one_sided.item() == pytest.approx(5 * (d - c) ** 3 / (3 * d), rel=0.03)
    two_sided = GradientPenalty(5.0, center=c).penalty(Quadratic(), outputs)
    assert two_sided.item() == pytest.approx(5 * (d**2 / 3 - d * c + c**2), rel=0.03)


class Spy(Quadratic):
    """Notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.inputs, self.labels = [], []

    def forward(self, x, y=None):
        self.inputs.append(x.detach())
        self.labels.append(y)
        return super().forward(x)


def test_gradient_penalty_u_is_shared_within_a_sample():
    """One u keeps the point on the line between its two ends; one u per pixel would not."""
    spy = Spy()
    real, fake = samples((2, 3, 3), n=8)
    GradientPenalty(1.0).penalty(spy, outputs_of(real, fake))
    u = ((spy.inputs[0] - fake) / (real - fake)).flatten(1)
    assert (u.std(1) < 1e-3).all()  # the same for all values of a sample
    assert u.mean(1).std() > 0.1  # another one for the next sample
    assert (0 <= u.mean(1)).all() and (u.mean(1) <= 1).all()


@pytest.mark.parametrize("shape", [(2,), (2, 3, 3)])
def test_dragan_perturbs_real_samples_only(shape):
    """x + noise · std · N(0, I), with the standard deviation of all values of the real batch, and no fake in it."""
    random = torch.Generator().manual_seed(3)
    real = 5 + 0.3 * torch.randn(4000, *shape, generator=random).double()
    fake = torch.full_like(real, math.nan)
    spy = Spy().double()
    torch.manual_seed(0)
    for _ in range(2):
        assert DRAGAN(7.0, 0.5).penalty(spy, outputs_of(real, fake)).isfinite()
    scale = 0.5 * np.std(real.numpy())  # the batch's own, population form
    for seen in spy.inputs:
        d = ((seen - real) / scale).numpy()
        assert abs(d.mean()) < 0.06 and d.std() == pytest.approx(1, rel=0.05)
        assert np.mean(np.abs(d) < 1) == pytest.approx(0.6827, abs=0.03), "Gaussian"
        assert np.corrcoef(d.reshape(4000, -1)[:, :2].T)[0, 1] == pytest.approx(0, abs=0.08), "every value by itself"
    assert not torch.equal(*spy.inputs), "drawn anew"


LABELS = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 2, 1, 2, 2])


@pytest.mark.parametrize(
    ("kind", "worn"),  # by 0 the reals, by 1 the fakes
    [
        ("r1", [0]), ("r2", [1]), ("gp", [0]), ("dragan", [0]),
        ("fd_r1", [0, 0]), ("fd_r2", [1, 1]), ("consistency", [0, 0, 1, 1]),
    ],
)  # fmt: skip
def test_penalties_use_the_labels_of_their_samples(kind, worn):
    """The point between a real and a fake has the real one's label."""
    spy = Spy()
    TERMS[kind]().penalty(spy, outputs_of(*samples((2,)), *LABELS))
    assert len(spy.labels) == len(worn)
    assert all(torch.equal(y, LABELS[side]) for y, side in zip(spy.labels, worn, strict=True))


# Consistency


class Affine(Regularizer):
    """T x = a x + b, deterministic and easily told from x."""

    def __init__(self, a=2.0, b=1.0):
        super().__init__()
        self.a, self.b = a, b

    def augment(self, x):
        return self.a * x + self.b


def test_consistency_by_hand():
    real, fake = samples((2, 3))
    critic = Linear((2, 3), 1.7)
    w = critic.w.detach()

    def change(x):  # <w, 2x + 1> - <w, x> = <w, x + 1>
        return ((x + 1) * w).sum((1, 2)).square().mean()

    term = Consistency(4.0, Affine()).penalty(critic, outputs_of(real, fake))
    assert term.item() == pytest.approx(4 * (change(real) + change(fake)).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(term, critic.w)
    expected = sum(2 * (((x + 1) * w).sum((1, 2))[:, None, None] * (x + 1)).mean(0) for x in (real, fake))
    torch.testing.assert_close(gradient, 4 * expected)


class Gray(Regularizer):
    """Mixes the channels of an image, as saturation does."""

    def augment(self, x):
        return x.mean(1, keepdim=True).expand_as(x)


@pytest.mark.parametrize("pack", [1, 2, 3])
def test_consistency_transforms_the_samples_of_a_pack_one_by_one(make_gan, make_batches, pack):
    shape = (2, 4, 4)
    gan = make_gan(shape=shape)
    gan.pack, gan.discriminator = pack, Linear((2 * pack, 4, 4), 1.7)
    real, _ = make_batches(1, size=6, shape=shape)[0]
    outputs = gan.forward_pass(real, None, with_real=True, grad_to_generator=False)
    w = gan.discriminator.w.detach().unflatten(0, (pack, 2))
    expected = 0
    for x in (outputs.real, outputs.fake):
        images = x.reshape(-1, pack, 2, 4, 4)
        expected += ((images.mean(2, keepdim=True) - images) * w).sum((1, 2, 3, 4)).square().mean()
    term = Consistency(4.0, Gray()).penalty(gan.discriminator, outputs)
    assert term.item() == pytest.approx(4 * expected.item(), rel=1e-5) and expected > 1e-3


def test_consistency_passes_on_step_start_to_its_transform(make_gan, make_batches, fit):
    noise = InstanceNoise(1.0, fade=8)
    gan = make_gan(NonSaturatingGAN, regularizers={"bcr": Consistency(1.0, noise)})
    fit(gan, make_batches(3))
    assert float(noise.left) == 1 - 3 / 8  # G's step comes after D's third update


def test_consistency_does_not_change_the_outputs(make_gan, make_batches, fit):
    """T x is no data: what D is trained on stays as it is."""
    seen = []
    gan = make_gan(NonSaturatingGAN, regularizers={"bcr": Consistency(1.0, Affine(0.0, 50.0))}, norm="batch")
    outputs = gan.forward_pass

    def spy(*args, **kwargs):
        seen.append(outputs(*args, **kwargs))
        return seen[-1]

    gan.forward_pass = spy
    batches = make_batches(1)
    fit(gan, batches)
    assert torch.equal(seen[0].real, batches[0][0]) and seen[0].fake.abs().max() < 20


# LeCam


def lecam_outputs(step, r, f):
    return StepOutputs(torch.zeros(5, 2), torch.zeros(3, 2), None, None, r, f, step)


def test_lecam_matches_a_hand_written_recursion():
    """a_R, a_F follow the outputs' means from the first step; the term pulls r down to a_F and f up to a_R."""
    regularizer = LeCam(0.3, start=2, decay=0.8)
    random = np.random.default_rng(0)
    for step in range(6):
        r, f = random.normal(0.8, 1.0, 5), random.normal(-0.4, 1.5, 3)
        a_R = r.mean() if step == 0 else 0.8 * a_R + 0.2 * r.mean()  # noqa: F821
        a_F = f.mean() if step == 0 else 0.8 * a_F + 0.2 * f.mean()  # noqa: F821
        r, f = torch.tensor(r, requires_grad=True), torch.tensor(f, requires_grad=True)
        term = regularizer.penalty(None, lecam_outputs(step, r, f))
        assert regularizer.real_average.item() == pytest.approx(a_R, rel=1e-5)
        assert regularizer.fake_average.item() == pytest.approx(a_F, rel=1e-5)
        assert not regularizer.real_average.requires_grad and not regularizer.fake_average.requires_grad
        if step < 2:
            assert term is None
            continue
        above, below = np.maximum(0, r.detach().numpy() - a_F), np.maximum(0, a_R - f.detach().numpy())
        assert (above > 0).any() and (above == 0).any()
        assert term.item() == pytest.approx(0.3 * ((above**2).mean() + (below**2).mean()), rel=1e-5)
        term.backward()
        np.testing.assert_allclose(r.grad, 0.3 * 2 * above / 5, rtol=1e-5)
        np.testing.assert_allclose(f.grad, -0.3 * 2 * below / 3, rtol=1e-5)


def test_lecam_backward_after_the_next_step():
    """The averages are buffers that the next step writes into; autograd must not be left with them."""
    regularizer = LeCam(1.0, start=0)
    r, f = torch.tensor([2.0, 1.0], requires_grad=True), torch.tensor([-1.0, 0.5], requires_grad=True)
    term = regularizer.penalty(None, lecam_outputs(0, r, f))
    regularizer.penalty(None, lecam_outputs(1, r.detach() + 5, f.detach() - 5))
    term.backward()
    torch.testing.assert_close(r.grad, torch.tensor([2.25, 1.25]))  # 2/2 (r - a_F), a_F = -0.25


def test_lecam_resumes_from_a_checkpoint(make_gan, make_batches, fit, tmp_path):
    batches = make_batches(8)

    def gan():
        return make_gan(regularizers={"lecam": LeCam(0.5, start=2, decay=0.9)})

    class Averages(Callback):
        def __init__(self):
            self.path = []

        def on_train_batch_end(self, trainer, gan, *_):
            lecam = gan.regularizers["lecam"]
            self.path.append((lecam.real_average.item(), lecam.fake_average.item()))

    averages = Averages()
    half = gan()
    fit(half, batches[:4], averages).save_checkpoint(tmp_path / "half.ckpt")
    state = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert state["regularizers.lecam.real_average"].item() == averages.path[-1][0] != 0
    assert state["regularizers.lecam.fake_average"].item() == averages.path[-1][1] != 0

    after = Averages()
    resumed = gan()
    fit(resumed, batches[4:], after, ckpt_path=tmp_path / "half.ckpt", max_epochs=2)
    first, start = after.path[0], averages.path[-1]
    assert resumed.d_updates == 8
    assert abs(first[0] - start[0]) < abs(first[0]) / 2 and first != start, "it went on from where it was"


def test_lecam_counts_updates_of_d(make_gan, make_batches, fit):
    terms = []

    class Noted(LeCam):
        def penalty(self, discriminator, outputs):
            terms.append(super().penalty(discriminator, outputs))
            return terms[-1]

    fit(make_gan(regularizers={"lecam": Noted(1.0, start=3)}, n_critic=2), make_batches(5))
    assert [term is None for term in terms] == [True, True, True, False, False]


# What all terms share


def test_a_constant_critic_has_a_finite_gradient():
    critic = Linear((4,), 1.0)
    nn.init.zeros_(critic.w)
    for regularizer in (GradientPenalty(10.0), DRAGAN(10.0, 0.5)):
        critic.w.grad = None
        term = regularizer.penalty(critic, outputs_of(*samples((4,))))
        assert term.item() == pytest.approx(10, rel=1e-4)
        term.backward()
        assert critic.w.grad.isfinite().all()


@every_term
def test_penalties_train_the_critic_and_not_the_generator(kind):
    torch.manual_seed(0)
    d = MLPDiscriminator((2,), [6, 6])
    g = nn.Linear(3, 2)
    real, _ = samples((2,))
    TERMS[kind]().penalty(d, outputs_of(real, g(torch.randn(5, 3)))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in d.named_parameters() if n.endswith("weight"))
    assert all(p.grad is None for p in g.parameters())


@every_term
def test_float64_stays_float64(kind):
    d = MLPDiscriminator((2,), [6, 6]).double()
    assert TERMS[kind]().penalty(d, outputs_of(*(x.double() for x in samples((2,))))).dtype == torch.float64


@every_term
def test_gradients_agree_with_finite_differences(kind):
    torch.manual_seed(0)
    d = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0))

    class Critic(nn.Module):
        def forward(self, x, y=None):
            return d(x)

    d.double()
    outputs = outputs_of(*(x.double() for x in samples((2,))))

    def value():
        torch.manual_seed(1)
        return TERMS[kind]().penalty(Critic(), outputs)

    weight = d[0].weight
    (gradient,) = torch.autograd.grad(value(), weight)
    assert gradient[0, 0].abs() > 1e-4
    for i, j in ((0, 0), (3, 1)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += step
            ends.append(value().item())
            with torch.no_grad():
                weight[i, j] -= step
        assert gradient[i, j].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7)


class Constant(Regularizer):
    """A term that pushes D's first bias by exactly 1 per SGD step of rate 1, and notes when it was asked."""

    def __init__(self, every=1):
        super().__init__(every)
        self.calls = []

    def penalty(self, discriminator, outputs):
        self.calls.append(outputs.step)
        return -discriminator.body[0].bias[0]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_lazy_penalties_are_due_every_k_steps_and_count_k_times(make_gan, make_batches, fit, every):
    class Nothing(NonSaturatingGAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            return 0 * real_logits.sum()

    lazy = Constant(every)
    gan = make_gan(Nothing, regularizers={"lazy": lazy}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
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

    gan = make_gan(Nothing, regularizers={"a": first, "b": second, "off": None}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    before = gan.discriminator.body[0].bias[0].item()
    fit(gan, make_batches(2))
    assert gan.discriminator.body[0].bias[0].item() - before == pytest.approx(4, rel=1e-5)
    assert list(gan.regularizers) == ["a", "b"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@every_term
def test_penalties_are_float32_inside_bf16_autocast(make_gan, make_batches, fit, precision, kind):
    terms = []
    regularizer = TERMS[kind]()
    plain = regularizer.penalty

    def spy(discriminator, outputs):
        probe = discriminator(outputs.real, outputs.real_y)
        terms.append((plain(discriminator, outputs), probe.dtype, torch.is_autocast_enabled("cpu")))
        return terms[-1][0]

    regularizer.penalty = spy
    fit(make_gan(regularizers={"spy": regularizer}), make_batches(2), precision=precision)
    assert [(t.dtype, probe, autocast) for t, probe, autocast in terms] == [(torch.float32, torch.float32, False)] * 2


# Weight clipping


class Bounds(Callback):
    """The largest weight of D after every batch, and what D looks like when the generator moves."""

    def on_train_start(self, trainer, gan):
        self.after, self.optimizer_steps = [], []

    def on_before_optimizer_step(self, trainer, gan, optimizer):
        self.optimizer_steps.append(max(p.abs().max().item() for p in gan.discriminator.parameters()))

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        self.after.append([p.detach().clone() for p in gan.discriminator.parameters()])


def test_weight_clipping_bounds_all_parameters_after_each_update(make_gan, make_batches, fit):
    bounds = Bounds()
    gan = make_gan(WGAN, regularizers={"clip": WeightClipping(0.03)}, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    g_before = [p.detach().clone() for p in gan.generator.parameters()]
    assert max(p.abs().max() for p in gan.discriminator.parameters()) > 0.1
    fit(gan, make_batches(4), bounds)
    assert bounds.optimizer_steps[1] <= 0.03 + 1e-8  # G's first step uses a clipped D already
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


# Settings and facts


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: R1(1.0, every=0), "`every` must be an integer of at least 1, got 0"),
        (lambda: GradientPenalty(1.0, every=1.5), "`every` must be an integer of at least 1, got 1.5"),
        (lambda: R2(1.0, every=True), "`every` must be an integer of at least 1, got True"),
        (lambda: FiniteDifferenceR1(1.0, 0.1, every="2"), "`every` must be an integer of at least 1, got '2'"),
        (lambda: Consistency(1.0, Affine(), every=-1), "`every` must be an integer of at least 1, got -1"),
        (lambda: R1(-1.0), "`gamma` must be a number of at least 0, got -1.0"),
        (lambda: R2(None), "`gamma` must be a number of at least 0, got None"),
        (lambda: R1(True), "`gamma` must be a number of at least 0, got True"),
        (lambda: FiniteDifferenceR2(math.nan, 0.1), "`gamma` must be a number of at least 0, got nan"),
        (lambda: FiniteDifferenceR1(1.0, 0), "`sigma` must be a number above 0, got 0"),
        (lambda: FiniteDifferenceR2(1.0, "0.1"), "`sigma` must be a number above 0, got '0.1'"),
        (lambda: GradientPenalty(-10), "`weight` must be a number of at least 0, got -10"),
        (lambda: GradientPenalty(10, center=-1), "`center` must be a number of at least 0, got -1"),
        (lambda: GradientPenalty(10, center=math.nan), "`center` must be a number of at least 0, got nan"),
        (lambda: DRAGAN(-1, 0.5), "`weight` must be a number of at least 0, got -1"),
        (lambda: DRAGAN(10, 0.0), "`noise` must be a number above 0, got 0.0"),
        (lambda: LeCam(-0.3), "`weight` must be a number of at least 0, got -0.3"),
        (lambda: LeCam(0.3, start=-1), "`start` must be a number of at least 0, got -1"),
        (lambda: LeCam(0.3, decay=1.0), r"decay` must be a number of at least 0 and below 1, got 1.0"),
        (lambda: LeCam(0.3, decay=math.nan), r"decay` must be a number of at least 0 and below 1, got nan"),
        (lambda: LeCam(0.3, decay="0.9"), r"decay` must be a number of at least 0 and below 1, got '0.9'"),
        (lambda: Consistency(-1.0, Affine()), "`weight` must be a number of at least 0, got -1.0"),
        (lambda: WeightClipping(0), "`bound` must be a number above 0, got 0"),
        (lambda: WeightClipping(-0.01), "`bound` must be a number above 0, got -0.01"),
        (lambda: WeightClipping(math.nan), "`bound` must be a number above 0, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_class_attributes_of_the_public_regularizers():
    facts = {kind: (kind.lipschitz, kind.per_sample) for kind in public_regularizers()}
    assert facts == {
        R1: (False, True),
        R2: (False, True),
        FiniteDifferenceR1: (False, True),
        FiniteDifferenceR2: (False, True),
        GradientPenalty: (True, True),
        DRAGAN: (False, True),
        LeCam: (False, False),
        WeightClipping: (True, False),
        Consistency: (False, False),
        InstanceNoise: (False, False),
        DiffAugment: (False, False),
    }


def test_hooks_that_are_not_overridden_do_nothing():
    """No term is None and no augmentation is the sample itself."""
    x = torch.randn(4, 2)
    for regularizer in (Regularizer(), WeightClipping(0.1), InstanceNoise(0.1)):
        assert regularizer.penalty(Quadratic(), outputs_of(x, x)) is None
    for regularizer in (Regularizer(), WeightClipping(0.1), *(build() for build in TERMS.values()), LeCam(1.0)):
        assert regularizer.augment(x) is x
    critic = Linear((2,), 3.0)
    before = critic.w.detach().clone()
    for regularizer in (Regularizer(), InstanceNoise(0.1), LeCam(1.0), *(build() for build in TERMS.values())):
        regularizer.project(critic)
    assert torch.equal(before, critic.w.detach())


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_spectral_norm_is_recognized_only_if_every_layer_has_it(norm):
    whole = DCGANDiscriminator(1, 16, 4, norm, spectral_norm=True, projection_classes=3)
    assert is_spectrally_normalized(whole)
    assert not is_spectrally_normalized(DCGANDiscriminator(1, 16, 4, norm))
    assert not is_spectrally_normalized(nn.Sequential(whole, nn.Linear(1, 1)))
    weight_norm = nn.utils.parametrizations.weight_norm(nn.Linear(3, 1))
    assert not is_spectrally_normalized(nn.Sequential(weight_norm))
    assert not is_spectrally_normalized(nn.Flatten())


# One's own


class Own(Regularizer):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def penalty(self, discriminator, outputs):
        return self.found


class NeverBegun(Regularizer):
    def __init__(self):
        pass


@pytest.mark.parametrize("term, got", [(torch.ones(4), r"a tensor \[4\]"), (0.0, "a float")])
def test_a_penalty_that_is_no_scalar_is_refused(make_gan, term, got):
    gan = make_gan(regularizers={"mine": Own(term)})
    with pytest.raises(ValueError, match=f"regularizer.mine's penalty must return one number as a tensor, got {got}"):
        gan.discriminator_step(torch.randn(4, 2), None)


@pytest.mark.parametrize("kind", [NeverBegun, nn.Identity, dict])
def test_objects_that_are_no_regularizers_are_refused(make_gan, kind):
    with pytest.raises(ValueError, match=f"regularizer.mine must be a .*Regularizer whose .*, got a {kind.__name__}"):
        make_gan(regularizers={"mine": kind()})
