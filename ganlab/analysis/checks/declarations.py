"""Checks of the theory that a family declares: its optimal logit and its divergence, against D's loss at its minimum."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.minimal import Family, family_class
from ganlab.analysis.optimal_discriminator import OptimalDiscriminator, optimal_discriminator

TOLERANCE = 1e-3  # both are exact to about 1e-6


@dataclass
class Theory:
    """What a family declares. `known`: its optimal discriminator, if it was computed already."""

    family: Family
    known: OptimalDiscriminator | None

    @cached_property
    def optimum(self) -> OptimalDiscriminator:
        return self.known or optimal_discriminator(self.family)

    def require(self, name: str) -> OptimalDiscriminator:
        if getattr(family_class(self.family), name) is None:
            raise NotApplicable(f"the class does not declare {name}")
        return self.optimum


def has_its_optimal_logit(theory: Theory) -> None:
    """Goodfellow et al. 2014, prop. 1: the optimal D is a function of p/q that the loss determines."""
    optimum = theory.require("optimal_logit")
    if optimum.error is None:
        raise NotApplicable("D's loss has no minimum at finite logits")
    if not optimum.error <= TOLERANCE:
        raise CheckFailed(
            f"optimal_logit differs from the minimum of D's loss by up to {optimum.error:.3g}: "
            f"{_worst(optimum, optimum.declared_logits, optimum.logits)}; a term's sign or weight (twice, half) differs from the "
            "declared theory's"
        )


def has_its_divergence(theory: Theory) -> None:
    """Nowozin et al. 2016, eq. 4: minus the lowest loss of D is the divergence that it measures."""
    optimum = theory.require("divergence")
    if optimum.value_error is not None and not optimum.value_error <= TOLERANCE:
        raise CheckFailed(
            f"divergence differs from minus the lowest value of D's loss by up to {optimum.value_error:.3g}: "
            f"{_worst(optimum, optimum.declared_value, optimum.value)}"
        )


def _worst(optimum: OptimalDiscriminator, declared: Tensor, found: Tensor) -> str:
    k, *point = ((declared - found).abs() == (declared - found).abs().max()).nonzero()[0].tolist()
    i = (k, *point)
    at = f"p = {optimum.p[i]:.3g} and q = {optimum.q[i]:.3g}" if point else f"pair no. {k + 1}"
    return f"declared {declared[i]:.4g}, found {found[i]:.4g} at {at}"


QUESTIONS: dict[str, Callable] = {
    "declared optimal_logit": has_its_optimal_logit,
    "declared divergence": has_its_divergence,
}
