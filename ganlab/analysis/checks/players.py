"""The two hooks of a family as functions of logits, and their exact values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganlab.analysis.checks.check import CheckFailed
from ganlab.models.gan import GAN

HOOKS = ("discriminator_loss", "generator_loss")
Loss = Callable[[Tensor, Tensor], Tensor]  # (real logits [n], fake logits [n]) -> scalar

# Logits on which every sane critic still has something to learn, and on which it has caught every fake:
# unsymmetric, and inside the hinge's margin where that is flat outside.
WRONG = (torch.tensor([-1.2, -0.4, -0.9, -1.7]).double(), torch.tensor([0.8, 1.5, 0.3, 1.1]).double())
CAUGHT = (torch.tensor([0.8, 1.5, 0.3, 1.1]).double(), torch.tensor([-1.2, -0.4, -0.9, -1.7]).double())
LIVELY = dict(zip(HOOKS, (WRONG, CAUGHT)))


def loss_of(gan: GAN, hook: str, seed: int = 0) -> Loss:
    """The hook as the step calls it, from the same random state each time."""

    def loss(real: Tensor, fake: Tensor) -> Tensor:
        torch.default_generator.manual_seed(seed)
        if hook == "discriminator_loss":
            return clone_for_eval(gan).discriminator_loss(real, fake)
        return clone_for_eval(gan).generator_loss(fake, real if gan.generator_sees_real else None)

    return loss


def clone_for_eval(gan: GAN, kind: type[GAN] | None = None) -> GAN:
    """One to ask for losses instead of the GAN: a loss may remember what it saw (moving averages), and the GAN must not.

    `kind`: an ancestor whose methods answer, all of them: hooks may call others that were overridden.
    """
    kind = kind or type(gan)
    other = kind.__new__(kind)
    buffers = {name: None if buffer is None else buffer.clone() for name, buffer in gan._buffers.items()}
    other.__dict__.update(gan.__dict__, _buffers=buffers)
    return other


def evaluate(loss: Loss, real: Tensor, fake: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Value [] and gradient [2, n] (by real, by fake), computed in `dtype`, given in float64.

    Raises:
        CheckFailed: the loss is no scalar tensor.
    """
    leaves = [x.detach().to(dtype).requires_grad_() for x in (real, fake)]
    value = scalar(loss(*(leaf.clone() for leaf in leaves)))
    if not value.requires_grad:
        return value.double(), torch.zeros(2, len(real), dtype=torch.float64)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    rows = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients)]
    return value.detach().double(), torch.stack(rows).double()


def scalar(value) -> Tensor:
    if not isinstance(value, Tensor):
        raise CheckFailed(f"returns {value!r}, a {type(value).__name__}; a loss must be a tensor to carry a gradient")
    if value.shape != ():
        raise CheckFailed(f"returns a tensor of shape {list(value.shape)}, not a scalar; take the mean over the samples")
    if not value.is_floating_point():
        raise CheckFailed(f"returns a tensor of {value.dtype}, which carries no gradient")
    return value


def players_rows(hook: str, gradient: Tensor) -> Tensor:
    """The part of a gradient [2, n] that reaches this player: both rows for D, the fakes' for G."""
    return gradient if hook == "discriminator_loss" else gradient[1:]


def side(hook: str, row: int) -> str:
    return "real" if hook == "discriminator_loss" and row == 0 else "fake"


def shown(real: Tensor, fake: Tensor) -> str:
    """Logits in a message."""
    rows = (", ".join(f"{v:.3g}" for v in x.tolist()) for x in (real, fake))
    return "real [{}], fake [{}]".format(*rows)
