"""Checks of a single loss: does it push logits the right way, is it a mean over samples, is it bounded and exact."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable, Noticed, error_and_line
from ganlab.analysis.checks.loss_functions import Loss, clone_for_eval, format_logits, format_numbers
from ganlab.analysis.checks.named_loss import named_family
from ganlab.config.suggestions import LOSS_SIGNATURES
from ganlab.models.gan import GAN

CALLS = 6  # of a loss with the same logits
MAGNITUDES = (0.3, 3.0, 10.0, 18.0, 30.0, 88.0, 100.0, 1e3, 1e4)
# Directions in which the real and the fake logits leave 0; 0: that side stays.
DIRECTIONS = ((1, -1), (-1, 1), (1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
# What rounding may add up to in a stable implementation, relative to the gradient or to 1
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}


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
        raise CheckFailed(f"raises {error_and_line(error)}; {hint}") from error
    if not value.isfinite():
        raise CheckFailed(f"is {value.item()} at typical logits ({format_logits(*logits)})")
    if not gradient.isfinite().all():
        raise CheckFailed(f"has the gradient {format_numbers(gradient)} at typical logits ({format_logits(*logits)})")
    zeros = torch.zeros_like(logits[0])
    value, gradient = loss.value_and_gradient(zeros, zeros)
    if not (value.isfinite() and gradient.isfinite().all()):
        raise CheckFailed(
            f"is not finite where D is a new head of zeros: at logits of exactly 0 it is {value.item()}, with the gradient "
            f"{format_numbers(gradient)} (a square root or a logarithm of 0)"
        )


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
    _learns_where_equal(loss)


def _learns_where_equal(loss: Loss) -> None:
    """A player must learn where D cannot tell real from fake, as at the start."""
    levels = [torch.full((4,), level, dtype=torch.float64) for level in (-1.0, 0.0, 0.5, 2.0)]
    if not any(loss.value_and_gradient(x, x)[1].any() for x in levels) and not loss.is_symmetric:
        raise CheckFailed(
            "has no gradient where real and fake logits are equal (-1, 0, 0.5, 2), so that nothing begins to be learned; "
            "a margin has the wrong sign, or terms cancel"
        )


def is_same_at_each_call(loss: Loss) -> None:
    """A loss is a function of logits. What it remembers makes it another one at each call, and must be saved with
    checkpoints."""
    # The same logits and random state again and again, with a backward pass each, as training has it.
    gan, logits = clone_for_eval(loss.gan), loss.typical_logits
    values = []
    for call in range(1, CALLS + 1):
        try:
            values.append(loss.value_and_gradient(*logits, gan=gan)[0].item())
        except Exception as error:
            raise CheckFailed(
                f"fails at its call no. {call} with {error_and_line(error)}; detach what it remembers from the graph"
            ) from error
    _does_not_seed(loss)
    _keeps_its_logits(loss)
    _ignores_settings(loss)
    moved = next((call for call, value in enumerate(values, 1) if abs(value - values[0]) > 1e-9 * (1 + abs(values[0]))), None)
    if moved:
        message = (
            f"remembers something: its call no. {moved} with the same logits gives {values[moved - 1]:.6g}, the first one "
            f"{values[0]:.6g}"
        )
        if not _state_is_saved(loss.gan, gan):
            raise CheckFailed(
                f"{message}, and what it remembers is not saved with checkpoints; register a buffer for its state"
            )
        if family := named_family(type(loss.gan))[0]:
            raise CheckFailed(f"{message}; {family.__name__}'s is a function of the logits alone")
        raise Noticed(message)
    if not torch.equal(*(loss.value_and_gradient(*logits, seed=seed)[0] for seed in (0, 1))):
        raise Noticed("draws random numbers: two calls with the same logits differ")


def _does_not_seed(loss: Loss) -> None:
    states = []
    for seed in (1, 2):
        loss.value_and_gradient(*loss.typical_logits, seed=seed)
        states.append(torch.default_generator.get_state())
    if torch.equal(*states):
        raise CheckFailed(
            "sets torch's random state (a seed), so that every step draws the same random numbers, latents included"
        )


def _keeps_its_logits(loss: Loss) -> None:
    gan = clone_for_eval(loss.gan)
    real, fake = before = loss.typical_logits
    real, fake = real.clone(), fake.clone()
    with torch.no_grad():
        if loss.player == "discriminator":
            gan.discriminator_loss(real, fake)
        else:
            gan.generator_loss(fake, real if gan.generator_sees_real else None)
    for side, x, y in zip(("real", "fake"), (real, fake), before):
        if not torch.equal(x, y):
            raise CheckFailed(
                f"changes the {side} logits in place: {format_numbers(y)} are {format_numbers(x)} afterwards, which penalties "
                "of logits (LeCam) would read; use operations without a trailing underscore"
            )


def _ignores_settings(loss: Loss) -> None:
    """A loss gets one logit per pack (Lin et al. 2018), and one batch per update, whatever the step's settings are."""
    for setting in ("pack", "n_critic"):
        values = []
        for number in (1, 2):
            gan = clone_for_eval(loss.gan)
            setattr(gan, setting, number)
            values.append(loss.value_and_gradient(*loss.typical_logits, gan=gan)[0].item())
        if not math.isclose(*values, rel_tol=1e-9, abs_tol=1e-12):
            raise CheckFailed(
                f"depends on gan.{setting}: {values[0]:.6g} for 1 and {values[1]:.6g} for 2 with the same logits; the step has taken "
                "account of it, so that a factor here counts it twice"
            )


