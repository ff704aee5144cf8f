"""Questions to a regularizer by itself: critics of known slope, and critics that note where they are asked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ganlab.analysis.checks.check import Check, CheckFailed, NotApplicable, in_words, run_check
from ganlab.analysis.checks.critics import IMAGES, Quadratic, Term, is_random, linear, named, number, samples, value
from ganlab.analysis.checks.places import asks_where_its_ancestor_does, interpolates_per_sample
from ganlab.analysis.minimal import LinearCritic
from ganlab.regularizers import Regularizer

SHAPES = ((1, 8, 8), (2, 8, 8), (3, 8, 8), (5,))  # gray, two and three channels, points
SLOPES = (0.3, 2.5)  # on both sides of a penalty centered at 1
STRENGTHS = ("weight", "gamma", "lambda_", "lam", "lambda_gp", "coefficient")  # what people call lambda

PAPERS = {
    "penalty takes every shape": "A sample is a vector, whatever its number of channels.",
    "penalty on a linear critic": "R1 = gamma/2 E ||grad D||^2 (Mescheder et al. 2018, eq. 9), gradient penalty = "
    "lambda E (||grad D||_2 - 1)^2 (Gulrajani et al. 2017, eq. 3): one norm per sample, over all of its values.",
    "penalty is a mean over samples": "Penalties are expectations of each sample's own (same equations).",
    "penalty interpolates per sample": "Gulrajani et al. 2017, alg. 1: one epsilon ~ U[0, 1] for each sample.",
    "penalty asks where its name says": "R1 looks at real samples, R2 at fakes (Mescheder et al. 2018, eq. 9-10), the "
    "gradient penalty in between (Gulrajani et al. 2017).",
    "penalty trains the critic": "Gulrajani et al. 2017, alg. 1: D's step follows the penalty's gradient, too: a "
    "gradient of a gradient.",
    "penalty is finite on a dead critic": "The norm has no derivative at 0; where D is flat, a bare square root makes "
    "its weights NaN.",
    "lambda scales the penalty": "The penalty is lambda times an expectation: twice lambda is twice the penalty.",
    "augmentation lets gradients through": "Zhao et al. 2020: what D sees is augmented differentiably in both turns; "
    "else G learns nothing.",
}


def penalty_checks(regularizer: Regularizer, name: str) -> list[Check]:
    """All questions to one regularizer; if its term breaks on a shape, nothing more is asked of the term."""
    where = in_settings(name, regularizer)
    checks = []
    for question, ask in QUESTIONS.items():
        if checks and checks[0].ok is False and ask is not lets_gradients_through:
            checks.append(Check(question, None, where, f"not asked: {checks[0].name}", PAPERS[question]))
        else:
            checks.append(run_check(question, where, PAPERS[question], partial(ask, regularizer)))
    return checks


def in_settings(name: str, regularizer: Regularizer) -> str:
    return f"regularizers.{name} ({type(regularizer).__name__})"


def takes_every_shape(regularizer: Regularizer) -> list[tuple[int, ...]]:
    """The shapes it takes: all, but points where it refuses them in words. Images only is a rule; a crash is none."""
    taken = []
    for shape in SHAPES:
        batch = samples(shape, 8)
        try:
            found = number(regularizer.penalty, linear(shape, 1.0), *batch)
        except (NotApplicable, CheckFailed):
            raise
        except Exception as error:
            if len(shape) == 1 and isinstance(error, ValueError) and "unpack" not in str(error):
                continue
            raise CheckFailed(f"fails on {named(batch[0].shape)} with {in_words(error)}") from error
        if not math.isfinite(found):
            raise CheckFailed(f"is {found} on {named(batch[0].shape)}")
        taken.append(shape)
    return taken


def on_linear_critics(regularizer: Regularizer) -> None:
    shapes = takes_every_shape(regularizer)
    if regularizer.closed_form_linear is None:
        same_wherever_the_slope_sits(regularizer.penalty, shapes)
        return
    for shape in shapes:
        for slope in SLOPES:
            critic, batch = linear(shape, slope), samples(shape, 64)
            expected = float(regularizer.closed_form_linear(torch.tensor(slope)))
            found, error = mean_value(regularizer.penalty, critic, *batch)
            if not abs(found - expected) <= 1e-3 * abs(expected) + 1e-5 + error:
                raise CheckFailed(
                    f"is {found:.5g} on a linear critic of slope {slope:g} for {named(batch[0].shape)}, and its closed "
                    f"form is {expected:.5g}"
                    + _suspicion(regularizer.closed_form_linear, critic.weight.detach(), found, expected, len(batch[0]))
                )


def mean_value(term: Term, critic: LinearCritic, real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The term, averaged over draws if it is random, and 5 standard errors."""
    if not is_random(term, critic, real, fake):
        return number(term, critic, real, fake), 0.0
    real, fake = (x.repeat(8, *[1] * (x.ndim - 1)) for x in (real, fake))
    draws = torch.tensor([number(term, critic, real, fake, seed=seed) for seed in range(30)])
    return draws.mean().item(), 5 * draws.std().item() / len(draws) ** 0.5


