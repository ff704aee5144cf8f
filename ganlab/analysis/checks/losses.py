"""Checks of a single loss: does it push logits the right way, is it a mean over samples, is it bounded and exact."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable, describe_error
from ganlab.analysis.checks.loss_functions import Loss, clone_for_eval, format_logits, format_numbers
from ganlab.analysis.checks.precision import is_exact, is_finite_at_large_logits
from ganlab.config.suggestions import LOSS_SIGNATURES

# The sign of each loss's derivative by a logit
EXPECTED_SIGNS = {
    ("discriminator", "real"): (-1, "D's loss falls as real logits rise"),
    ("discriminator", "fake"): (1, "D's loss rises as fake logits rise"),
    ("generator", "fake"): (-1, "G's loss falls as fake logits rise"),
}


def is_finite_scalar(loss: Loss) -> None:
    """A loss is one number, the estimate of an expectation."""
    logits = loss.typical_logits
    try:
        value, gradient = loss.value_and_gradient(*logits)
    except TypeError as error:
        if loss.player == "generator" and not loss.gan.generator_sees_real and _accepts_real_logits(loss):
            hint = "declare generator_sees_real = True if it compares with real logits"
        elif f"{loss.name}() takes" in str(error):
            hint = f"write {LOSS_SIGNATURES[loss.name]}"
        else:
            raise
        raise CheckFailed(f"raises {describe_error(error)}; {hint}") from error
    if not value.isfinite():
        raise CheckFailed(f"is {value.item()} at typical logits ({format_logits(*logits)})")
    if not gradient.isfinite().all():
        raise CheckFailed(f"has the gradient {format_numbers(gradient)} at typical logits ({format_logits(*logits)})")


def _accepts_real_logits(loss: Loss) -> bool:
    real, fake = loss.typical_logits
    try:
        return bool(clone_for_eval(loss.gan).generator_loss(fake, real).isfinite())
    except Exception:  # noqa: BLE001 - a user's code may raise anything
        return False


def uses_its_logits(loss: Loss) -> None:
    """Goodfellow et al. 2014, alg. 1: D follows the gradient over real and fake, G over fakes."""
    _, gradient = loss.value_and_gradient(*loss.typical_logits)
    for side, by_logits in zip(loss.sides, gradient):
        if not by_logits.any():
            raise CheckFailed(
                f"does not depend on the {side} logits: its gradient by them is 0 at "
                f"{format_logits(*loss.typical_logits)}; something is ignored or detached"
            )


def has_the_right_signs(loss: Loss) -> None:
    """A high logit says real. Goodfellow et al. 2014, eq. 1: D raises log D(x) and log(1 - D(G(z))), and G makes D believe
    in the fakes."""
    for scale in (1.0, 3.0) if loss.player == "discriminator" else (1.0,):
        real, fake = (scale * x for x in loss.typical_logits)
        value, gradient = _mean_over_draws(loss, real, fake)
        for side, by_logits in zip(loss.sides, gradient):
            sign, rule = EXPECTED_SIGNS[loss.player, side]
            if (by_logits * sign < 0).any() or not by_logits.any():
                raise CheckFailed(
                    f"pushes {side} logits the wrong way: d loss/d {side} = {format_numbers(by_logits)} at "
                    f"{format_logits(real, fake)}, but {rule}"
                )
        if loss.player == "discriminator" and not (swapped := _mean_over_draws(loss, fake, real)[0]) < value:
            raise CheckFailed(
                f"is {swapped.item():.4g} where D is right ({format_logits(fake, real)}) and {value.item():.4g} with real "
                "and fake exchanged, expected a smaller loss where D is right"
            )


def _mean_over_draws(loss: Loss, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient, averaged over the random numbers that a loss may draw (flipped labels)."""
    values, gradients = zip(*(loss.value_and_gradient(real, fake, seed=seed) for seed in range(64)))
    return torch.stack(values).mean(0), torch.stack(gradients).mean(0)


