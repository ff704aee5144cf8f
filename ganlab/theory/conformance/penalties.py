"""Questions to a regularizer by itself: critics of known slope, and critics that note where they are asked."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.gan import Play
from ganlab.losses import NonSaturatingGAN
from ganlab.regularizers import Regularizer
from ganlab.theory.bare import LinearCritic, bare
from ganlab.theory.conformance.check import Check, NotApplicable, Wrong, examine, in_words

SHAPES = ((1, 8, 8), (2, 8, 8), (3, 8, 8), (5,))  # grey, two and three channels, flat
IMAGES = (2, 8, 8)
SLOPES = (0.3, 2.5)  # on both sides of a penalty centred at 1
STRENGTHS = ("weight", "gamma", "lambda_", "lam", "lambda_gp", "coefficient")  # what people call lambda
LATE = 10_000  # D's updates before the play that is asked: some terms only start after a while

NO_TERM = "it adds no term to D's loss"

Term = Callable[[nn.Module, Play], Tensor | None]


def penalty_checks(regularizer: Regularizer, name: str) -> list[Check]:
    """All questions to one regularizer; those to a term are not asked of one that has none."""
    where = f"regularizers.{name} ({type(regularizer).__name__})"
    gate = examine(
        "penalty takes every shape",
        where,
        "The definitions hold for any number of channels, and for points: a sample is a vector.",
        lambda: takes_every_shape(regularizer.term),
    )
    questions = {
        "penalty on a linear critic": (
            (
                "R1 = gamma/2 E ||grad D||^2 (Mescheder et al. 2018, eq. 9), gradient penalty = lambda E (||grad D||_2 - 1)^2 "
                "(Gulrajani et al. 2017, eq. 3): one norm per sample, over all of its values."
            ),
            on_linear_critics,
        ),
        "penalty is a mean over samples": (
            "Penalties are expectations: neither the batch size scales them, nor is a norm taken of a mean.",
            mean_over_samples,
        ),
        "penalty interpolates per sample": (
            "Gulrajani et al. 2017, alg. 1: one epsilon ~ U[0, 1] for each sample, the same for all of its values.",
            interpolates_per_sample,
        ),
        "penalty asks where its name says": (
            "R1 looks at real samples, R2 at fakes (Mescheder et al. 2018, eq. 9-10), the gradient penalty in between.",
            asks_where_its_ancestor_does,
        ),
        "penalty trains the critic": (
            (
                "The penalty's gradient by D's weights is part of D's step (Gulrajani et al. 2017, alg. 1): autograd.grad "
                "needs create_graph=True."
            ),
            trains_the_critic,
        ),
        "penalty is finite on a dead critic": (
            "The norm has no derivative at 0; where D is flat, a square root without care makes its weights NaN.",
            finite_on_a_dead_critic,
        ),
        "lambda scales the penalty": (
            "The penalty is lambda times an expectation: twice lambda is twice the penalty.",
            lambda_scales_it,
        ),
    }
    checks = [gate]
    for question, (paper, ask) in questions.items():
        if gate.ok is False:
            checks.append(Check(question, None, where, f"not asked: {gate.name}", paper))
        else:
            checks.append(examine(question, where, paper, partial(ask, copy.deepcopy(regularizer))))
    checks.append(
        examine(
            "augmentation lets gradients through",
            where,
            "Zhao et al. 2020: what D sees is augmented differentiably in both turns, or G learns nothing.",
            lambda: lets_gradients_through(regularizer),
        )
    )
    return checks


class Fixed(nn.Module):
    """A generator that gives the samples that it was told to."""

    latent_dim = 1

    def __init__(self, samples: Tensor):
        super().__init__()
        self.register_buffer("samples", samples)

    def forward(self, z, y=None):
        return self.samples


class Quadratic(nn.Module):
    """D(x) = ||x||^2/2: its gradient at x is x, so that a penalty tells where it was taken; notes where it is asked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.asked: list[Tensor] = []

    def forward(self, x, y=None):
        self.asked.append(x.detach().clone())
        return self.scale / 2 * x.flatten(1).square().sum(1)


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Real and fake [n, *shape]; in every sample some values are larger in the real one and some in the fake one."""
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(n, *shape, generator=random) * 0.7 + 0.4
    sign = torch.randint(2, (n, *shape), generator=random) * 2 - 1
    return real, real + sign * (0.5 + torch.rand(n, *shape, generator=random))


def unit(shape: tuple[int, ...]) -> Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return weight / weight.norm()


def linear(shape: tuple[int, ...], slope: float) -> LinearCritic:
    return LinearCritic(slope * unit(shape))


def value(term: Term, critic: nn.Module, real: Tensor, fake: Tensor, seed: int = 0) -> Tensor | None:
    """The term as a late turn of D would have it, from a fixed random state. A copy is asked: a term may remember."""
    gan = bare(NonSaturatingGAN, Fixed(fake), critic)
    gan.d_updates = LATE
    play = gan.play(real, None, with_real=True, grad_to_generator=False)
    if isinstance(critic, Quadratic):
        critic.asked.clear()
    torch.default_generator.manual_seed(seed)
    owner = copy.deepcopy(term.__self__)
    found = term.__func__(owner, critic, play)
    if found is None:
        return None
    if not isinstance(found, Tensor) or found.shape != ():
        raise Wrong(
            f"returns {f'a tensor of shape {list(found.shape)}' if isinstance(found, Tensor) else repr(found)} for samples "
            f"{list(real.shape)}; a term is a scalar tensor, the mean over the samples"
        )
    return found


def number(*args, **settings) -> float:
    found = value(*args, **settings)
    if found is None:
        raise NotApplicable(NO_TERM)
    return found.item()


def is_random(term: Term, critic: nn.Module, real: Tensor, fake: Tensor) -> bool:
    first, second = (number(term, critic, real, fake, seed=seed) for seed in (0, 1))
    return not math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def takes_every_shape(term: Term) -> list[tuple[int, ...]]:
    """The shapes it takes: all, but points where it refuses them in words. Images only is a rule; a crash is none."""
    taken = []
    for shape in SHAPES:
        try:
            found = number(term, linear(shape, 1.0), *samples(shape, 8))
        except (NotApplicable, Wrong):
            raise
        except Exception as error:
            if len(shape) == 1 and isinstance(error, ValueError) and "unpack" not in str(error):
                continue
            raise Wrong(f"fails on {_named(shape)} with {in_words(error)}") from error
        if not math.isfinite(found):
            raise Wrong(f"is {found} on {_named(shape)}")
        taken.append(shape)
    return taken


def _named(shape: tuple[int, ...]) -> str:
    return f"samples [n, {', '.join(map(str, shape))}]"


def on_linear_critics(regularizer: Regularizer) -> None:
    declared = regularizer.on_linear is not None and regularizer.on_linear(torch.tensor(1.0)) is not None
    shapes = takes_every_shape(regularizer.term)
    if not declared:
        same_wherever_the_slope_sits(regularizer.term, shapes)
        return
    for shape in shapes:
        for slope in SLOPES:
            critic, batch = linear(shape, slope), samples(shape, 64)
            expected = float(regularizer.on_linear(torch.tensor(slope)))
            found, error = mean_value(regularizer.term, critic, *batch)
            if not abs(found - expected) <= 1e-3 * abs(expected) + 1e-5 + error:
                raise Wrong(
                    f"is {found:.5g} on a linear critic of slope {slope:g} for {_named(shape)}, and its "
                    f"closed form is {expected:.5g}"
                    + _suspicion(regularizer.on_linear, critic.weight.detach(), found, expected, len(batch[0]))
                )


def mean_value(term: Term, critic: nn.Module, real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The term, averaged over draws if it is random, and 5 standard errors."""
    if not is_random(term, critic, real, fake):
        return number(term, critic, real, fake), 0.0
    real, fake = (x.repeat(8, *[1] * (x.ndim - 1)) for x in (real, fake))
    draws = torch.tensor([number(term, critic, real, fake, seed=seed) for seed in range(30)])
    return draws.mean().item(), 5 * draws.std().item() / len(draws) ** 0.5


