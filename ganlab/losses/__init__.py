"""GAN losses, one class per family. In formulas: logits r of real and f of fake, s = softplus, sigma = sigmoid.

-log D(G(z)) is the *non-saturating* loss; log(1 - D(G(z))) is the *minimax* loss, whose gradient vanishes when D wins.
Popular write-ups often name them the wrong way round.
"""

from ganlab.losses.alpha import AlphaGAN
from ganlab.losses.cgan import CGAN
from ganlab.losses.f_gan import KLGAN, JensenShannonGAN, PearsonGAN, ReverseKLGAN, SquaredHellingerGAN
from ganlab.losses.hinge import HingeGAN
from ganlab.losses.least_squares import LSGAN
from ganlab.losses.minimax import MinimaxGAN
from ganlab.losses.non_saturating import NonSaturatingGAN
from ganlab.losses.relativistic import RaGAN, RpGAN
from ganlab.losses.wgan import WGAN

__all__ = [
    "CGAN", "KLGAN", "LSGAN", "WGAN", "AlphaGAN", "HingeGAN", "JensenShannonGAN", "MinimaxGAN", "NonSaturatingGAN",
    "PearsonGAN", "RaGAN", "ReverseKLGAN", "RpGAN", "SquaredHellingerGAN",
]  # fmt: skip
