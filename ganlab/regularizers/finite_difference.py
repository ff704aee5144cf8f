"""R1 and R2 by finite differences, without double backward."""

import torch

from ganlab.regularizers.base import Regularizer, at_least_float32, mean_squared_change
from ganlab.utils.validation import validate_number


class FiniteDifferenceR1(Regularizer):
    """gamma / (2 sigma^2) * E (D(x + sigma n) - D(x))^2 on real samples, n ~ N(0, I).

    On a linear critic its mean is exactly R1's gamma/2 ||w||^2; otherwise it differs from R1 by the critic's curvature
    within sigma. Papers that write lambda * E (...)^2 mean lambda = gamma / (2 sigma^2).
    """

    per_sample = True

    def __init__(self, gamma: float, sigma: float, every: int = 1):
        super().__init__(every)
        self.gamma = validate_number("a regularizer's `gamma`", gamma, minimum=0)
        self.sigma = validate_number("a regularizer's `sigma`", sigma, above=0)

    def penalty(self, discriminator, outputs):
        return self._penalty(discriminator, outputs.real, outputs.real_y)

    def _penalty(self, discriminator, x, y):
        x = at_least_float32(x.detach())
        neighbor = x + self.sigma * torch.randn_like(x)
        return self.gamma / (2 * self.sigma**2) * mean_squared_change(discriminator, x, neighbor, y)

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


class FiniteDifferenceR2(FiniteDifferenceR1):
    """gamma / (2 sigma^2) * E (D(x + sigma n) - D(x))^2 on fakes: R2 without double backward."""

    def penalty(self, discriminator, outputs):
        return self._penalty(discriminator, outputs.fake, outputs.fake_y)
