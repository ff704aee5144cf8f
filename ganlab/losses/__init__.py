"""The families. Logits r of real and f of fake, softplus s(x) = log(1 + e^x), sigma = sigmoid; high logit = "real".

A trap that popular write-ups fall into: -log D(G(z)) is the *non-saturating* loss, and log(1 - D(G(z)))
the *minimax* loss whose gradient vanishes when the discriminator wins; they are often named the wrong way round.
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
    "CGAN",
    "KLGAN",
    "LSGAN",
    "WGAN",
    "AlphaGAN",
    "HingeGAN",
    "JensenShannonGAN",
    "MinimaxGAN",
    "NonSaturatingGAN",
    "PearsonGAN",
    "RaGAN",
    "ReverseKLGAN",
    "RpGAN",
    "SquaredHellingerGAN",
]
