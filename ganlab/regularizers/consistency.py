"""Consistency regularization: D is pulled to the same logit before and after a transform."""

from __future__ import annotations

from ganlab.regularizers.base import Regularizer, at_least, at_least_float32, elementwise, squared_change


class Consistency(Regularizer):
    """weight * (E (D(T x) - D(x))^2 on real + the same on fakes): balanced consistency (bCR, Zhao et al. 2021).

    `transform`: a regularizer whose `augment` is T, such as DiffAugment on images and InstanceNoise on points.
    D learns that T changes nothing that matters, without being shown T x as data.
    """

    def __init__(self, weight: float, transform: Regularizer, every: int = 1):
        super().__init__(every)
        self.weight, self.transform = at_least("weight", weight, 0), transform

    @elementwise
    def on_step_start(self, step):
        self.transform.on_step_start(step)

    def penalty(self, discriminator, outputs):
        pairs = ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y))
        changes = []
        for x, y in pairs:
            x = at_least_float32(x.detach())
            changes.append(squared_change(discriminator, x, self.transform.augment(x), y))
        return self.weight * sum(changes)