def _suspicion(closed_form_linear: Callable, weight: Tensor, found: float, expected: float, n: int) -> str:
    suspects = {
        "as if the norm ran over the whole batch, or the samples were summed": closed_form_linear(weight.norm() * n**0.5)
    }
    if weight.ndim > 1:
        suspects["as if the norm ran over dim 1 only, per pixel"] = closed_form_linear(weight.norm(dim=0)).mean()
    for what, suspect in suspects.items():
        if math.isclose(found, float(suspect), rel_tol=1e-3):
            return f", {what}"
    return f"; it is {found / expected:.4g} times that" if expected else ""


def same_wherever_the_slope_sits(term: Term, shapes: list[tuple[int, ...]]) -> None:
    """Without a closed form: five weights on five values, and zeros elsewhere, must give the same in every shape."""
    weights, found = torch.tensor([0.9, -1.4, 0.5, 1.1, -0.7]), {}
    if number(term, Quadratic(), *samples(IMAGES, 64)) == number(term, Quadratic(), *samples(IMAGES, 64, seed=1)):
        raise NotApplicable("the term is of the critic's weights, whatever the samples")
    for shape in shapes:
        places = torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(4))[:5]
        weight = torch.zeros(math.prod(shape))
        weight[places] = weights
        real, fake = (x.flatten(1) for x in samples(shape, 64))
        real[:, places], fake[:, places] = samples((5,), 64, seed=7)
        batch = real.view(-1, *shape), fake.view(-1, *shape)
        critic = LinearCritic(weight.view(shape))
        if is_random(term, critic, *batch):
            raise NotApplicable("the term is random and declares no closed form (closed_form_linear)")
        found[named(batch[0].shape)] = number(term, critic, *batch)
    first = next(iter(found.values()))
    if not all(math.isclose(v, first, rel_tol=1e-3, abs_tol=1e-6) for v in found.values()):
        listed = ", ".join(f"{v:.5g} for {shape}" for shape, v in found.items())
        raise CheckFailed(
            "depends on where the critic's weights sit: five weights on five values, and zeros elsewhere, give "
            f"{listed}; a norm must run over all of a sample's values"
        )


def mean_over_samples(regularizer: Regularizer) -> None:
    critic, (real, fake) = linear(IMAGES, 2.5), samples(IMAGES, 8)
    if is_random(regularizer.penalty, critic, real, fake):
        raise NotApplicable("the term is random on a linear critic")
    once = number(regularizer.penalty, critic, real, fake)
    twice = number(regularizer.penalty, critic, torch.cat([real, real]), torch.cat([fake, fake]))
    if not math.isclose(once, twice, rel_tol=1e-3, abs_tol=1e-6):
        raise CheckFailed(
            f"is {once:.5g} on 8 samples and {twice:.5g} on the same 8 twice over; one norm per sample, then the mean"
        )
    if regularizer.closed_form_linear is None or is_random(regularizer.penalty, Quadratic(), real, real):
        return
    # real = fake, so that what lies between them is known, and a critic whose slope differs from sample to sample
    whole = number(regularizer.penalty, Quadratic(), real, real)
    alone = sum(number(regularizer.penalty, Quadratic(), x[None], x[None]) for x in real) / len(real)
    if not math.isclose(whole, alone, rel_tol=1e-3, abs_tol=1e-5):
        raise CheckFailed(
            f"is {whole:.5g} on a batch, and {alone:.5g} on average over its samples one by one; "
            "penalize each sample's norm, then take the mean"
        )


