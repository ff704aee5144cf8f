"""Critics and samples on which penalties are evaluated."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.minimal import LinearCritic, minimal_gan
from ganlab.losses import NonSaturatingGAN
from ganlab.models.gan import GAN, StepOutputs
from ganlab.regularizers import Regularizer

IMAGE_SHAPE = (2, 8, 8)
LATE_STEP = 9_999  # D's updates before a check: schedules (LeCam's start) have begun by then; a multiple of LAZY_EVERY
LAZY_EVERY = 3


class QuadraticCritic(nn.Module):
    """D(x) = ||x||^2/2: its gradient at x is x, so that a penalty shows where it was evaluated. Records its inputs."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.inputs.append(x.detach().clone())
        return self.scale / 2 * x.flatten(1).square().sum(1)


class _FixedGenerator(nn.Module):
    """Returns the samples that it was given."""

    latent_dim = 1

    def __init__(self, samples: Tensor):
        super().__init__()
        self.samples = samples

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.samples


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Real and fake [n, *shape], at least 0.5 apart in every value; each is the larger one in about half of them."""
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(n, *shape, generator=random) * 0.7 + 0.4
    sign = torch.randint(2, (n, *shape), generator=random) * 2 - 1
    return real, real + sign * (0.5 + torch.rand(n, *shape, generator=random))


def linear_critic(shape: tuple[int, ...], slope: float) -> LinearCritic:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return LinearCritic(slope * weight / weight.norm())


def discriminator_step(
    critic: nn.Module, real: Tensor, fake: Tensor, step: int = LATE_STEP, regularizer: Regularizer | None = None
) -> tuple[GAN, StepOutputs]:
    """A GAN with this critic and a copy of this regularizer, and what it sees in D's step number `step`."""
    family = partial(NonSaturatingGAN, regularizers={"it": regularizer} if regularizer else {})
    gan = minimal_gan(family, _FixedGenerator(fake), critic)
    gan.d_updates = step
    return gan, gan.forward_pass(real, None, with_real=True, grad_to_generator=False)


def penalty_value(
    regularizer: Regularizer,
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    *,
    seed: int = 0,
    method: Callable[..., Tensor | None] | None = None,
) -> Tensor:
    """The penalty late in training, from a fixed random state; of a copy, since a regularizer may have a memory.

    `method`: called in place of the regularizer's own `penalty`.

    Raises:
        NotApplicable: there is no penalty.
        CheckFailed: it is not a scalar tensor.
    """
    _, outputs = discriminator_step(critic, real, fake)
    if isinstance(critic, QuadraticCritic):
        critic.inputs.clear()
    torch.default_generator.manual_seed(seed)
    regularizer = copy.deepcopy(regularizer)
    value = method(regularizer, critic, outputs) if method else regularizer.penalty(critic, outputs)
    if value is None:
        raise NotApplicable("it adds no penalty to D's loss")
    if not isinstance(value, Tensor) or value.shape != ():
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise CheckFailed(f"returns {what} for {format_shape(real)}; a penalty is a scalar tensor, the mean over the samples")
    return value


def penalty_number(regularizer: Regularizer, critic: nn.Module, real: Tensor, fake: Tensor, seed: int = 0) -> float:
    return penalty_value(regularizer, critic, real, fake, seed=seed).item()


def is_random(regularizer: Regularizer, critic: nn.Module, real: Tensor, fake: Tensor) -> bool:
    first, second = (penalty_number(regularizer, critic, real, fake, seed) for seed in (0, 1))
    return not math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def format_shape(batch: Tensor) -> str:
    return f"samples [{', '.join(map(str, batch.shape))}]"
