"""Checks of a single regularizer, on critics whose slope is known."""

import copy
import inspect
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, NotApplicable, Noticed, error_and_line
from ganlab.analysis.minimal import LinearCritic, derivative, minimal_gan
from ganlab.losses import NonSaturatingGAN
from ganlab.models.gan import StepOutputs
from ganlab.regularizers import InstanceNoise, Regularizer

IMAGE_SHAPE = (2, 8, 8)
LATE_STEP = 9_999  # D's updates before a check: schedules (LeCam's start) have started by then; a multiple of LAZY_EVERY
LAZY_EVERY = 3
SHAPES = ((1, 8, 8), (2, 8, 8), (3, 8, 8), (5,))  # gray, two and three channels, points
SLOPES = (0.3, 2.5)  # below and above the center of a penalty centered at 1
COEFFICIENTS = ("weight", "gamma", "lambda_", "lam", "lambda_gp", "coefficient")  # usual names of lambda


class QuadraticCritic(nn.Module):
    """D(x) = ||x||^2/2: its gradient at x is x, so that a penalty shows where it was evaluated. Records its inputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.inputs: list[Tensor] = []
        self.labels: list[Tensor | None] = []

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.inputs.append(x.detach().clone())
        self.labels.append(y)
        return self.scale / 2 * x.flatten(1).square().sum(1)


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Real and fake [n, *shape], at least 0.5 apart in every value; each is the larger one in about half of them."""
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(n, *shape, generator=random) * 0.7 + 0.4
    sign = torch.randint(2, (n, *shape), generator=random) * 2 - 1
    return real, real + sign * (0.5 + torch.rand(n, *shape, generator=random))


def linear_critic(shape: tuple[int, ...], slope: float) -> LinearCritic:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return LinearCritic(slope * weight / weight.norm())


def penalty_value(
    regularizer: Regularizer,
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    seed: int = 0,
    pack: int = 1,
    method: Callable | None = None,
) -> Tensor:
    """The penalty late in training, from a fixed random state; of a copy, since a regularizer may have a memory.

    `method`: called in place of the regularizer's own `penalty`.

    Raises:
        NotApplicable: there is no penalty.
        CheckFailed: it is not a scalar tensor.
    """
    outputs = StepOutputs(real, fake, None, None, critic(real), critic(fake), LATE_STEP, pack=pack)
    if isinstance(critic, QuadraticCritic):
        critic.inputs.clear()
    torch.default_generator.manual_seed(seed)
    regularizer = copy.deepcopy(regularizer)
    value = method(regularizer, critic, outputs) if method else regularizer.penalty(critic, outputs)
    if value is None or (isinstance(value, (int, float)) and value == 0):  # a sum over no weights
        raise NotApplicable("it adds no penalty to D's loss")
    if not isinstance(value, Tensor) or value.shape != ():
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise CheckFailed(f"returns {what} for {format_shape(real)}; a penalty is a scalar tensor, the mean over the samples")
    return value


def shipped_ancestor(regularizer: Regularizer) -> type[Regularizer]:
    """The regularizer of ganlab from which a user's one descends; its own class if it is ganlab's, Regularizer if none."""
    return next(base for base in type(regularizer).__mro__ if base.__module__.startswith("ganlab.regularizers"))


def as_ancestor(regularizer: Regularizer) -> Regularizer:
    """An instance of its ancestor with the same settings, in which no method is overridden."""
    clone = copy.deepcopy(regularizer)
    clone.__class__ = shipped_ancestor(regularizer)
    return clone


def is_derived(regularizer: Regularizer) -> bool:
    """Whether it descends from a regularizer of ganlab other than the base class."""
    return shipped_ancestor(regularizer) not in (Regularizer, type(regularizer))


def is_random(regularizer: Regularizer, critic: nn.Module, real: Tensor, fake: Tensor) -> bool:
    first, second = (penalty_value(regularizer, critic, real, fake, seed).item() for seed in (0, 1))
    return not math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def format_shape(batch: Tensor) -> str:
    return f"samples [{', '.join(map(str, batch.shape))}]"


