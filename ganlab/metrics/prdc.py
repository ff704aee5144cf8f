"""Nearest neighbors between samples, and what their balls say: precision, recall, density, coverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ganlab.data import to_float

BLOCK = 1024  # rows compared at a time, with 8 times as many: 32 MiB of distances
DIRECT = 16  # up to so many dimensions distances are sums of differences, beyond they go through a matrix product
K_PRECISION_RECALL, K_DENSITY_COVERAGE = 3, 5  # the papers' defaults

Track = Callable[[Iterable], Iterable]


def untracked(blocks: Iterable) -> Iterable:
    """Stands where a progress bar could."""
    return blocks


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [n, m] between a [n, d] and b [m, d], in their type.

    A matrix product is quick, but off by about 1e-3 of the norms in float32: too much for points in the plane, whose
    modes are 0.01 wide.
    """
    mode = "donot_use_mm_for_euclid_dist" if a.shape[1] <= DIRECT else "use_mm_for_euclid_dist"
    return torch.cdist(a, b, compute_mode=mode)


def blocks_of(x: Tensor, rows: int) -> Iterable[tuple[int, Tensor]]:
    return ((i, x[i : i + rows]) for i in range(0, len(x), rows))


@torch.no_grad()
def radii(x: Tensor, ks: tuple[int, ...], track: Track = untracked) -> list[Tensor]:
    """For each k the distance [n] of every sample of x [n, d] to its k-th nearest other sample."""
    if len(x) <= max(ks):
        raise ValueError(f"{max(ks)} neighbors need at least {max(ks) + 1} samples, got {len(x)}")
    rows = []
    for i, a in track(list(blocks_of(x, BLOCK))):
        nearest = a.new_empty(len(a), 0)
        for j, b in blocks_of(x, 8 * BLOCK):
            d = distances(a, b)
            own = torch.arange(i, i + len(a), device=d.device) - j  # a sample is no neighbor of its own
            here = (own >= 0) & (own < len(b))
            d[here.nonzero().flatten(), own[here]] = math.inf
            nearest = torch.cat([nearest, d], 1).topk(min(max(ks), nearest.shape[1] + len(b)), largest=False).values
        rows.append(nearest.sort(1).values)
    ordered = torch.cat(rows)
    return [ordered[:, k - 1].contiguous() for k in ks]


@torch.no_grad()
def manifold_scores(real: Tensor, fake: Tensor, track: Track = untracked) -> dict[str, float]:
    """How the k-NN balls of real [n, d] and fake [m, d] features overlap.

    - `precision`: share of fakes in at least one real sample's ball, `recall`: the other way round, k = 3
      (Kynkäänniemi et al. 2019);
    - `density`: mean number of real balls around a fake, over k; 1 in expectation for equal laws;
    - `coverage`: share of real balls with a fake inside, k = 5 (Naeem et al. 2020).

    A ball is closed: a sample at the very distance of the k-th neighbor lies in it. Memory grows with n + m.

    Raises:
        ValueError: fewer than 6 real or 4 fake samples.
    """
    ks = (K_PRECISION_RECALL, K_DENSITY_COVERAGE)
    real_3, real_5 = radii(real, ks, track)
    (fake_3,) = radii(fake, ks[:1], track)
    inside, around = torch.zeros(2, len(fake), dtype=torch.long, device=fake.device)
    recalled, covered = [], []
    for i, a in track(list(blocks_of(real, BLOCK))):
        hit = torch.zeros(2, len(a), dtype=torch.bool, device=a.device)
        for j, b in blocks_of(fake, 8 * BLOCK):
            d = distances(a, b)
            within_5 = d <= real_5[i : i + len(a), None]
            inside[j : j + len(b)] += (d <= real_3[i : i + len(a), None]).sum(0)
            around[j : j + len(b)] += within_5.sum(0)
            hit |= torch.stack([(d <= fake_3[j : j + len(b)]).any(1), within_5.any(1)])
        recalled.append(hit[0])
        covered.append(hit[1])
    return {
        "precision": float((inside > 0).double().mean()),
        "recall": float(torch.cat(recalled).double().mean()),
        "density": float(around.double().mean() / K_DENSITY_COVERAGE),
        "coverage": float(torch.cat(covered).double().mean()),
    }


def as_vectors(samples: Tensor, device: torch.device) -> Tensor:
    """Samples [n, ...] as float vectors [n, d] on `device`: images uint8 in [-1, 1], points in float64 as they are."""
    samples = samples.to(device)
    return (to_float(samples) if samples.dtype == torch.uint8 else samples.double()).flatten(1)


@torch.no_grad()
def nearest(
    x: Tensor, references, device: torch.device, *, own: Tensor | None = None, track: Track = untracked
) -> tuple[Tensor, Tensor]:
    """The nearest of `references` [N, ...] to each of x [n, ...]: (distance float64 [n], index [n]), on the CPU.

    Both are uint8 images or points; `references` may also be `Stacks`. The distance is exact, 0 for an exact copy: it
    is taken from the differences, once the nearest is known.

    Args:
        own: x's own places [n] among the references, which do not count.
    """
    found, places = [], []
    for i, part in track(list(blocks_of(x, BLOCK))):
        a = as_vectors(part, device)
        best = a.new_full((len(a),), math.inf)
        place = torch.zeros(len(a), dtype=torch.long, device=device)
        for j, b in blocks_of(references, 8 * BLOCK):
            d = distances(a, as_vectors(b, device))
            if own is not None:
                column = own[i : i + len(a)].to(device) - j
                here = (column >= 0) & (column < len(b))
                d[here.nonzero().flatten(), column[here]] = math.inf
            closest, column = d.min(1)
            place = torch.where(closest < best, column + j, place)
            best = torch.minimum(closest, best)
        chosen = as_vectors(references[place.cpu()], device)
        found.append((a.double() - chosen.double()).norm(dim=1).cpu())
        places.append(place.cpu())
    return torch.cat(found), torch.cat(places)
