"""A loss must be the one that its class is named after: checks of its gradients against those of ganlab's families."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

import ganlab.losses
from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.checks.loss_functions import (
    PLAYER,
    Loss,
    clone_for_eval,
    loss_function,
    row_name,
    used_rows,
    value_and_gradient,
)
from ganlab.analysis.minimal import LinearCritic, Point, minimal_gan, shipped_families
from ganlab.models.gan import GAN

# Class names in the literature, lower case, without "GAN", "GP" and "Loss". The f-GANs and AlphaGAN have settings
# that change their gradients, and are not listed.
ALIASES = {
    "minimax": "MinimaxGAN",
    "mm": "MinimaxGAN",
    "saturating": "MinimaxGAN",
    "nonsaturating": "NonSaturatingGAN",
    "ns": "NonSaturatingGAN",
    "w": "WGAN",
    "wasserstein": "WGAN",
    "ls": "LSGAN",
    "leastsquares": "LSGAN",
    "hinge": "HingeGAN",
    "rp": "RpGAN",
    "r3": "RpGAN",
    "relativisticpairing": "RpGAN",
    "ra": "RaGAN",
    "relativisticaverage": "RaGAN",
}
FORMULAS = {
    "MinimaxGAN": "Goodfellow et al. 2014, eq. 1: D: s(-r) + s(f); G: -s(f) = log(1 - sigma(f)), whose gradient vanishes.",
    "NonSaturatingGAN": "Goodfellow et al. 2014, sec. 3: D: s(-r) + s(f); G: s(-f) = -log sigma(f).",
    "WGAN": "Arjovsky et al. 2017: critic: f - r; G: -f, on raw outputs.",
    "LSGAN": "Mao et al. 2017: D: (r - 1)^2/2 + f^2/2; G: (f - 1)^2/2, on raw outputs, never on sigmoids.",
    "HingeGAN": "Lim & Ye 2017: D: relu(1 - r) + relu(1 + f); G: -f, on raw outputs.",
    "RpGAN": "R3GAN 2024: D: s(-(r - f)) of pairs; G: s(-(f - r)).",
    "RaGAN": "Jolicoeur-Martineau 2018: each side against the batch mean of the other, both ways, averaged.",
}
# On sigmoid outputs these are wrong under any name; WGAN's would be the alpha-loss at infinity, which is right.
NEVER_ON_SIGMOIDS = ("LSGAN", "NonSaturatingGAN", "MinimaxGAN", "RpGAN", "RaGAN")
# Smooth losses: whoever agrees with one at small logits and not at large ones has clamped something.
SMOOTH = ("MinimaxGAN", "NonSaturatingGAN", "RpGAN", "RaGAN")


def named_family(kind: type[GAN]) -> tuple[type[GAN] | None, str]:
    """The family of ganlab that a class descends from or is named like, and which of the two; (None, "") if neither."""
    for ancestor in kind.__mro__:
        if ancestor.__module__.startswith("ganlab.losses") and not inspect.isabstract(ancestor):
            return ancestor, "descends from" if ancestor is not kind else "is"
    plain = re.sub(r"^(my|our|the|simple|custom)|(gan|gp|loss)+$", "", kind.__name__.replace("_", "").lower())
    name = ALIASES.get(plain)
    return (getattr(ganlab.losses, name), "is named like") if name else (None, "")


def is_named_loss(gan: GAN, name: str) -> None:
    """A loss must be what it is called."""
    family, relation = named_family(type(gan))
    if family is None:
        match = _matching_loss(gan, name)
        raise NotApplicable("its name is no known loss's" + (f"; its gradient is {match}" if match else ""))
    kind = type(gan)
    is_subclass = issubclass(kind, family)
    reference = loss_function(clone_for_eval(gan, family) if is_subclass else reference_gans()[family.__name__], name)
    if _agree(_gradients(loss_function(gan, name), name, SMALL_LOGITS), _gradients(reference, name, SMALL_LOGITS), 1e-6):
        return
    raise CheckFailed(
        f"{kind.__name__} {relation} {family.__name__}, but its {PLAYER[name]} gradient is "
        f"{_matching_loss(gan, name) or 'that of no known loss'}: {_compare(gan, name, reference)}"
        + ("; if it is meant to be another loss, derive it from GAN" if is_subclass else "")
        + f" ({(FORMULAS.get(family.__name__) or (family.__doc__ or '').strip().splitlines()[0]).rstrip('.')})"
    )


def takes_logits(gan: GAN, name: str) -> None:
    """Mao et al. 2017 use raw outputs, never sigmoid outputs; s(-r) + s(f) contains its sigmoid."""
    gradients = _gradients(loss_function(gan, name), name, SMALL_LOGITS)
    for family in NEVER_ON_SIGMOIDS:
        reference = loss_function(reference_gans()[family], name)
        factor = _factor(gradients, _gradients(_on_sigmoids(reference), name, SMALL_LOGITS))
        if factor is not None:
            raise CheckFailed(
                f"is {_times(factor)}{family}'s {PLAYER[name]} loss on sigmoid outputs: {_compare(gan, name, reference)}; "
                "give it the raw logits"
            )


def is_not_clamped(gan: GAN, name: str) -> None:
    """-log sigma(f) = s(-f) keeps its gradient of -1 as f -> -inf; -log(sigma(f) + 1e-8) loses it below -18."""
    family, _ = named_family(type(gan))
    if family and family.__name__ not in [*SMOOTH, "CGAN"]:
        raise NotApplicable(f"{family.__name__} is not a logistic loss")
    loss = loss_function(gan, name)
    small, large = _gradients(loss, name, SMALL_LOGITS), _gradients(loss, name, LARGE_LOGITS)
    for smooth in SMOOTH:
        reference = loss_function(reference_gans()[smooth], name)
        factor = _factor(small, _gradients(reference, name, SMALL_LOGITS), 1e-4)
        if factor is None:
            continue
        expected = factor * _gradients(reference, name, LARGE_LOGITS)
        is_off = large.isfinite() & ((large - expected).abs() > 0.01 * (expected.abs() + abs(factor)))
        if is_off.any():
            i = int(is_off.nonzero()[0])
            batch, row, sample = is_off.view(len(LARGE_LOGITS), -1, N).nonzero()[0].tolist()
            side = row_name(name, row)
            logit = LARGE_LOGITS[batch][side == "fake"][sample]
            raise CheckFailed(
                f"is {_times(factor)}{smooth}'s for small logits, but at a {side} logit of {logit:g} its gradient is "
                f"{large[i]:.4g}, expected {expected[i]:.4g}: an epsilon inside the log, or a clamp"
            )
        return


# Gradients on fixed batches of N samples identify a loss

N = 3


def _batches(*batches) -> list[tuple[Tensor, Tensor]]:
    return [tuple(torch.tensor(logits, dtype=torch.float64) for logits in batch) for batch in batches]


SMALL_LOGITS = _batches(
    ([1.3, -0.4, 0.7], [0.6, -1.9, -0.2]),
    ([-1.1, 0.3, -1.8], [1.7, 0.9, -0.5]),
    ([0.2, 1.9, -0.6], [-1.4, 0.1, 1.2]),
)
LARGE_LOGITS = [
    (sign * magnitude * real, sign * magnitude * fake)
    for magnitude in (10, 18, 22, 30, 40, 100, 1e3, 1e4)
    for sign in (1, -1)
    for real, fake in _batches(([1.0, 0.6, 0.9], [-1.0, -0.7, -0.8]))
]


def _gradients(loss: Loss, name: str, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The gradients that reach the player, per sample (times N), flat: [batches * rows * N]."""
    return torch.cat([used_rows(name, value_and_gradient(loss, *batch)[1]).flatten() * N for batch in batches])


