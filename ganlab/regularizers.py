"""What acts on the discriminator besides its loss: terms (added to the loss) and projections (after the step)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized


class Regularizer:
    """Overrides `term`, `project` or both.

    `every`: lazy terms are computed on every k-th update of D and counted k times, so that their mean over
    time does not depend on k. `lipschitz`: keeps the critic's slope bounded, as WGAN needs.
    """

    lipschitz = False

    def __init__(self, every: int = 1):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"a regularizer's `every` must be an integer of at least 1, got {every!r}")
        self.every = every

    def term(self, discriminator: nn.Module, play) -> Tensor | None:
        """Scalar to add to D's loss on this `Play`, in float32, or None."""

    def project(self, discriminator: nn.Module) -> None:
        """Move D's weights back to where they are allowed."""


class R1(Regularizer):
    """gamma/2 * E ||grad_x D(x)||^2 on real samples (Mescheder et al. 2018, eq. 9; squared L2 norm over all of x)."""

    def __init__(self, gamma: float, every: int = 1):
        super().__init__(every)
        self.gamma = gamma

    def term(self, discriminator, play):
        return self.gamma / 2 * squared_gradient_norm(discriminator, play.real, play.real_y).mean()


class GradientPenalty(Regularizer):
    """weight * E (||grad_x D(x)||_2 - 1)^2 between real and fake (Gulrajani et al. 2017, eq. 3; weight 10).

    x = u * real + (1 - u) * fake with one u ~ U(0, 1) per sample; the norm is over all of a sample's values.
    The point between a real and a fake wears the real one's label.
    """

    lipschitz = True

    def __init__(self, weight: float, every: int = 1):
        super().__init__(every)
        self.weight = weight

    def term(self, discriminator, play):
        real, fake = play.real.float(), play.fake.detach().float()
        u = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
        squared = squared_gradient_norm(discriminator, u * real + (1 - u) * fake, play.real_y)
        # sqrt has no gradient at 0, where a dead critic sits; 1e-12 moves the norm by at most 1e-6
        return self.weight * ((squared + 1e-12).sqrt() - 1).square().mean()


class WeightClipping(Regularizer):
    """Every parameter of D clipped to [-bound, bound] after each of its steps (Arjovsky et al. 2017, alg. 1; 0.01)."""

    lipschitz = True

    def __init__(self, bound: float):
        super().__init__()
        if not bound > 0:
            raise ValueError(f"regularizer.clip.bound must be above 0, got {bound}")
        self.bound = bound

    @torch.no_grad()
    def project(self, discriminator):
        parameters = list(discriminator.parameters())
        torch._foreach_clamp_min_(parameters, -self.bound)
        torch._foreach_clamp_max_(parameters, self.bound)


def squared_gradient_norm(discriminator: nn.Module, x: Tensor, y: Tensor | None) -> Tensor:
    """||grad_x D(x, y)||^2 per sample, [n], with a graph back to D's weights."""
    x = x.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x, y).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def is_spectrally_normalized(module: nn.Module) -> bool:
    """Whether every layer with a weight matrix carries torch's spectral norm."""
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return bool(layers) and all(
        is_parametrized(m, "weight")
        and any(isinstance(p, parametrizations._SpectralNorm) for p in m.parametrizations.weight)
        for m in layers
    )
