"""Checks of the points at which a penalty evaluates D: at real samples, at fakes, or on the lines between them."""

from __future__ import annotations

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.checks.penalty_inputs import IMAGE_SHAPE, QuadraticCritic, penalty_value, samples
from ganlab.regularizers import Regularizer


def interpolates_per_sample(regularizer: Regularizer) -> None:
    """Gulrajani et al. 2017, alg. 1: one epsilon ~ U[0, 1] for each sample."""
    # Between real and fake, epsilon must be drawn once per sample, from U[0, 1].
    real, fake = samples(IMAGE_SHAPE, 512)
    critic = QuadraticCritic()
    penalty_value(regularizer, critic, real, fake)
    epsilons = [epsilon for x in critic.inputs if (epsilon := _share_of_real(real, fake, x)) is not None]
    if not epsilons:
        raise NotApplicable("it does not evaluate D between real and fake samples")
    for epsilon in epsilons:
        share = epsilon.mean(1)
        if not (epsilon.std(1) < 1e-2).all():
            raise CheckFailed(
                f"mixes each value of a sample in its own proportion (the standard deviation of epsilon within a sample "
                f"is {epsilon.std(1).mean():.2g}, expected 0); draw epsilon as [n, 1, 1, 1]"
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


def evaluates_where_its_ancestor_does(regularizer: Regularizer) -> None:
    """R1 is evaluated at real samples, R2 at fakes (Mescheder et al. 2018, eq. 9-10), the gradient penalty in between
    (Gulrajani et al. 2017)."""
    # A subclass of a regularizer of ganlab must evaluate D at the same kind of points.
    kind = type(regularizer)
    ancestor = next(k for k in kind.__mro__ if issubclass(k, Regularizer) and k.__module__.startswith("ganlab.regularizers"))
    if ancestor is Regularizer:
        raise NotApplicable("it descends from no regularizer of ganlab")
    if ancestor is kind:
        raise NotApplicable("it is ganlab's own")
    real, fake = samples(IMAGE_SHAPE, 64)
    points = []
    for method in (kind.penalty, ancestor.penalty):
        critic = QuadraticCritic()
        penalty_value(regularizer, critic, real, fake, method=method)
        points.append(" and ".join(sorted({_kind_of_point(real, fake, x) for x in critic.inputs})) or "nowhere")
    if points[0] != points[1]:
        raise CheckFailed(
            f"descends from {ancestor.__name__}, but evaluates D {points[0]}, where {ancestor.__name__} does so {points[1]}"
        )


def _kind_of_point(real: Tensor, fake: Tensor, x: Tensor) -> str:
    for kind, samples_ in (("at real samples", real), ("at fakes", fake)):
        if x.shape == samples_.shape and torch.allclose(x, samples_, atol=1e-4):
            return kind
    return "elsewhere" if _share_of_real(real, fake, x) is None else "between real and fake"


def _share_of_real(real: Tensor, fake: Tensor, x: Tensor) -> Tensor | None:
    """The epsilon [n, values] with x = epsilon * real + (1 - epsilon) * fake, if x lies between real and fake."""
    if x.shape != real.shape:
        return None
    epsilon = ((x - fake) / (real - fake)).flatten(1)
    is_between = ((epsilon > -1e-3) & (epsilon < 1 + 1e-3)).all()
    is_collage = ((epsilon.abs() < 1e-3) | ((epsilon - 1).abs() < 1e-3)).float().mean() > 0.5  # each value from one of the two
    return epsilon if is_between and not is_collage else None
