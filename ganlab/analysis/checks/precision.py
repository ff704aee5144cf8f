"""Checks of a loss at large logits and in float32 and bf16: where it must be finite, and how exact its gradients must be."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed
from ganlab.analysis.checks.loss_functions import Loss, format_logits

MAGNITUDES = (0.3, 3.0, 10.0, 18.0, 30.0, 88.0, 100.0, 1e3, 1e4)
# Directions in which the real and the fake logits leave 0; 0: that side stays.
DIRECTIONS = ((1, -1), (-1, 1), (1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
# What rounding may add up to in a stable implementation, relative to the gradient or to 1
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}


def is_finite_at_large_logits(loss: Loss) -> None:
    """log D = -s(-l) and log(1 - D) = -s(l) are finite for every finite logit."""
    # They may never be NaN, and may be infinite only where the exact number exceeds the format, as exponential losses do:
    # on the way they pass through numbers that float32 cannot hold and float64 can, while a logarithm of 0 jumps.
    for direction in _directions(loss):
        exceeds_float32 = False
        for magnitude in sorted({*MAGNITUDES, 250.0, 600.0, 2.5e3, 5e3}):  # no gap in which exp(x) passes through them unseen
            batch = _batch(direction, magnitude)
            exact, single = (_numbers(loss, batch, dtype) for dtype in (torch.float64, torch.float32))
            is_wrong = exact.isnan() | (~exact.isfinite() & (not exceeds_float32))
            _fail_at_first(is_wrong, exact, torch.float64, loss, batch)
            fits = exact.isfinite() & ~_near_overflow(exact, torch.float32)
            is_wrong = single.isnan() | (fits & ~single.isfinite())
            _fail_at_first(is_wrong, single, torch.float32, loss, batch, exact)
            exceeds_float32 |= bool(_near_overflow(exact, torch.float32).any())


def is_exact(dtype: torch.dtype, loss: Loss) -> None:
    """A stable function of the logits loses nothing but rounding; bf16 has float32's range."""
    # Value and gradient against float64 at the *rounded* logits, up to the effect of rounding these once more. The value
    # is compared in float32 only: players follow gradients, and a value may cancel. Numbers that are not finite in float32
    # are `is_finite_at_large_logits`' matter.
    loss.require_deterministic()
    for direction in _directions(loss):
        for magnitude in MAGNITUDES:
            batch = [x.to(dtype).double() for x in _batch(direction, magnitude)]
            exact, found, single = (_numbers(loss, batch, format) for format in (torch.float64, dtype, torch.float32))
            comparable = exact.isfinite() & ~_near_overflow(exact, dtype) & single.isfinite()
            if not (comparable & ~_within(found, exact, exact, dtype)).any():
                continue
            shifts = [4 * torch.finfo(dtype).eps * x.abs().clamp(min=1) for x in batch]
            signs = ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
            nearby = torch.stack([_numbers(loss, (batch[0] + a * shifts[0], batch[1] + b * shifts[1])) for a, b in signs])
            is_wrong = comparable & ~_within(found, nearby.amin(0), nearby.amax(0), dtype)
            _fail_at_first(is_wrong, found, dtype, loss, batch, exact)


def _numbers(loss: Loss, batch: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> Tensor:
    """The loss and its gradient, flat: [1 + sides * 2]."""
    value, gradient = loss.value_and_gradient(batch[0], batch[1], dtype)
    return torch.cat([value.view(1), gradient.flatten()])


def _batch(direction: tuple[int, int], magnitude: float) -> tuple[Tensor, Tensor]:
    """Two samples: the logits of the first leave 0, the second's stay."""
    real = torch.tensor([direction[0] * magnitude or 0.25, 0.25], dtype=torch.float64)
    return real, torch.tensor([direction[1] * magnitude or -0.75, -0.75], dtype=torch.float64)


def _directions(loss: Loss) -> tuple[tuple[int, int], ...]:
    uses_real = "real" in loss.sides or loss.gan.generator_sees_real
    return DIRECTIONS if uses_real else ((0, 1), (0, -1))


def _near_overflow(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """The last tenth of the format's exponents is left to intermediate results."""
    return numbers.abs() > torch.finfo(dtype).max ** 0.9


def _within(found: Tensor, lowest: Tensor, highest: Tensor, dtype: torch.dtype) -> Tensor:
    slack = TOLERANCE[dtype] * (torch.maximum(lowest.abs(), highest.abs()) + 1)
    if dtype != torch.float32:
        slack[0] = float("inf")
    return (found >= lowest - slack) & (found <= highest + slack)


def _fail_at_first(is_wrong: Tensor, found: Tensor, dtype: torch.dtype, loss: Loss, batch, exact: Tensor | None = None) -> None:
    """Raise CheckFailed about the first wrong number."""
    if not is_wrong.any():
        return
    i = int(is_wrong.nonzero()[0])
    what = ["the loss", *(f"d loss/d {side}" for side in loss.sides for _ in batch[0])][i]
    expected = "a finite number" if exact is None else f"{exact[i].item():.4g} as in float64"
    raise CheckFailed(
        f"in {str(dtype).removeprefix('torch.')} {what} is {found[i].item():.4g} at {format_logits(*batch)}, expected {expected}"
    )
