"""Penalties on D's logits, and the projection of its weights."""

from __future__ import annotations

import torch
from torch.nn.functional import relu

from ganlab.regularizers.base import Regularizer, above_zero, at_least, elementwise


class LeCam(Regularizer):
    """weight * (E relu(r - a_F)^2 + E relu(a_R - f)^2), a_R, a_F = moving averages of the logits (Tseng et al. 2021).

    It keeps D from drifting apart on little data. The averages (`decay`) run from the first turn; the term begins
    at D's update `start`. They are saved with the checkpoint.
    """

    def __init__(self, weight: float, start: int = 1000, decay: float = 0.99):
        super().__init__()
        self.weight, self.start, self.decay = at_least("weight", weight, 0), at_least("start", start, 0), decay
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"a regularizer's `decay` must be in [0, 1), got {decay!r}")
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))

    def graph_key(self, turn):
        return super().graph_key(turn), turn == 0, turn >= self.start

    def penalty(self, discriminator, outputs):
        decay = 0 if outputs.turn == 0 else self.decay
        for average, logits in ((self.real_average, outputs.real_logits), (self.fake_average, outputs.fake_logits)):
            average.mul_(decay).add_((1 - decay) * logits.detach().mean())
        if outputs.turn < self.start:
            return None
        real_excess = relu(outputs.real_logits - self.fake_average)
        fake_excess = relu(self.real_average - outputs.fake_logits)
        return self.weight * (real_excess.square().mean() + fake_excess.square().mean())


class WeightClipping(Regularizer):
    """Every parameter of D clipped to [-bound, bound] after each of its steps (Arjovsky et al. 2017, alg. 1; 0.01)."""

    lipschitz = True

    def __init__(self, bound: float):
        super().__init__()
        self.bound = above_zero("bound", bound)

    @elementwise
    @torch.no_grad()
    def project(self, discriminator):
        parameters = list(discriminator.parameters())
        torch._foreach_clamp_min_(parameters, -self.bound)
        torch._foreach_clamp_max_(parameters, self.bound)
