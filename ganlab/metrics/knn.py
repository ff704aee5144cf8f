"""Distances and nearest neighbors between sets of samples, in blocks of bounded memory."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ganlab.data import to_float
from ganlab.metrics.features import validate_features

BLOCK_SIZE = 1024  # rows at a time, against 8 times as many columns: 32 MiB of float32 distances
MAX_DIRECT_DIM = 16

Progress = Callable[[Iterable], Iterable]  # wraps the blocks of a long loop, for a progress bar; `iter` shows none


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [n, m] between a [n, d] and b [m, d], in their dtype.

    Computed from differences up to 16 dimensions. Beyond, by a matrix product of the centered samples, which is faster but
    off by about 1e-3 of their norms in float32 (too much for 2-D modes of std 0.01) and 1e-8 in float64. A distance below
    that is 0, so that copies are at distance 0 exactly.
    """
    if a.shape[1] <= MAX_DIRECT_DIM:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    center = b.mean(0)  # distances do not change, norms become small
    a, b = a - center, b - center
    squares = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").square_()
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    return squares.masked_fill_(squares <= 8 * torch.finfo(a.dtype).eps * norms, 0).sqrt_()


def iter_blocks(x, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (start, x[start : start + size]) for consecutive blocks of rows."""
    return ((start, x[start : start + size]) for start in range(0, len(x), size))


def _exclude(distances: Tensor, indices: Tensor, start: int) -> None:
    """Set row i's distance to reference number indices[i] to inf, where the block of columns from `start` on has it."""
    column = indices.to(distances.device) - start
    in_block = (column >= 0) & (column < distances.shape[1])
    distances[in_block.nonzero().flatten(), column[in_block]] = math.inf


@torch.no_grad()
def kth_neighbor_distances(x: Tensor, ks: tuple[int, ...], progress: Progress = iter) -> list[Tensor]:
    """For each k in `ks`, the distance [n] of every sample of x [n, d] to its k-th nearest other sample.

    Raises:
        ValueError: n <= max(ks), or values that are not finite.
    """
    validate_features("a distance to neighbors", x)
    if len(x) <= max(ks):
        raise ValueError(f"{max(ks)} neighbors need at least {max(ks) + 1} samples, got {len(x)}")
    rows = []
    for i, a in progress(iter_blocks(x, BLOCK_SIZE)):
        nearest = a.new_empty(len(a), 0)
        for j, b in iter_blocks(x, 8 * BLOCK_SIZE):
            d = pairwise_distances(a, b)
            _exclude(d, torch.arange(i, i + len(a)), j)
            nearest = torch.cat([nearest, d], 1).topk(min(max(ks), nearest.shape[1] + len(b)), largest=False).values
        rows.append(nearest.sort(1).values)
    distances = torch.cat(rows)
    return [distances[:, k - 1].contiguous() for k in ks]


def flatten_samples(samples: Tensor, device: torch.device) -> Tensor:
    """Samples [n, ...] as vectors [n, d] on `device`: uint8 images as float32 in [-1, 1], points as float64."""
    samples = samples.to(device)
    return (to_float(samples) if samples.dtype == torch.uint8 else samples.double()).flatten(1)


@torch.no_grad()
def nearest_neighbors(
    x: Tensor, references, device: torch.device, *, exclude: Tensor | None = None, progress: Progress = iter
) -> tuple[Tensor, Tensor]:
    """Distance (float64 [n]) from each of x [n, ...] to its nearest reference, and that one's index (int64 [n]), on the CPU.

    The distance is recomputed from the differences once the nearest is known, so that it is 0 for an exact copy.

    Args:
        x: uint8 images or points.
        references: samples of the same kind [N, ...]; a tensor or `LazyStacks`.
        exclude: int64 [n], for each of x the index of a reference that does not count, such as x itself.

    Raises:
        ValueError: no samples on a side, or points that are not finite.
    """
    validate_features("a distance to the nearest neighbor", x, references)
    distances, indices = [], []
    for i, block in progress(iter_blocks(x, BLOCK_SIZE)):
        a = flatten_samples(block, device)
        best = a.new_full((len(a),), math.inf)
        index = torch.zeros(len(a), dtype=torch.long, device=device)
        for j, b in iter_blocks(references, 8 * BLOCK_SIZE):
            d = pairwise_distances(a, flatten_samples(b, device))
            if exclude is not None:
                _exclude(d, exclude[i : i + len(a)], j)
            closest, column = d.min(1)
            index = torch.where(closest < best, column + j, index)
            best = torch.minimum(closest, best)
        neighbors = flatten_samples(references[index.cpu()], device)
        distances.append((a.double() - neighbors.double()).norm(dim=1).cpu())
        indices.append(index.cpu())
    return torch.cat(distances), torch.cat(indices)
