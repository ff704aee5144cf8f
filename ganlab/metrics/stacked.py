"""Mode coverage on stacked images, whose modes a classifier of the base set names (VEEGAN, Srivastava et al. 2017)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ganlab.data import to_float
from ganlab.data.stacked import mode_number
from ganlab.metrics.classifier import load_classifier
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence, short_count


def uniform(modes: int) -> Tensor:
    return torch.full((modes,), 1 / modes, dtype=torch.float64)


def stacked_scores(counts: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What samples per mode, counts [K], say against the data's mass target [K] in the modes.

    - `modes`: modes named at least once;
    - `kl`: KL(samples || data) over the modes, nats;
    - `kl_uniform`: KL(samples || uniform), nats: what PacGAN's code computes, for its table. Data whose classes are not
      equally frequent does not reach 0 however many samples there are.
    """
    return {
        "modes": (counts > 0).sum(),
        "kl": kl_divergence(counts, target),
        "kl_uniform": kl_divergence(counts, uniform(len(counts)).to(counts.device)),
    }


def stacked_floor(target: Tensor, n: int) -> dict[str, float]:
    """Expected `stacked_scores` of a perfect sampler, n samples of target [K], exact.

    E KL(X/n || uniform) = E KL(X/n || target) + KL(target || uniform), since E X/n = target.
    """
    kl = expected_kl(target, n)
    skew = float(kl_divergence(target, uniform(len(target)).to(target.device)))
    return {"modes": expected_coverage(target, n), "kl": kl, "kl_uniform": kl + skew}


class StackedQuality(Metric):
    """`stacked_scores` of samples [n, C, S, S] under names that carry n: `modes_26k`, `kl_26k`, `kl_uniform_26k`.

    The mode of a sample is the number whose digits are its channels' classes, each named by the frozen classifier of
    the base set's single channel. The data's mass in the modes is that of its stacks *as the same classifier names
    them*: the product over channels of how often it names each class among the base set's train images. Its mistakes
    cancel that way, so the floor is a perfect sampler's, exact.

    A classifier names noise, too: look at the samples before you believe that many modes are good ones.

    `samples`: per look, at least 1. `batch_size`: stacks that are classified at a time.
    """

    higher_is_better = False
    full_state_update = False
    extractor = "channels"

    def __init__(self, samples: int, batch_size: int = 1000):
        super().__init__()
        for name, value in (("samples", samples), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"metrics.{name} must be at least 1, got {value}")
        self.samples, self.batch_size = samples, batch_size

    @property
    def objective(self) -> str:
        return f"kl_{short_count(self.samples)}"

    @torch.no_grad()
    def setup(self, datamodule, device) -> None:
        data, base = type(datamodule).__name__, getattr(datamodule, "base", None)
        if base is None:
            raise ValueError(
                f"metrics=stacked needs stacked images (stacked_mnist, stacked_fashion, stacked_digits), got {data}: "
                "use metrics=classifier, or metrics=toy for points"
            )
        device = torch.device(device)
        self.classifier, card = load_classifier(base, device)
        named = torch.cat([self.classify(to_float(x.to(device))) for x in base.train.x.split(self.batch_size)])
        per_class = torch.bincount(named, minlength=base.num_classes).double()
        mass = per_class
        for _ in range(datamodule.channels - 1):  # of counts, not shares: whole numbers, so equal products are equal
            mass = torch.outer(mass, per_class).flatten()
        self.base_classes, self.target = base.num_classes, mass / mass.sum()
        self.add_state("counts", torch.zeros(len(mass), dtype=torch.long), dist_reduce_fx="sum")
        self.to(device)
        self.real_scores = self._named(stacked_floor(self.target.cpu(), self.samples))
        self.protocol = {
            "metric": "stacked modes",
            "data": data,
            "fingerprint": datamodule.fingerprint,
            "samples": self.samples,
            "modes": len(mass),
            "resolution": list(datamodule.shape),
            "target": "stacks of train images, as the classifier names them",
            "extractor": card,
        }

    def classify(self, images: Tensor) -> Tensor:
        """Classes [n] of gray images [n, 1, S, S] in [-1, 1]."""
        return self.classifier(images)[1].argmax(1)

    def features(self, stacks: Tensor) -> Tensor:
        """The classifier's features of each channel, one after the other: [n, C * 64] of stacks [n, C, S, S]."""
        return self.classifier(stacks.flatten(0, 1).unsqueeze(1))[0].view(len(stacks), -1)

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        for stacks in samples.split(self.batch_size):
            classes = self.classify(stacks.flatten(0, 1).unsqueeze(1)).view(stacks.shape[:2])
            self.counts += torch.bincount(mode_number(classes, self.base_classes), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        if self.counts.sum() != self.samples:
            raise ValueError(f"a look needs exactly metrics.samples={self.samples} samples, got {int(self.counts.sum())}")
        return self._named(stacked_scores(self.counts, self.target))

    def _named(self, scores: dict) -> dict:
        return {f"{name}_{short_count(self.samples)}": value for name, value in scores.items()}
