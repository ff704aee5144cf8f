"""Checks of a single loss: does it push logits the right way, is it a mean over samples, is it bounded and exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable, describe_error
from ganlab.analysis.checks.loss_functions import (
    TYPICAL_LOGITS,
    clone_for_eval,
    format_logits,
    loss_function,
    row_name,
    used_rows,
    value_and_gradient,
)
from ganlab.analysis.checks.precision import is_exact, is_finite_at_large_logits
from ganlab.config.suggestions import LOSS_SIGNATURES
from ganlab.models.gan import GAN

# The sign of each loss's derivative by a logit
EXPECTED_SIGNS = {
    ("discriminator_loss", "real"): (-1, "D's loss falls as real logits rise"),
    ("discriminator_loss", "fake"): (1, "D's loss rises as fake logits rise"),
    ("generator_loss", "fake"): (-1, "G's loss falls as fake logits rise"),
}


def is_finite_scalar(gan: GAN, name: str) -> None:
    """A loss is one number, the estimate of an expectation."""
    logits = TYPICAL_LOGITS[name]
    try:
        value, gradient = value_and_gradient(loss_function(gan, name), *logits)
    except TypeError as error:
        if name == "generator_loss" and not gan.generator_sees_real and _accepts_real_logits(gan):
            hint = "declare generator_sees_real = True if it compares with real logits"
        elif f"{name}() takes" in str(error):
            hint = f"write {LOSS_SIGNATURES[name]}"
        else:
            raise
        raise CheckFailed(f"raises {describe_error(error)}; {hint}") from error
    if not value.isfinite():
        raise CheckFailed(f"is {value.item()} at typical logits ({format_logits(*logits)})")
    if not used_rows(name, gradient).isfinite().all():
        raise CheckFailed(f"has the gradient {_format(gradient)} at typical logits ({format_logits(*logits)})")


def _accepts_real_logits(gan: GAN) -> bool:
    real, fake = TYPICAL_LOGITS["generator_loss"]
    try:
        return bool(clone_for_eval(gan).generator_loss(fake, real).isfinite())
    except Exception:  # noqa: BLE001 - a user's code may raise anything
        return False


def uses_its_logits(gan: GAN, name: str) -> None:
    """Goodfellow et al. 2014, alg. 1: D follows the gradient over real and fake, G over fakes."""
    _, gradient = value_and_gradient(loss_function(gan, name), *TYPICAL_LOGITS[name])
    for row, by_logits in enumerate(used_rows(name, gradient)):
        if not by_logits.any():
            raise CheckFailed(
                f"does not depend on the {row_name(name, row)} logits: its gradient by them is 0 at "
                f"{format_logits(*TYPICAL_LOGITS[name])}; something is ignored or detached"
            )


def has_the_right_signs(gan: GAN, name: str) -> None:
    """A high logit says real. Goodfellow et al. 2014, eq. 1: D raises log D(x) and log(1 - D(G(z))), and G makes D believe
    in the fakes."""
    for scale in (1.0, 3.0) if name == "discriminator_loss" else (1.0,):
        real, fake = (scale * x for x in TYPICAL_LOGITS[name])
        value, gradient = _mean_over_draws(gan, name, real, fake)
        for row, by_logits in enumerate(used_rows(name, gradient)):
            side = row_name(name, row)
            sign, rule = EXPECTED_SIGNS[name, side]
            if (by_logits * sign < 0).any() or not by_logits.any():
                raise CheckFailed(
                    f"pushes {side} logits the wrong way: d loss/d {side} = {_format(by_logits)} at "
                    f"{format_logits(real, fake)}, but {rule}"
                )
        if name == "discriminator_loss" and not (swapped := _mean_over_draws(gan, name, fake, real)[0]) < value:
            raise CheckFailed(
                f"is {swapped.item():.4g} where D is right ({format_logits(fake, real)}) and {value.item():.4g} with real "
                "and fake exchanged, expected a smaller loss where D is right"
            )


def is_mean_over_samples(gan: GAN, name: str) -> None:
    """Goodfellow et al. 2014, alg. 1: 1/m times a sum, so that the batch size scales nothing."""
    real, fake = TYPICAL_LOGITS[name]
    _require_deterministic(gan, name)
    loss = loss_function(gan, name)
    value, gradient = value_and_gradient(loss, real, fake)
    twice, gradient_of_twice = value_and_gradient(loss, real.repeat(2), fake.repeat(2))
    if not _close(twice, value):
        raise CheckFailed(
            f"is {value.item():.6g} on a batch and {twice.item():.6g} on the same batch repeated twice, expected equal "
            "values; take the mean, not the sum"
        )
    expected, halves = used_rows(name, gradient) / 2, used_rows(name, gradient_of_twice)[:, : len(real)]
    if not _close(halves, expected):
        raise CheckFailed(
            f"has the gradient {_format(halves)} by a batch repeated twice, expected {_format(expected)}, half of the "
            "gradient by the batch alone"
        )
    order = torch.tensor([2, 0, 3, 1])
    reordered, _ = value_and_gradient(loss, real[order], fake[order])
    if not _close(reordered, value):
        raise CheckFailed(
            f"depends on the samples' order: {value.item():.6g} at {format_logits(real, fake)}, {reordered.item():.6g} reordered"
        )


def agrees_with_autograd(gan: GAN, name: str) -> None:
    """Each player descends the gradient of the loss that is written down."""
    # Against central differences of 4th order; these keep 4 digits even of a loss that computes in float32.
    loss, logits, step = loss_function(gan, name), torch.stack(TYPICAL_LOGITS[name]), 1e-3
    _, gradient = value_and_gradient(loss, *logits)
    for row in (0, 1) if name == "discriminator_loss" else (1,):
        for i in range(logits.shape[1]):
            shift = torch.zeros_like(logits)
            shift[row, i] = step
            near, far = (
                value_and_gradient(loss, *(logits + k * shift))[0] - value_and_gradient(loss, *(logits - k * shift))[0]
                for k in (1, 2)
            )
            expected, found = ((8 * near - far) / (12 * step)).item(), gradient[row, i].item()
            if abs(found - expected) > 1e-3 * (abs(expected) + 1 / logits.shape[1]):
                side = ("real", "fake")[row]
                raise CheckFailed(
                    f"autograd gives d loss/d {side} = {found:.4g} at a {side} logit of {logits[row, i]:.4g}, expected "
                    f"{expected:.4g} from the loss's values; a part is detached, or a custom backward is wrong"
                )


def is_exact_in(dtype: torch.dtype, gan: GAN, name: str) -> None:
    """A stable function of the logits loses nothing but rounding; bf16 has float32's range."""
    _require_deterministic(gan, name)
    is_exact(dtype, gan, name)


