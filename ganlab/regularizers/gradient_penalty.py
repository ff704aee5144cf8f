"""Penalties on the discriminator's gradient with respect to the samples: R1, R2, WGAN-GP, DRAGAN."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ganlab.regularizers.base import Regularizer, at_least_float32
from ganlab.utils.validation import validate_number


class R1(Regularizer):
    """gamma/2 * E ||grad_x D(x)||^2 on real samples (Mescheder et al. 2018, eq. 9; squared L2 norm over all of x).

    StyleGAN and R3GAN write gamma/2, too. The code of Mescheder et al. (GAN_stability) leaves the 1/2 out: its
    `reg_param` of 10 is gamma = 20 here. x is what D gets: under an augmentation, the augmented sample.
    """

    per_sample = True

    def __init__(self, gamma: float, every: int = 1):
        super().__init__(every)
        self.gamma = validate_number("a regularizer's `gamma`", gamma, minimum=0)

    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.real, outputs.real_y).mean()

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


class R2(R1):
    """gamma/2 * E ||grad_x D(x)||^2 on fakes (Mescheder et al. 2018, eq. 10)."""

    def penalty(self, discriminator, outputs):
        return self.gamma / 2 * squared_gradient_norm(discriminator, outputs.fake, outputs.fake_y).mean()


class GradientPenalty(Regularizer):
    """weight * E (||grad_x D(x)||_2 - center)^2 between real and fake (Gulrajani et al. 2017, eq. 3; weight 10, center 1).

    x = u * real + (1 - u) * fake with one u ~ U(0, 1) per sample and the real sample's label; the norm is over all of a
    sample's values. `one_sided` penalizes only norms above the center (the same paper, sec. 4). Center 0 converges locally
    where center 1 does not (Mescheder et al. 2018).
    """

    lipschitz = per_sample = True

    def __init__(self, weight: float, every: int = 1, center: float = 1.0, one_sided: bool = False):
        super().__init__(every)
        self.weight = validate_number("a regularizer's `weight`", weight, minimum=0)
        self.center = validate_number("a regularizer's `center`", center, minimum=0)
        self.one_sided = one_sided

    def points(self, outputs) -> Tensor:
        """Where the gradient is taken, [n, ...]."""
        real, fake = at_least_float32(outputs.real), at_least_float32(outputs.fake.detach())
        u = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        return u * real + (1 - u) * fake

    def penalty(self, discriminator, outputs):
        squared = squared_gradient_norm(discriminator, self.points(outputs), outputs.real_y)
        # sqrt has no gradient at 0, the norm of a constant critic; 1e-12 changes a norm by at most 1e-6 (compare_gan: 1e-4)
        return self._value((squared + 1e-12).sqrt()).mean()

    def closed_form_linear(self, slope):
        return self._value(slope)

    def _value(self, norm: Tensor) -> Tensor:
        excess = norm - self.center
        return self.weight * (relu(excess) if self.one_sided else excess).square()


class DRAGAN(GradientPenalty):
    """weight * E (||grad_x D(x + d)||_2 - 1)^2 around real samples (Kodali et al. 2017, sec. 2.3).

    d ~ N(0, (noise * s)^2), s = the standard deviation of all values of the real batch: Gaussian as in the paper. (The
    authors' code, and StudioGAN, draw U(0, noise * s), which moves each sample to one side.) It removes sharp gradients
    near the data, at which training gets stuck; far from the data D is free.
    """

    lipschitz = False

    def __init__(self, weight: float, noise: float, every: int = 1):
        super().__init__(weight, every)
        self.noise = validate_number("a regularizer's `noise`", noise, above=0)

    def points(self, outputs):
        real = at_least_float32(outputs.real)
        return real + self.noise * real.std(correction=0) * torch.randn_like(real)


def squared_gradient_norm(discriminator: nn.Module, x: Tensor, y: Tensor | None) -> Tensor:
    """||grad_x D(x, y)||^2 per sample, [n]; differentiable with respect to D's weights."""
    x = at_least_float32(x.detach())
    try:
        x.requires_grad_()
    except RuntimeError:  # inside torch.func.vmap (an ensemble), which allows neither this nor torch.autograd.grad
        gradient = torch.func.grad(lambda x: discriminator(x, y).sum())(x)
    else:  # not torch.func.grad, which allows no layer that writes into its buffers (batch norm, spectral norm)
        (gradient,) = torch.autograd.grad(discriminator(x, y).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)