def takes_every_shape(regularizer: Regularizer) -> list[tuple[int, ...]]:
    """A sample is a vector, whatever its number of channels."""
    # The shapes it takes: all of them, except points if it refuses these with a ValueError that its code raises.
    taken: list[tuple[int, ...]] = []
    for shape in SHAPES:
        batch = samples(shape, 8)
        try:
            value = penalty_value(regularizer, linear_critic(shape, 1.0), *batch).item()
        except (NotApplicable, CheckFailed):
            raise
        except Exception as error:
            if len(shape) == 1 and isinstance(error, ValueError) and "unpack" not in str(error):
                continue
            raise CheckFailed(f"fails on {format_shape(batch[0])} with {error_and_line(error)}") from error
        if not math.isfinite(value):
            raise CheckFailed(f"is {value} on {format_shape(batch[0])}")
        taken.append(shape)
    return taken


def matches_closed_form(regularizer: Regularizer) -> None:
    """R1 = gamma/2 E ||grad D||^2 (Mescheder et al. 2018, eq. 9), gradient penalty = lambda E (||grad D||_2 - 1)^2
    (Gulrajani et al. 2017, eq. 3): one norm per sample, over all of its values."""
    # On linear critics of every shape, against `closed_form_linear`; without one, the shapes against each other.
    shapes = takes_every_shape(regularizer)
    if regularizer.closed_form_linear is None:
        if is_derived(regularizer):
            _matches_its_ancestor(regularizer)
        _is_equal_in_every_shape(regularizer, shapes)
        if shipped_ancestor(regularizer) is Regularizer:
            raise Noticed(f"claims nothing that could be compared (closed_form_linear). {_describe(regularizer)}")
        return
    closed_forms = [form.closed_form_linear for form in _claimed_forms(regularizer)]
    for shape in shapes:
        for slope in SLOPES:
            critic, batch = linear_critic(shape, slope), samples(shape, 64)
            value, error = _mean_value(regularizer, critic, *batch)
            expected = [float(form(torch.tensor(slope))) for form in closed_forms]
            matching = [abs(value - x) <= 1e-3 * abs(x) + 1e-5 + error for x in expected]
            if not any(matching):
                owner = f"{shipped_ancestor(regularizer).__name__}'s" if is_derived(regularizer) else "its"
                raise CheckFailed(
                    f"is {value:.5g} on a linear critic of slope {slope:g} for {format_shape(batch[0])}, expected {owner} "
                    f"closed form, {expected[0]:.5g}"
                    + _likely_cause(closed_forms[0], critic.weight.detach(), value, expected[0], len(batch[0]))
                )
            closed_forms = [form for form, is_match in zip(closed_forms, matching) if is_match]
    _ignores_pack(regularizer)


def _claimed_forms(regularizer: Regularizer) -> list[Regularizer]:
    """Instances whose closed form the regularizer may have: its own if its class defines one, else its ancestor's."""
    owner = next(base for base in type(regularizer).__mro__ if "closed_form_linear" in vars(base))
    if not owner.__module__.startswith("ganlab."):
        return [regularizer]
    forms = [as_ancestor(regularizer)]
    if is_derived(regularizer) and hasattr(regularizer, "one_sided"):
        forms.append(as_ancestor(regularizer))
        forms[1].one_sided = not regularizer.one_sided
    return forms


def _ignores_pack(regularizer: Regularizer) -> None:
    """Lin et al. 2018 (PacGAN): a pack is one sample of D, whose penalty counts once."""
    critic, batch = linear_critic(IMAGE_SHAPE, 2.5), samples(IMAGE_SHAPE, 64)
    single, packed = (penalty_value(regularizer, critic, *batch, pack=pack).item() for pack in (1, 2))
    if not math.isclose(single, packed, rel_tol=1e-3, abs_tol=1e-6):
        raise CheckFailed(
            f"is {packed:.5g} where the samples are packs of 2 and {single:.5g} for the same values as single samples, expected "
            "equal values: the mean over packs must not be divided by the pack's size again"
        )


