"""Analysis of a loss without data or training: pure functions of a family."""

from ganlab.analysis.checks import Check, assert_conforms, conformance
from ganlab.analysis.dirac_gan import DiracGAN, dirac_gan
from ganlab.analysis.generator_gradients import generator_gradient_norms
from ganlab.analysis.minimal import family_class, minimal_gan, shipped_families
from ganlab.analysis.optimal_discriminator import OptimalDiscriminator, optimal_discriminator
from ganlab.analysis.saturation import Saturation, saturation

__all__ = [
    "Check", "DiracGAN", "OptimalDiscriminator", "Saturation", "assert_conforms", "conformance", "dirac_gan",
    "family_class", "generator_gradient_norms", "minimal_gan", "optimal_discriminator", "saturation",
    "shipped_families",
]  # fmt: skip
