"""Critics, samples and plays to ask penalties with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.check import CheckFailed, NotApplicable
from ganlab.analysis.minimal import LinearCritic, minimal_gan
from ganlab.losses import NonSaturatingGAN
from ganlab.models.gan import StepOutputs

IMAGES = (2, 8, 8)
LATE = 10_000  # D's updates before the play that is asked: some terms only start after a while

Term = Callable[[nn.Module, StepOutputs], Tensor | None]  # a bound `penalty`


class Quadratic(nn.Module):
    """D(x) = ||x||^2/2: its gradient at x is x, so that a penalty tells where it was taken; notes where it is asked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.asked: list[Tensor] = []

    def forward(self, x, y=None):
        self.asked.append(x.detach().clone())
        return self.scale / 2 * x.flatten(1).square().sum(1)


class _Given(nn.Module):
    """A generator that gives the samples that it was told to."""

    latent_dim = 1

    def __init__(self, samples: Tensor):
        super().__init__()
        self.register_buffer("samples", samples)

    def forward(self, z, y=None):
        return self.samples


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Real and fake [n, *shape], at least 0.5 apart in every value; each is the larger one in about half of them."""
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(n, *shape, generator=random) * 0.7 + 0.4
    sign = torch.randint(2, (n, *shape), generator=random) * 2 - 1
    return real, real + sign * (0.5 + torch.rand(n, *shape, generator=random))


def linear(shape: tuple[int, ...], slope: float) -> LinearCritic:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return LinearCritic(slope * weight / weight.norm())


def value(term: Term, critic: nn.Module, real: Tensor, fake: Tensor, seed: int = 0) -> Tensor:
    """The term as a late turn of D would have it, from a fixed random state. A copy is asked: a term may remember.

    Raises:
        NotApplicable: there is no term.
        CheckFailed: it is no scalar tensor.
    """
    gan = minimal_gan(NonSaturatingGAN, _Given(fake), critic)
    gan.d_updates = LATE
    outputs = gan.forward_pass(real, None, with_real=True, grad_to_generator=False)
    if isinstance(critic, Quadratic):
        critic.asked.clear()
    torch.default_generator.manual_seed(seed)
    found = term.__func__(copy.deepcopy(term.__self__), critic, outputs)
    if found is None:
        raise NotApplicable("it adds no term to D's loss")
    if not isinstance(found, Tensor) or found.shape != ():
        what = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise CheckFailed(f"returns {what} for {named(real.shape)}; a term is a scalar tensor, the mean over the samples")
    return found


def number(*args, **settings) -> float:
    return value(*args, **settings).item()


def is_random(term: Term, critic: nn.Module, real: Tensor, fake: Tensor) -> bool:
    first, second = (number(term, critic, real, fake, seed=seed) for seed in (0, 1))
    return not math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def named(shape: tuple[int, ...]) -> str:
    """A batch's shape in a message."""
    return f"samples [{', '.join(map(str, shape))}]"
