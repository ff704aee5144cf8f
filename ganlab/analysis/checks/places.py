"""Questions to a penalty: where between real and fake does it ask D."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.analysis.checks.check import CheckFailed, NotApplicable
from ganlab.analysis.checks.critics import IMAGES, Quadratic, samples, value
from ganlab.regularizers import Regularizer


def interpolates_per_sample(regularizer: Regularizer) -> None:
    real, fake = samples(IMAGES, 512)
    critic = Quadratic()
    value(regularizer.penalty, critic, real, fake)
    between = [u for asked in critic.asked if (u := _shares(real, fake, asked)) is not None]
    if not between:
        raise NotApplicable("it does not ask D between real and fake samples")
    for u in between:
        share = u.mean(1)
        if not (u.std(1) < 1e-2).all():
            raise CheckFailed(
                f"mixes each value of a sample in its own proportion (epsilon spreads by {u.std(1).mean():.2g} within "
                "a sample); draw epsilon as [n, 1, 1, 1]"
            )
        if share.std() < 1e-3:
            raise CheckFailed(
                f"uses one epsilon, {share[0]:.3g}, for the whole batch of {len(real)} samples; draw epsilon as [n, 1, 1, 1]"
            )
        uniform = (torch.arange(len(real)) + 0.5) / len(real)
        if (share.sort().values - uniform).abs().max() > 0.13:  # Kolmogorov-Smirnov: by chance once in 10^7 times
            raise CheckFailed(
                f"draws epsilon from {share.min():.2g} … {share.max():.2g} with mean {share.mean():.2g}, not from U[0, 1]"
            )


def asks_where_its_ancestor_does(regularizer: Regularizer) -> None:
    kind = type(regularizer)
    ancestor = next(k for k in kind.__mro__ if k.__module__.startswith("ganlab.regularizers"))
    if ancestor is Regularizer:
        raise NotApplicable("it descends from no regularizer of ganlab")
    if ancestor is kind:
        raise NotApplicable("it is ganlab's own")
    real, fake = samples(IMAGES, 64)
    places = []
    for term in (regularizer.penalty, ancestor.penalty.__get__(regularizer, kind)):
        critic = Quadratic()
        value(term, critic, real, fake)
        places.append(" and ".join(sorted({_place(real, fake, x) for x in critic.asked})) or "nowhere")
    if places[0] != places[1]:
        raise CheckFailed(
            f"descends from {ancestor.__name__}, but asks D {places[0]} where {ancestor.__name__} asks it {places[1]}"
        )


def _place(real: Tensor, fake: Tensor, asked: Tensor) -> str:
    for place, x in (("at real samples", real), ("at fakes", fake)):
        if asked.shape == x.shape and torch.allclose(asked, x, atol=1e-4):
            return place
    return "elsewhere" if _shares(real, fake, asked) is None else "between real and fake"


def _shares(real: Tensor, fake: Tensor, asked: Tensor) -> Tensor | None:
    """Shares [n, values] that the real sample has in each value, if D was asked between real and fake."""
    if asked.shape != real.shape:
        return None
    u = ((asked - fake) / (real - fake)).flatten(1)
    inside = ((u > -1e-3) & (u < 1 + 1e-3)).all()
    collage = ((u.abs() < 1e-3) | ((u - 1).abs() < 1e-3)).float().mean() > 0.5  # each value from one of the two
    return u if inside and not collage else None