def _matches_its_ancestor(regularizer: Regularizer) -> None:
    """Several steps with its memory (LeCam's averages), against an instance of the ancestor with the same settings."""
    ancestor = shipped_ancestor(regularizer).__name__
    own, reference = copy.deepcopy(regularizer), as_ancestor(regularizer)
    for k, step in enumerate((0, 1, 2, LATE_STEP, LATE_STEP + 1)):
        critic, batch = linear_critic(IMAGE_SHAPE, (2.5, 0.3, 1.2)[k % 3]), samples(IMAGE_SHAPE, 64, seed=k)
        values, errors = zip(*(_value_in_step(r, critic, *batch, step) for r in (own, reference)))
        if None not in values and not abs(values[0] - values[1]) <= 1e-3 * abs(values[1]) + 1e-6 + sum(errors):
            states = [
                ", ".join(f"{name} {x.item():.4g}" for name, x in r.named_buffers() if x.ndim == 0) for r in (own, reference)
            ]
            raise CheckFailed(
                f"descends from {ancestor}, but in step {step} on a linear critic of slope {(2.5, 0.3, 1.2)[k % 3]} its penalty value is "
                f"{values[0]:.5g}, {ancestor}'s is {values[1]:.5g}: another sign or factor, another order or mean over samples"
                + (f"; it remembers {states[0]}, expected {states[1]}" if states[0] != states[1] else "")
            )


def _value_in_step(regularizer: Regularizer, critic: nn.Module, real: Tensor, fake: Tensor, step: int):
    """The penalty's mean over draws (or None) and 5 standard errors; its memory then has this step in it."""
    regularizer.on_step_start(step)
    draws = []
    for seed in range(12):
        torch.default_generator.manual_seed(seed)
        r = regularizer if seed == 11 else copy.deepcopy(regularizer)
        value = r.penalty(critic, StepOutputs(real, fake, None, None, critic(real), critic(fake), step))
        if value is None:
            return None, 0.0
        draws.append(float(value))
    draws = torch.tensor(draws)
    return draws.mean().item(), 5 * draws.std().item() / len(draws) ** 0.5


def _describe(regularizer: Regularizer) -> str:
    """The penalty on linear critics and on the Dirac-GAN, so that its author sees what it is."""
    slopes, batch = (0.5, 1.0, 2.0, 4.0), samples(IMAGE_SHAPE, 64)
    linear = [_mean_value(regularizer, linear_critic(IMAGE_SHAPE, slope), *batch)[0] for slope in slopes]
    text = f"On linear critics of slope {', '.join(f'{s:g}' for s in slopes)} it is {', '.join(f'{v:.4g}' for v in linear)}"
    try:  # D(x) = slope * x, real samples at 0, fakes at 1
        points = torch.zeros(64, 1), torch.ones(64, 1)
        dirac = [_mean_value(regularizer, LinearCritic(torch.tensor([slope])), *points)[0] for slope in slopes]
    except Exception:  # noqa: BLE001 - it may be for images only
        return text
    return f"{text}; on the Dirac-GAN, real at 0 and fakes at 1, {', '.join(f'{v:.4g}' for v in dirac)}"


