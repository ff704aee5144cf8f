"""Noise on everything that D sees."""

from __future__ import annotations

import torch

from ganlab.regularizers.base import Regularizer, above_zero, elementwise


class InstanceNoise(Regularizer):
    """Real and fake samples with N(0, sigma^2) added, in both turns (Sønderby et al. 2017; Arjovsky & Bottou 2017).

    Two distributions that share no support overlap once they are blurred, so that D cannot win and its gradient
    does not vanish; the Dirac-GAN then converges. G learns the data less its last `sigma` of detail.

    Args:
        sigma: standard deviation, in the data's units.
        fade: updates of D over which the noise falls linearly to none, so that G learns the detail after all; None
            keeps it.
    """

    def __init__(self, sigma: float, fade: int | None = None):
        super().__init__()
        if fade is not None and (isinstance(fade, bool) or not isinstance(fade, int) or fade < 1):
            raise ValueError(f"instance noise's `fade` must be an integer of at least 1, or null, got {fade!r}")
        self.sigma, self.fade = above_zero("sigma", sigma), fade
        # a tensor, so that a recorded step reads today's; not kept, since it follows from the step
        self.register_buffer("left", torch.ones(()), persistent=False)

    @elementwise
    def on_step_start(self, step):
        if self.fade is not None:
            self.left.fill_(max(0.0, 1 - step / self.fade))

    def augment(self, x):
        sigma = self.sigma if self.fade is None else self.sigma * self.left
        return x + sigma * torch.randn_like(x)
