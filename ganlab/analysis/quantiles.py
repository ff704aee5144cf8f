"""Quantiles in place of random numbers: a small batch then has the exact mean and variance of an infinite one."""

from __future__ import annotations

import math

import torch
from torch.overrides import TorchFunctionMode

ROWS = 256  # samples, or packs of samples, in the grid (at most)
DRAWS = {torch.randn: "normal", torch.randn_like: "normal", torch.rand: "uniform", torch.rand_like: "uniform"}


class Quantiles(TorchFunctionMode):
    """Within this context, torch's normal and uniform functions return quantiles with exact mean and variance.

    Calls alternate between two independent sequences of quantiles, since a forward pass augments its fakes and then its
    real samples, which must not share their noise. The samples of a pack are independent, too.

    Args:
        pack: samples in a pack.

    Attributes:
        samples: the batch size that covers the grid once.
        calls: calls of random functions since the context was entered.
    """

    def __init__(self, pack: int):
        super().__init__()
        levels = max(2, math.floor(ROWS ** (1 / (2 * pack)) + 1e-6))  # a root may round to just below a whole number
        grid = torch.cartesian_prod(*[torch.arange(levels)] * (2 * pack))
        self.ranks = grid[:, :pack].flatten(), grid[:, pack:].flatten()
        self.samples = len(self.ranks[0])
        share = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        scores = torch.special.ndtri(share)
        uniform = 0.5 + (share - 0.5) / math.sqrt(1 - 1 / levels**2)
        self.quantiles = {"normal": scores / scores.std(correction=0), "uniform": uniform}

    def __enter__(self):
        self.calls = 0
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func not in DRAWS:
            return result
        blocks = math.ceil(result.numel() / self.samples)
        ranks = torch.cat([self.ranks[(self.calls + block) % 2] for block in range(blocks)])[: result.numel()]
        self.calls += 1
        return result.copy_(self.quantiles[DRAWS[func]][ranks].reshape(result.shape))
