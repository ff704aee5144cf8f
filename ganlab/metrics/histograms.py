"""KL divergence and coverage of histograms, and their expectations for a perfect sampler at finite n."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from ganlab.data import TensorData


def format_count(n: int) -> str:
    """The sample count in a metric's name: 10000 -> '10k', 2500 -> '2500'."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def append_count(scores: Mapping[str, Tensor | float], n: int) -> dict:
    """Scores under names that end with the sample count: `modes` -> `modes_2500`."""
    return {f"{name}_{format_count(n)}": value for name, value in scores.items()}


def base_protocol(metric: str, datamodule: TensorData, samples: int) -> dict:
    """The part of a protocol that all quality metrics share."""
    data = type(datamodule).__name__
    return {"metric": metric, "data": data, "fingerprint": datamodule.fingerprint, "samples": samples}


def kl_divergence(counts: Tensor, target: Tensor) -> Tensor:
    """KL(counts / sum(counts) || target) in nats, float64, from counts [K] and probabilities [K].

    inf if all counts are 0 (so that runs are still ordered), and if a bin of target 0 has counts.
    """
    counts, target = counts.double(), target.double()
    if counts.sum() == 0:
        return counts.new_tensor(torch.inf)
    p = counts / counts.sum()
    return (torch.xlogy(p, p) - torch.xlogy(p, target)).sum()


def binomial_pmf(n: int, p: float) -> Tensor:
    """P(X = 0 … n) for X ~ Binomial(n, p), float64 [n + 1]."""
    return torch.from_numpy(binom.pmf(np.arange(n + 1), n, p))


def expected_kl(target: Tensor, n: int) -> float:
    """E KL(counts / n || target) in nats for counts ~ Multinomial(n, target [K]): what a perfect sampler scores.

    Exact, because the expectation is a sum over bins and each bin is binomial:
    Σ_k E[X_k/n log(X_k / (n p_k))], X_k ~ Binomial(n, p_k). About (K - 1) / (2n).
    """
    share = torch.arange(n + 1, dtype=torch.float64) / n
    values, multiplicity = target.double().cpu().unique(return_counts=True)
    return sum(
        int(times) * float((binomial_pmf(n, p) * (torch.xlogy(share, share) - share * math.log(p))).sum())
        for p, times in zip(values.tolist(), multiplicity)
        if 0 < p < 1
    )


def expected_coverage(target: Tensor, n: int) -> float:
    """Expected number of bins that n samples of target [K] hit at least once."""
    return float((1 - (1 - target.double()) ** n).sum())
