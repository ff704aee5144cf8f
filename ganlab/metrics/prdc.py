"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

import torch
from torch import Tensor

from ganlab.metrics.features import validate_features
from ganlab.metrics.knn import BLOCK_SIZE, Progress, iter_blocks, kth_neighbor_distances, pairwise_distances

K_PRECISION_RECALL, K_DENSITY_COVERAGE = 3, 5  # the papers' defaults


@torch.no_grad()
def prdc(real: Tensor, fake: Tensor, progress: Progress = iter) -> dict[str, float]:
    """How the k-nearest-neighbor balls of real [n, d] and fake [m, d] features overlap. Higher is better.

    The ball of a sample reaches to its k-th nearest other sample of its own set, inclusively.

    - `precision` in [0, 1]: share of fakes inside at least one real ball, k = 3;
    - `recall` in [0, 1]: share of reals inside at least one fake ball, k = 3;
    - `density` >= 0: mean number of real balls around a fake, divided by k = 5; 1 in expectation for equal distributions;
    - `coverage` in [0, 1]: share of real balls with a fake inside, k = 5.

    Memory grows with n + m. In float64, so that copies are at distance 0.

    Raises:
        ValueError: fewer than 6 real or 4 fake samples, or features that are not finite.
    """
    validate_features("precision and recall", real, fake)
    real, fake = real.double(), fake.double()
    real_3, real_5 = kth_neighbor_distances(real, (K_PRECISION_RECALL, K_DENSITY_COVERAGE), progress)
    (fake_3,) = kth_neighbor_distances(fake, (K_PRECISION_RECALL,), progress)
    balls_3, balls_5 = torch.zeros(2, len(fake), dtype=torch.long, device=fake.device)  # real balls around each fake
    recalled, covered = [], []
    for i, a in progress(iter_blocks(real, BLOCK_SIZE)):
        hit = torch.zeros(2, len(a), dtype=torch.bool, device=a.device)
        for j, b in iter_blocks(fake, 8 * BLOCK_SIZE):
            d = pairwise_distances(a, b)
            within_5 = d <= real_5[i : i + len(a), None]
            balls_3[j : j + len(b)] += (d <= real_3[i : i + len(a), None]).sum(0)
            balls_5[j : j + len(b)] += within_5.sum(0)
            hit |= torch.stack([(d <= fake_3[j : j + len(b)]).any(1), within_5.any(1)])
        recalled.append(hit[0])
        covered.append(hit[1])
    return {
        "precision": float((balls_3 > 0).double().mean()),
        "recall": float(torch.cat(recalled).double().mean()),
        "density": float(balls_5.double().mean() / K_DENSITY_COVERAGE),
        "coverage": float(torch.cat(covered).double().mean()),
    }
