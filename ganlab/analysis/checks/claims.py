"""A name is a claim: which known loss a family's gradients are, against the one that its name or ancestor says."""

from __future__ import annotations

import inspect
import re
from functools import cache, partial

import torch
from torch import Tensor

import ganlab.losses
from ganlab.analysis.checks.check import Check, CheckFailed, NotApplicable, run_check
from ganlab.analysis.checks.players import HOOKS, Loss, clone_for_eval, evaluate, loss_of, players_rows
from ganlab.analysis.minimal import LinearCritic, Point, minimal_gan, shipped_families
from ganlab.models.gan import GAN

PLAYER = {"discriminator_loss": "discriminator", "generator_loss": "generator"}
# What write-ups call the families, without decoration; the f-GANs and the alpha family have settings that change them.
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
    "MinimaxGAN": "Goodfellow et al. 2014, eq. 1: D: s(-r) + s(f); G: -s(f) = log(1 - sigma(f)), whose gradient dies.",
    "NonSaturatingGAN": "Goodfellow et al. 2014, sec. 3: D: s(-r) + s(f); G: s(-f) = -log sigma(f).",
    "WGAN": "Arjovsky et al. 2017: critic: f - r; G: -f, on raw outputs.",
    "LSGAN": "Mao et al. 2017: D: (r - 1)^2/2 + f^2/2; G: (f - 1)^2/2, on raw outputs, never on sigmoids.",
    "HingeGAN": "Lim & Ye 2017: D: relu(1 - r) + relu(1 + f); G: -f, on raw outputs.",
    "RpGAN": "R3GAN 2024: D: s(-(r - f)) of pairs; G: s(-(f - r)).",
    "RaGAN": "Jolicoeur-Martineau 2018: each side against the batch mean of the other, both ways, averaged.",
}
# On sigmoid outputs these are bugs, whatever the name; WGAN's would be the alpha-loss at infinity, which is none.
NEVER_ON_SIGMOIDS = ("LSGAN", "NonSaturatingGAN", "MinimaxGAN", "RpGAN", "RaGAN")
# Smooth, so that who agrees with them near 0 and not far out has cut something off.
SMOOTH = ("MinimaxGAN", "NonSaturatingGAN", "RpGAN", "RaGAN")


def claim_checks(gan: GAN) -> list[Check]:
    """Per hook: is it the loss that its name says, does it work on logits, and does it hold far from 0."""
    claimed, why = claim(type(gan))
    paper = "A name is a claim: a loss must be what it is called."
    if claimed:
        paper = FORMULAS.get(claimed.__name__) or (inspect.getdoc(claimed) or paper).split("\n\n")[0]
    questions = {
        "the loss its name says": (paper, partial(is_claimed, gan, claimed, why)),
        "logits, not probabilities": (
            "Mao et al. 2017 use raw outputs, never sigmoid outputs; s(-r) + s(f) has its sigmoid inside.",
            partial(not_on_sigmoids, gan),
        ),
        "no epsilon, no clamp": (
            "-log sigma(f) = s(-f) keeps its gradient of -1 as f -> -inf; -log(sigma(f) + 1e-8) loses it below -18.",
            partial(nothing_cut_off, gan, claimed),
        ),
    }
    return [
        run_check(name, hook, paper, partial(question, hook)) for hook in HOOKS for name, (paper, question) in questions.items()
    ]


def claim(kind: type[GAN]) -> tuple[type[GAN] | None, str]:
    """The known family that a class claims to be, and by what."""
    for ancestor in kind.__mro__:
        if ancestor.__module__.startswith("ganlab.losses") and not inspect.isabstract(ancestor):
            return ancestor, "descends from" if ancestor is not kind else "is"
    plain = re.sub(r"^(my|our|the|simple|custom)|(gan|gp|loss)+$", "", kind.__name__.replace("_", "").lower())
    name = ALIASES.get(plain)
    return (getattr(ganlab.losses, name), "is named like") if name else (None, "")


def is_claimed(gan: GAN, claimed: type[GAN] | None, why: str, hook: str) -> None:
    if claimed is None:
        alike = _likeness(gan, hook)
        raise NotApplicable("its name claims no known loss" + (f"; its gradient is {alike}" if alike else ""))
    kind = type(gan)
    theirs = loss_of(clone_for_eval(gan, claimed) if issubclass(kind, claimed) else known()[claimed.__name__], hook)
    if _agree(signature(loss_of(gan, hook), hook, NEAR), signature(theirs, hook, NEAR), 1e-6):
        return
    way_out = "; if it is meant to be another loss, derive it from GAN" if issubclass(kind, claimed) else ""
    raise CheckFailed(
        f"{kind.__name__} {why} {claimed.__name__}, but its {PLAYER[hook]} gradient is "
        f"{_likeness(gan, hook) or 'none of the known ones'}: {_compared(gan, hook, theirs)}{way_out}"
    )


