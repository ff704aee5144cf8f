"""Penalties on how much D changes between a sample and its neighbor; no gradient of a gradient is needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from ganlab.regularizers.base import Regularizer, above_zero, at_least, at_least_float32, elementwise


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
        return self.gamma / (2 * self.sigma**2) * _squared_change(discriminator, x, x + step, y)

    def closed_form_linear(self, slope):
        return self.gamma / 2 * slope**2


class FiniteDifferenceR2(FiniteDifferenceR1):
    """The same on fakes: R2 without double backward."""

    def penalty(self, discriminator, outputs):
        return self._penalty(discriminator, outputs.fake, outputs.fake_y)


class Consistency(Regularizer):
    """weight * (E (D(T x) - D(x))^2 on real + the same on fakes): balanced consistency (bCR, Zhao et al. 2021).

    `transform`: a regularizer whose `augment` is T, such as DiffAugment on images and InstanceNoise on points.
    D learns that T changes nothing that matters, without being shown T x as data.
    """

    def __init__(self, weight: float, transform: Regularizer, every: int = 1):
        super().__init__(every)
        self.weight, self.transform = at_least("weight", weight, 0), transform

    @elementwise
    def on_step_start(self, turn):
        self.transform.on_step_start(turn)

    def penalty(self, discriminator, outputs):
        pairs = ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y))
        changes = []
        for x, y in pairs:
            x = at_least_float32(x.detach())
            changes.append(_squared_change(discriminator, x, self.transform.augment(x), y))
        return self.weight * sum(changes)


def _squared_change(discriminator: nn.Module, x: Tensor, neighbor: Tensor, y: Tensor | None) -> Tensor:
    """E (D(neighbor) - D(x))^2. Both are computed here in full precision: bf16 logits differ by more than their change."""
    with cached():  # in training spectral norm moves the weights with each pass: a change of D that is none in x
        return (discriminator(neighbor, y) - discriminator(x, y)).square().mean()