def _suspicion(on_linear, weight: Tensor, found: float, expected: float, n: int) -> str:
    suspects = {
        "as if the norm ran over the whole batch, or the samples were summed": float(on_linear(weight.norm() * n**0.5))
    }
    if weight.ndim > 1:
        suspects["as if the norm ran over dim 1 only, per pixel"] = float(on_linear(weight.norm(dim=0)).mean())
    for what, suspect in suspects.items():
        if math.isclose(found, suspect, rel_tol=1e-3):
            return f"; {what}"
    return f"; it is {found / expected:.4g} times that" if expected else ""


def same_wherever_the_slope_sits(term: Term, shapes: list[tuple[int, ...]]) -> None:
    """Without a closed form: five weights, five values, and zeros elsewhere must give the same in every shape."""
    weights, found = torch.tensor([0.9, -1.4, 0.5, 1.1, -0.7]), {}
    for shape in shapes:
        random = torch.Generator().manual_seed(4)
        real, fake = samples(shape, 64)
        places = torch.randperm(math.prod(shape), generator=random)[:5]
        weight = torch.zeros(math.prod(shape))
        weight[places] = weights
        for x, values in zip((real, fake), samples((5,), 64, seed=7)):
            x.flatten(1)[:, places] = values
        critic = LinearCritic(weight.view(shape))
        if is_random(term, critic, real, fake):
            raise NotApplicable("the term is random and declares no closed form (on_linear)")
        found[shape] = number(term, critic, real, fake)
    first = next(iter(found.values()))
    if not all(math.isclose(v, first, rel_tol=1e-3, abs_tol=1e-6) for v in found.values()):
        listed = ", ".join(f"{v:.5g} for {_named(shape)}" for shape, v in found.items())
        raise Wrong(
            f"depends on where the critic's weights sit: the same five weights and values, zeros elsewhere, give {listed}; "
            "a norm must run over all of a sample's values"
        )


