"""Large logits and coarse formats: where a loss must stay finite, and how exact its gradients must be."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.analysis.checks.check import CheckFailed
from ganlab.analysis.checks.players import Loss, evaluate, loss_of, players_rows, shown, side
from ganlab.models.gan import GAN

MAGNITUDES = (0.3, 3.0, 10.0, 18.0, 30.0, 88.0, 100.0, 1e3, 1e4)
# Directions in which the logits of real and fake leave 0; 0: that side stays.
DIRECTIONS = ((1, -1), (-1, 1), (1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
# What rounding may add up to in a stable implementation, relative to the gradient or to 1
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}


def finite_at_large_logits(gan: GAN, hook: str) -> None:
    """Value and gradients, in float64 and in float32, for |logit| up to 1e4.

    Not a number never; infinite only where the true quantity exceeds the format, as exponential losses do: they pass
    through the format's largest numbers first, while a logarithm of 0 jumps.
    """
    loss = loss_of(gan, hook)
    for direction in _directions(gan, hook):
        finite = 0.0  # up to here, so far; None: it overflowed
        for magnitude in MAGNITUDES:
            batch = _batch(direction, magnitude)
            exact, single = (quantities(loss, hook, *batch, dtype) for dtype in (torch.float64, torch.float32))
            _refuse(exact.isnan(), exact, torch.float64, hook, batch)
            if exact.isfinite().all():
                finite = magnitude
            elif finite is not None:
                last = _last_finite(loss, hook, direction, finite, magnitude)
                if not _fills(last, torch.float64).any():
                    why = f"though just before it was at most {last.abs().max().item():.4g}, far from the format's end"
                    _refuse(~exact.isfinite(), exact, torch.float64, hook, batch, why)
                finite = None
            fits = exact.isfinite() & ~_fills(exact, torch.float32)
            _refuse(single.isnan() | (fits & ~single.isfinite()), single, torch.float32, hook, batch, _expected(exact))


def exact_in(dtype: torch.dtype, gan: GAN, hook: str) -> None:
    """Gradients against float64 at the *rounded* logits, within what rounding those a few times more would change.

    The value is held to float32's tolerance only: players follow gradients, and a value may cancel. What is not finite
    in float32 is the other question's.
    """
    loss = loss_of(gan, hook)
    for direction in _directions(gan, hook):
        for magnitude in MAGNITUDES:
            batch = [x.to(dtype).double() for x in _batch(direction, magnitude)]
            exact, found = (quantities(loss, hook, *batch, format) for format in (torch.float64, dtype))
            single = found if dtype == torch.float32 else quantities(loss, hook, *batch, torch.float32)
            comparable = exact.isfinite() & ~_fills(exact, dtype) & single.isfinite()
            if not (comparable & ~_within(found, exact, exact, dtype)).any():
                continue
            shifts = [4 * torch.finfo(dtype).eps * x.abs().clamp(min=1) for x in batch]
            nearby = [
                quantities(loss, hook, batch[0] + a * shifts[0], batch[1] + b * shifts[1])
                for a, b in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
            ]
            lowest, highest = torch.stack(nearby).amin(0), torch.stack(nearby).amax(0)
            _refuse(comparable & ~_within(found, lowest, highest, dtype), found, dtype, hook, batch, _expected(exact))


def quantities(loss: Loss, hook: str, real: Tensor, fake: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The loss, then its gradients, flat."""
    value, gradient = evaluate(loss, real, fake, dtype)
    return torch.cat([value.view(1), players_rows(hook, gradient).flatten()])


def _batch(direction: tuple[int, int], magnitude: float) -> tuple[Tensor, Tensor]:
    """Two samples: the logits of one leave 0, the other's stay."""
    real = torch.tensor([direction[0] * magnitude or 0.25, 0.25], dtype=torch.float64)
    return real, torch.tensor([direction[1] * magnitude or -0.75, -0.75], dtype=torch.float64)


def _directions(gan: GAN, hook: str) -> tuple[tuple[int, int], ...]:
    return DIRECTIONS if hook == "discriminator_loss" or gan.generator_sees_real else ((0, 1), (0, -1))


def _last_finite(loss: Loss, hook: str, direction: tuple[int, int], low: float, high: float) -> Tensor:
    """What comes right before the first number that is not finite, between two magnitudes."""
    for _ in range(60):
        middle = (low + high) / 2
        if quantities(loss, hook, *_batch(direction, middle)).isfinite().all():
            low = middle
        else:
            high = middle
    return quantities(loss, hook, *_batch(direction, low))


def _fills(found: Tensor, dtype: torch.dtype) -> Tensor:
    """Near the format's largest number: the last tenth of its exponents is left to intermediate results."""
    return found.abs() > torch.finfo(dtype).max ** 0.9


def _within(found: Tensor, lowest: Tensor, highest: Tensor, dtype: torch.dtype) -> Tensor:
    slack = TOLERANCE[dtype] * (torch.maximum(lowest.abs(), highest.abs()) + 1)
    if dtype != torch.float32:
        slack[0] = float("inf")
    return (found >= lowest - slack) & (found <= highest + slack)


def _expected(exact: Tensor) -> list[str]:
    return [f"where float64 gives {x:.4g}" for x in exact.tolist()]


def _refuse(wrong: Tensor, found: Tensor, dtype: torch.dtype, hook: str, batch, why: str | list[str] = "") -> None:
    """Raise CheckFailed about the first quantity that is."""
    for i in wrong.nonzero().flatten().tolist():
        what = "the loss" if i == 0 else f"d loss/d {side(hook, (i - 1) // len(batch[0]))}"
        reason = why if isinstance(why, str) else why[i]
        format = str(dtype).removeprefix("torch.")
        raise CheckFailed(f"in {format} {what} is {found[i].item():.4g} at {shown(*batch)} {reason}".rstrip())
