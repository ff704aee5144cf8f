"""The base class of every regularizer, and what several of them use."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import cached, is_parametrized

from ganlab.utils.validation import validate_int


def elementwise(hook: Callable) -> Callable:
    """Mark an `on_step_start` or `project` that treats each value by itself: an ensemble runs it on all members at once."""
    hook.elementwise = True  # type: ignore[attr-defined]
    return hook


class Regularizer(nn.Module):
    """Acts on the discriminator besides its loss. Override `penalty`, `project` or `augment`; `on_step_start` for schedules.

    Penalties are evaluated at the samples that D gets: augmented, and packed. A penalty on D's gradient is one with respect
    to the augmented sample. (R3GAN and StyleGAN2-ADA differentiate through the augmentation, with respect to the raw one.)

    A subclass calls `super().__init__(every)`. In an ensemble its hooks run once per member, unless marked `elementwise`.

    Args:
        every: a lazy penalty is computed at every k-th update of D and counted k times, so that its gradient's mean over
            steps is the same. Adam's steps are not: it scales rare, large gradients down. (In StyleGAN2 the lazy
            penalty is an optimizer step of its own, with corrected learning rate and betas.)

    Class attributes:
        lipschitz: bounds the critic's slope, as WGAN needs.
        per_sample: needs D's gradients per sample, which batch norm in D mixes.
        closed_form_linear: theory that `ganlab inspect` checks; (slope) -> the penalty on a critic D(x) = <w, x> + b with
            ||w||_2 = slope, or its mean if it draws random numbers.
    """

    lipschitz = False
    per_sample = False
    closed_form_linear = None

    def __init__(self, every: int = 1):
        super().__init__()
        self.every = validate_int("a regularizer's `every`", every)

    @elementwise
    def on_step_start(self, step: int) -> None:
        """Called before each update of D or G, outside CUDA graphs; `step`: updates of D so far."""

    def penalty(self, discriminator: nn.Module, outputs) -> Tensor | None:
        """Scalar to add to D's loss for these `ganlab.models.gan.StepOutputs`, in float32 or float64, or None."""

    def graph_key(self, step: int) -> Hashable:
        """What the penalty's work depends on; steps with equal keys share a CUDA graph."""
        return step % self.every == 0

    @elementwise
    def project(self, discriminator: nn.Module) -> None:
        """Project D's weights onto the allowed set, after each update of D."""

    def augment(self, x: Tensor) -> Tensor:
        """Transform samples x [n, ...], real or fake, before D gets them; differentiable, drawn anew at each call."""
        return x


def is_elementwise(regularizer: Regularizer, hook: str) -> bool:
    """Whether a hook of the regularizer, and of those inside it, is marked as elementwise."""
    inside = [module for module in regularizer.modules() if isinstance(module, Regularizer)]
    return all(getattr(getattr(module, hook), "elementwise", False) for module in inside)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert bf16 and float16 to float32; keep float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_squared_change(discriminator: nn.Module, x: Tensor, neighbor: Tensor, y: Tensor | None) -> Tensor:
    """E (D(neighbor) - D(x))^2, both in full precision: bf16 logits differ by more than their change."""
    with cached():  # spectral norm would update its vectors between the two passes
        return (discriminator(neighbor, y) - discriminator(x, y)).square().mean()


def is_spectrally_normalized(module: nn.Module) -> bool:
    """Whether every linear and convolutional layer has torch's spectral norm."""
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return bool(layers) and all(
        is_parametrized(m, "weight") and any(isinstance(p, parametrizations._SpectralNorm) for p in m.parametrizations.weight)
        for m in layers
    )