def is_bounded(gan: GAN, name: str) -> None:
    """D: minus its lowest loss is the divergence that it measures; where that is finite for distributions without overlap,
    the loss is bounded below, and else a Lipschitz constraint must bound it (Arjovsky et al. 2017). G: fakes that D
    recognizes are no reward (Goodfellow et al. 2014, sec. 3: the loss flattens there, or rises)."""
    loss = loss_function(gan, name)
    values = {c: value_and_gradient(loss, *_separated(c))[0].item() for c in (30.0, 100.0, 1e3, 1e4)}
    falls = values[1e4] < values[1e3] - 0.1 or values[1e4] == -float("inf")
    if name == "generator_loss":
        if falls:
            raise CheckFailed(
                f"falls without bound as D recognizes the fakes: {values[1e3]:.4g} at fake logits of -1e3, "
                f"{values[1e4]:.4g} at -1e4"
            )
    elif gan.requires_lipschitz:
        raise NotApplicable("the family requires a Lipschitz critic, which bounds it")
    elif gan.divergence is None:
        if falls:
            raise CheckFailed(
                f"falls without bound while D is right: {values[1e3]:.4g} for real logits of 1e3 and fake of -1e3, "
                f"{values[1e4]:.4g} for 1e4 and -1e4; declare requires_lipschitz = True if it needs a Lipschitz critic, "
                "or `divergence` if what it measures is infinite"
            )
    else:
        largest, error = _divergence_without_overlap(gan.divergence)
        for c, value in values.items():
            if value < -largest - error:
                raise CheckFailed(
                    f"is {value:.6g} for real logits of {c:g} and fake of {-c:g}, expected at least {round(-largest, 6) + 0.0:g}: "
                    f"the declared divergence of distributions without overlap is {round(largest, 6) + 0.0:g}"
                )


def _separated(magnitude: float) -> tuple[Tensor, Tensor]:
    """Logits of a D that is right by far: real high, fake low."""
    real = torch.tensor([1.0, 0.9, 1.1]).double() * magnitude
    return real, -real.flip(0)


def _divergence_without_overlap(divergence: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """The limit of the declared divergence as the overlap of two distributions vanishes, and its error.

    Raises:
        NotApplicable: it is infinite.
    """
    values = []
    for overlap in (1e-8, 1e-12):
        p = torch.tensor([1 - overlap, overlap], dtype=torch.float64)
        values.append(float(divergence(p, p.flip(0))))
    rise = values[1] - values[0]
    if not rise < 0.1:
        raise NotApplicable("the declared divergence is infinite for distributions without overlap")
    return values[1], abs(rise) + 1e-6


def _mean_over_draws(gan: GAN, name: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient, averaged over the random numbers that a loss may draw (flipped labels)."""
    draws = [value_and_gradient(loss_function(gan, name, seed), real, fake) for seed in range(64)]
    value, gradient = (torch.stack(numbers).mean(0) for numbers in zip(*draws))
    return value, gradient


def _require_deterministic(gan: GAN, name: str) -> None:
    values = [value_and_gradient(loss_function(gan, name, seed), *TYPICAL_LOGITS[name])[0] for seed in (0, 1)]
    if not torch.equal(*values):
        raise NotApplicable("the loss draws random numbers")


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def _format(x: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in x.flatten().tolist()) + "]"


QUESTIONS: dict[str, Callable[..., object]] = {
    "finite scalar": is_finite_scalar,
    "uses its logits": uses_its_logits,
    "sign and order": has_the_right_signs,
    "mean over samples": is_mean_over_samples,
    "autograd agrees with the value": agrees_with_autograd,
    "finite up to 1e4": is_finite_at_large_logits,
    "exact in float32": partial(is_exact_in, torch.float32),
    "exact in bf16": partial(is_exact_in, torch.bfloat16),
    "bounded where it should be": is_bounded,
}
REQUIRED = ("finite scalar", "uses its logits")  # where one fails, the rest is not asked
