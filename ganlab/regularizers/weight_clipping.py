"""Weight clipping."""

from __future__ import annotations

import torch

from ganlab.regularizers.base import Regularizer, above_zero, elementwise


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
