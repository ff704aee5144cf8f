"""What a regularizer is, and what several of them use."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import cached, is_parametrized


def elementwise(hook):
    """Mark an `on_step_start` or `project` that treats each value by itself: an ensemble runs it on all members at once."""
    hook.elementwise = True
    return hook


class Regularizer(nn.Module):
    """Acts on the discriminator besides its loss; overrides `penalty`, `project` or `augment`, and `on_step_start` to follow time.

    `every`: lazy terms are computed on every k-th update of D and counted k times, so that their mean over
    time does not depend on k. `lipschitz`: keeps the critic's slope bounded, as WGAN needs. `per_sample`: asks
    D for gradients sample by sample, which batch norm in D spoils.
    """

    lipschitz = False
    per_sample = False
    # Theory that a regularizer may declare and `ganlab inspect` holds it to: (slope) -> its term on a critic
    # D(x) = <w, x> + b with ||w||_2 = slope, or the term's mean where it draws random numbers
    closed_form_linear = None

    def __init__(self, every: int = 1):
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"a regularizer's `every` must be an integer of at least 1, got {every!r}")
        self.every = every

    @elementwise
    def on_step_start(self, step: int) -> None:
        """Called before each step of either player, outside CUDA graphs; `step`: D's updates so far."""

    def penalty(self, discriminator: nn.Module, outputs) -> Tensor | None:
        """Scalar to add to D's loss on this `StepOutputs`, in float32 or better, or None."""

    def graph_key(self, step: int) -> Hashable:
        """What of D's update number this depends on; turns with equal phases can share a CUDA graph."""
        return step % self.every == 0

    @elementwise
    def project(self, discriminator: nn.Module) -> None:
        """Move D's weights back to where they are allowed."""

    def augment(self, x: Tensor) -> Tensor:
        """What D sees instead of x [n, ...], real or fake, in both turns; differentiable, drawn anew at each call."""
        return x


def is_elementwise(regularizer: Regularizer, hook: str) -> bool:
    """Whether a hook of the regularizer, and of those inside it, is marked as elementwise."""
    inside = [module for module in regularizer.modules() if isinstance(module, Regularizer)]
    return all(getattr(getattr(module, hook), "elementwise", False) for module in inside)


def at_least_float32(x: Tensor) -> Tensor:
    """bf16 and float16 become float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def squared_change(discriminator: nn.Module, x: Tensor, neighbor: Tensor, y: Tensor | None) -> Tensor:
    """E (D(neighbor) - D(x))^2. Both are computed here in full precision: bf16 logits differ by more than their change."""
    with cached():  # in training spectral norm moves the weights with each pass: a change of D that is none in x
        return (discriminator(neighbor, y) - discriminator(x, y)).square().mean()


def at_least(name: str, value: float, lowest: float) -> float:
    """The value, if it is a number not below the lowest."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= lowest:
        raise ValueError(f"a regularizer's `{name}` must be a number of at least {lowest:g}, got {value!r}")
    return value


def above_zero(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"a regularizer's `{name}` must be a number above 0, got {value!r}")
    return value


def is_spectrally_normalized(module: nn.Module) -> bool:
    """Whether every layer with a weight matrix carries torch's spectral norm."""
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return bool(layers) and all(
        is_parametrized(m, "weight") and any(isinstance(p, parametrizations._SpectralNorm) for p in m.parametrizations.weight)
        for m in layers
    )
