"""Image quality: the Fréchet distance between features of generated and of real images (Heusel et al. 2017)."""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlab.data import to_float, to_uint8
from ganlab.metrics.classifier import Classifier, load_classifier
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence, short_count


class FrechetQuality(Metric):
    """What every extractor shares: the reference (N images of the test split), the floor, the check of N.

    N = min(samples, test split, train split), since the floor sets N train images against the reference. Those N are
    spread evenly over their split, which may be sorted. The floor of the distance is therefore a real value, with the
    same bias in N as the model's. A subclass names its `extractor`, builds `self.frechet` and feeds it.
    """

    higher_is_better = False
    full_state_update = False
    extractor: str

    def __init__(self, samples: int, batch_size: int = 1000):
        super().__init__()
        if samples < 2:
            raise ValueError(f"metrics.samples must be at least 2, got {samples}")
        if batch_size < 1:
            raise ValueError(f"metrics.batch_size must be at least 1, got {batch_size}")
        self.samples, self.batch_size = samples, batch_size
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def objective(self) -> str:
        return f"frechet_{self.extractor}_{short_count(self.samples)}"

    @abstractmethod
    def build(self, datamodule, device: torch.device) -> dict:
        """Set `self.frechet` up; return the extractor's card for the protocol."""

    @abstractmethod
    def observe(self, images: Tensor, real: bool) -> Tensor | None:
        """Feed images [n, C, H, W] in [-1, 1] to `self.frechet`; return their classes [n] where the extractor knows."""

    def setup(self, datamodule, device) -> None:
        if len(datamodule.shape) != 3:
            data = type(datamodule).__name__
            instead = "toy" if hasattr(datamodule, "centers") else "none, or one of your own"
            raise ValueError(
                f"metrics={self.extractor} needs images, got {data} of shape {datamodule.shape}: use metrics={instead}"
            )
        device = torch.device(device)
        self.samples = min(self.samples, len(datamodule.test.x), len(datamodule.train.x))
        card = self.build(datamodule, device)
        self.to(device)
        self.reference = self._observe_split(datamodule.test.x, real=True)
        self._observe_split(datamodule.train.x, real=False)
        self.real_scores = {self.objective: float(self.frechet.compute())}
        self.reset()
        self.protocol = {
            "metric": "frechet",
            "data": type(datamodule).__name__,
            "fingerprint": datamodule.fingerprint,
            "reference": "test split",
            "samples": self.samples,
            "resolution": list(datamodule.shape),
            "extractor": card,
        }

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """The extractor's features [n, d] of images [n, C, H, W] in [-1, 1]."""

    @torch.no_grad()
    def _observe_split(self, x: Tensor, real: bool) -> list[Tensor | None]:
        """Each process takes its share, since the states' sum over the processes is what the distance sees."""
        chosen = spread_evenly(len(x), self.samples)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            chosen = chosen[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        return [self.observe(to_float(x[i].to(self.device)), real) for i in chosen.split(self.batch_size)]

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        for images in samples.split(self.batch_size):
            self.observe(images, real=False)
        self.seen += len(samples)

    def compute(self) -> dict[str, Tensor]:
        if self.seen != self.samples:
            raise ValueError(f"a look needs exactly {self.samples} samples, got {int(self.seen)}")
        return {self.objective: self.frechet.compute()}

    def reset(self) -> None:
        super().reset()
        self.frechet.reset()


def spread_evenly(total: int, n: int) -> Tensor:
    """n of `total` places, int64 [n], from the first to the last: a fair share of every class of a sorted split."""
    return torch.linspace(0, total - 1, n, dtype=torch.float64).round().long()


class ClassifierQuality(FrechetQuality):
    """How real, how complete and how obedient samples look to a classifier of the data set's own classes.

    - `frechet_classifier_N`: Fréchet distance between the classifier's 64 features;
    - `classes_N`: classes named at least once;
    - `class_kl_N`: KL(classes named || classes that the same classifier names in the reference), nats. Its mistakes
      cancel that way, so the floor is a perfect sampler's, exact; inf where the reference lacks a class that was named;
    - `label_agreement_N`: share of samples whose class is the label asked for, only if labels were given. Its "floor"
      is what real images reach: the classifier's held-out accuracy.
    """

    extractor = "classifier"

    def build(self, datamodule, device: torch.device) -> dict:
        self.classifier, card = load_classifier(datamodule, device)
        self.accuracy = card["accuracy"]
        self.frechet = FrechetInceptionDistance(Features(), reset_real_features=False)
        for state in ("named", "agreed", "asked"):
            bins = datamodule.num_classes if state == "named" else 1
            self.add_state(state, torch.zeros(bins, dtype=torch.long), dist_reduce_fx="sum")
        return card

    def setup(self, datamodule, device) -> None:
        super().setup(datamodule, device)
        counts = torch.bincount(torch.cat(self.reference), minlength=datamodule.num_classes)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        self.target = counts / counts.sum()
        n = short_count(self.samples)
        self.real_scores |= {
            f"classes_{n}": expected_coverage(self.target, self.samples),
            f"class_kl_{n}": expected_kl(self.target, self.samples),
            f"label_agreement_{n}": self.accuracy,
        }

    def features(self, images: Tensor) -> Tensor:
        return self.classifier(images)[0]

    def observe(self, images: Tensor, real: bool) -> Tensor:
        features, logits = self.classifier(images)
        self.frechet.update(features, real=real)
        return logits.argmax(dim=1)

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        named = torch.cat([self.observe(images, real=False) for images in samples.split(self.batch_size)])
        self.seen += len(samples)
        self.named += torch.bincount(named, minlength=len(self.target))
        if labels is not None:
            self.agreed += (named == labels).sum()
            self.asked += len(labels)

    def compute(self) -> dict[str, Tensor]:
        n = short_count(self.samples)
        scores = super().compute()
        scores[f"classes_{n}"] = (self.named > 0).sum()
        scores[f"class_kl_{n}"] = kl_divergence(self.named, self.target)
        if self.asked > 0:
            scores[f"label_agreement_{n}"] = self.agreed[0] / self.asked[0]
        return scores


class Features(nn.Identity):
    """Stands where torchmetrics expects an extractor: it is given features, which pass as they are (float32)."""

    num_features = Classifier.num_features


class InceptionQuality(FrechetQuality):
    """`frechet_inception_N`: the FID of the literature's network (2048 features of Inception v3, torch-fidelity's
    weights), with torchmetrics' antialiased resize to 299 x 299, so compare it only with numbers made the same way.

    `network`: takes the place of Inception, uint8 [n, 3, H, W] -> features [n, d].
    """

    extractor = "inception"

    def __init__(self, samples: int, batch_size: int = 100, network: nn.Module | None = None):
        super().__init__(samples, batch_size)
        self.network = network

    def build(self, datamodule, device: torch.device) -> dict:
        try:
            self.frechet = FrechetInceptionDistance(self.network or 2048, reset_real_features=False)
        except (ModuleNotFoundError, OSError) as error:
            raise FileNotFoundError(
                f"metrics=inception cannot have its network ({error}): pip install 'ganlab[inception]', and offline put "
                f"weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release v0.2.0 into "
                f"{torch.hub.get_dir()}/checkpoints, or use metrics=classifier"
            ) from None
        return {
            "name": "inception",
            "weights": "torch-fidelity" if self.network is None else type(self.network).__name__,
        }

    def features(self, images: Tensor) -> Tensor:
        return self.frechet.inception(to_bytes(images)).float()

    def observe(self, images: Tensor, real: bool) -> None:
        self.frechet.update(to_bytes(images), real=real)


def to_bytes(images: Tensor) -> Tensor:
    """Images [n, C, H, W] in [-1, 1] as Inception takes them: uint8 [n, 3, H, W].

    Not by torchmetrics' `normalize=True`, which truncates, and lets values above 1 wrap to black.
    Gray becomes three equal channels; of four (RGBA) the first three remain; other counts are refused.
    """
    images = to_uint8(images)
    if images.shape[1] not in (1, 3, 4):
        raise ValueError(f"metrics=inception needs 1, 3 or 4 channels, got {images.shape[1]}: use metrics=classifier")
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
