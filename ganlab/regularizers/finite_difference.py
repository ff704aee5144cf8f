"""Penalties on how much D changes between a sample and its neighbor; no gradient of a gradient is needed."""

from __future__ import annotations

import torch

from ganlab.regularizers.base import Regularizer, above_zero, at_least, at_least_float32, squared_change


class FiniteDifferenceR1(Regularizer):
    """gamma / (2 sigma^2) * E (D(x + sigma n) - D(x))^2 on real samples, n ~ N(0, I): R1 without double backward.

    On a linear critic the mean is exactly R1's gamma/2 ||w||^2; it differs from R1 by the critic's curvature within
    sigma. Papers that write lambda * E (...)^2 mean lambda = gamma / (2 sigma^2).
    """

    per_sample = True

    def __init__(self, gamma: float, sigma: float, every: int = 1):
        super().__init__(every)
        self.gamma, self.sigma = at_least("gamma", gamma, 0), above_zero("sigma", sigma)

    def penalty(self, discriminator, outputs):
        return self._penalty(discriminator, outputs.real, outputs.real_y)

    def _penalty(self, discriminator, x, y):
        x = at_least_float32(x.detach())
        step = self.sigma * torch.randn_like(x)
        return self.gamma / (2 * self.sigma**2) * squared_change(discriminator, x, x + step, y)

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


class FiniteDifferenceR2(FiniteDifferenceR1):
    """The same on fakes: R2 without double backward."""

    def penalty(self, discriminator, outputs):
        return self._penalty(discriminator, outputs.fake, outputs.fake_y)
