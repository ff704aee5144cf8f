"""Consistency regularization: D's logit should not change under a transform."""

from ganlab.regularizers.base import Regularizer, at_least_float32, elementwise, mean_squared_change
from ganlab.utils.validation import validate_number


class Consistency(Regularizer):
    """weight * (E (D(T x) - D(x))^2 on real samples + the same on fakes): balanced consistency (bCR, Zhao et al. 2021).

    transform: a regularizer whose `augment` is T, such as DiffAugment on images and InstanceNoise on points. T acts on the
    samples of a pack one by one. D learns to ignore T, without getting T x as data.
    """

    def __init__(self, weight: float, transform: Regularizer, every: int = 1):
        super().__init__(every)
        self.weight, self.transform = validate_number("a regularizer's `weight`", weight, minimum=0), transform

    @elementwise
    def on_step_start(self, step):
        self.transform.on_step_start(step)

    def penalty(self, discriminator, outputs):
        changes = []
        for x, y in ((outputs.real, outputs.real_y), (outputs.fake, outputs.fake_y)):
            x = at_least_float32(x.detach())
            singles = x.unflatten(1, (outputs.pack, -1)).flatten(0, 1)
            changes.append(mean_squared_change(discriminator, x, self.transform.augment(singles).reshape(x.shape), y))
        return self.weight * sum(changes)