def trains_the_critic(regularizer: Regularizer) -> None:
    """The term's derivative along the critic's weights, by autograd and by making the critic steeper and flatter."""
    slope, step = 2.5, 0.05
    critic, batch = linear(IMAGES, slope), samples(IMAGES, 64)
    term = value(regularizer.penalty, critic, *batch)
    higher, lower = (number(regularizer.penalty, linear(IMAGES, slope + s), *batch) for s in (step, -step))
    expected, found = (higher - lower) / (2 * step), 0.0
    if term.requires_grad:
        (by,) = torch.autograd.grad(term, critic.weight, materialize_grads=True)
        found = float((by * critic.weight.detach()).sum() / slope)
    if abs(found - expected) > 0.02 * abs(expected) + 1e-4 * (1 + abs(higher)):
        reason = "autograd.grad needs create_graph=True" if found == 0 else "a part is detached"
        raise CheckFailed(
            f"has the derivative {found:.4g} along the critic's slope at 2.5, where its value changes by "
            f"{expected:.4g}; {reason}"
        )


def finite_on_a_dead_critic(regularizer: Regularizer) -> None:
    critic = LinearCritic(torch.zeros(IMAGES))
    term = value(regularizer.penalty, critic, *samples(IMAGES, 8))
    if not term.isfinite():
        raise CheckFailed(f"is {term.item()} on a critic of slope 0")
    if term.requires_grad:
        (by,) = torch.autograd.grad(term, critic.weight, materialize_grads=True)
        if not by.isfinite().all():
            raise CheckFailed(
                f"has the gradient {by.flatten()[0].item()} by the weights of a critic of slope 0; "
                "add 1e-12 under the square root"
            )


def lambda_scales_it(regularizer: Regularizer) -> None:
    critic, batch = linear(IMAGES, 2.5), samples(IMAGES, 64)
    if number(regularizer.penalty, critic, *batch) == 0:
        raise NotApplicable("the term is 0 on the critics that are asked")
    strength = next((s for s in STRENGTHS if isinstance(getattr(regularizer, s, None), (int, float))), None)
    if strength is None:
        raise NotApplicable(f"it has no number called {', '.join(STRENGTHS[:-1])} or {STRENGTHS[-1]}")
    names = list(inspect.signature(type(regularizer)).parameters)
    if strength not in names or not all(hasattr(regularizer, name) for name in names):
        raise NotApplicable("it does not keep its settings under the names that its constructor gives them")
    settings = {name: getattr(regularizer, name) for name in names}
    once, twice = (number(type(regularizer)(**settings | {strength: x}).penalty, critic, *batch) for x in (3.0, 6.0))
    ratio = twice / once
    if not math.isclose(ratio, 2, rel_tol=1e-3):
        verdict = {1: "it does not count", 4: "it counts twice"}.get(round(ratio, 2), "they must be in proportion")
        raise CheckFailed(
            f"is {once:.5g} for {strength} = 3 and {twice:.5g} for {strength} = 6, {ratio:.4g} times that; {verdict}"
        )


def lets_gradients_through(regularizer: Regularizer) -> None:
    if type(regularizer).augment is Regularizer.augment:
        raise NotApplicable("it does not augment")
    x = samples(IMAGES, 16)[0].requires_grad_()
    torch.default_generator.manual_seed(0)
    seen = regularizer.augment(x)
    if seen.shape != x.shape:
        raise CheckFailed(f"turns {named(x.shape)} into {named(seen.shape)}")
    if not seen.requires_grad:
        raise CheckFailed("gives G no gradient: something is detached")
    (by,) = torch.autograd.grad(seen.square().sum(), x, materialize_grads=True)
    if not by.any() or not by.isfinite().all():
        raise CheckFailed(f"gives G the gradient {by.flatten()[0].item()}")


QUESTIONS: dict[str, Callable[[Regularizer], object]] = {
    "penalty takes every shape": takes_every_shape,
    "penalty on a linear critic": on_linear_critics,
    "penalty is a mean over samples": mean_over_samples,
    "penalty interpolates per sample": interpolates_per_sample,
    "penalty asks where its name says": asks_where_its_ancestor_does,
    "penalty trains the critic": trains_the_critic,
    "penalty is finite on a dead critic": finite_on_a_dead_critic,
    "lambda scales the penalty": lambda_scales_it,
    "augmentation lets gradients through": lets_gradients_through,
}
