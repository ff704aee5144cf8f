"""LeCam regularization of D's logits."""

from __future__ import annotations

import torch
from torch.nn.functional import relu

from ganlab.regularizers.base import Regularizer, at_least


class LeCam(Regularizer):
    """weight * (E relu(r - a_F)^2 + E relu(a_R - f)^2), a_R, a_F = moving averages of the logits (Tseng et al. 2021).

    It keeps D from drifting apart on little data. The averages (`decay`) run from the first step; the term begins
    at D's update `start`. They are saved with the checkpoint.
    """

    def __init__(self, weight: float, start: int = 1000, decay: float = 0.99):
        super().__init__()
        self.weight, self.start, self.decay = at_least("weight", weight, 0), at_least("start", start, 0), decay
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"a regularizer's `decay` must be in [0, 1), got {decay!r}")
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))

    def graph_key(self, step):
        return super().graph_key(step), step == 0, step >= self.start

    def penalty(self, discriminator, outputs):
        decay = 0 if outputs.step == 0 else self.decay
        for average, logits in ((self.real_average, outputs.real_logits), (self.fake_average, outputs.fake_logits)):
            average.mul_(decay).add_((1 - decay) * logits.detach().mean())
        if outputs.step < self.start:
            return None
        real_excess = relu(outputs.real_logits - self.fake_average)
        fake_excess = relu(self.real_average - outputs.fake_logits)
        return self.weight * (real_excess.square().mean() + fake_excess.square().mean())
