"""Mode coverage on stacked images, with modes recognized by a classifier (VEEGAN, Srivastava et al. 2017)."""

import torch
from torch import Tensor

from ganlab.data import TensorData, to_float
from ganlab.data.stacked import mode_number
from ganlab.metrics.base import QualityMetric
from ganlab.metrics.classifier import load_classifier
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence
from ganlab.utils.validation import validate_int


def stacked_scores(counts: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Scores of the number of samples of each mode, counts [K], against the data's probabilities target [K].

    - `modes` in 0 … K, higher is better: modes with at least one sample;
    - `kl` in nats, lower is better: KL(samples || data) over the modes;
    - `kl_uniform` in nats, lower is better: KL(samples || uniform), which PacGAN's table reports. Data whose classes are
      not equally frequent does not reach 0, however many samples there are.
    """
    return {"modes": (counts > 0).sum(), "kl": kl_divergence(counts, target), "kl_uniform": kl_divergence(counts)}


def perfect_sampler_scores(target: Tensor, n: int) -> dict[str, float]:
    """Expected `stacked_scores` of n samples of the data's own distribution target [K], exact.

    E KL(X/n || uniform) = E KL(X/n || target) + KL(target || uniform), since E X/n = target.
    """
    kl = expected_kl(target, n)
    return {"modes": expected_coverage(target, n), "kl": kl, "kl_uniform": kl + float(kl_divergence(target))}


class StackedQuality(QualityMetric):
    """`stacked_scores` of `samples` stacks, under names with their number: `modes_26k`, `kl_26k`, `kl_uniform_26k`.

    A sample's mode is the number whose digits are its channels' classes, as predicted by a frozen classifier of the
    single-channel base set. The target is the distribution of modes *as the same classifier predicts them* on the base
    set's train images, so that its mistakes cancel and `real_scores` is exactly what a perfect sampler scores.

    The classifier assigns a class to noise, too: look at the samples before you trust a high number of modes.

    Args:
        batch_size: stacks classified at a time.

    Raises:
        ValueError: in `setup`, the data is not stacked; in `compute`, the number of stacks is wrong.
    """

    extractor = "channels"
    ranked_by = "kl"

    def __init__(self, samples: int, batch_size: int = 1000):
        super().__init__(samples)
        self.batch_size = validate_int("metrics.batch_size", batch_size)

    @torch.no_grad()
    def setup(self, datamodule: TensorData, device: torch.device, split: str = "val") -> None:
        """The target is that of the train split; `split` is where the classifier's accuracy is measured."""
        data, base = type(datamodule).__name__, getattr(datamodule, "base", None)
        if base is None:
            raise ValueError(
                f"metrics=stacked needs stacked images (stacked_mnist, stacked_fashion, stacked_digits), got {data}: "
                "use metrics=classifier, or metrics=toy for points"
            )
        device = torch.device(device)
        self.classifier, card = load_classifier(base, device, split)
        predicted = torch.cat([self.classify(to_float(x.to(device))) for x in base.train.x.split(self.batch_size)])
        class_counts = torch.bincount(predicted, minlength=base.num_classes).double()
        mode_counts = class_counts
        for _ in range(datamodule.channels - 1):  # products of counts, not of shares: exact, so equal modes stay equal
            mode_counts = torch.outer(mode_counts, class_counts).flatten()
        self.base_classes, self.target = base.num_classes, mode_counts / mode_counts.sum()
        self.add_state("counts", torch.zeros(len(mode_counts), dtype=torch.long), dist_reduce_fx="sum")
        self.to(device)
        self.real_scores = self.append_count(perfect_sampler_scores(self.target.cpu(), self.samples))
        target = "stacks of train images, as the classifier names them"
        self.protocol = self.base_protocol("stacked modes", datamodule)
        self.protocol |= {"modes": len(self.target), "resolution": list(datamodule.shape), "target": target, "extractor": card}

    def classify(self, images: Tensor) -> Tensor:
        """Predicted classes [n] of gray images [n, 1, S, S] in [-1, 1]."""
        return self.classifier(images)[1].argmax(1)

    def features(self, stacks: Tensor) -> Tensor:
        """The classifier's features of all channels, [n, C * 64], of stacks [n, C, S, S]."""
        return self.classifier(stacks.flatten(0, 1).unsqueeze(1))[0].view(len(stacks), -1)

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        for stacks in samples.split(self.batch_size):
            classes = self.classify(stacks.flatten(0, 1).unsqueeze(1)).view(stacks.shape[:2])
            self.counts += torch.bincount(mode_number(classes, self.base_classes), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        self.validate_count(self.counts.sum())
        return self.append_count(stacked_scores(self.counts, self.target))
