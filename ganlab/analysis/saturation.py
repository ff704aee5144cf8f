"""The generator's gradient as a function of the discriminator's logit: does it vanish where D recognizes the fakes?"""

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
        at_minus_10: the gradient at f = -10, where D is sure that the sample is a fake.
        verdict: from there to f = -30, "vanishes when the critic wins", stays "bounded", or "grows"; "not finite"
            where a gradient is NaN or the one at -10 is infinite.
    """

    logits: Tensor
    gradient: Tensor
    at_minus_10: float
    verdict: str


@torch.inference_mode(False)
@torch.enable_grad()
def saturation(family: Family) -> Saturation:
    """The generator's gradient at logits from -30 to 30, each in a batch of one.

    Where the generator's loss compares with real samples, their logit is -f: D is right or wrong on both sides.

    Raises:
        ValueError: the generator's loss is not a scalar.
    """
    gan = minimal_gan(family, Point(), LinearCritic(torch.zeros(1)))
    logits = torch.linspace(-30, 30, 241, dtype=torch.float64)
    gradient = _gradient_norms(gan, logits)
    at_minus_30, at_minus_10 = gradient[0].item(), gradient[80].item()
    return Saturation(logits, gradient, at_minus_10, _verdict(gradient, at_minus_10, at_minus_30))


def _gradient_norms(gan: GAN, logits: Tensor) -> Tensor:
    gradients = []
    for logit in logits:
        fake = logit.reshape(1).clone().requires_grad_()
        real = -logit.reshape(1) if gan.generator_sees_real else None
        loss = gan.generator_loss(fake, real)
        gradient = derivative(loss, fake)[0]
        gradients.append(gradient if loss.isfinite() else torch.full_like(gradient, math.nan))  # nan can have a finite slope
    return torch.cat(gradients).abs()


def _verdict(gradient: Tensor, at_minus_10: float, at_minus_30: float) -> str:
    if gradient.isnan().any() or math.isinf(at_minus_10):
        return "not finite"
    # the ratio is 2e-9 for sigma(f), nearly 3 for a gradient linear in f, and 1 for a constant one
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