def _state_is_saved(before: GAN, after: GAN) -> bool:
    """Whether every plain attribute that the calls have changed is a buffer or part of `get_extra_state`."""
    changed = [
        name for name, value in vars(after).items()
        if name[0] != "_" and isinstance(value, (int, float, Tensor, list, dict)) and not _same(value, vars(before).get(name))
    ]  # fmt: skip
    return not changed or str(before.get_extra_state()) != str(after.get_extra_state())


def _same(value: object, other: object) -> bool:
    return torch.equal(value, other) if isinstance(value, Tensor) and isinstance(other, Tensor) else str(value) == str(other)


def has_the_right_signs(loss: Loss) -> None:
    """A high logit says real. Goodfellow et al. 2014, eq. 1: D raises log D(x) and log(1 - D(G(z))), and G makes D believe
    in the fakes."""
    if loss.is_symmetric:
        _is_zero_where_equal(loss)
    if loss.is_symmetric or loss.is_even:
        raise Noticed("D's loss is one of distances between logits (as MMD), for which a high logit need not say real")
    for scale in (1.0, 3.0):
        real, fake = (scale * x for x in loss.typical_logits)
        value, gradient = _mean_over_draws(loss, real, fake)
        for side, by_logits in zip(loss.sides, gradient):
            sign, rule = (1, "rises") if (loss.player, side) == ("discriminator", "fake") else (-1, "falls")
            if (by_logits * sign < 0).any() or not by_logits.any():
                raise CheckFailed(
                    f"has the wrong sign and pushes {side} logits the wrong way: d loss/d {side} = {format_numbers(by_logits)} at "
                    f"{format_logits(real, fake)}, but {loss.player[0].upper()}'s loss {rule} as {side} logits rise"
                )
        if loss.player == "discriminator" and not (swapped := _mean_over_draws(loss, fake, real)[0]) < value:
            raise CheckFailed(
                f"is {swapped.item():.4g} where D is right ({format_logits(fake, real)}) and {value.item():.4g} with real "
                "and fake exchanged, expected a smaller loss where D is right"
            )


