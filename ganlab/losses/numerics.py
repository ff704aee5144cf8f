"""Numerically stable functions that several losses use."""

from __future__ import annotations

import torch
from torch import Tensor


def exp_minus_one(x: Tensor) -> Tensor:
    """e^x - 1, elementwise, with an exact value (expm1's near 0) and an exact gradient (that of e^x).

    The gradient of expm1 itself is computed as its value + 1: 0 where e^x is below the rounding of 1.
    """
    difference = x.exp() - 1
    return difference + torch.where(x.abs() < 1, torch.expm1(x) - difference, 0).detach()
