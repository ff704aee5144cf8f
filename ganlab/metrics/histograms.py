"""KL divergence and coverage of histograms, and their expectations for a perfect sampler at finite n."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from ganlab.utils.validation import validate_int


def kl_divergence(counts: Tensor, target: Tensor | None = None) -> Tensor:
    """KL(counts / sum(counts) || target) in nats, float64, from counts [K] and probabilities [K] (None: uniform).

    inf if all counts are 0 (so that runs are still ordered), and if a bin of target 0 has counts.

    Raises:
        ValueError: counts or probabilities that are negative or not finite.
    """
    for numbers in (counts, counts[:0] if target is None else target):
        if not ((numbers >= 0) & (numbers < torch.inf)).all():
            raise ValueError(f"a KL divergence needs finite counts and probabilities of at least 0, got {numbers.tolist()[:5]}")
    counts = counts.double()
    if counts.sum() == 0:
        return counts.new_tensor(torch.inf)
    p = counts / counts.sum()
    target = torch.full_like(p, 1 / len(p)) if target is None else target.double()
    return (torch.xlogy(p, p) - torch.xlogy(p, target)).sum()


def binomial_pmf(n: int, p: float) -> Tensor:
    """P(X = 0 … n) for X ~ Binomial(n, p), float64 [n + 1]."""
    return torch.from_numpy(binom.pmf(np.arange(n + 1), n, p))


def expected_kl(target: Tensor, n: int) -> float:
    """E KL(counts / n || target) in nats for counts ~ Multinomial(n, target [K]): what a perfect sampler scores.

    Exact, because the expectation is a sum over bins and each bin is binomial:
    Σ_k E[X_k/n log(X_k / (n p_k))], X_k ~ Binomial(n, p_k). About (K - 1) / (2n).

    Raises:
        ValueError: n < 1.
    """
    validate_int("the number of samples", n)
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


class PerfectScores(NamedTuple):
    """Expected `classes` and `class_kl` of a perfect sampler, by a classifier that makes mistakes."""

    classes: float
    class_kl: float


def perfect_class_scores(confusion: Tensor, label_shares: Tensor) -> tuple[PerfectScores, PerfectScores]:
    """What n new real samples score against the predicted classes of a reference of n samples whose labels are stratified.

    Args:
        confusion: int64 [K, K], the reference's samples by label and predicted class.
        label_shares: float64 [K], of the distribution that the reference is stratified by.

    Returns:
        of a sampler that draws its labels; of a conditional sampler that is given the reference's labels, whose counts
        vary by the classifier's mistakes alone. The reference's own counts vary by the mistakes, too: both KLs include that.
    """
    counts, n = confusion.sum(1).double(), int(confusion.sum())
    named = torch.where(counts[:, None] > 0, confusion / counts[:, None], torch.eye(len(confusion), dtype=torch.float64))
    target, drawn = confusion.sum(0).double() / n, label_shares.double() @ named
    by_mistakes = _expected_kl_of_binomials(counts, named, target)
    missed = (1 - named).pow(counts[:, None]).prod(0)  # P(no sample is named k)
    from_prior = expected_kl(drawn, n) + float(kl_divergence(drawn, target)) + by_mistakes
    with_labels = PerfectScores(float((1 - missed).sum()), 2 * by_mistakes)
    return PerfectScores(expected_coverage(drawn, n), from_prior), with_labels


def _expected_kl_of_binomials(counts: Tensor, named: Tensor, target: Tensor) -> float:
    """E KL(X/n || target = E X/n) for X_k = Σ_l Binomial(counts[l], named[l, k]), from the characteristic functions."""
    n = int(counts.sum())
    steps = torch.arange(n + 1, dtype=torch.float64)
    circle, share = torch.exp(2j * math.pi * steps / (n + 1)), steps / n
    total = 0.0
    for k in target.nonzero().flatten().tolist():
        involved = (counts > 0) & (named[:, k] > 0)
        terms = [(1 - p + p * circle) ** times for times, p in zip(counts[involved].tolist(), named[involved, k].tolist())]
        pmf = torch.fft.fft(torch.stack(terms).prod(0)).real / (n + 1)
        total += float((pmf * torch.xlogy(share, share)).sum() - torch.xlogy(target[k], target[k]))
    return total
