"""How hard a loss pulls on the generator, wherever the critic's logit stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlab.analysis.minimal import Family, LinearCritic, Point, minimal_gan
from ganlab.models.gan import GAN, validate_scalar


@dataclass(frozen=True)
class Saturation:
    """|d generator_loss / d f| per sample, f = the logit of a fake.

    Attributes:
        logits: float64 [k], -30 … 30.
        gradient: float64 [k], at those logits.
        probabilities: float64 [m], sigma(f) from 1e-6 to 1 - 1e-6: D(G(z)) where the logit is a log-odds.
        gradient_at_probability: float64 [m], at those probabilities.
        at_minus_10: the gradient at f = -10, where the critic is sure that the sample is a fake.
        verdict: from there to f = -30, "vanishes when the critic wins", stays "bounded", or "grows"; "not finite"
            where a gradient is NaN or the one at -10 is infinite.
    """

    logits: Tensor
    gradient: Tensor
    probabilities: Tensor
    gradient_at_probability: Tensor
    at_minus_10: float
    verdict: str


@torch.inference_mode(False)
@torch.enable_grad()
def saturation(family: Family) -> Saturation:
    """The generator's gradient by logit, each logit in a batch of its own.

    Where the generator's loss compares with real samples, their logit is -f: the critic errs or wins on both sides.

    Raises:
        ValueError: the generator's loss is not a scalar.
    """
    gan = minimal_gan(family, Point(), LinearCritic(torch.zeros(1)))
    logits = torch.linspace(-30, 30, 241, dtype=torch.float64)
    odds = torch.linspace(-math.log(1e6 - 1), math.log(1e6 - 1), 121, dtype=torch.float64)
    gradient, at_odds = _pull(gan, logits), _pull(gan, odds)
    at_minus_30, at_minus_10 = gradient[0].item(), gradient[80].item()
    verdict = _verdict(gradient, at_minus_10, at_minus_30)
    return Saturation(logits, gradient, odds.sigmoid(), at_odds, at_minus_10, verdict)


def _pull(gan: GAN, logits: Tensor) -> Tensor:
    pulls = []
    for logit in logits:
        fake = logit.reshape(1).clone().requires_grad_()
        real = -logit.reshape(1) if gan.generator_sees_real else None
        loss = gan.generator_loss(fake, real)
        pull = derivative(loss, fake)[0]
        pulls.append(pull if loss.isfinite() else torch.full_like(pull, math.nan))  # nan can have a finite slope
    return torch.cat(pulls).abs()


def _verdict(gradient: Tensor, at_minus_10: float, at_minus_30: float) -> str:
    if gradient.isnan().any() or math.isinf(at_minus_10):
        return "not finite"
    # sigma(-30)/sigma(-10) is 2e-9, a linear pull has nearly 3, and every loss that climbs the critic exactly 1
    if at_minus_30 > 1.5 * at_minus_10:
        return "grows"
    return "bounded" if at_minus_30 > 0.5 * at_minus_10 else "vanishes when the critic wins"


def derivative(loss: Tensor, *inputs: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
    """d loss / d each input; 0 where the loss does not depend on it.

    Raises:
        ValueError: the loss is not a scalar tensor.
    """
    if not validate_scalar("a loss", loss).requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(loss, inputs, create_graph=create_graph, materialize_grads=True)