@cache
def reference_gans() -> dict[str, GAN]:
    """One GAN of each shipped family with its defaults; those in FORMULAS first, since others coincide with them."""
    kinds = shipped_families()
    return {name: minimal_gan(kinds[name], Point(), LinearCritic(torch.zeros(1))) for name in [*FORMULAS, *kinds]}


def _on_sigmoids(loss: Loss) -> Loss:
    return lambda real, fake: loss(real.sigmoid(), fake.sigmoid())


def _matching_loss(gan: GAN, name: str) -> str:
    """The shipped loss that has these gradients, up to a factor; empty if none has."""
    gradients = _gradients(loss_function(gan, name), name, SMALL_LOGITS)
    variants: dict[str, Callable[[Loss], Loss]] = {"{}'s": lambda loss: loss, "{}'s on sigmoid outputs": _on_sigmoids}
    for text, variant in variants.items():
        for family, reference in reference_gans().items():
            factor = _factor(gradients, _gradients(variant(loss_function(reference, name)), name, SMALL_LOGITS))
            if factor is not None:
                return _times(factor) + text.format(family)
    return ""


def _compare(gan: GAN, name: str, reference: Loss) -> str:
    """Both gradients at one pair of logits where the usual mistakes differ."""
    f = -10.0 if name == "generator_loss" else 2.0
    logits = torch.tensor([-f], dtype=torch.float64), torch.tensor([f], dtype=torch.float64)
    found, expected = (
        value_and_gradient(loss, *logits)[1].flatten().tolist() for loss in (loss_function(gan, name), reference)
    )
    if name == "generator_loss":
        return f"dG/df = {found[1]:.5g} at f = {f:g} instead of {expected[1]:.5g}"
    pairs = ["({:.5g}, {:.5g})".format(*pair) for pair in (found, expected)]
    return f"(dD/dr, dD/df) = {pairs[0]} at r = {-f:g}, f = {f:g} instead of {pairs[1]}"


def _agree(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def _factor(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> float | None:
    """c > 0 with found = c * expected; None if there is none."""
    factor = float(found @ expected / (expected @ expected))
    if not factor > 0 or not _agree(found / factor, expected, tolerance):
        return None
    return 1.0 if abs(factor - 1) < 1e-3 else factor


def _times(factor: float) -> str:
    return "" if factor == 1 else f"{factor:.4g} times "


QUESTIONS: dict[str, Callable[[GAN, str], None]] = {
    "the loss its name says": is_named_loss,
    "logits, not probabilities": takes_logits,
    "no epsilon, no clamp": is_not_clamped,
}
