"""A loss must be the one that its class is named after: checks of its gradients against those of ganlab's families."""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

import ganlab.losses
from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.checks.loss_functions import Loss, clone_for_eval
from ganlab.analysis.minimal import minimal_gan, shipped_families
from ganlab.models.gan import GAN

# Class names in the literature, lower case, without "GAN", "GP" and "Loss". The f-GANs and AlphaGAN have settings
# that change their gradients, and are not listed.
NAMES = {
    "MinimaxGAN": ("minimax", "mm", "saturating"),
    "NonSaturatingGAN": ("nonsaturating", "ns"),
    "WGAN": ("w", "wasserstein"),
    "LSGAN": ("ls", "leastsquares"),
    "HingeGAN": ("hinge",),
    "RpGAN": ("rp", "r3", "relativisticpairing"),
    "RaGAN": ("ra", "relativisticaverage"),
}
# Smooth losses: whoever agrees with one at small logits and not at large ones has clamped something.
SMOOTH = ("MinimaxGAN", "NonSaturatingGAN", "RpGAN", "RaGAN")
# On sigmoid outputs these are wrong under any name; WGAN's would be the alpha-loss at infinity, which is right.
NEVER_ON_SIGMOIDS = ("LSGAN", "NonSaturatingGAN", "MinimaxGAN", "RpGAN", "RaGAN")


def named_family(kind: type[GAN]) -> tuple[type[GAN] | None, str]:
    """The family of ganlab that a class descends from or is named like, and which of the two; (None, "") if neither."""
    for ancestor in kind.__mro__:
        if ancestor.__module__.startswith("ganlab.losses") and not inspect.isabstract(ancestor):
            return ancestor, "descends from" if ancestor is not kind else "is"
    plain = re.sub(r"^(my|our|the|simple|custom)|(gan|gp|loss)+$", "", kind.__name__.replace("_", "").lower())
    name = next((name for name, others in NAMES.items() if plain in others), None)
    return (getattr(ganlab.losses, name), "is named like") if name else (None, "")


def is_named_loss(loss: Loss) -> None:
    """A loss must be what it is called."""
    kind = type(loss.gan)
    family, relation = named_family(kind)
    gradients = _gradients(loss, SMALL_LOGITS)
    if family is None:
        match = _matching_loss(loss, gradients)
        raise NotApplicable("its name is no known loss's" + (f"; its gradient is {match}" if match else ""))
    is_subclass = issubclass(kind, family)
    reference = replace(loss, gan=clone_for_eval(loss.gan, family) if is_subclass else reference_gans()[family.__name__])
    if _agree(gradients, _gradients(reference, SMALL_LOGITS), 1e-6):
        return
    raise CheckFailed(
        f"{kind.__name__} {relation} {family.__name__}, but its {loss.player} gradient is "
        f"{_matching_loss(loss, gradients) or 'that of no known loss'}: {_compare(loss, reference)}"
        + ("; if it is meant to be another loss, derive it from GAN" if is_subclass else "")
        + f". {family.__name__}: {(family.__doc__ or '').splitlines()[0]}"
    )


def takes_logits(loss: Loss) -> None:
    """Mao et al. 2017 use raw outputs, never sigmoid outputs; s(-r) + s(f) contains its sigmoid."""
    if match := _find_family(loss, _gradients(loss, SMALL_LOGITS), NEVER_ON_SIGMOIDS, on_sigmoids=True):
        family, factor = match
        raise CheckFailed(
            f"is {_times(factor)}{family}'s {loss.player} loss on sigmoid outputs: "
            f"{_compare(loss, replace(loss, gan=reference_gans()[family]))}; give it the raw logits"
        )


