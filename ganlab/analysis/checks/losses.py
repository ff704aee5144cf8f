"""Questions to a hook by itself: does it push the right way, is it a mean over samples, is it bounded and exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ganlab.analysis.checks.check import Check, CheckFailed, NotApplicable, in_words, run_check
from ganlab.analysis.checks.players import LIVELY, clone_for_eval, evaluate, loss_of, players_rows, shown, side
from ganlab.analysis.checks.precision import exact_in, finite_at_large_logits
from ganlab.config.suggestions import LOSS_SIGNATURES
from ganlab.models.gan import GAN

GATES = ("finite scalar", "uses its logits")  # where one fails, the rest is not asked
PAPERS = {
    "finite scalar": "A loss is one number, the estimate of an expectation.",
    "uses its logits": "Goodfellow et al. 2014, alg. 1: D follows the gradient over real and fake, G over fakes.",
    "sign and order": "A high logit says real. Goodfellow et al. 2014, eq. 1: D raises log D(x) and log(1 - D(G(z))), "
    "and G raises D's opinion of the fakes.",
    "mean over samples": "Goodfellow et al. 2014, alg. 1: 1/m times a sum, so that the batch size scales nothing.",
    "autograd agrees with the value": "Each player descends the gradient of the loss that is written down.",
    "finite up to 1e4": "log D = -s(-l) and log(1 - D) = -s(l) are finite for every finite logit.",
    "exact in float32": "A stable function of the logits loses nothing but rounding.",
    "exact in bf16": "bf16 has float32's range: a stable function of the logits loses nothing but rounding.",
    "bounded where it should be": "D: minus its lowest loss is the divergence that it measures; where that is finite "
    "for distributions without overlap, the loss is bounded below, and else a Lipschitz constraint must bound it "
    "(Arjovsky et al. 2017). G: being caught is no reward (Goodfellow et al. 2014, sec. 3: its loss flattens there, or rises).",
}
# How each player's loss changes as a logit rises
WANTED = {
    ("discriminator_loss", "real"): (-1, "D's loss falls as real logits rise"),
    ("discriminator_loss", "fake"): (1, "D's loss rises as fake logits rise"),
    ("generator_loss", "fake"): (-1, "G's loss falls as fake logits rise"),
}


def loss_checks(gan: GAN, hook: str) -> list[Check]:
    """All questions to one hook; once it is no finite scalar of its logits, the rest is not asked."""
    checks, failed = [], None
    for name, paper in PAPERS.items():
        if failed is not None:
            checks.append(Check(name, None, hook, f"not asked: {failed}", paper))
            continue
        checks.append(run_check(name, hook, paper, partial(QUESTIONS[name], gan, hook)))
        if name in GATES and checks[-1].ok is False:
            failed = name
    return checks


def finite_scalar(gan: GAN, hook: str) -> None:
    try:
        value, gradient = evaluate(loss_of(gan, hook), *LIVELY[hook])
    except TypeError as error:
        if hook == "generator_loss" and not gan.generator_sees_real and _can_compare(gan):
            raise CheckFailed(
                f"raises {in_words(error)}; declare generator_sees_real = True if it compares with real logits"
            ) from error
        if f"{hook}() takes" in str(error):
            raise CheckFailed(f"raises {in_words(error)}; write {LOSS_SIGNATURES[hook]}") from error
        raise
    if not value.isfinite():
        raise CheckFailed(f"is {value.item()} at ordinary logits ({shown(*LIVELY[hook])})")
    if not players_rows(hook, gradient).isfinite().all():
        raise CheckFailed(f"has the gradient {_numbers(gradient)} at ordinary logits ({shown(*LIVELY[hook])})")


def _can_compare(gan: GAN) -> bool:
    """Whether G's loss would work if it were given real logits."""
    real, fake = LIVELY["generator_loss"]
    try:
        return bool(clone_for_eval(gan).generator_loss(fake, real).isfinite())
    except Exception:  # noqa: BLE001 - a user's code may raise anything
        return False


def uses_its_logits(gan: GAN, hook: str) -> None:
    _, gradient = evaluate(loss_of(gan, hook), *LIVELY[hook])
    for row, by in enumerate(players_rows(hook, gradient)):
        if not by.any():
            raise CheckFailed(
                f"does not depend on the {side(hook, row)} logits: its gradient by them is 0 at "
                f"{shown(*LIVELY[hook])}; something is ignored or detached"
            )


def sign_and_order(gan: GAN, hook: str) -> None:
    for strength in (1.0, 3.0) if hook == "discriminator_loss" else (1.0,):
        real, fake = (strength * x for x in LIVELY[hook])
        value, gradient = _on_average(gan, hook, real, fake)
        for row, by in enumerate(players_rows(hook, gradient)):
            who = side(hook, row)
            sign, law = WANTED[hook, who]
            if (by * sign < 0).any() or not by.any():
                raise CheckFailed(
                    f"pushes {who} logits the wrong way: d loss/d {who} = {_numbers(by)} at {shown(real, fake)}, but {law}"
                )
        if hook == "discriminator_loss" and not (right := _on_average(gan, hook, fake, real)[0]) < value:
            raise CheckFailed(
                f"does not notice real and fake exchanged: it is {right.item():.4g} where D is right "
                f"({shown(fake, real)}) and {value.item():.4g} the other way round"
            )


