"""The (alpha_D, alpha_G)-GAN: from the exponential through the logistic to the linear probability loss."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ganlab.losses.functional import exp_minus_one
from ganlab.models.gan import GAN


class AlphaGAN(GAN):
    """(alpha_D, alpha_G)-GAN (Welfert et al. 2023, eq. 8-10): the alpha-loss of the probability p of the right answer.

    l_a(p) = A (1 - p^(1/A)), A = a/(a - 1); a = 1: -log p. D: l_aD(sigma(r)) + l_aD(sigma(-f)); G saturating:
    -l_aG(sigma(-f)), non-saturating: l_aG(sigma(f)). (1, 1) is the minimax or the non-saturating GAN. alpha_D < 1 gives D
    larger gradients where it is wrong, which helps against dropped modes; below about 0.3 its exponentials explode.

    Args:
        alpha_d, alpha_g: above 0; infinity is allowed.
        saturating: whether G minimizes the saturating form.
    """

    def __init__(self, *networks, alpha_d: float = 1.0, alpha_g: float = 1.0, saturating: bool = False, **settings):
        super().__init__(*networks, **settings)
        for name, alpha in (("alpha_d", alpha_d), ("alpha_g", alpha_g)):
            if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
                raise ValueError(f"gan.{name} must be a number above 0, got {alpha!r}")
        self.alpha_d, self.alpha_g, self.saturating = alpha_d, alpha_g, saturating

    def discriminator_loss(self, real_logits, fake_logits):
        return alpha_loss(real_logits, self.alpha_d).mean() + alpha_loss(-fake_logits, self.alpha_d).mean()

    def generator_loss(self, fake_logits, real_logits=None):
        if self.saturating:
            return -alpha_loss(-fake_logits, self.alpha_g).mean()
        return alpha_loss(fake_logits, self.alpha_g).mean()

    def optimal_logit(self, p, q):
        log_ratio = (p / q).log()
        return torch.where(log_ratio == 0, log_ratio, self.alpha_d * log_ratio)  # infinity * 0 is NaN

    def divergence(self, p, q):
        """A (sum (p^a + q^a)^(1/a) - 2), Arimoto's divergence up to a shift."""
        if self.alpha_d == 1:
            return ((p * (p / (p + q)).log()) + q * (q / (p + q)).log()).sum()
        a, largest = self.alpha_d, torch.maximum(p, q)  # factored out, since its power would underflow for a large a
        norms = largest * ((p / largest) ** a + (q / largest) ** a) ** (1 / a)
        return (norms.sum() - 2) / (1 - 1 / a)


def alpha_loss(logits: Tensor, alpha: float) -> Tensor:
    """l_alpha(sigma(logits)), elementwise; exact at and near alpha = 1."""
    power = 1 - 1 / alpha  # = 1/A
    log_p = logsigmoid(logits)
    return -log_p if power == 0 else -exp_minus_one(power * log_p) / power
