import torch
from torch.nn.functional import relu

from ganlab.regularizers.base import Regularizer
from ganlab.utils.validation import validate_number


class LeCam(Regularizer):
    """weight * (E relu(r - a_F)^2 + E relu(a_R - f)^2), a_R, a_F = moving averages of the logits (Tseng et al. 2021).

    For small datasets: it keeps real and fake logits from drifting apart. The averages (`decay`) run from the first
    update, are saved with checkpoints, and the penalty begins at D's update `start`. (In the authors' code the averages
    follow the current value until `start`.)
    """

    def __init__(self, weight: float, start: int = 1000, decay: float = 0.99):
        super().__init__()
        self.weight = validate_number("a regularizer's `weight`", weight, minimum=0)
        self.start = validate_number("a regularizer's `start`", start, minimum=0)
        self.decay = validate_number("a regularizer's `decay`", decay, minimum=0, below=1)
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