def mean_over_samples(gan: GAN, hook: str) -> None:
    real, fake = LIVELY[hook]
    value, gradient = evaluate(loss_of(gan, hook), real, fake)
    _refuse_random(gan, hook)
    twice, by_twice = evaluate(loss_of(gan, hook), real.repeat(2), fake.repeat(2))
    if not _close(twice, value):
        raise CheckFailed(
            f"is {value.item():.6g} on a batch and {twice.item():.6g} on the same batch twice over; take the mean, not the sum"
        )
    halved = players_rows(hook, by_twice)[:, : len(real)] * 2
    if not _close(halved, players_rows(hook, gradient)):
        raise CheckFailed(
            f"gives the samples of a batch the gradient {_numbers(players_rows(hook, gradient))} and, twice over, "
            f"not half of it but {_numbers(halved / 2)}"
        )
    order = torch.tensor([2, 0, 3, 1])
    moved, _ = evaluate(loss_of(gan, hook), real[order], fake[order])
    if not _close(moved, value):
        raise CheckFailed(
            f"depends on the samples' order: {value.item():.6g} at {shown(real, fake)}, {moved.item():.6g} reordered"
        )


def autograd_agrees(gan: GAN, hook: str) -> None:
    """Against central differences of 4th order; they keep 4 digits even of a hook that computes in float32."""
    loss, logits, step = loss_of(gan, hook), torch.stack(LIVELY[hook]), 1e-3
    _, gradient = evaluate(loss, *logits)
    for row in (0, 1) if hook == "discriminator_loss" else (1,):
        for i in range(logits.shape[1]):
            shift = torch.zeros_like(logits)
            shift[row, i] = step
            near, far = (evaluate(loss, *(logits + k * shift))[0] - evaluate(loss, *(logits - k * shift))[0] for k in (1, 2))
            slope, found = ((8 * near - far) / (12 * step)).item(), gradient[row, i].item()
            if abs(found - slope) > 1e-3 * (abs(slope) + 1 / logits.shape[1]):
                who = ("real", "fake")[row]
                raise CheckFailed(
                    f"autograd gives d loss/d {who} = {found:.4g} at a {who} logit of {logits[row, i]:.4g}, and the "
                    f"value's slope there is {slope:.4g}; a part is detached, or a backward of its own is wrong"
                )


def exact(dtype: torch.dtype, gan: GAN, hook: str) -> None:
    _refuse_random(gan, hook)
    exact_in(dtype, gan, hook)


def bounded(gan: GAN, hook: str) -> None:
    if hook == "generator_loss":
        caught = {c: evaluate(loss_of(gan, hook), *_far(c))[0].item() for c in (1e3, 1e4)}
        if _falls(caught):
            raise CheckFailed(
                f"falls without bound as D catches the fakes: {caught[1e3]:.4g} at fake logits of -1e3, "
                f"{caught[1e4]:.4g} at -1e4"
            )
        return
    if gan.requires_lipschitz:
        raise NotApplicable("the family requires a Lipschitz critic, which bounds it")
    right = {c: evaluate(loss_of(gan, hook), *_far(c))[0].item() for c in (30.0, 100.0, 1e3, 1e4)}
    if gan.divergence is None:
        if _falls(right):
            raise CheckFailed(
                f"falls without bound while D is right: {right[1e3]:.4g} for real logits of 1e3 and fake of -1e3, "
                f"{right[1e4]:.4g} for 1e4 and -1e4; declare requires_lipschitz = True if it needs a Lipschitz critic, "
                "or `divergence` if what it measures is infinite"
            )
        return
    most, error = _divergence_without_overlap(gan)
    for c, value in right.items():
        if value < -most - error:
            raise CheckFailed(
                f"is {value:.6g} for real logits of {c:g} and fake of {-c:g}, but the declared divergence of "
                f"distributions without overlap, {round(most, 6):g}, allows no less than {round(-most, 6):g}"
            )


def _falls(values: dict[float, float]) -> bool:
    return values[1e4] < values[1e3] - 0.1 or values[1e4] == -float("inf")


def _far(magnitude: float) -> tuple[Tensor, Tensor]:
    """D right by far: real high, fake low."""
    real = torch.tensor([1.0, 0.9, 1.1]).double() * magnitude
    return real, -real.flip(0)


def _divergence_without_overlap(gan: GAN) -> tuple[float, float]:
    """The limit of the declared divergence as two distributions part, and its error.

    Raises:
        NotApplicable: it is infinite.
    """
    values = []
    for rest in (1e-8, 1e-12):
        p = torch.tensor([1 - rest, rest], dtype=torch.float64)
        values.append(float(gan.divergence(p, p.flip(0))))
    rise = values[1] - values[0]
    if not rise < 0.1:
        raise NotApplicable("the declared divergence is infinite for distributions without overlap")
    return values[1], abs(rise) + 1e-6


def _on_average(gan: GAN, hook: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient, their means over draws of the random numbers that a loss may take: labels flipped now and then."""
    draws = [evaluate(loss_of(gan, hook, seed), real, fake) for seed in range(64)]
    value, gradient = (torch.stack(numbers).mean(0) for numbers in zip(*draws))
    return value, gradient


def _refuse_random(gan: GAN, hook: str) -> None:
    values = [evaluate(loss_of(gan, hook, seed=seed), *LIVELY[hook])[0] for seed in (0, 1)]
    if not torch.equal(*values):
        raise NotApplicable("the loss draws random numbers")


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def _numbers(x: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in x.flatten().tolist()) + "]"


QUESTIONS: dict[str, Callable[[GAN, str], None]] = {
    "finite scalar": finite_scalar,
    "uses its logits": uses_its_logits,
    "sign and order": sign_and_order,
    "mean over samples": mean_over_samples,
    "autograd agrees with the value": autograd_agrees,
    "finite up to 1e4": finite_at_large_logits,
    "exact in float32": partial(exact, torch.float32),
    "exact in bf16": partial(exact, torch.bfloat16),
    "bounded where it should be": bounded,
}