def _mean_value(regularizer: Regularizer, critic: LinearCritic, real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The penalty, averaged over draws if it is random, and 5 standard errors."""
    if not is_random(regularizer, critic, real, fake):
        return penalty_value(regularizer, critic, real, fake).item(), 0.0
    real, fake = (x.repeat(8, *[1] * (x.ndim - 1)) for x in (real, fake))
    draws = torch.tensor([penalty_value(regularizer, critic, real, fake, seed).item() for seed in range(30)])
    return draws.mean().item(), 5 * draws.std().item() / len(draws) ** 0.5


def _likely_cause(closed_form: Callable, weight: Tensor, value: float, expected: float, n: int) -> str:
    causes = {"as if the norm ran over the whole batch, or the samples were summed": closed_form(weight.norm() * n**0.5)}
    if weight.ndim > 1:
        causes["as if the norm ran over dim 1 only, per pixel"] = closed_form(weight.norm(dim=0)).mean()
    for cause, consequence in causes.items():
        if math.isclose(value, float(consequence), rel_tol=1e-3):
            return f", {cause}"
    return f"; it is {value / expected:.4g} times that" if expected else ""


def _is_equal_in_every_shape(regularizer: Regularizer, shapes: list[tuple[int, ...]]) -> None:
    """A critic with five weights on five values, and zeros elsewhere, must give the same penalty in every shape."""
    weights, values = torch.tensor([0.9, -1.4, 0.5, 1.1, -0.7]), {}
    by_samples = [penalty_value(regularizer, QuadraticCritic(), *samples(IMAGE_SHAPE, 64, seed)) for seed in (0, 1)]
    if torch.equal(*by_samples):
        raise NotApplicable("the penalty depends on the critic's weights alone, not on the samples")
    for shape in shapes:
        positions = torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(4))[:5]
        weight = torch.zeros(math.prod(shape))
        weight[positions] = weights
        real, fake = (x.flatten(1) for x in samples(shape, 64))
        real[:, positions], fake[:, positions] = samples((5,), 64, seed=7)
        batch = real.view(-1, *shape), fake.view(-1, *shape)
        critic = LinearCritic(weight.view(shape))
        if is_random(regularizer, critic, *batch):
            raise Noticed(f"is random and claims nothing that could be compared (closed_form_linear). {_describe(regularizer)}")
        values[format_shape(batch[0])] = penalty_value(regularizer, critic, *batch).item()
    if not math.isclose(min(values.values()), max(values.values()), rel_tol=1e-3, abs_tol=1e-6):
        listed = ", ".join(f"{v:.5g} for {shape}" for shape, v in values.items())
        raise CheckFailed(
            f"depends on where the critic's weights are: five weights on five values, and zeros elsewhere, give {listed}, "
            "expected equal values; a norm must run over all of a sample's values"
        )


def is_mean_over_samples(regularizer: Regularizer) -> None:
    """Penalties are expectations over samples (Mescheder et al. 2018, eq. 9; Gulrajani et al. 2017, eq. 3)."""
    critic, (real, fake) = linear_critic(IMAGE_SHAPE, 2.5), samples(IMAGE_SHAPE, 8)
    if is_random(regularizer, critic, real, fake):
        raise NotApplicable("the penalty is random on a linear critic")
    if not is_random(regularizer, QuadraticCritic(), real, fake):
        order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
        values = [penalty_value(regularizer, QuadraticCritic(), *x).item() for x in ((real, fake), (real[order], fake[order]))]
        if not math.isclose(*values, rel_tol=1e-3, abs_tol=1e-6):
            raise CheckFailed(
                f"depends on the samples' order in the batch: {values[0]:.5g}, and {values[1]:.5g} reordered; take the mean over "
                "all samples"
            )
    once = penalty_value(regularizer, critic, real, fake).item()
    twice = penalty_value(regularizer, critic, torch.cat([real, real]), torch.cat([fake, fake])).item()
    if not math.isclose(once, twice, rel_tol=1e-3, abs_tol=1e-6):
        raise CheckFailed(
            f"is {once:.5g} on 8 samples and {twice:.5g} on the same 8 repeated twice, expected equal values; take one norm "
            "per sample, then the mean"
        )
    if is_random(regularizer, QuadraticCritic(), real, real) or list(regularizer.buffers()):
        return
    # real = fake, so that every point between them is known, and a critic whose slope differs from sample to sample
    batch = penalty_value(regularizer, QuadraticCritic(), real, real).item()
    single = sum(penalty_value(regularizer, QuadraticCritic(), x[None], x[None]).item() for x in real) / len(real)
    if not math.isclose(batch, single, rel_tol=1e-3, abs_tol=1e-5):
        message = f"is {batch:.5g} on a batch and {single:.5g} as the mean over its samples one by one"
        if is_derived(regularizer):
            raise CheckFailed(f"{message}, expected equal values; penalize each sample's norm, then take the mean")
        raise Noticed(f"{message}: it is no mean over samples")


def interpolates_per_sample(regularizer: Regularizer) -> None:
    """Gulrajani et al. 2017, alg. 1: one epsilon ~ U[0, 1] for each sample."""
    real, fake = samples(IMAGE_SHAPE, 512)
    critic = QuadraticCritic()
    penalty_value(regularizer, critic, real, fake)
    epsilons = [epsilon for x in critic.inputs if (epsilon := _share_of_real(real, fake, x)) is not None]
    if not epsilons:
        raise NotApplicable("it does not evaluate D between real and fake samples")
    for epsilon in epsilons:
        share = epsilon.mean(1)
        if not (epsilon.std(1) < 1e-2).all():
            raise CheckFailed(
                f"mixes each value of a sample in its own proportion (the standard deviation of epsilon within a sample "
                f"is {epsilon.std(1).mean():.2g}, expected 0); draw epsilon as [n, 1, 1, 1]"
            )
        if share.std() < 1e-3:
            raise CheckFailed(
                f"uses one epsilon, {share[0]:.3g}, for the whole batch of {len(real)} samples; draw epsilon as [n, 1, 1, 1]"
            )
        uniform = (torch.arange(len(real)) + 0.5) / len(real)
        if (share.sort().values - uniform).abs().max() > 0.13:  # Kolmogorov-Smirnov: by chance once in 10^7 times
            raise CheckFailed(
                f"draws epsilon from {share.min():.2g} … {share.max():.2g} with mean {share.mean():.2g}, not from U[0, 1]"
            )


def evaluates_where_its_ancestor_does(regularizer: Regularizer) -> None:
    """R1 is evaluated at real samples, R2 at fakes (Mescheder et al. 2018, eq. 9-10), the gradient penalty in between
    (Gulrajani et al. 2017)."""
    # A subclass of a regularizer of ganlab must evaluate D at the same kind of points.
    kind, ancestor = type(regularizer), shipped_ancestor(regularizer)
    if ancestor in (Regularizer, kind):
        raise NotApplicable("it is ganlab's own" if ancestor is kind else "it descends from no regularizer of ganlab")
    real, fake = samples(IMAGE_SHAPE, 64)
    points = []
    for method in (kind.penalty, ancestor.penalty):
        critic = QuadraticCritic()
        penalty_value(regularizer, critic, real, fake, method=method)
        points.append(" and ".join(sorted({_kind_of_point(real, fake, x) for x in critic.inputs})) or "nowhere")
    if points[0] != points[1]:
        raise CheckFailed(
            f"descends from {ancestor.__name__}, but evaluates D {points[0]}, where {ancestor.__name__} does so {points[1]}"
        )


def _kind_of_point(real: Tensor, fake: Tensor, x: Tensor) -> str:
    for kind, samples_ in (("at real samples", real), ("at fakes", fake)):
        if x.shape == samples_.shape and torch.allclose(x, samples_, atol=1e-4):
            return kind
    return "elsewhere" if _share_of_real(real, fake, x) is None else "between real and fake"


def _share_of_real(real: Tensor, fake: Tensor, x: Tensor) -> Tensor | None:
    """The epsilon [n, values] with x = epsilon * real + (1 - epsilon) * fake, if x lies between real and fake."""
    if x.shape != real.shape:
        return None
    epsilon = ((x - fake) / (real - fake)).flatten(1)
    is_between = ((epsilon > -1e-3) & (epsilon < 1 + 1e-3)).all()
    is_collage = ((epsilon.abs() < 1e-3) | ((epsilon - 1).abs() < 1e-3)).float().mean() > 0.5  # each value from one of the two
    return epsilon if is_between and not is_collage else None


def trains_the_critic(regularizer: Regularizer) -> None:
    """Gulrajani et al. 2017, alg. 1: D's step follows the penalty's gradient, too: a gradient of a gradient."""
    # The penalty's derivative by the critic's slope: autograd's, against a difference of two values.
    slope, batch = 2.5, samples(IMAGE_SHAPE, 64)
    critic = linear_critic(IMAGE_SHAPE, slope)
    penalty = penalty_value(regularizer, critic, *batch)
    higher, lower = (penalty_value(regularizer, linear_critic(IMAGE_SHAPE, x), *batch).item() for x in (2.55, 2.45))
    expected = (higher - lower) / 0.1
    found = float((derivative(penalty, critic.weight)[0] * critic.weight.detach()).sum() / slope)
    if abs(found - expected) > 0.02 * abs(expected) + 1e-4 * (1 + abs(higher)):
        reason = (
            "the gradient by D's weights is cut; autograd.grad needs create_graph=True" if found == 0 else "a part is detached"
        )
        message = (
            f"has by autograd the derivative {found:.4g} by the critic's slope at 2.5, expected {expected:.4g} from "
            f"its values; {reason}"
        )
        raise (Noticed if found * expected > 0 else CheckFailed)(message)


def is_finite_on_a_constant_critic(regularizer: Regularizer) -> None:
    """The norm has no derivative at 0; where D is constant, a bare square root makes its weights NaN."""
    critic = LinearCritic(torch.zeros(IMAGE_SHAPE))
    penalty = penalty_value(regularizer, critic, *samples(IMAGE_SHAPE, 8))
    if not penalty.isfinite():
        raise CheckFailed(f"is {penalty.item()} on a critic of slope 0")
    (gradient,) = derivative(penalty, critic.weight)
    if not gradient.isfinite().all():
        raise CheckFailed(
            f"has the gradient {gradient.flatten()[0].item()} by the weights of a critic of slope 0; "
            "add 1e-12 under the square root"
        )


def is_proportional_to_lambda(regularizer: Regularizer) -> None:
    """The penalty is lambda times an expectation: twice lambda is twice the penalty."""
    critic, batch = linear_critic(IMAGE_SHAPE, 2.5), samples(IMAGE_SHAPE, 64)
    if penalty_value(regularizer, critic, *batch) == 0:
        raise NotApplicable("the penalty is 0 on linear critics")
    coefficient = next((c for c in COEFFICIENTS if isinstance(getattr(regularizer, c, None), (int, float))), None)
    if coefficient is None:
        raise NotApplicable(f"it has no number called {', '.join(COEFFICIENTS[:-1])} or {COEFFICIENTS[-1]}")
    names = list(inspect.signature(type(regularizer)).parameters)
    if coefficient not in names or not all(hasattr(regularizer, name) for name in names):
        raise NotApplicable("its attributes do not have the names of its constructor's arguments")
    settings = {name: getattr(regularizer, name) for name in names}
    changed = (type(regularizer)(**settings | {coefficient: x}) for x in (3.0, 6.0))
    once, twice = (penalty_value(regularizer, critic, *batch).item() for regularizer in changed)
    ratio = twice / once
    if not math.isclose(ratio, 2, rel_tol=1e-3):
        cause = {1.0: "lambda is ignored", 4.0: "lambda counts twice"}.get(round(ratio, 2), "it must be proportional to lambda")
        raise CheckFailed(
            f"is {once:.5g} for {coefficient} = 3 and {twice:.5g} for {coefficient} = 6, {ratio:.4g} times that, "
            f"expected 2 times; {cause}"
        )


def counts_every_times_if_lazy(regularizer: Regularizer) -> None:
    """Karras et al. 2020 (StyleGAN2): a penalty computed on every k-th step counts k times. (Its gradient's mean over steps
    is then the same; Adam's steps are not.)"""
    # The penalty's mean over `every` steps of D, for every = 1 and 3; a copy at each step, since it may have a memory.
    (real, fake), means = samples(IMAGE_SHAPE, 12), []
    for every in (1, LAZY_EVERY):
        lazy, total = copy.deepcopy(regularizer), 0.0
        lazy.every = every
        for step in range(LATE_STEP, LATE_STEP + every):
            critic = linear_critic(IMAGE_SHAPE, 0.8)
            gan = minimal_gan(partial(NonSaturatingGAN, regularizers={"it": lazy}), discriminator=critic)
            outputs = StepOutputs(real, fake, None, None, critic(real), critic(fake), step)
            torch.default_generator.manual_seed(0)
            total += float(sum(gan.penalties(outputs).values()))
        means.append(total / every)
    if abs(means[0]) + abs(means[1]) < 1e-6:
        raise NotApplicable("it adds no penalty to D's loss, or one of 0")
    if abs(means[0] - means[1]) > 1e-3 * abs(means[0]) + 1e-5:
        ratio = means[1] / means[0] if means[0] else float("inf")
        raise CheckFailed(
            f"with every = {LAZY_EVERY} its mean over {LAZY_EVERY} steps is {means[1]:.5g}, {ratio:.3g} times the "
            f"{means[0]:.5g} of every = 1, expected equal values; leave the factor `every` to GAN.penalties"
        )


def augments_differentiably(regularizer: Regularizer) -> None:
    """Zhao et al. 2020: what D sees is augmented differentiably for both players; else G learns nothing."""
    if type(regularizer).augment is Regularizer.augment:
        raise NotApplicable("it does not augment")
    x = samples(IMAGE_SHAPE, 16)[0].requires_grad_()
    augmented = _augment(regularizer, x)
    if augmented.shape != x.shape:
        raise CheckFailed(f"turns {format_shape(x)} into {format_shape(augmented)}, expected the same shape")
    (gradient,) = derivative(augmented.square().sum(), x)
    if not gradient.any():
        raise CheckFailed("gives G no gradient: something is detached")
    if not gradient.isfinite().all():
        raise CheckFailed(f"gives G the gradient {gradient.flatten()[0].item()}, expected a finite one")


def _augment(regularizer: Regularizer, x: Tensor, seed: int = 0) -> Tensor:
    torch.default_generator.manual_seed(seed)
    return regularizer.augment(x)


def augments_both_sides_alike(regularizer: Regularizer) -> None:
    """Zhao et al. 2020; Sønderby et al. 2017: real samples and fakes are transformed by the same distribution, each sample
    by a draw of its own; otherwise D learns to recognize the transform."""
    if type(regularizer).augment is Regularizer.augment:
        raise NotApplicable("it does not augment")
    regularizer = copy.deepcopy(regularizer)
    x = samples(IMAGE_SHAPE, 16)[0]
    before = x.clone()
    real = _augment(regularizer, x)
    if not torch.equal(x, before):
        raise CheckFailed("changes its input in place: the batch, which may be the data set itself, keeps the change")
    after = torch.default_generator.get_state()
    other = _augment(regularizer, x, seed=1)
    if torch.equal(after, torch.default_generator.get_state()):
        if not torch.equal(torch.default_generator.manual_seed(1).get_state(), after):
            raise CheckFailed("sets torch's random state (a seed): noise and latents are the same in every step")
    fake = _augment(regularizer, x.clone().requires_grad_())
    if not torch.allclose(real, fake):
        raise CheckFailed(
            f"treats real samples and fakes differently: the same values are moved by {(real - x).std():.4g} (standard "
            f"deviation), and by {(fake - x).std():.4g} where they have a gradient"
        )
    _keeps_samples_apart(regularizer, x, is_random=not torch.equal(real, other))
    if is_derived(regularizer) and shipped_ancestor(regularizer).augment is InstanceNoise.augment:
        _is_noise_of_its_ancestor(regularizer)


def _keeps_samples_apart(regularizer: Regularizer, x: Tensor, is_random: bool) -> None:
    x = x.clone().requires_grad_()
    augmented = _augment(regularizer, x)
    for i in range(4):
        by_rows = derivative(augmented[i].square().sum(), x)[0].flatten(1).abs().sum(1)
        if not by_rows[i] and by_rows.any():
            raise CheckFailed(
                f"changes the order of samples: no. {i} becomes no. {int(by_rows.argmax())}, whose label and place in the batch it "
                "does not get; a permutation of the batch gives D the wrong labels"
            )
        if by_rows.count_nonzero() > 1:
            raise Noticed(f"mixes the samples of a batch: sample no. {i} depends on others")
    equal = x.detach()[:1].expand_as(x)
    moved = _augment(regularizer, equal.clone()) - equal
    if is_random and torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-6):
        message = "draws once per batch: all samples get the same noise or transform, expected one draw per sample"
        raise (CheckFailed if is_derived(regularizer) else Noticed)(message)


def _is_noise_of_its_ancestor(regularizer: Regularizer) -> None:
    x, ancestor = torch.zeros(64, *IMAGE_SHAPE), as_ancestor(regularizer)
    fade = getattr(regularizer, "fade", None) or 100
    for step in (0, fade // 4, fade // 2, fade, 4 * fade):
        sizes = []
        for noise in (regularizer, ancestor):
            noise.on_step_start(step)
            sizes.append(_augment(noise, x).square().mean().sqrt().item())
        if abs(sizes[0] - sizes[1]) > 0.05 * sizes[1] + 1e-6:
            raise CheckFailed(
                f"adds noise of size {sizes[0]:.4g} in step {step}, expected {sizes[1]:.4g} as {type(ancestor).__name__} with "
                "the same settings: another size, or another schedule (fade)"
            )


class _NestedCritic(nn.Module):
    """An MLP within a module, with weights of a given size."""

    def __init__(self, size: float):
        super().__init__()
        random = torch.Generator().manual_seed(6)
        layers = nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)
        self.body = nn.Sequential(nn.Sequential(*layers))
        for p in self.parameters():
            p.data = size * torch.randn(p.shape, generator=random)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(x).squeeze(1)


def bounds_the_slope(regularizer: Regularizer) -> None:
    """Arjovsky et al. 2017, alg. 1: clip every weight after each step. Gulrajani et al. 2017, eq. 3: a steep critic costs more."""
    if type(regularizer).project is Regularizer.project:
        if not regularizer.lipschitz:
            raise NotApplicable("it claims no bound on the critic's slope (lipschitz), and does not project")
        batch = samples(IMAGE_SHAPE, 64)
        flat, steep = (penalty_value(regularizer, linear_critic(IMAGE_SHAPE, slope), *batch).item() for slope in (1.0, 100.0))
        if not steep > flat + 1e-6:
            raise CheckFailed(
                f"claims to bound the critic's slope (lipschitz = True), but costs {flat:.4g} at a slope of 1 and {steep:.4g} at 100; "
                "it must penalize slopes above its bound"
            )
        return
    critics = _NestedCritic(10.0), _NestedCritic(1e6)
    for critic in critics:
        regularizer.project(critic)
    if is_derived(regularizer):
        critic = _NestedCritic(10.0)
        as_ancestor(regularizer).project(critic)
        for (name, found), expected in zip(critics[0].named_parameters(), critic.parameters()):
            if not torch.allclose(found, expected):
                raise CheckFailed(
                    f"projects {name} onto {found.min():.4g} … {found.max():.4g}, expected {expected.min():.4g} … "
                    f"{expected.max():.4g} as {shipped_ancestor(regularizer).__name__} with the same bound"
                )
    x = torch.tensor([[-1.0, 2.0], [3.0, 0.5]])
    moderate, large = ((critic(x)[0] - critic(x)[1]).abs().item() for critic in critics)
    if regularizer.lipschitz and large > 100 * moderate + 1:
        raise CheckFailed(
            f"claims to bound the critic's slope (lipschitz = True), but its projection leaves the weights of nested layers "
            f"unbounded: D's outputs differ by {large:.3g} with weights of size 1e6; clip all of discriminator.parameters()"
        )


def passes_labels(regularizer: Regularizer) -> None:
    """Mirza & Osindero 2014, eq. 2: D(x, y) at a real sample has its label, at a fake the fake's, in between one of the two."""
    real, fake = samples(IMAGE_SHAPE, 12)
    critic, labels = QuadraticCritic(), {"real": torch.arange(12) % 3, "fake": (torch.arange(12) + 1) % 3}
    outputs = StepOutputs(real, fake, labels["real"], labels["fake"], critic(real), critic(fake), LATE_STEP)
    critic.inputs.clear()
    critic.labels.clear()
    torch.default_generator.manual_seed(0)
    copy.deepcopy(regularizer).penalty(critic, outputs)
    for x, y in zip(critic.inputs, critic.labels):
        kind = _kind_of_point(real, fake, x)
        if kind not in ("at real samples", "at fakes", "between real and fake"):
            continue
        right = [side for side in labels if side in kind]
        if y is None or not any(torch.equal(y, labels[side]) for side in right):
            given = "no labels" if y is None else f"the labels {y.tolist()}"
            raise CheckFailed(
                f"gives D {given} {kind}, expected {' or '.join(f'{side}_y {labels[side].tolist()}' for side in right)}"
            )


def state_is_saved(regularizer: Regularizer) -> None:
    """A checkpoint holds what a penalty remembers (its buffers), so that a resumed run goes on as it was."""
    trained, fresh = copy.deepcopy(regularizer), copy.deepcopy(regularizer)
    critic = linear_critic(IMAGE_SHAPE, 2.5)
    for step in range(3):
        _value_in_step(trained, critic, *samples(IMAGE_SHAPE, 16, seed=step), step)
    fresh.load_state_dict(trained.state_dict())
    (resumed, _), (expected, _) = (_value_in_step(r, critic, *samples(IMAGE_SHAPE, 16), LATE_STEP) for r in (fresh, trained))
    if resumed is not None and expected is not None and not math.isclose(resumed, expected, rel_tol=1e-6, abs_tol=1e-9):
        raise CheckFailed(
            f"remembers something that checkpoints lose: {expected:.6g} in a run, {resumed:.6g} after a resume; keep its state in "
            "buffers (register_buffer), so that it is saved"
        )


QUESTIONS: dict[str, Callable[[Regularizer], object]] = {
    "augmentation lets gradients through": augments_differentiably,
    "augmentation treats both sides alike": augments_both_sides_alike,
    "penalty takes every shape": takes_every_shape,
    "penalty on a linear critic": matches_closed_form,
    "penalty is a mean over samples": is_mean_over_samples,
    "penalty interpolates per sample": interpolates_per_sample,
    "penalty is evaluated where its name says": evaluates_where_its_ancestor_does,
    "penalty trains the critic": trains_the_critic,
    "penalty is finite on a constant critic": is_finite_on_a_constant_critic,
    "penalty passes labels": passes_labels,
    "critic's slope is bounded": bounds_the_slope,
    "state is saved with checkpoints": state_is_saved,
    "lambda scales the penalty": is_proportional_to_lambda,
    "lazy penalty keeps its mean": counts_every_times_if_lazy,
}
