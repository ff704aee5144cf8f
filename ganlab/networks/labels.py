"""How a label enters a network: as more input channels, or in its batch norm layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def append_labels(x: Tensor, y: Tensor | None, num_classes: int) -> Tensor:
    """Append y to x [n, c, ...] as `num_classes` channels, one-hot and constant over space (Mirza & Osindero 2014).

    Labels [n, pack] of packed samples become pack * num_classes channels. Floating-point labels [n, num_classes] are weights
    of a mixture of classes and appended as they are.
    """
    if not num_classes:
        return x
    y = require_labels(y, num_classes)
    if not y.is_floating_point():  # x.shape[0], since a traced graph would keep len(x) as a constant
        y = one_hot(y.view(x.shape[0], -1), num_classes).flatten(1)
    maps = y.to(x.dtype)
    maps = maps.view(*maps.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, maps], 1)


def one_hot(y: Tensor, num_classes: int) -> Tensor:
    """Labels [...] as booleans [..., num_classes]. torch.nn.functional.one_hot reads values on the host, which vmap forbids."""
    return y.unsqueeze(-1) == torch.arange(num_classes, device=y.device)


def require_labels(y: Tensor | None, num_classes: int) -> Tensor:
    """Return y, or raise ValueError if it is None."""
    if y is None:
        raise ValueError(f"this network was built for {num_classes} classes and got no labels; pass y")
    return y


class TakesLabels(nn.Module):
    """A layer whose forward is (h, y)."""


class LabeledSequential(TakesLabels, nn.Sequential):
    """nn.Sequential that passes the labels to the layers that take them."""

    def forward(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        for layer in self:
            h = layer(h, y) if isinstance(layer, TakesLabels) else layer(h)
        return h


class ConditionalBatchNorm(TakesLabels):
    """Batch norm with a gain and a bias per class (de Vries et al. 2017; Miyato & Koyama 2018 use it in G).

    h [n, channels, ...], y [n] -> (1 + gain[y]) * normalized(h) + bias[y]. Gains and biases start at 0, as in both papers.
    Floating-point y [n, num_classes] are weights of a mixture of classes.

    Raises:
        ValueError: no classes.
    """

    def __init__(self, batch_norm: Callable[..., nn.Module], num_classes: int, channels: int):
        super().__init__()
        if not num_classes:
            raise ValueError(f"norm=conditional_batch needs labels, got num_classes={num_classes}; use conditioning=cbn")
        self.norm = batch_norm(channels, affine=False)
        self.gain_and_bias = nn.Embedding(num_classes, 2 * channels)
        nn.init.zeros_(self.gain_and_bias.weight)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        h = self.norm(h)
        y = require_labels(y, self.gain_and_bias.num_embeddings)
        rows = (y @ self.gain_and_bias.weight if y.is_floating_point() else self.gain_and_bias(y)).to(h.dtype)
        gain, bias = rows.view(*rows.shape, *[1] * (h.ndim - 2)).chunk(2, 1)
        return torch.addcmul(h + bias, h, gain)
