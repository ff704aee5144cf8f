"""Functions that several losses use: divergences of two probability vectors p, q [k], and a stable e^x - 1."""

import torch
from torch import Tensor


def kullback_leibler(p: Tensor, q: Tensor) -> Tensor:
    """sum p log(p / q)."""
    return (p * (p / q).log()).sum()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """KL(p, m)/2 + KL(q, m)/2 with m = (p + q)/2; at most log 2."""
    m = (p + q) / 2
    return (kullback_leibler(p, m) + kullback_leibler(q, m)) / 2


def exp_minus_one(x: Tensor) -> Tensor:
    """e^x - 1, elementwise, with an exact value (expm1's near 0) and an exact gradient (that of e^x).

    The gradient of expm1 itself is computed as its value + 1: 0 where e^x is below the rounding of 1.
    """
    difference = x.exp() - 1
    return difference + torch.where(x.abs() < 1, torch.expm1(x) - difference, 0).detach()
