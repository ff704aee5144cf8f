import torch

from ganlab.regularizers.base import Regularizer, elementwise
from ganlab.utils.validation import validate_number


class WeightClipping(Regularizer):
    """Clip D's parameters to [-bound, bound] after each of its updates (Arjovsky et al. 2017, alg. 1; bound 0.01)."""

    lipschitz = True

    def __init__(self, bound: float):
        super().__init__()
        self.bound = validate_number("a regularizer's `bound`", bound, above=0)

    @elementwise
    @torch.no_grad()
    def project(self, discriminator):
        parameters = list(discriminator.parameters())
        torch._foreach_clamp_min_(parameters, -self.bound)
        torch._foreach_clamp_max_(parameters, self.bound)
