"""Mode coverage on toys whose modes are known Gaussians (PacGAN, Lin et al. 2018; VEEGAN, Srivastava et al. 2017)."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from ganlab.metrics.histograms import binomial_pmf, expected_coverage, expected_kl, kl_divergence, short_count

RADIUS = 3.0  # in standard deviations
# A 2-D isotropic Gaussian's squared radius over sigma^2 is chi-square with 2 degrees of freedom, that is exponential
# with mean 2, so P(outside r sigma) = exp(-r^2 / 2): 0.0111 at 3 sigma, exactly.
OFF_MODE_MASS = math.exp(-(RADIUS**2) / 2)


def count_modes(samples: Tensor, centers: Tensor, std: float) -> Tensor:
    """High-quality samples per mode and, last, the others: int64 [K + 1] from samples [n, 2] and centers [K, 2].

    High quality: within 3 std (inclusive) of the nearest center. A sample that is not a number is not.
    """
    # Differences in float64: torch.cdist goes through a matrix product, which is off by more than a std of 0.01.
    distance, nearest = (samples.double()[:, None] - centers.double()).norm(dim=-1).min(dim=1)
    bins = torch.where(distance <= RADIUS * std, nearest, len(centers))
    return torch.bincount(bins, minlength=len(centers) + 1)


def off_mode_target(modes: int) -> Tensor:
    """The data's own mass in the K + 1 bins of `count_modes`."""
    mass = torch.full((modes + 1,), (1 - OFF_MODE_MASS) / modes, dtype=torch.float64)
    mass[-1] = OFF_MODE_MASS
    return mass


def mode_scores(counts: Tensor) -> dict[str, Tensor]:
    """What `count_modes` [K + 1] says, each a float64 scalar.

    - `modes`: captured modes, i.e. those with at least one high-quality sample;
    - `high_quality`: fraction in [0, 1];
    - `reverse_kl`: KL(p || uniform) over the modes of the high-quality samples (PacGAN's), nats; inf without any;
    - `kl_with_off_mode`: KL over K + 1 bins, the last with target mass exp(-4.5), nats. It punishes both a lost mode
      and poor samples, and is finite for every sampler (4.5 when none is high quality), so it orders all runs. Above 89
      modes each weighs less than that bin: samples that are all in one are then worse than samples in none.
    """
    on_mode, modes = counts[:-1], len(counts) - 1
    return {
        "modes": (on_mode > 0).sum().double(),
        "high_quality": on_mode.sum().double() / counts.sum(),
        "reverse_kl": kl_divergence(on_mode, torch.full_like(on_mode, 1, dtype=torch.float64) / modes),
        "kl_with_off_mode": kl_divergence(counts, off_mode_target(modes).to(counts.device)),
    }


def mode_floor(modes: int, n: int) -> dict[str, float]:
    """Expected `mode_scores` of a perfect sampler at n samples, exact.

    `reverse_kl` averages over the number of high-quality samples, which is Binomial(n, 1 - exp(-4.5)); of n there is
    none with probability 0.0111^n, which is left out (the score is infinite there).
    """
    uniform, target = torch.full((modes,), 1 / modes), off_mode_target(modes)
    weights = binomial_pmf(n, 1 - OFF_MODE_MASS)
    likely = [m for m in range(1, n + 1) if weights[m] > 1e-12]
    return {
        "modes": expected_coverage(target[:-1], n),
        "high_quality": 1 - OFF_MODE_MASS,
        "reverse_kl": sum(float(weights[m]) * expected_kl(uniform, m) for m in likely),
        "kl_with_off_mode": expected_kl(target, n),
    }


class ToyQuality(Metric):
    """`mode_scores` of samples [n, 2] under names that carry n: `modes_2500`, `kl_with_off_mode_2500` …

    `samples`: points per look, at least 1.
    """

    higher_is_better = False
    full_state_update = False
    extractor = "points"

    def __init__(self, samples: int):
        super().__init__()
        if samples < 1:
            raise ValueError(f"metrics.samples must be at least 1, got {samples}")
        self.samples = samples

    @property
    def objective(self) -> str:
        return f"kl_with_off_mode_{short_count(self.samples)}"

    def setup(self, datamodule, device) -> None:
        data = type(datamodule).__name__
        if getattr(datamodule, "centers", None) is None:
            instead = "classifier" if len(datamodule.shape) == 3 else "none, or one of your own"
            raise ValueError(f"metrics=toy needs data with known modes (ring, grid), got {data}: use metrics={instead}")
        self.centers, self.std = datamodule.centers.to(device), float(datamodule.std)
        modes, gap = len(self.centers), float(torch.pdist(self.centers.double()).min())
        if gap <= 2 * RADIUS * self.std:
            raise ValueError(
                f"metrics=toy needs modes more than {2 * RADIUS:g} std apart, got {gap:.3g} at data.std={self.std:g}: "
                "lower data.std, or use metrics=none"
            )
        self.add_state("counts", torch.zeros(modes + 1, dtype=torch.long), dist_reduce_fx="sum")
        self.to(device)
        self.real_scores = self._named(mode_floor(modes, self.samples))
        self.protocol = {
            "metric": "modes",
            "data": data,
            "fingerprint": datamodule.fingerprint,
            "samples": self.samples,
            "modes": modes,
            "std": self.std,
            "high_quality": f"within {RADIUS:g} std of the nearest center",
            "off_mode_mass": OFF_MODE_MASS,
        }

    def features(self, points: Tensor) -> Tensor:
        """Points [n, 2] are their own features, in float64."""
        return points.double()

    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        self.counts += count_modes(samples, self.centers, self.std)

    def compute(self) -> dict[str, Tensor]:
        if self.counts.sum() != self.samples:
            raise ValueError(f"a look needs exactly metrics.samples={self.samples} samples, got {int(self.counts.sum())}")
        return self._named(mode_scores(self.counts))

    def _named(self, scores: dict) -> dict:
        return {f"{name}_{short_count(self.samples)}": value for name, value in scores.items()}
