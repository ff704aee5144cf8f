"""Critics and samples on which penalties are evaluated."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.minimal import LinearCritic
from ganlab.models.gan import StepOutputs
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


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Real and fake [n, *shape], at least 0.5 apart in every value; each is the larger one in about half of them."""
    random = torch.Generator().manual_seed(seed)
    real = torch.randn(n, *shape, generator=random) * 0.7 + 0.4
    sign = torch.randint(2, (n, *shape), generator=random) * 2 - 1
    return real, real + sign * (0.5 + torch.rand(n, *shape, generator=random))


def linear_critic(shape: tuple[int, ...], slope: float) -> LinearCritic:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return LinearCritic(slope * weight / weight.norm())


def step_outputs(critic: nn.Module, real: Tensor, fake: Tensor, step: int = LATE_STEP) -> StepOutputs:
    """What D's step number `step` sees, without labels and augmentation."""
    return StepOutputs(real, fake, None, None, critic(real), critic(fake), step)


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
    outputs = step_outputs(critic, real, fake)
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
