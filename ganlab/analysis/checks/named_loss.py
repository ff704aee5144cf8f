"""A loss must be the one that its class is named after: checks of its gradients against those of ganlab's families."""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import relu

import ganlab.losses
from ganlab.analysis.checks.base import CheckFailed, NotApplicable, Noticed
from ganlab.analysis.checks.loss_functions import Loss, clone_for_eval, format_logits
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


def _relativistic_average(d: Callable[[Tensor, Tensor], Tensor]) -> tuple[Callable, Callable]:
    """Both players' losses from one of differences to the other side's mean (Jolicoeur-Martineau 2018, sec. 4.2)."""
    loss = lambda high, low: d(high - low.mean(), low - high.mean()) / 2
    return loss, lambda fake, real=None: loss(fake, real)


# Published losses that ganlab does not ship, D's and G's, by their names: compared up to a factor, since conventions differ
PUBLISHED = {
    "rals": _relativistic_average(lambda r, f: ((r - 1).square() + (f + 1).square()).mean()),
    "rahinge": _relativistic_average(lambda r, f: (relu(1 - r) + relu(1 + f)).mean()),
    "totalvariation": (lambda r, f: (f.tanh() - r.tanh()).mean() / 2, lambda f, r=None: -f.tanh().mean() / 2),
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
    if plain in PUBLISHED:
        return _published(plain), "is named like"
    name = next((name for name, others in NAMES.items() if plain in others), None)
    return (getattr(ganlab.losses, name), "is named like") if name else (None, "")


@cache
def _published(name: str) -> type[GAN]:
    losses: dict = dict(zip(("discriminator_loss", "generator_loss"), map(staticmethod, PUBLISHED[name])))  # type: ignore[arg-type]
    return type(name, (GAN,), {**losses, "generator_sees_real": name.startswith("ra")})


def is_named_loss(loss: Loss) -> None:
    """A loss must be what it is called."""
    kind = type(loss.gan)
    family, relation = named_family(kind)
    gradients = _gradients(loss, SMALL_LOGITS)
    if family is None:
        match = _matching_loss(loss, gradients)
        raise NotApplicable("its name is no known loss's" + (f"; its gradient is {match}" if match else ""))
    is_subclass = issubclass(kind, family)
    reference = _reference(loss, family)
    expected = _gradients(reference, SMALL_LOGITS)
    if family.__name__ in PUBLISHED:
        expected = expected * (gradients * expected).sum() / expected.square().sum()
    if _agree(gradients, expected, 1e-6):
        return
    raise CheckFailed(
        f"{kind.__name__} {relation} {family.__name__}, but its {loss.player} gradient is "
        f"{_matching_loss(loss, gradients) or 'that of no known loss'}: {_compare(loss, reference)}"
        + ("; if it is meant to be another loss, derive it from GAN" if is_subclass else "")
        + f". {family.__name__}: {(family.__doc__ or '').partition(chr(10))[0]}"
    )


def _reference(loss: Loss, family: type[GAN]) -> Loss:
    """The named family's loss: with the settings of a subclass, and with its own methods."""
    if issubclass(type(loss.gan), family):
        return replace(loss, gan=clone_for_eval(loss.gan, family))
    return replace(loss, gan=minimal_gan(family) if family.__name__ in PUBLISHED else reference_gans()[family.__name__])


def takes_logits(loss: Loss) -> None:
    """Mao et al. 2017 use raw outputs, never sigmoid outputs; s(-r) + s(f) contains its sigmoid."""
    if match := _find_family(loss, _gradients(loss, SMALL_LOGITS), NEVER_ON_SIGMOIDS, on_sigmoids=True):
        family, factor = match
        named, _ = named_family(type(loss.gan))
        message = (
            f"is {_times(factor)}{family}'s {loss.player} loss on sigmoid outputs, whose gradients vanish: "
            f"{_compare(loss, replace(loss, gan=reference_gans()[family]))}"
        )
        if named is None and family == "LSGAN":
            raise Noticed(f"{message}; nothing here claims to be {family}")
        raise CheckFailed(f"{message}; give it the raw logits")


def is_not_clamped(loss: Loss) -> None:
    """-log sigma(f) = s(-f) keeps its gradient of -1 as f -> -inf; -log(sigma(f) + 1e-8) loses it below -18. Pearson's
    conjugate is constant below -2."""
    family, _ = named_family(type(loss.gan))
    small = _gradients(loss, SMALL_LOGITS)
    reference, factor, name = loss, 1.0, ""
    if family and family.__name__ not in PUBLISHED:
        reference, name = _reference(loss, family), family.__name__
    if not name or not _agree(small, _gradients(reference, SMALL_LOGITS), 1e-4):
        match = _find_family(loss, small, SMOOTH, tolerance=1e-4) or _find_family(loss, small, SMOOTH, tolerance=0.05)
        if match is None:
            return
        name, factor = match
        reference = replace(loss, gan=reference_gans()[name])
    is_near = not _agree(small / factor, _gradients(reference, SMALL_LOGITS), 1e-4)  # and not the same: it may have other tails
    found, expected = _gradients(loss, LARGE_LOGITS), factor * _gradients(reference, LARGE_LOGITS)
    difference = (found - expected).abs().where(found.isfinite() & expected.isfinite(), 0)
    allowed = 0.5 * expected.abs().clamp(min=abs(factor)) if is_near else 0.01 * (expected.abs() + abs(factor))
    is_off = difference > allowed
    if is_off.any():
        usual = is_off & (LARGE_LOGITS.abs().amax((1, 2), keepdim=True) <= 100)
        excess = (difference / (expected.abs() + abs(factor))).where(usual if usual.any() else is_off, 0)
        batch, row, sample = (excess > 0.99 * excess.max()).nonzero()[0].tolist()
        side = loss.sides[row]
        logit = LARGE_LOGITS[batch, ("real", "fake").index(side), sample]
        x, y = found[batch, row, sample], expected[batch, row, sample]
        vanishes = abs(x) < 0.5 * abs(y)
        cause = "it vanishes, as by an epsilon in the log or a clamp" if vanishes else "a case is missing, or its sign is wrong"
        raise CheckFailed(
            f"is {'about ' * is_near}{_times(factor)}{name}'s for small logits, but its gradient by {side} logits is {x:.4g} at "
            f"{logit:g}, where it differs most, instead of {y:.4g}: {cause}"
        )


def has_its_generators_temperature(loss: Loss) -> None:
    """A temperature T makes s(l) into T s(l/T), for both players alike; D's logits otherwise have other units than G's."""
    if loss.player == "generator" or _find_family(loss, _gradients(loss, SMALL_LOGITS), SMOOTH):
        return
    of_g = replace(loss, player="generator")
    try:
        gradients_of_g = _gradients(of_g, SMALL_LOGITS)
    except Exception:  # noqa: BLE001 - the checks of G's loss say so
        return
    if not _find_family(of_g, gradients_of_g, SMOOTH):
        return
    for temperature in (0.1, 0.2, 0.25, 0.5, 2, 3, 4, 5, 10):
        if match := _find_family(loss, _gradients(loss, SMALL_LOGITS * temperature), SMOOTH):
            raise Noticed(f"is {match[0]}'s at temperature {temperature:g}, which G's loss does not have")


# Gradients on fixed batches of three real and three fake logits identify a loss
SMALL_LOGITS = torch.tensor(
    [[[1.3, -0.4, 0.7], [0.6, -1.9, -0.2]], [[-1.1, 0.3, -1.8], [1.7, 0.9, -0.5]], [[0.2, 1.9, -0.6], [-1.4, 0.1, 1.2]]],
    dtype=torch.float64,
)
SCALES = [sign * magnitude for magnitude in (3, 5, 7, 10, 18, 22, 30, 40, 60, 100, 1e3, 1e4) for sign in (1, -1)]
RATIOS = torch.tensor([[[1.0, 0.6, 0.9], [-1.0, -0.7, -0.8]], [[1.0, 0.6, 0.9], [0.8, 0.7, 1.0]]], dtype=torch.float64)
LARGE_LOGITS = torch.cat([scale * RATIOS for scale in SCALES])
GRID = [sign * magnitude for magnitude in (0.5, 1, 2, 3, 5, 10) for sign in (-1, 1)]
SINGLE_LOGITS = torch.tensor([[[real], [fake]] for real in GRID for fake in GRID], dtype=torch.float64)


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
    """Both gradients where they differ most: at one pair of logits, or in a batch if the losses agree on every pair."""
    for batches in (SINGLE_LOGITS, SMALL_LOGITS):
        found, expected = _gradients(loss, batches), _gradients(reference, batches)
        texts = []
        for k, side in enumerate(loss.sides):
            x, y = found[:, k], expected[:, k]
            difference = (x - y).abs().nan_to_num(posinf=0)
            if difference.max() <= 1e-6:
                continue
            i = tuple((difference > 0.99 * difference.max()).nonzero()[0].tolist())
            logit = batches[i[0], ("real", "fake").index(side), i[1]]
            text = f"d{loss.player[0].upper()}/d{side[0]} = {x[i]:.5g} at {side[0]} = {logit:g} instead of {y[i]:.5g}"
            factor = float((x * y).sum() / y.square().sum())
            if (x - factor * y).abs().max() <= 1e-4 * x.abs().max():
                text += f" (the {side} logits' gradient is {factor:.4g} times that everywhere: a weight, or a sign)"
            texts.append(
                text if len(batches) == len(SINGLE_LOGITS) else f"{text} in a batch of {format_logits(*batches[i[0]])}"
            )
        if texts:
            return ", ".join(texts)
    return "equal at logits of up to 10"


def _agree(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def _times(factor: float) -> str:
    return "" if factor == 1 else f"{factor:.4g} times "


QUESTIONS: dict[str, Callable[[Loss], None]] = {
    "the loss its name says": is_named_loss,
    "logits, not probabilities": takes_logits,
    "no epsilon, no clamp": is_not_clamped,
    "one temperature for both players": has_its_generators_temperature,
}
