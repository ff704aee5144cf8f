"""The smallest GAN of any family, for theory without networks and data, and the derivatives of what it computes."""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

import ganlab.losses
from ganlab.models.conditioning import ClassLabels
from ganlab.models.gan import GAN, validate_scalar

Family = Callable[..., GAN]  # a subclass of GAN, or a functools.partial of one with settings and regularizers


class Point(nn.Module):
    """G(z) = theta for every z: [n, 1]."""

    latent_dim = 1

    def __init__(self, theta: float = 0.0):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.theta.expand(len(z), 1)


class LinearCritic(nn.Module):
    """D(x) = <weight, x>, [n], for x of any shape [n, ...] with as many values as `weight`; labels are ignored."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.flatten(1) @ self.weight.flatten()


def family_class(family: Family) -> type[GAN]:
    """The class behind a family with settings."""
    while isinstance(family, partial):
        family = family.func
    return cast("type[GAN]", family)


def shipped_families() -> dict[str, type[GAN]]:
    """Every public family of ganlab by its class name, except CGAN, whose losses are its parent's."""
    kinds = {name: getattr(ganlab.losses, name) for name in ganlab.losses.__all__}
    return {name: kind for name, kind in kinds.items() if not kind.requires_labels}


def minimal_gan(family: Family, generator: nn.Module | None = None, discriminator: nn.Module | None = None) -> GAN:
    """A GAN of this family with these players, SGD, the family's settings, and copies of its regularizers.

    The default players are a point and a critic of slope 0. A family that requires labels and has no conditioning gets two
    classes; its batches need labels.
    """
    settings = getattr(family, "keywords", {})
    regularizers = settings.get("regularizers") or {}
    default = ClassLabels(2) if family_class(family).requires_labels else None
    sgd = partial(torch.optim.SGD, lr=0.1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without a Lipschitz constraint.*")
        return family(
            generator or Point(),
            discriminator or LinearCritic(torch.zeros(1)),
            generator_optimizer=sgd,
            discriminator_optimizer=sgd,
            conditioning=copy.deepcopy(settings.get("conditioning")) or default,
            regularizers={name: copy.deepcopy(r) for name, r in regularizers.items()},
        )


def derivative(value: Tensor, *inputs: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
    """d value / d each input; 0 where the value does not depend on it. The value's graph is kept.

    Raises:
        ValueError: the value is not a scalar tensor.
    """
    if not validate_scalar("a loss", value).requires_grad:
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(value, inputs, retain_graph=True, create_graph=create_graph, materialize_grads=True)
