"""Counts over bins: their KL divergence from a target, and what a perfect sampler of n samples scores."""

import math

import torch
from torch import Tensor


def short_count(n: int) -> str:
    """The sample count in a metric's name: 10000 -> '10k', 2500 -> '2500'."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


def kl_divergence(counts: Tensor, target: Tensor) -> Tensor:
    """KL(counts / sum(counts) || target) in nats, from counts [K] and probabilities [K].

    inf when nothing was counted (no histogram is worse than any histogram, and `inf` still orders runs),
    and when a bin of target 0 was hit.
    """
    counts, target = counts.double(), target.double()
    if counts.sum() == 0:
        return counts.new_tensor(torch.inf)
    step_metrics = counts / counts.sum()
    return (torch.xlogy(step_metrics, step_metrics) - torch.xlogy(step_metrics, target)).sum()


def binomial_pmf(n: int, p: float) -> Tensor:
    """P(X = 0..n) of X ~ Binomial(n, p), 0 < p < 1, float64 [n + 1]."""
    k = torch.arange(n + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return (choose + k * math.log(p) + (n - k) * math.log1p(-p)).exp()


def expected_kl(target: Tensor, n: int) -> float:
    """E KL(counts / n || target) in nats for counts ~ Multinomial(n, target [K]): the floor of a KL at n samples.

    Exact, because the expectation is additive over bins and each bin is binomial:
    sum_k E[X_k/n log(X_k / (n p_k))], X_k ~ Binomial(n, p_k). Roughly (K - 1) / (2n).
    """
    share = torch.arange(n + 1, dtype=torch.float64) / n
    values, multiplicity = target.double().cpu().unique(return_counts=True)
    return sum(
        int(times) * float((binomial_pmf(n, p) * (torch.xlogy(share, share) - share * math.log(p))).sum())
        for p, times in zip(values.tolist(), multiplicity)
        if 0 < p < 1
    )


def expected_coverage(target: Tensor, n: int) -> float:
    """E of the number of bins that n samples of target [K] hit at least once."""
    return float((1 - (1 - target.double()) ** n).sum())