def is_not_clamped(loss: Loss) -> None:
    """-log sigma(f) = s(-f) keeps its gradient of -1 as f -> -inf; -log(sigma(f) + 1e-8) loses it below -18."""
    family, _ = named_family(type(loss.gan))
    if family and family.__name__ not in [*SMOOTH, "CGAN"]:
        raise NotApplicable(f"{family.__name__} is not a logistic loss")
    match = _find_family(loss, _gradients(loss, SMALL_LOGITS), SMOOTH, tolerance=1e-4)
    if match is None:
        return
    smooth, factor = match
    found = _gradients(loss, LARGE_LOGITS)
    expected = factor * _gradients(replace(loss, gan=reference_gans()[smooth]), LARGE_LOGITS)
    is_off = found.isfinite() & ((found - expected).abs() > 0.01 * (expected.abs() + abs(factor)))
    if is_off.any():
        batch, row, sample = is_off.nonzero()[0].tolist()
        side = loss.sides[row]
        logit = LARGE_LOGITS[batch, ("real", "fake").index(side), sample]
        raise CheckFailed(
            f"is {_times(factor)}{smooth}'s for small logits, but at a {side} logit of {logit:g} its gradient is "
            f"{found[batch, row, sample]:.4g}, expected {expected[batch, row, sample]:.4g}: an epsilon in the log, or a clamp"
        )


# Gradients on fixed batches of three real and three fake logits identify a loss
SMALL_LOGITS = torch.tensor(
    [[[1.3, -0.4, 0.7], [0.6, -1.9, -0.2]], [[-1.1, 0.3, -1.8], [1.7, 0.9, -0.5]], [[0.2, 1.9, -0.6], [-1.4, 0.1, 1.2]]],
    dtype=torch.float64,
)
SCALES = [sign * magnitude for magnitude in (10, 18, 22, 30, 40, 100, 1e3, 1e4) for sign in (1, -1)]
LARGE_LOGITS = torch.stack([scale * torch.tensor([[1.0, 0.6, 0.9], [-1.0, -0.7, -0.8]]).double() for scale in SCALES])


def _gradients(loss: Loss, batches: Tensor) -> Tensor:
    """The gradients on batches [k, 2, n], per sample (times n): [k, sides, n]."""
    return torch.stack([loss.value_and_gradient(*batch)[1] for batch in batches]) * batches.shape[-1]


@cache
def reference_gans() -> dict[str, GAN]:
    """One GAN of each shipped family with its defaults; those in NAMES first, since others coincide with them."""
    kinds = shipped_families()
    return {name: minimal_gan(kinds[name]) for name in [*NAMES, *kinds]}


def _find_family(
    loss: Loss, gradients: Tensor, families: Iterable[str], *, tolerance: float = 1e-6, on_sigmoids: bool = False
) -> tuple[str, float] | None:
    """The first family whose loss has these gradients on SMALL_LOGITS up to a positive factor, and that factor."""
    for family in families:
        expected = _gradients(replace(loss, gan=reference_gans()[family], on_sigmoids=on_sigmoids), SMALL_LOGITS)
        factor = float((gradients * expected).sum() / expected.square().sum())
        if factor > 0 and _agree(gradients / factor, expected, tolerance):
            return family, 1.0 if abs(factor - 1) < 1e-3 else factor
    return None


def _matching_loss(loss: Loss, gradients: Tensor) -> str:
    """The shipped loss that has these gradients, up to a factor; empty if none has."""
    for on_sigmoids, suffix in ((False, ""), (True, " on sigmoid outputs")):
        if match := _find_family(loss, gradients, reference_gans(), on_sigmoids=on_sigmoids):
            return f"{_times(match[1])}{match[0]}'s{suffix}"
    return ""


def _compare(loss: Loss, reference: Loss) -> str:
    """Both gradients at one pair of logits where the usual mistakes differ."""
    logits = {"real": 10.0, "fake": -10.0} if loss.player == "generator" else {"real": -2.0, "fake": 2.0}
    real, fake = torch.tensor(list(logits.values()), dtype=torch.float64).split(1)
    gradients = (x.value_and_gradient(real, fake)[1].flatten().tolist() for x in (loss, reference))
    return ", ".join(
        f"d{loss.player[0].upper()}/d{side[0]} = {found:.5g} at {side[0]} = {logits[side]:g} instead of {expected:.5g}"
        for side, found, expected in zip(loss.sides, *gradients)
    )


def _agree(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def _times(factor: float) -> str:
    return "" if factor == 1 else f"{factor:.4g} times "


QUESTIONS: dict[str, Callable[[Loss], None]] = {
    "the loss its name says": is_named_loss,
    "logits, not probabilities": takes_logits,
    "no epsilon, no clamp": is_not_clamped,
}