def mean_over_samples(regularizer: Regularizer) -> None:
    critic, (real, fake) = linear(IMAGES, 2.5), samples(IMAGES, 8)
    if is_random(regularizer.term, critic, real, fake):
        raise NotApplicable("the term is random on a linear critic")
    once = number(regularizer.term, critic, real, fake)
    twice = number(regularizer.term, critic, torch.cat([real, real]), torch.cat([fake, fake]))
    if not math.isclose(once, twice, rel_tol=1e-3, abs_tol=1e-6):
        raise Wrong(
            f"is {once:.5g} on 8 samples and {twice:.5g} on the same 8 twice over; take one norm per sample, then the mean"
        )
    if regularizer.on_linear is None or is_random(regularizer.term, Quadratic(), real, real):
        return
    # real = fake, so that what lies between them is known, and a critic whose slope differs from sample to sample
    whole = number(regularizer.term, Quadratic(), real, real)
    parts = [number(regularizer.term, Quadratic(), x[None], x[None]) for x in real]
    if not math.isclose(whole, sum(parts) / len(parts), rel_tol=1e-3, abs_tol=1e-5):
        raise Wrong(
            f"is {whole:.5g} on a batch, and {sum(parts) / len(parts):.5g} on average over its samples one by one; "
            "penalise each sample's norm, then take the mean"
        )


def interpolates_per_sample(regularizer: Regularizer) -> None:
    shape, n = IMAGES, 512
    real, fake = samples(shape, n)
    critic = Quadratic()
    number(regularizer.term, critic, real, fake)
    between = [u for u in map(partial(_shares, real, fake), critic.asked) if u is not None]
    if not between:
        raise NotApplicable("it does not ask D between real and fake samples")
    for u in between:
        share = u.mean(1)
        if not (u.std(1) < 1e-2).all():
            raise Wrong(
                f"mixes each value of a sample in its own proportion (epsilon spreads by {u.std(1).mean():.2g} within a "
                f"sample); draw epsilon as [n{', 1' * len(shape)}]"
            )
        if share.std() < 1e-3:
            raise Wrong(
                f"uses one epsilon for the whole batch ({share[0]:.3g} for all {n} samples); "
                f"draw epsilon as [n{', 1' * len(shape)}]"
            )
        distance = (share.sort().values - (torch.arange(n) + 0.5) / n).abs().max()
        if distance > 0.13:  # Kolmogorov-Smirnov: a right one exceeds this once in 10^7 times
            raise Wrong(
                f"draws epsilon from {share.min():.2g} … {share.max():.2g} with mean {share.mean():.2g}, not from U[0, 1]"
            )


def _shares(real: Tensor, fake: Tensor, asked: Tensor) -> Tensor | None:
    """Shares [n, values] of the real sample, if D was asked strictly between real and fake."""
    if asked.shape != real.shape:
        return None
    u = ((asked - fake) / (real - fake)).flatten(1)
    inside = ((u > -1e-3) & (u < 1 + 1e-3)).all()
    at_an_end = ((u.abs() < 1e-3) | ((u - 1).abs() < 1e-3)).float().mean() > 0.5  # real, fake, or a collage of both
    return u if inside and not at_an_end else None


def asks_where_its_ancestor_does(regularizer: Regularizer) -> None:
    kind = type(regularizer)
    ancestor = next(k for k in kind.__mro__ if k.__module__.startswith("ganlab.regularizers"))
    if ancestor in (kind, Regularizer):
        raise NotApplicable(
            "it descends from no regularizer of ganlab" if ancestor is Regularizer else "it is ganlab's own"
        )
    real, fake = samples((2, 4, 4), 64)
    critic = Quadratic()
    number(regularizer.term, critic, real, fake)
    found = {_place(real, fake, x) for x in critic.asked}
    number(ancestor.term.__get__(regularizer, kind), critic, real, fake)
    expected = {_place(real, fake, x) for x in critic.asked}
    if found != expected:
        raise Wrong(
            f"descends from {ancestor.__name__}, but asks D {_listed(found)} where {ancestor.__name__} asks it {_listed(expected)}"
        )


