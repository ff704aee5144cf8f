import torch

from ganlab.regularizers.base import Regularizer, elementwise
from ganlab.utils.validation import validate_int, validate_number


class InstanceNoise(Regularizer):
    """N(0, sigma^2) added to real samples and fakes before D gets them (Sønderby et al. 2017; Arjovsky & Bottou 2017).

    Distributions with disjoint supports overlap once they are blurred, so that D cannot win and its gradient does not
    vanish; the Dirac-GAN then converges. G learns the data without detail finer than `sigma`.

    Args:
        sigma: standard deviation, in the data's units.
        fade: updates of D over which the noise falls linearly to 0, so that G learns the detail after all; None: constant.
    """

    def __init__(self, sigma: float, fade: int | None = None):
        super().__init__()
        self.sigma = validate_number("a regularizer's `sigma`", sigma, above=0)
        self.fade = None if fade is None else validate_int("instance noise's `fade`", fade)
        # a tensor, since a CUDA graph would keep a number's value; not saved, since it follows from the step
        self.register_buffer("left", torch.ones(()), persistent=False)

    @elementwise
    def on_step_start(self, step):
        if self.fade is not None:
            self.left.fill_(max(0.0, 1 - step / self.fade))

    def augment(self, x):
        sigma = self.sigma if self.fade is None else self.sigma * self.left
        return x + sigma * torch.randn_like(x)
