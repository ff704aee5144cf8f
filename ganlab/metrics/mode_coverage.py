"""Mode coverage on mixtures of known Gaussians (PacGAN, Lin et al. 2018; VEEGAN, Srivastava et al. 2017)."""

import math

import torch
from torch import Tensor

from ganlab.data import TensorData
from ganlab.metrics.base import QualityMetric
from ganlab.metrics.histograms import binomial_pmf, expected_coverage, expected_kl, kl_divergence

RADIUS = 3.0  # in standard deviations
# |x - c|² / σ² of a 2-D isotropic Gaussian is exponential with mean 2, so P(outside r σ) = exp(-r²/2): 0.0111 at 3 σ.
OFF_MODE_MASS = math.exp(-(RADIUS**2) / 2)


def count_modes(samples: Tensor, centers: Tensor, std: float) -> Tensor:
    """Number of high-quality samples of each mode, and last the number of all others, int64 [K + 1].

    High quality: within 3 std (inclusive) of the nearest center; never true of nan.

    Args:
        samples: [n, 2].
        centers: [K, 2].
    """
    # Differences in float64: torch.cdist goes through a matrix product, which is off by more than a std of 0.01.
    distance, nearest = (samples.double()[:, None] - centers.double()).norm(dim=-1).min(dim=1)
    bins = torch.where(distance <= RADIUS * std, nearest, len(centers))
    return torch.bincount(bins, minlength=len(centers) + 1)


def smallest_gap(centers: Tensor) -> float:
    """The smallest distance between two of the centers [K, 2], in float64; inf of a single one."""
    return float(torch.pdist(centers.double()).min()) if len(centers) > 1 else math.inf


def target_with_off_mode(modes: int) -> Tensor:
    """The data's probability of each of the K + 1 bins of `count_modes`, float64 [K + 1]."""
    mass = torch.full((modes + 1,), (1 - OFF_MODE_MASS) / modes, dtype=torch.float64)
    mass[-1] = OFF_MODE_MASS
    return mass


def mode_scores(counts: Tensor) -> dict[str, Tensor]:
    """Scores of the counts [K + 1] of `count_modes`, float64 scalars.

    - `modes` in 0 … K, higher is better: modes with at least one high-quality sample;
    - `high_quality` in [0, 1]: share of high-quality samples; exp(-4.5) = 1.1 % of real data is not, so a share above
      0.989 means modes that are too narrow;
    - `reverse_kl` in nats, lower is better: KL(p || uniform) over the modes of the high-quality samples (PacGAN's);
      inf without any;
    - `kl_with_off_mode` in nats, lower is better: KL over K + 1 bins, the last with target mass exp(-4.5). It penalizes
      lost modes and low quality and is finite for every sampler (4.5 without a high-quality sample), so it ranks all
      runs. Above 89 modes each has less mass than that bin, and samples in a single mode score worse than none in any.

    Raises:
        ValueError: all counts are 0.
    """
    if not counts.any():
        raise ValueError("the scores of modes need at least 1 sample, got 0")
    on_mode, modes = counts[:-1], len(counts) - 1
    return {
        "modes": (on_mode > 0).sum().double(),
        "high_quality": on_mode.sum().double() / counts.sum(),
        "reverse_kl": kl_divergence(on_mode),
        "kl_with_off_mode": kl_divergence(counts, target_with_off_mode(modes).to(counts.device)),
    }


def perfect_sampler_scores(modes: int, n: int) -> dict[str, float]:
    """Expected `mode_scores` of n samples of the data's own distribution, exact.

    `reverse_kl` is averaged over the number of high-quality samples, Binomial(n, 1 - exp(-4.5)), excluding the case of
    none (probability 0.0111^n), where the score is infinite.
    """
    uniform, target = torch.full((modes,), 1 / modes), target_with_off_mode(modes)
    weights = binomial_pmf(n, 1 - OFF_MODE_MASS)
    likely = [m for m in range(1, n + 1) if weights[m] > 1e-12]
    return {
        "modes": expected_coverage(target[:-1], n),
        "high_quality": 1 - OFF_MODE_MASS,
        "reverse_kl": sum(float(weights[m]) * expected_kl(uniform, m) for m in likely),
        "kl_with_off_mode": expected_kl(target, n),
    }


class ToyQuality(QualityMetric):
    """`mode_scores` of `samples` points, under names with their number: `modes_2500`, `kl_with_off_mode_2500` …

    `real_scores` are those of a sampler that draws its modes. The divergences of a conditional one may be below them: its
    labels have the proportions of the reference split.

    Raises:
        ValueError: in `setup`, the data's modes are unknown or overlap; in `compute`, the number of points is wrong.
    """

    extractor = "points"
    ranked_by = "kl_with_off_mode"

    def setup(self, datamodule: TensorData, device: torch.device, split: str = "val") -> None:
        """The modes are known exactly: `split` has no influence."""
        data = type(datamodule).__name__
        if getattr(datamodule, "centers", None) is None:
            instead = "classifier" if len(datamodule.shape) == 3 else "none, or your own metric"
            raise ValueError(f"metrics=toy needs data with known modes (ring, grid), got {data}: use metrics={instead}")
        self.centers, self.std = datamodule.centers.to(device), float(datamodule.std)
        modes, gap = len(self.centers), smallest_gap(self.centers)
        if gap <= 2 * RADIUS * self.std:
            raise ValueError(
                f"metrics=toy needs modes more than {2 * RADIUS:g} std apart, got {gap:.3g} at data.std={self.std:g}: "
                "lower data.std, or use metrics=none"
            )
        self.add_state("counts", torch.zeros(modes + 1, dtype=torch.long), dist_reduce_fx="sum")
        self.to(device)
        self.real_scores = self.append_count(perfect_sampler_scores(modes, self.samples))
        definition = {"high_quality": f"within {RADIUS:g} std of the nearest center", "off_mode_mass": OFF_MODE_MASS}
        self.protocol = self.base_protocol("modes", datamodule) | {"modes": modes, "std": self.std} | definition

    def features(self, points: Tensor) -> Tensor:
        """The points [n, 2] themselves, in float64."""
        return points.double()

    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        self.counts += count_modes(samples, self.centers, self.std)

    def compute(self) -> dict[str, Tensor]:
        self.validate_count(self.counts.sum())
        return self.append_count(mode_scores(self.counts))
