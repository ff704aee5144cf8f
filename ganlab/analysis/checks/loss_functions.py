"""The two losses of a family as functions of logits, with their exact values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed
from ganlab.models.gan import GAN

LOSSES = ("discriminator_loss", "generator_loss")
PLAYER = {"discriminator_loss": "discriminator", "generator_loss": "generator"}
Loss = Callable[[Tensor, Tensor], Tensor]  # (real logits [n], fake logits [n]) -> scalar

# Logits where D is wrong, so that any D still has a gradient, and where D is right, so that any G has one:
# unsymmetric, and within the hinge loss's margin.
_HIGH, _LOW = torch.tensor([[0.8, 1.5, 0.3, 1.1], [-1.2, -0.4, -0.9, -1.7]], dtype=torch.float64)
TYPICAL_LOGITS = {"discriminator_loss": (_LOW, _HIGH), "generator_loss": (_HIGH, _LOW)}  # real, fake


def loss_function(gan: GAN, name: str, seed: int = 0) -> Loss:
    """The loss as the training step calls it, always from the same random state."""

    def loss(real: Tensor, fake: Tensor) -> Tensor:
        torch.default_generator.manual_seed(seed)
        if name == "discriminator_loss":
            return clone_for_eval(gan).discriminator_loss(real, fake)
        return clone_for_eval(gan).generator_loss(fake, real if gan.generator_sees_real else None)

    return loss


def clone_for_eval(gan: GAN, kind: type[GAN] | None = None) -> GAN:
    """A clone whose losses can be called without changing the GAN's buffers and attributes (moving averages).

    `kind`: an ancestor class whose methods the clone uses, since a loss may call other methods that were overridden.
    """
    kind = kind or type(gan)
    clone = kind.__new__(kind)
    buffers = {name: None if buffer is None else buffer.clone() for name, buffer in gan._buffers.items()}
    clone.__dict__.update(gan.__dict__, _buffers=buffers)
    return clone


def value_and_gradient(loss: Loss, real: Tensor, fake: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The loss [] and its gradient [2, n] (by real, by fake), computed in `dtype`, returned in float64.

    Raises:
        CheckFailed: the loss is not a scalar tensor of floats.
    """
    leaves = [x.detach().to(dtype).requires_grad_() for x in (real, fake)]
    value = loss(*(leaf.clone() for leaf in leaves))
    if not isinstance(value, Tensor):
        raise CheckFailed(f"returns {value!r}, a {type(value).__name__}; a loss must be a tensor to carry a gradient")
    if value.shape != ():
        raise CheckFailed(f"returns a tensor of shape {list(value.shape)}, not a scalar; take the mean over the samples")
    if not value.is_floating_point():
        raise CheckFailed(f"returns a tensor of {value.dtype}, which carries no gradient")
    if not value.requires_grad:
        return value.double(), torch.zeros(2, len(real), dtype=torch.float64)
    gradients = torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)
    return value.detach().double(), torch.stack(gradients).double()


def used_rows(name: str, gradient: Tensor) -> Tensor:
    """The rows of a gradient [2, n] that reach the player: both for D, the fakes' for G."""
    return gradient if name == "discriminator_loss" else gradient[1:]


def row_name(name: str, row: int) -> str:
    return "real" if name == "discriminator_loss" and row == 0 else "fake"


def format_logits(real: Tensor, fake: Tensor) -> str:
    return "real [{}], fake [{}]".format(*(", ".join(f"{v:.3g}" for v in x.tolist()) for x in (real, fake)))
