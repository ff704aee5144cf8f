"""The optimal discriminator and the divergence it measures, found numerically on a few points."""

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlab.analysis.minimal import Family, derivative, minimal_gan
from ganlab.models.gan import GAN, validate_scalar

RADIUS = 30.0  # of the ball in which logits are searched; larger ones leave the exponential losses little precision
PRECISION = 1e-9  # of the logits


@dataclass(frozen=True)
class OptimalDiscriminator:
    """The optimal D for several pairs of distributions on the same k points, found and declared.

    Attributes:
        p, q: float64 [pairs, k], the probabilities of real and of fake.
        logits: float64 [pairs, k], the minimizer of `discriminator_loss`. Where only differences of logits matter, their
            mean is the declared logits', or 0.
        declared_logits: float64 [pairs, k], the family's `optimal_logit(p, q)`; None if it declares none.
        error: largest difference of the two; None also where the minimum is not attained.
        attained: whether all minimizers lie well inside the ball in which they were searched (logits of up to about
            30). If not, D wants infinite logits, or its loss has no lower bound.
        value: float64 [pairs], -min of `discriminator_loss`. For families that require a Lipschitz critic: over
            logits on the points 0, 1, 2 … with slopes in [-1, 1].
        declared_value: float64 [pairs], the family's `divergence(p, q)`; None if it declares none.
        value_error: largest difference of the two.
        name: the first line of the divergence's docstring.
    """

    p: Tensor
    q: Tensor
    logits: Tensor
    declared_logits: Tensor | None
    error: float | None
    attained: bool
    value: Tensor
    declared_value: Tensor | None
    value_error: float | None
    name: str | None


@torch.inference_mode(False)
@torch.enable_grad()
def optimal_discriminator(family: Family, *, pairs: int = 3, seed: int = 0) -> OptimalDiscriminator:
    """Minimize D's loss over its logits for random distributions on 3 points, and compare with what the family declares.

    The probabilities are counts out of 11 and out of 13 samples, so that no point has equal densities. The batch pairs
    every real sample with every fake one: losses of pairs see the product of the two distributions, exactly.

    Raises:
        ValueError: the discriminator's loss is not a scalar.
    """
    gan = minimal_gan(family)
    random = torch.Generator().manual_seed(seed)
    real, fake = (torch.stack([_counts(total, 3, random) for _ in range(pairs)]) for total in (11, 13))
    p, q = real.double() / 11, fake.double() / 13
    logits, loss = (torch.stack(x) for x in zip(*(best_logits(gan, *counts) for counts in zip(real, fake))))
    declared_logits, declared_value = (
        None if declared is None else torch.stack([declared(*densities) for densities in zip(p, q)])
        for declared in (gan.optimal_logit, gan.divergence)
    )
    if declared_logits is not None and _only_differences_matter(gan):
        logits = logits + (declared_logits - logits).mean(1, keepdim=True)
    attained = bool((logits.norm(dim=1) < 0.9 * RADIUS).all())
    error = _largest_difference(logits, declared_logits) if attained else None
    value_error = _largest_difference(-loss, declared_value)
    name = None if gan.divergence is None else (inspect.getdoc(gan.divergence) or "").split("\n")[0].rstrip(".") or None
    return OptimalDiscriminator(p, q, logits, declared_logits, error, attained, -loss, declared_value, value_error, name)


def best_logits(gan: GAN, real_counts: Tensor, fake_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Logits float64 [k] that minimize `discriminator_loss` on k >= 3 points, and that minimum.

    `*_counts`: int64 [k], samples on each point. By the ellipsoid method (Shor 1977; Yudin & Nemirovski 1976) with
    central cuts: it needs nothing but convexity, and so finds corners (hinge) and constrained minima (WGAN), where
    L-BFGS stalls.
    """
    points = torch.arange(len(real_counts))
    real = points.repeat_interleave(real_counts).repeat_interleave(int(fake_counts.sum()))
    fake = points.repeat_interleave(fake_counts).repeat(int(real_counts.sum()))
    basis = torch.eye(len(points), dtype=torch.float64)
    if gan.requires_lipschitz:
        basis = basis.cumsum(0)  # the first logit, and the slopes from each to the next
    if _only_differences_matter(gan):
        basis = basis[:, 1:]  # the first logit stays 0: the loss does not bound a common shift
    to_real, to_fake = basis[real], basis[fake]
    k = basis.shape[1]
    at = torch.zeros(k, dtype=torch.float64)
    largest = torch.full((k,), math.inf)
    if gan.requires_lipschitz:
        largest[1 - len(points) :] = 1  # the slopes
    ellipsoid = RADIUS**2 * torch.eye(k, dtype=torch.float64)
    for _ in range(200 * k * (k + 1)):  # about three times what the theory needs
        cut = _violated_constraint(at, largest)
        if cut is None:
            at.requires_grad_()
            (cut,) = derivative(gan.discriminator_loss(to_real @ at, to_fake @ at), at)
            at = at.detach()
        width = (cut @ ellipsoid @ cut).sqrt()
        if not width > 0 or ellipsoid.trace() < PRECISION**2:
            break
        step = ellipsoid @ cut / width
        at = at - step / (k + 1)
        ellipsoid = k**2 / (k**2 - 1) * (ellipsoid - 2 / (k + 1) * torch.outer(step, step))
    return basis @ at, gan.discriminator_loss(to_real @ at, to_fake @ at).detach()  # the loss may have parameters


def logit_where_equal(gan: GAN) -> float:
    """The optimal logit where real and fake are equally likely, by bisection; 0 if the loss does not determine it."""
    low, high, at = -RADIUS, RADIUS, 0.0
    while high - low > PRECISION:
        torch.default_generator.manual_seed(0)  # a loss that draws random numbers draws the same ones, for many samples
        logit = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        slope = derivative(gan.discriminator_loss(logit.expand(256), logit.expand(256)), logit)[0].item()
        if not abs(slope) > 1e-12:
            break
        low, high = (low, at) if slope > 0 else (at, high)
        at = (low + high) / 2
    return at


def _violated_constraint(at: Tensor, largest: Tensor) -> Tensor | None:
    """The outward normal of a violated constraint, or None: the ball, and |at| <= largest in each coordinate."""
    if at @ at > RADIUS**2:
        return at
    excess, steepest = (at.abs() - largest).max(0)
    return None if excess <= 0 else at[steepest].sign() * torch.eye(len(at), dtype=at.dtype)[steepest]


def _only_differences_matter(gan: GAN) -> bool:
    real, fake = torch.tensor([[0.3, -1.2, 0.8], [-0.5, 0.9, 2.1]], dtype=torch.float64)
    values = [
        validate_scalar("discriminator_loss", gan.discriminator_loss(real + shift, fake + shift)).item()
        for shift in (0, 1.7, RADIUS)  # beyond the margin of a wide hinge, too
    ]
    return all(math.isclose(values[0], value, rel_tol=1e-9, abs_tol=1e-9) for value in values)


def _counts(total: int, k: int, random: torch.Generator) -> Tensor:
    """k random positive integers [k] that sum to `total`."""
    cuts = torch.randperm(total - 1, generator=random)[: k - 1].sort().values + 1
    return torch.diff(cuts, prepend=torch.tensor([0]), append=torch.tensor([total]))


def _largest_difference(found: Tensor, declared: Tensor | None) -> float | None:
    return None if declared is None else (found - declared).abs().max().item()
