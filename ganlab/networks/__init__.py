"""Networks: `G(z, y=None) -> samples` and `D(x, y=None) -> logits [n]`. Each network decides how a label enters it."""

from ganlab.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganlab.networks.discriminator import Discriminator
from ganlab.networks.mlp import MLPDiscriminator, MLPGenerator
from ganlab.networks.resnet import ResNetDiscriminator, ResNetGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "MLPDiscriminator",
    "MLPGenerator",
    "ResNetDiscriminator",
    "ResNetGenerator",
]