def is_mean_over_samples(loss: Loss) -> None:
    """Goodfellow et al. 2014, alg. 1: 1/m times a sum, so that the batch size scales nothing."""
    loss.require_deterministic()
    real, fake = loss.typical_logits
    value, gradient = loss.value_and_gradient(real, fake)
    twice, gradient_of_twice = loss.value_and_gradient(real.repeat(2), fake.repeat(2))
    if not _close(twice, value):
        raise CheckFailed(
            f"is {value.item():.6g} on a batch and {twice.item():.6g} on the same batch repeated twice, expected equal "
            "values; take the mean, not the sum"
        )
    halves = gradient_of_twice[:, : len(real)]
    if not _close(halves, gradient / 2):
        raise CheckFailed(
            f"has the gradient {format_numbers(halves)} by a batch repeated twice, expected {format_numbers(gradient / 2)}, "
            "half of the gradient by the batch alone"
        )
    order = torch.tensor([2, 0, 3, 1])
    reordered, _ = loss.value_and_gradient(real[order], fake[order])
    if not _close(reordered, value):
        raise CheckFailed(
            f"depends on the samples' order: {value.item():.6g} at {format_logits(real, fake)}, {reordered.item():.6g} reordered"
        )


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def agrees_with_autograd(loss: Loss) -> None:
    """Each player descends the gradient of the loss that is written down."""
    # Against central differences of 4th order; these keep 4 digits even of a loss that computes in float32.
    logits, step = torch.stack(loss.typical_logits), 1e-3
    _, gradient = loss.value_and_gradient(*logits)
    for side, by_logits in zip(loss.sides, gradient):
        row = ("real", "fake").index(side)
        for i, found in enumerate(by_logits.tolist()):
            shift = torch.zeros_like(logits)
            shift[row, i] = step
            below2, below, above, above2 = (loss.value_and_gradient(*(logits + k * shift))[0] for k in (-2, -1, 1, 2))
            expected = ((8 * (above - below) - (above2 - below2)) / (12 * step)).item()
            if abs(found - expected) > 1e-3 * (abs(expected) + 1 / len(by_logits)):
                raise CheckFailed(
                    f"autograd gives d loss/d {side} = {found:.4g} at a {side} logit of {logits[row, i]:.4g}, expected "
                    f"{expected:.4g} from the loss's values; a part is detached, or a custom backward is wrong"
                )


def is_bounded(loss: Loss) -> None:
    """D: minus its lowest loss is the divergence that it measures; where that is finite for distributions without overlap,
    the loss is bounded below, and else a Lipschitz constraint must bound it (Arjovsky et al. 2017). G: fakes that D
    recognizes are no reward (Goodfellow et al. 2014, sec. 3: the loss flattens there, or rises)."""
    real = torch.tensor([1.0, 0.9, 1.1], dtype=torch.float64)
    values = {c: loss.value_and_gradient(c * real, -c * real.flip(0))[0].item() for c in (30.0, 100.0, 1e3, 1e4)}
    falls = values[1e4] < values[1e3] - 0.1 or values[1e4] == -float("inf")
    if loss.player == "generator":
        if falls:
            raise CheckFailed(
                f"falls without bound as D recognizes the fakes: {values[1e3]:.4g} at fake logits of -1e3, "
                f"{values[1e4]:.4g} at -1e4"
            )
    elif loss.gan.requires_lipschitz:
        raise NotApplicable("the family requires a Lipschitz critic, which bounds it")
    elif loss.gan.divergence is None:
        if falls:
            raise CheckFailed(
                f"falls without bound while D is right: {values[1e3]:.4g} for real logits of 1e3 and fake of -1e3, "
                f"{values[1e4]:.4g} for 1e4 and -1e4; declare requires_lipschitz = True if it needs a Lipschitz critic, "
                "or `divergence` if what it measures is infinite"
            )
    else:
        largest, error = _divergence_without_overlap(loss.gan.divergence)
        for c, value in values.items():
            if value < -largest - error:
                raise CheckFailed(
                    f"is {value:.6g} for real logits of {c:g} and fake of {-c:g}, expected at least {round(-largest, 6) + 0.0:g}: "
                    f"the declared divergence of distributions without overlap is {round(largest, 6) + 0.0:g}"
                )


def _divergence_without_overlap(divergence: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """The limit of the declared divergence as the overlap of two distributions vanishes, and its error.

    Raises:
        NotApplicable: it is infinite.
    """
    densities = [torch.tensor([1 - overlap, overlap], dtype=torch.float64) for overlap in (1e-8, 1e-12)]
    before, limit = (float(divergence(p, p.flip(0))) for p in densities)
    if not limit - before < 0.1:
        raise NotApplicable("the declared divergence is infinite for distributions without overlap")
    return limit, abs(limit - before) + 1e-6


QUESTIONS: dict[str, Callable[[Loss], None]] = {
    "finite scalar": is_finite_scalar,
    "uses its logits": uses_its_logits,
    "sign and order": has_the_right_signs,
    "mean over samples": is_mean_over_samples,
    "autograd agrees with the value": agrees_with_autograd,
    "finite up to 1e4": is_finite_at_large_logits,
    "exact in float32": partial(is_exact, torch.float32),
    "exact in bf16": partial(is_exact, torch.bfloat16),
    "bounded where it should be": is_bounded,
}
