"""Latents: draws from the prior, truncated or not, and interpolation between them."""

import torch
from torch import Tensor, nn

DRAW_SIZE = 10_000  # latents that `GAN.sample` draws together; what a seed gives depends on it


def sample_normal(n: int, dim: int, random: torch.Generator | None = None, truncation: float | None = None) -> Tensor:
    """Draw z [n, dim] from N(0, I), or from N(0, I) truncated to [-truncation, truncation] in each coordinate.

    The truncation trick (Brock et al. 2019, sec. 3.1) redraws a coordinate while it lies beyond the threshold; the inverse
    CDF of the truncated normal gives the same distribution in one draw, however small the threshold is.

    Raises:
        ValueError: truncation is not a number above 0.
    """
    if truncation is None:
        return torch.randn(n, dim, generator=random)
    if not truncation > 0:
        raise ValueError(f"truncation must be above 0 (0.5 … 2 are usual; leave it out for none), got {truncation}")
    return nn.init.trunc_normal_(torch.empty(n, dim), a=-truncation, b=truncation, generator=random)


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Interpolate spherically from a [n, dim] to b [n, dim], both included: [n, steps, dim] (White 2016).

    z(t) = (sin((1 - t)w) a + sin(tw) b) / sin w, w the angle between a and b: norms stay typical of the prior, where a
    straight line would shorten them. Where a and b are parallel or opposite, the line is straight.
    """
    t = torch.linspace(0, 1, steps, dtype=torch.float64).view(1, -1, 1)
    a, b = a.double()[:, None], b.double()[:, None]
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).arccos()[..., None]
    circular = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() > 1e-6, circular, torch.lerp(a, b, t)).float()
