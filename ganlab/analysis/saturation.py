"""The generator's gradient as a function of the discriminator's logit: does it vanish where D recognizes the fakes?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlab.analysis.minimal import Family, derivative, minimal_gan


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
    gan = minimal_gan(family)
    logits = torch.linspace(-30, 30, 241, dtype=torch.float64)
    gradients = []
    for logit in logits.split(1):
        fake = logit.clone().requires_grad_()
        loss = gan.generator_loss(fake, -logit if gan.generator_sees_real else None)
        (gradient,) = derivative(loss, fake)
        gradients.append(gradient if loss.isfinite() else torch.full_like(gradient, math.nan))  # nan can have a finite slope
    gradient = torch.cat(gradients).abs()
    at_minus_30, at_minus_10 = gradient[0].item(), gradient[80].item()
    # the ratio of the two is 2e-9 for sigma(f), nearly 3 for a gradient linear in f, and 1 for a constant one
    if gradient.isnan().any() or math.isinf(at_minus_10):
        verdict = "not finite"
    elif at_minus_30 > 1.5 * at_minus_10:
        verdict = "grows"
    else:
        verdict = "bounded" if at_minus_30 > 0.5 * at_minus_10 else "vanishes when the critic wins"
    return Saturation(logits, gradient, at_minus_10, verdict)
