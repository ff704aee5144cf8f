"""Questions to a hook by itself: is it a mean over samples, does it push the right way, is it exact in every precision."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.gan import GAN
from ganlab.theory.conformance.check import Check, NotApplicable, Wrong, examine
from ganlab.theory.conformance.players import LIVELY, Loss, evaluate, loss_of, players_rows, side

MAGNITUDES = (0.3, 1.7, 5.0, 10.0, 18.0, 30.0, 60.0, 88.0, 100.0, 300.0, 1e3, 1e4)
# Directions in which the logits of real and fake leave 0; 0: that side stays.
DIRECTIONS = ((1, -1), (-1, 1), (1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
# What rounding may add up to in an exact implementation, relative to the gradient or to 1
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4 * torch.finfo(torch.bfloat16).eps}
GATES = ("finite scalar", "uses every logit")  # where one fails, the rest is not asked


def loss_checks(gan: GAN, hook: str) -> list[Check]:
    """All questions to one hook. Where it is no finite scalar of its logits, the rest is not asked."""
    loss = loss_of(gan, hook)
    questions = {
        "finite scalar": (
            "A loss is one number, the estimate of an expectation.",
            lambda: finite_scalar(loss, hook),
        ),
        "uses every logit": (
            "Goodfellow et al. 2014, alg. 1: each player follows the gradient over all samples of the batch.",
            lambda: uses_every_logit(loss, hook),
        ),
        "sign and order": (
            (
                "A high logit says real (Goodfellow et al. 2014, eq. 1: D raises log D(x) and log(1 - D(G(z))), "
                "and G raises D's opinion of the fakes)."
            ),
            lambda: sign_and_order(loss, hook),
        ),
        "mean over samples": (
            "Losses are expectations (Goodfellow et al. 2014, alg. 1: 1/m times a sum), so the batch size scales nothing.",
            lambda: mean_over_samples(gan, hook),
        ),
        "autograd agrees with the value": (
            "Each player descends the gradient of the loss that is written down.",
            lambda: autograd_agrees(loss, hook),
        ),
        "finite up to 1e4": (
            "log(1 - D) = -softplus(f) and log D = -softplus(-f) are finite for every finite logit.",
            lambda: finite_at_large_logits(gan, hook),
        ),
        "exact in float32": (
            "A stable function of the logits loses nothing but rounding.",
            lambda: exact_in(torch.float32, gan, hook),
        ),
        "exact in bf16": (
            "bf16 has float32's range: a stable function of the logits loses nothing but rounding.",
            lambda: exact_in(torch.bfloat16, gan, hook),
        ),
        "bounded where it should be": BOUNDED[hook](gan, loss),
    }
    checks, failed = [], None
    for name, (paper, question) in questions.items():
        if failed is not None:
            checks.append(Check(name, None, hook, f"not asked: {failed}", paper))
            continue
        checks.append(examine(name, hook, paper, question))
        if name in GATES and checks[-1].ok is False:
            failed = name
    return checks


def finite_scalar(loss: Loss, hook: str) -> None:
    value, _ = evaluate(loss, *LIVELY[hook])
    if not value.isfinite():
        raise Wrong(f"is {value.item()} at ordinary logits ({_logits(*LIVELY[hook])})")


def uses_every_logit(loss: Loss, hook: str) -> None:
    real, fake = LIVELY[hook]
    _, gradient = evaluate(loss, real, fake)
    for row, by in enumerate(players_rows(hook, gradient)):
        who = side(hook, row)
        if not by.isfinite().all():
            raise Wrong(
                f"has the gradient {_numbers(by)} by the {who} logits at ordinary logits ({_logits(real, fake)})"
            )
        if not by.any():
            raise Wrong(
                f"does not depend on the {who} logits: its gradient by them is 0 at {_logits(real, fake)}; "
                "something is ignored or detached"
            )
        if not by.all():
            raise Wrong(
                f"ignores some samples: the gradient by the {who} logits is {_numbers(by)} at {_logits(real, fake)}"
            )


def sign_and_order(loss: Loss, hook: str) -> None:
    for strength in (1.0, 3.0):
        real, fake = LIVELY[hook]
        real, fake = (real, fake) if hook == "generator_loss" else (strength * real, strength * fake)
        _, gradient = evaluate(loss, real, fake)
        for row, by in enumerate(players_rows(hook, gradient)):
            who = side(hook, row)
            right = -1 if who == "real" or hook == "generator_loss" else 1
            if (by * right <= 0).any():
                down = "falls" if right == -1 else "rises"
                raise Wrong(
                    f"pushes the {who} logits the wrong way: d loss/d {who} = {_numbers(by)} at {_logits(real, fake)}, "
                    f"but a {'discriminator' if right == 1 or who == 'real' else 'generator'}'s loss {down} "
                    f"as {'real' if who == 'real' else 'fake'} looks more real"
                )
        if hook == "discriminator_loss":
            right, wrong = evaluate(loss, fake, real)[0].item(), evaluate(loss, real, fake)[0].item()
            if not right < wrong:
                raise Wrong(
                    f"is {right:.4g} where D is right and {wrong:.4g} with real and fake exchanged; "
                    "exchanging them must raise it"
                )


def mean_over_samples(gan: GAN, hook: str) -> None:
    real, fake = LIVELY[hook]
    value, gradient = evaluate(loss_of(gan, hook), real, fake)
    if not torch.equal(value, evaluate(loss_of(gan, hook, seed=1), real, fake)[0]):
        raise NotApplicable("the loss draws random numbers")
    twice, by_twice = evaluate(loss_of(gan, hook), real.repeat(2), fake.repeat(2))
    if not _close(twice, value, 1e-9):
        ratio = twice.item() / value.item() if value != 0 else float("nan")
        raise Wrong(
            f"is {value.item():.6g} on a batch and {twice.item():.6g} on the same batch twice over "
            f"({ratio:.3g} times); take the mean, not the sum"
        )
    halved = players_rows(hook, by_twice)[:, : len(real)] * 2
    if not _close(halved, players_rows(hook, gradient), 1e-9):
        raise Wrong("gives a sample another gradient if the batch is repeated, by more than the mean's 1/n")
    order = torch.tensor([2, 0, 3, 1])
    moved, _ = evaluate(loss_of(gan, hook), real[order], fake[order])
    if not _close(moved, value, 1e-9):
        raise Wrong(f"depends on the samples' order: {value.item():.6g}, and {moved.item():.6g} reordered")


def autograd_agrees(loss: Loss, hook: str) -> None:
    """Against central differences of 4th order; a hook that works in float32 leaves them 4 digits."""
    logits = torch.stack(LIVELY[hook])
    _, gradient = evaluate(loss, *logits)
    step = 1e-3
    for row in range(len(logits)) if hook == "discriminator_loss" else (1,):
        for i in range(logits.shape[1]):
            shift = torch.zeros_like(logits)
            shift[row, i] = step
            near, far = ([evaluate(loss, *(logits + s * shift))[0] for s in (k, -k)] for k in (1, 2))
            slope = ((8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * step)).item()
            found = gradient[row, i].item()
            if abs(found - slope) > 1e-3 * (abs(slope) + 1 / logits.shape[1]):
                who = "real" if row == 0 else "fake"
                raise Wrong(
                    f"autograd gives d loss/d {who} = {found:.4g} at a {who} logit of {logits[row, i]:.4g}, and the "
                    f"value's slope there is {slope:.4g}; a part is detached, or a backward of its own is wrong"
                )


# Large logits and low precision. Batches of two: one logit leaves 0, the other stays.


def _batch(direction: tuple[int, int], magnitude: float) -> tuple[Tensor, Tensor]:
    real = torch.tensor([direction[0] * magnitude or 0.25, 0.25], dtype=torch.float64)
    return real, torch.tensor([direction[1] * magnitude or -0.75, -0.75], dtype=torch.float64)


def _directions(gan: GAN, hook: str) -> tuple[tuple[int, int], ...]:
    return DIRECTIONS if hook == "discriminator_loss" or gan.generator_sees_real else ((0, 1), (0, -1))


def _quantities(loss: Loss, hook: str, real: Tensor, fake: Tensor, dtype=torch.float64) -> Tensor:
    """Value, then gradients, flat."""
    value, gradient = evaluate(loss, real, fake, dtype)
    return torch.cat([value.view(1), players_rows(hook, gradient).flatten()])


def _name(hook: str, index: int) -> str:
    return "the loss" if index == 0 else f"d loss/d {side(hook, (index - 1) // 2)}"


def _overflows(found: Tensor, dtype: torch.dtype) -> Tensor:
    """Beyond what the format should be trusted with: a tenth of its exponents is kept for intermediate results."""
    return found.abs() > torch.finfo(dtype).max ** 0.9


def finite_at_large_logits(gan: GAN, hook: str) -> None:
    loss = loss_of(gan, hook)
    for direction in _directions(gan, hook):
        low = 0.0
        for magnitude in MAGNITUDES:
            batch = _batch(direction, magnitude)
            exact, single = (_quantities(loss, hook, *batch, dtype) for dtype in (torch.float64, torch.float32))
            _refuse(exact.isnan(), exact, "float64", hook, batch)
            if exact.isfinite().all():
                low = magnitude
            elif low is not None:
                last = _last_finite(loss, hook, direction, low, magnitude)
                if not _overflows(last, torch.float64).any():
                    expected = (
                        f"though just before it is at most {last.abs().max().item():.4g}, far from the format's end"
                    )
                    _refuse(~exact.isfinite(), exact, "float64", hook, batch, expected)
                low = None
            fits = exact.isfinite() & ~_overflows(exact, torch.float32)
            wrong = single.isnan() | (fits & ~single.isfinite())
            _refuse(wrong, single, "float32", hook, batch, expected=exact)


def _last_finite(loss: Loss, hook: str, direction, low: float, high: float) -> Tensor:
    """Value and gradients at the largest logit in this direction, between two, where all are finite."""
    for _ in range(60):
        middle = (low + high) / 2
        if _quantities(loss, hook, *_batch(direction, middle)).isfinite().all():
            low = middle
        else:
            high = middle
    return _quantities(loss, hook, *_batch(direction, low))


def exact_in(dtype: torch.dtype, gan: GAN, hook: str) -> None:
    """Against float64 at the *rounded* logits, within what rounding them a few times more would change."""
    loss = loss_of(gan, hook)
    tolerance = TOLERANCE[dtype]
    for direction in _directions(gan, hook):
        for magnitude in MAGNITUDES:
            batch = [x.to(dtype).double() for x in _batch(direction, magnitude)]
            exact = _quantities(loss, hook, *batch)
            found = _quantities(loss, hook, *batch, dtype)
            judged = exact.isfinite() & ~_overflows(exact, dtype)
            if dtype != torch.float32:  # what float32 cannot do either is said by "finite up to 1e4"
                judged &= _quantities(loss, hook, *batch, torch.float32).isfinite()
            else:
                judged &= found.isfinite()
            if not (judged & ~_within(found, exact, exact, tolerance)).any():
                continue
            shifts = [4 * torch.finfo(dtype).eps * x.abs().clamp(min=1) for x in batch]
            corners = [
                _quantities(loss, hook, batch[0] + a * shifts[0], batch[1] + b * shifts[1])
                for a, b in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
            ]
            lowest, highest = torch.stack(corners).amin(0), torch.stack(corners).amax(0)
            wrong = judged & ~_within(found, lowest, highest, tolerance)
            _refuse(wrong, found, str(dtype).removeprefix("torch."), hook, batch, expected=exact)


def _within(found: Tensor, lowest: Tensor, highest: Tensor, tolerance: float) -> Tensor:
    """Players follow the gradients; the value, which comes first, may cancel in a format that is coarse."""
    slack = tolerance * (torch.maximum(lowest.abs(), highest.abs()) + 1)
    if tolerance > 1e-2:
        slack[0] = float("inf")
    return (found >= lowest - slack) & (found <= highest + slack)


def _refuse(wrong: Tensor, found: Tensor, format: str, hook: str, batch, expected: Tensor | str = "") -> None:
    if not wrong.any():
        return
    i = int(wrong.nonzero()[0])
    if isinstance(expected, Tensor):
        expected = f"where float64 gives {expected[i].item():.4g}"
    raise Wrong(f"in {format} {_name(hook, i)} is {found[i].item():.4g} at {_logits(*batch)} {expected}".strip())


# Bounds


def d_bounded(gan: GAN, loss: Loss):
    paper = (
        "-min_D of the loss is the divergence that D measures: where that is finite for distributions without overlap, "
        "the loss is bounded below (Goodfellow et al. 2014, thm. 1: by 0). A critic without a bound needs a "
        "Lipschitz constraint (Arjovsky et al. 2017)."
    )
    return paper, lambda: d_bounded_below(gan, loss)


def d_bounded_below(gan: GAN, loss: Loss) -> None:
    if gan.requires_lipschitz:
        raise NotApplicable("the family requires a Lipschitz critic, which bounds it")
    lost = {c: evaluate(loss, *_far(c))[0].item() for c in (30.0, 100.0, 1e3, 1e4)}
    bound, tolerance = _declared_bound(gan)
    if bound == float("inf"):
        raise NotApplicable("the declared divergence is infinite for distributions without overlap")
    if bound is not None:
        below = {c: value for c, value in lost.items() if not value >= -bound - tolerance}
        if below:
            c, value = next(iter(below.items()))
            raise Wrong(
                f"is {value:.6g} for real logits of {c:g} and fake of {-c:g}, below -{bound:.6g}, the least that the "
                "declared divergence allows"
            )
    elif lost[1e4] < lost[1e3] - 0.1 or lost[1e4] == -float("inf"):
        raise Wrong(
            f"falls without bound while D is right: {lost[1e3]:.4g} for real logits of 1e3 and fake of -1e3, "
            f"{lost[1e4]:.4g} for 1e4 and -1e4; declare requires_lipschitz = True if it needs a Lipschitz critic, or "
            "`divergence` if what it measures is infinite"
        )


def _declared_bound(gan: GAN) -> tuple[float | None, float]:
    """The declared divergence of two distributions that barely overlap, and its error; infinity if it grows as they part."""
    if gan.divergence is None:
        return None, 0.0
    values = []
    for rest in (1e-4, 1e-8, 1e-12):
        p = torch.tensor([1 - rest, rest], dtype=torch.float64)
        values.append(float(gan.divergence(p, p.flip(0))))
    rise = values[2] - values[1]
    return (values[2] if rise < 0.1 else float("inf")), abs(rise) + 1e-6


def g_bounded(gan: GAN, loss: Loss):
    paper = (
        "G's loss rewards fakes that D takes for real: it must not fall without bound as D catches them "
        "(minimax flattens there, the non-saturating loss rises: Goodfellow et al. 2014, sec. 3)."
    )
    return paper, lambda: g_not_rewarded_when_caught(loss)


def g_not_rewarded_when_caught(loss: Loss) -> None:
    lost = {c: evaluate(loss, *_far(c))[0].item() for c in (1e3, 1e4)}
    if lost[1e4] < lost[1e3] - 0.1:
        raise Wrong(
            f"falls without bound as D catches the fakes: {lost[1e3]:.4g} at fake logits of -1e3, {lost[1e4]:.4g} at -1e4"
        )


BOUNDED = {"discriminator_loss": d_bounded, "generator_loss": g_bounded}


def _far(magnitude: float) -> tuple[Tensor, Tensor]:
    """D right by far: real high, fake low."""
    real = torch.tensor([1.0, 0.9, 1.1]).double() * magnitude
    return real, -real.flip(0)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def _numbers(x: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in x.flatten().tolist()) + "]"


def _logits(real: Tensor, fake: Tensor) -> str:
    return f"real {_numbers(real)}, fake {_numbers(fake)}"