def _place(real: Tensor, fake: Tensor, asked: Tensor) -> str:
    if asked.shape != real.shape:
        return "on other shapes"
    if torch.allclose(asked, real, atol=1e-4):
        return "at real samples"
    if torch.allclose(asked, fake, atol=1e-4):
        return "at fakes"
    return "between real and fake" if _shares(real, fake, asked) is not None else "elsewhere"


def _listed(places: set[str]) -> str:
    return " and ".join(sorted(places)) or "nowhere"


def trains_the_critic(regularizer: Regularizer) -> None:
    """The term's derivative along the critic's weights, by autograd and by making the critic steeper and flatter."""
    slope, step = 2.5, 0.05
    critic, batch = linear(IMAGES, slope), samples(IMAGES, 64)
    term = value(regularizer.term, critic, *batch)
    if term is None:
        raise NotApplicable(NO_TERM)
    ends = [number(regularizer.term, linear(IMAGES, slope + s), *batch) for s in (step, -step)]
    expected = (ends[0] - ends[1]) / (2 * step)
    found = 0.0
    if term.requires_grad:
        (by,) = torch.autograd.grad(term, critic.weight, allow_unused=True)
        found = 0.0 if by is None else float((by * critic.weight.detach()).sum() / slope)
    if abs(found - expected) > 0.02 * abs(expected) + 1e-4 * (1 + abs(ends[0])):
        raise Wrong(
            f"has the derivative {found:.4g} along the critic's slope at 2.5, and its value changes there by "
            f"{expected:.4g}; "
            + ("create_graph=True is missing, or a part is detached" if found == 0 else "a part is detached")
        )


def finite_on_a_dead_critic(regularizer: Regularizer) -> None:
    critic = LinearCritic(torch.zeros(IMAGES))
    term = value(regularizer.term, critic, *samples(IMAGES, 8))
    if term is None:
        raise NotApplicable(NO_TERM)
    if not term.isfinite():
        raise Wrong(f"is {term.item()} on a critic of slope 0")
    if term.requires_grad:
        (by,) = torch.autograd.grad(term, critic.weight, allow_unused=True)
        if by is not None and not by.isfinite().all():
            raise Wrong(
                f"has the gradient {by.flatten()[0].item()} by the weights of a critic of slope 0; "
                "add 1e-12 under the square root"
            )


def lambda_scales_it(regularizer: Regularizer) -> None:
    critic, batch = linear(IMAGES, 2.5), samples(IMAGES, 64)
    if not number(regularizer.term, critic, *batch):
        raise NotApplicable("the term is 0 on the critics that are asked")
    strength = next((s for s in STRENGTHS if isinstance(getattr(regularizer, s, None), (int, float))), None)
    if strength is None:
        raise NotApplicable(f"it has no number called {', '.join(STRENGTHS[:-1])} or {STRENGTHS[-1]}")
    names = list(inspect.signature(type(regularizer)).parameters)
    if strength not in names or not all(hasattr(regularizer, name) for name in names):
        raise NotApplicable("it does not keep its settings under the names that its constructor gives them")
    settings = {name: getattr(regularizer, name) for name in names}
    values = []
    for factor in (1, 2):
        scaled = type(regularizer)(**settings | {strength: 3.0 * factor})
        values.append(number(scaled.term, critic, *batch))
    ratio = values[1] / values[0]
    if not math.isclose(ratio, 2, rel_tol=1e-3):
        raise Wrong(
            f"is {values[0]:.5g} for {strength} = 3 and {values[1]:.5g} for {strength} = 6, {ratio:.4g} times as much"
            + (
                "; it counts twice"
                if math.isclose(ratio, 4, rel_tol=1e-3)
                else "; it does not count"
                if ratio == 1
                else ""
            )
        )


def lets_gradients_through(regularizer: Regularizer) -> None:
    if type(regularizer).augment is Regularizer.augment:
        raise NotApplicable("it does not augment")
    x = samples((2, 8, 8), 16)[0].requires_grad_()
    torch.default_generator.manual_seed(0)
    seen = regularizer.augment(x)
    if seen.shape != x.shape:
        raise Wrong(f"turns samples {list(x.shape)} into {list(seen.shape)}")
    by = torch.autograd.grad(seen.sum(), x, allow_unused=True)[0] if seen.requires_grad else None
    if by is None or not by.any() or not by.isfinite().all():
        raise Wrong(
            f"hands the generator the gradient {'None' if by is None else by.flatten()[0].item()}: something is detached"
        )
