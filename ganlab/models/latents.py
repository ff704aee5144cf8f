"""Latents: drawn from the prior, cut to its middle, and on the way from one to another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

AT_ONCE = 10_000  # drawn together by `GAN.sample`: part of what a seed means


def normal(n: int, dim: int, random: torch.Generator | None = None, truncation: float | None = None) -> Tensor:
    """z [n, dim] from N(0, I), or from N(0, I) cut to [-truncation, truncation] in each coordinate.

    The truncation trick (Brock et al. 2019, section 3.1) draws a coordinate again while it lies beyond the threshold;
    the inverse of the cut distribution gives the same law in one draw, however small the threshold is.

    Raises:
        ValueError: truncation is not a number above 0.
    """
    if truncation is None:
        return torch.randn(n, dim, generator=random)
    if not truncation > 0:
        raise ValueError(f"truncation must be above 0 (0.5 … 2 are usual; leave it out for none), got {truncation}")
    return nn.init.trunc_normal_(torch.empty(n, dim), a=-truncation, b=truncation, generator=random)


def between(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """[n, steps, dim] from a [n, dim] to b [n, dim], both ends included, along great circles (White 2016).

    z(t) = (sin((1 - t)w) a + sin(tw) b) / sin w with w the angle between a and b: lengths stay those of the prior's
    draws, which a straight line would shorten. Where a and b point the same or opposite ways, the line is straight.
    """
    t = torch.linspace(0, 1, steps, dtype=torch.float64).view(1, -1, 1)
    a, b = a.double()[:, None], b.double()[:, None]
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).arccos()[..., None]
    circular = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() > 1e-6, circular, torch.lerp(a, b, t)).float()