def not_on_sigmoids(gan: GAN, hook: str) -> None:
    found = signature(loss_of(gan, hook), hook, NEAR)
    for name in NEVER_ON_SIGMOIDS:
        theirs = loss_of(known()[name], hook)
        ratio = _ratio(found, signature(_on_sigmoids(theirs), hook, NEAR))
        if ratio is not None:
            raise CheckFailed(
                f"is {_times(ratio)}{name}'s {PLAYER[hook]} loss on sigmoid outputs: {_compared(gan, hook, theirs)}; "
                "give it the logits as they come"
            )


def nothing_cut_off(gan: GAN, claimed: type[GAN] | None, hook: str) -> None:
    if claimed and claimed.__name__ not in [*SMOOTH, "CGAN"]:
        raise NotApplicable(f"{claimed.__name__} is no logistic loss")
    loss = loss_of(gan, hook)
    near, far = signature(loss, hook, NEAR), signature(loss, hook, FAR)
    for name in SMOOTH:
        theirs = loss_of(known()[name], hook)
        ratio = _ratio(near, signature(theirs, hook, NEAR), 1e-4)
        if ratio is None:
            continue
        expected = ratio * signature(theirs, hook, FAR)
        off = far.isfinite() & ((far - expected).abs() > 0.01 * (expected.abs() + abs(ratio)))
        if off.any():
            i, rows = int(off.nonzero()[0]), 2 if hook == "discriminator_loss" else 1
            batch, row, sample = i // (rows * N), i // N % rows, i % N
            logits = FAR[batch][row if rows == 2 else 1]
            side = "real" if rows == 2 and row == 0 else "fake"
            raise CheckFailed(
                f"is {_times(ratio)}{name}'s for small logits, but at a {side} logit of {logits[sample]:g} its "
                f"gradient is {far[i]:.4g} instead of {expected[i]:.4g}: an epsilon inside the log, or a clamp"
            )
        return


# Signatures: gradients per sample on fixed batches of N

N = 3


def _batches(*rows) -> list[tuple[Tensor, Tensor]]:
    return [tuple(torch.tensor(x, dtype=torch.float64) for x in row) for row in rows]


NEAR = _batches(
    ([1.3, -0.4, 0.7], [0.6, -1.9, -0.2]),
    ([-1.1, 0.3, -1.8], [1.7, 0.9, -0.5]),
    ([0.2, 1.9, -0.6], [-1.4, 0.1, 1.2]),
)
FAR = [
    (sign * magnitude * real, sign * magnitude * fake)
    for magnitude in (10, 18, 22, 30, 40, 100, 1e3, 1e4)
    for sign in (1, -1)
    for real, fake in _batches(([1.0, 0.6, 0.9], [-1.0, -0.7, -0.8]))
]


def signature(loss: Loss, hook: str, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Gradients that reach this player, per sample (times n), flat."""
    return torch.cat([players_rows(hook, evaluate(loss, *batch)[1]).flatten() * N for batch in batches])


@cache
def known() -> dict[str, GAN]:
    """One of each known family with its defaults; the plain ones first, since others coincide with them."""
    kinds = shipped_families()
    return {name: minimal_gan(kinds[name], Point(), LinearCritic(torch.zeros(1))) for name in [*FORMULAS, *kinds]}


def _on_sigmoids(loss: Loss) -> Loss:
    return lambda real, fake: loss(real.sigmoid(), fake.sigmoid())


def _likeness(gan: GAN, hook: str) -> str:
    """The known loss whose gradient it is, up to a factor; empty if none."""
    found = signature(loss_of(gan, hook), hook, NEAR)
    for what, change in (("{}'s", lambda loss: loss), ("{}'s on sigmoid outputs", _on_sigmoids)):
        for name, family in known().items():
            ratio = _ratio(found, signature(change(loss_of(family, hook)), hook, NEAR))
            if ratio is not None:
                return _times(ratio) + what.format(name)
    return ""


def _compared(gan: GAN, hook: str, theirs: Loss) -> str:
    """Both gradients at one telling pair of logits."""
    logit = -10.0 if hook == "generator_loss" else 2.0
    at = torch.full((1,), -logit, dtype=torch.float64), torch.full((1,), logit, dtype=torch.float64)
    both = [evaluate(loss, *at)[1] for loss in (loss_of(gan, hook), theirs)]
    if hook == "generator_loss":
        return f"dG/df = {both[0][1].item():.5g} at f = {logit:g} instead of {both[1][1].item():.5g}"
    pairs = ["({:.5g}, {:.5g})".format(*gradient.flatten().tolist()) for gradient in both]
    return f"(dD/dr, dD/df) = {pairs[0]} at r = {-logit:g}, f = {logit:g} instead of {pairs[1]}"


def _agree(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def _ratio(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> float | None:
    """c with found = c · expected, c > 0; None if there is none."""
    ratio = float(found @ expected / (expected @ expected))
    if not ratio > 0 or not _agree(found / ratio, expected, tolerance):
        return None
    return 1.0 if abs(ratio - 1) < 1e-3 else ratio


def _times(ratio: float) -> str:
    return "" if ratio == 1 else f"{ratio:.4g} times "