def _is_zero_where_equal(loss: Loss) -> None:
    """A distance of equal samples is 0, up to 1/n for unbiased estimates, and has no gradient there."""
    equal = torch.linspace(-2, 2, 64, dtype=torch.float64)
    value, apart = (loss.value_and_gradient(equal, other)[0].item() for other in (equal, equal + 3))
    if abs(value) > 0.1 * abs(apart - value):
        raise CheckFailed(
            f"is {value:.4g} for equal real and fake logits and {apart:.4g} for logits that are 3 apart, expected the value 0 "
            "for equal ones: it is the same with real and fake exchanged, a distance, and one of its terms has another factor"
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
    order = torch.tensor([2, 0, 3, 1])
    reordered, _ = loss.value_and_gradient(real[order], fake[order])
    if not _close(reordered, value):
        raise CheckFailed(
            f"depends on the samples' order: {value:.6g} at {format_logits(real, fake)}, {reordered:.6g} reordered"
        )
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


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def agrees_with_autograd(loss: Loss) -> None:
    """Each player descends the gradient of the loss that is written down."""
    # Against central differences of 4th order; these keep 4 digits even of a loss that computes in float32.
    logits, step = torch.stack(loss.typical_logits), 1e-3
    _, gradient = loss.value_and_gradient(*logits)
    numeric = torch.zeros_like(gradient)
    worst = (0.0, "")
    for k, (side, by_logits) in enumerate(zip(loss.sides, gradient)):
        row = ("real", "fake").index(side)
        for i, found in enumerate(by_logits.tolist()):
            shift = torch.zeros_like(logits)
            shift[row, i] = step
            below2, below, above, above2 = (loss.value_and_gradient(*(logits + k * shift))[0] for k in (-2, -1, 1, 2))
            expected = ((8 * (above - below) - (above2 - below2)) / (12 * step)).item()
            numeric[k, i] = expected
            if abs(found - expected) > max(1e-3 * (abs(expected) + 1 / len(by_logits)), worst[0]):
                worst = (
                    abs(found - expected),
                    (
                        f"autograd gives d loss/d {side} = {found:.4g} at a {side} logit of {logits[row, i]:.4g}, expected "
                        f"{expected:.4g} from the loss's values; "
                    ),
                )
    if worst[1]:
        if torch.cosine_similarity(gradient.flatten(), numeric.flatten(), 0) > 0.5:
            raise Noticed(worst[1] + "a part is a constant (detached weights or averages)")
        raise CheckFailed(worst[1] + "a part is detached, or a custom backward is wrong")


def is_finite_at_large_logits(loss: Loss) -> None:
    """log D = -s(-l) and log(1 - D) = -s(l) are finite for every finite logit."""
    # They may never be NaN, and may be infinite only where the exact number exceeds the format, as exponential losses do:
    # on the way they pass through numbers that float32 cannot hold and float64 can, while a logarithm of 0 jumps.
    for direction in _directions(loss):
        exceeds_float32 = False
        for magnitude in sorted({*MAGNITUDES, 250.0, 600.0, 2.5e3, 5e3}):  # no gap in which exp(x) passes through them unseen
            batch = _batch(direction, magnitude)
            exact, single = (_numbers(loss, batch, dtype) for dtype in (torch.float64, torch.float32))
            _fail_at_first(exact.isnan() | (~exact.isfinite() & (not exceeds_float32)), exact, torch.float64, loss, batch)
            fits = exact.isfinite() & ~_near_overflow(exact, torch.float32)
            _fail_at_first(single.isnan() | (fits & ~single.isfinite()), single, torch.float32, loss, batch, exact)
            exceeds_float32 |= bool(_near_overflow(exact, torch.float32).any())


def stays_within_float32(loss: Loss) -> None:
    """Logits of 100 occur in training; a loss that is infinite there ends it. Nowozin et al. 2016: the f-GANs' exponentials."""
    for direction in _directions(loss):
        for magnitude in (10.0, 30.0, 60.0, 80.0, 100.0):
            batch = _batch(direction, magnitude)
            numbers = _numbers(loss, batch)
            if (numbers.abs() > torch.finfo(torch.float32).max).any():
                raise Noticed(
                    f"leaves float32 at {format_logits(*batch)}: {numbers.abs().max().item():.3g}; exponentials need small "
                    "learning rates or a penalty"
                )


def gives_each_sample_a_gradient(loss: Loss) -> None:
    """Goodfellow et al. 2014, alg. 1: a mean over samples. Where one sample stands for all, or the margin of a hinge ends
    G's gradient, much of a batch teaches nothing."""
    _, gradient = loss.value_and_gradient(*loss.typical_logits)
    for side, by_logits in zip(loss.sides, gradient):
        if (by_logits != 0).sum() == 1:
            raise Noticed(f"gives 1 of {len(by_logits)} {side} samples a gradient: a maximum in place of a mean?")
    if loss.player == "generator":
        real, levels = torch.zeros(4, dtype=torch.float64), (-30.0, -10.0, -5.0, -2.0, 2.0, 5.0, 10.0)
        idle = [f for f in levels if not loss.value_and_gradient(real, torch.full_like(real, f))[1].any()]
        if idle:
            raise Noticed(f"gives G no gradient at fake logits of {', '.join(f'{f:g}' for f in idle)}: a hinge or a clamp?")


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
            comparable[0] &= dtype == torch.float32
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
    return (found >= lowest - slack) & (found <= highest + slack)


def _fail_at_first(is_wrong: Tensor, found: Tensor, dtype: torch.dtype, loss: Loss, batch, exact: Tensor | None = None) -> None:
    """Raise CheckFailed about the first wrong number."""
    if not is_wrong.any():
        return
    i = int(is_wrong.nonzero()[0])
    what = ["the loss", *(f"d loss/d {side}" for side in loss.sides for _ in batch[0])][i]
    expected = "a finite number" if exact is None else f"{exact[i].item():.4g} as in float64"
    raise CheckFailed(
        f"in {str(dtype).removeprefix('torch.')} {what} is {found[i]:.4g} at {format_logits(*batch)}, expected {expected}"
    )


def is_bounded(loss: Loss) -> None:
    """D: minus its lowest loss is the divergence that it measures; where that is finite for distributions without overlap,
    the loss is bounded below, and else a Lipschitz constraint must bound it (Arjovsky et al. 2017). G: fakes that D
    recognizes are no reward (Goodfellow et al. 2014, sec. 3: the loss flattens there, or rises)."""
    real = torch.tensor([1.0, 0.9, 1.1], dtype=torch.float64)
    values = {c: loss.value_and_gradient(c * real, -c * real.flip(0))[0].item() for c in (30.0, 100.0, 1e3, 1e4)}
    when, hint = "as D recognizes the fakes", ""
    if loss.player == "discriminator":
        if loss.gan.requires_lipschitz:
            raise NotApplicable("the family requires a Lipschitz critic, which bounds it")
        if loss.gan.divergence is not None:
            _is_bounded_by_divergence(loss.gan.divergence, values)
            return
        when = "while D is right"
        hint = "; declare requires_lipschitz = True if it needs a Lipschitz critic, or `divergence` if that is infinite"
    if values[1e4] < values[1e3] - 0.1 or values[1e4] == -float("inf"):
        terms = f"{loss.player}_terms"  # which may bound it
        may_be_bounded = (
            loss.gan.optimal_logit is not None
            or getattr(type(loss.gan), terms) is not getattr(GAN, terms)
            or any(regularizer.lipschitz for regularizer in loss.gan.regularizers.values())
            or loss.is_symmetric
            or loss.is_even
        )
        raise (Noticed if loss.player == "discriminator" and may_be_bounded else CheckFailed)(
            f"falls without bound {when}: {values[1e3]:.4g} for real logits of 1e3 and fake of -1e3, {values[1e4]:.4g} for 1e4 "
            f"and -1e4{hint}"
        )


def _is_bounded_by_divergence(divergence: Callable[[Tensor, Tensor], Tensor], values: Mapping[float, float]) -> None:
    """`values`: c -> D's loss for real logits of about c and fake of -c, at least minus the divergence without overlap."""
    densities = [torch.tensor([1 - overlap, overlap], dtype=torch.float64) for overlap in (1e-8, 1e-12)]
    before, limit = (float(divergence(p, p.flip(0))) for p in densities)
    if not limit - before < 0.1:
        raise NotApplicable("the declared divergence is infinite for distributions without overlap")
    for c, value in values.items():
        if value < -limit - abs(limit - before) - 1e-6:
            raise CheckFailed(
                f"is {value:.6g} for real logits of {c:g} and fake of {-c:g}, expected at least {round(-limit, 6) + 0.0:g}: "
                f"the declared divergence of distributions without overlap is {round(limit, 6) + 0.0:g}"
            )


QUESTIONS: dict[str, Callable[[Loss], None]] = {
    "finite scalar": is_finite_scalar,
    "uses its logits": uses_its_logits,
    "sign and order": has_the_right_signs,
    "the same at each call": is_same_at_each_call,
    "mean over samples": is_mean_over_samples,
    "autograd agrees with the value": agrees_with_autograd,
    "finite up to 1e4": is_finite_at_large_logits,
    "within float32 up to 100": stays_within_float32,
    "every sample counts": gives_each_sample_a_gradient,
    "exact in float32": partial(is_exact, torch.float32),
    "exact in bf16": partial(is_exact, torch.bfloat16),
    "bounded where it should be": is_bounded,
}
