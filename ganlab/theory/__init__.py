"""What can be known of a loss before it is trained: pure functions of a family, no data, no training."""

from ganlab.theory.bare import bare, family_class, shipped_families
from ganlab.theory.conformance import Check, assert_conforms, conformance
from ganlab.theory.counterfactual import generator_gradient_norms
from ganlab.theory.dirac import Dirac, dirac
from ganlab.theory.optimum import Optimum, optimum
from ganlab.theory.saturation import Saturation, saturation

__all__ = [
    "Check",
    "Dirac",
    "Optimum",
    "Saturation",
    "assert_conforms",
    "bare",
    "conformance",
    "dirac",
    "family_class",
    "generator_gradient_norms",
    "optimum",
    "saturation",
    "shipped_families",
]
