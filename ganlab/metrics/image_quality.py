"""Image quality metrics: the Fréchet distance between features of generated and real images (Heusel et al. 2017)."""

import logging
import time
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlab.data import TensorData, to_float, to_uint8
from ganlab.data.batches import is_distributed, is_first_process
from ganlab.metrics.base import QualityMetric, format_count
from ganlab.metrics.classifier import Classifier, load_classifier
from ganlab.metrics.histograms import kl_divergence, perfect_class_scores
from ganlab.metrics.sampling import evenly_spaced_samples, reference_protocol
from ganlab.utils.progress import TerminalProgress
from ganlab.utils.validation import validate_int

log = logging.getLogger("ganlab")

SLOW_SECONDS = 30


class FrechetQuality(QualityMetric):
    """Base class of metrics that compare generated images with a held-out split in the features of an extractor.

    `frechet_<extractor>_N`, lower is better: Fréchet distance between N samples and N images of the reference, which is the
    validation split in training and by default the test split in `ganlab evaluate`; N = min(samples, reference, train
    split). Real data scores what N train images do in place of the samples, with the same bias in N. Both choices of N
    images are stratified. A subclass names its `extractor` and defines `build`, `features` and `update_frechet`.

    Args:
        samples: images per evaluation, at least 2.
        batch_size: images passed to the extractor at a time.

    Raises:
        ValueError: in `setup`, the data are not images; in `compute`, the number of samples is not N, or the extractor's
            features are not finite.
    """

    def __init__(self, samples: int, batch_size: int = 1000):
        super().__init__(samples, minimum=2)
        self.batch_size = validate_int("metrics.batch_size", batch_size)
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def objective(self) -> str:
        return f"frechet_{self.extractor}_{format_count(self.samples)}"

    @abstractmethod
    def build(self, datamodule: TensorData, device: torch.device, split: str) -> dict:
        """Create `self.frechet`, a torchmetrics `FrechetInceptionDistance`; return the extractor's card for the protocol."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """The extractor's features [n, d] of images [n, C, H, W] in [-1, 1]."""

    @abstractmethod
    def update_frechet(self, images: Tensor, real: bool) -> Tensor | None:
        """Update `self.frechet` with images [n, C, H, W] in [-1, 1]; return their predicted classes [n], if there are any."""

    def setup(self, datamodule: TensorData, device: torch.device, split: str = "val") -> None:
        if len(datamodule.shape) != 3:
            got = f"{type(datamodule).__name__} of shape {datamodule.shape}"
            instead = "toy" if hasattr(datamodule, "centers") else "none, or your own metric"
            raise ValueError(f"metrics={self.extractor} needs images, got {got}: use metrics={instead}")
        reference = getattr(datamodule, split)
        self.samples = min(self.samples, len(reference.x), len(datamodule.train.x))
        card = self.build(datamodule, torch.device(device), split)
        self.to(device)
        self.reference = evenly_spaced_samples(reference, self.samples)
        self.reference_classes = self._update_with_images(self.reference.x, real=True)
        start = time.perf_counter()
        self._update_with_images(evenly_spaced_samples(datamodule.train, self.samples).x, real=False)
        if is_first_process():
            self._warn(seconds=time.perf_counter() - start, dimensions=self.frechet.real_features_sum.numel())
        self.real_scores = {self.objective: float(self._frechet_distance())}
        self.reset()
        facts = {"resolution": list(datamodule.shape), "extractor": card}
        self.protocol = self.base_protocol("frechet", datamodule) | reference_protocol(datamodule, split) | facts

    def _warn(self, seconds: float, dimensions: int) -> None:
        if seconds > SLOW_SECONDS:
            log.warning(
                f"the {self.extractor} features of {self.samples:,} images take {seconds:.0f} s, in each evaluation; lower "
                "metrics.samples, or evaluate less often: raise eval_every"
            )
        if self.samples < dimensions:
            log.warning(
                f"the Fréchet distance of {self.samples:,} samples in {dimensions:,} features is mostly bias: compare it only "
                "with values of as many samples, or raise metrics.samples"
            )

    @torch.no_grad()
    def _update_with_images(self, x: Tensor, real: bool) -> list[Tensor | None]:
        """Each process updates with its share, since torchmetrics sums the states over the processes."""
        with TerminalProgress(enabled=is_first_process()) as progress:
            blocks = progress.track(self._share_of_process(x).split(self.batch_size), f"{self.extractor} features of real data")
            return [self.update_frechet(to_float(block.to(self.device)), real) for block in blocks]

    def _share_of_process(self, x: Tensor) -> Tensor:
        return x[torch.distributed.get_rank() :: torch.distributed.get_world_size()] if is_distributed() else x

    def _frechet_distance(self) -> Tensor:
        second_moments = self.frechet.real_features_cov_sum, self.frechet.fake_features_cov_sum
        if not all(moments.isfinite().all() for moments in second_moments):  # torchmetrics' eigenvalues may end the process
            raise ValueError(f"the features of {self.extractor} are not finite; use another extractor, or metrics=none")
        return self.frechet.compute()

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        for images in samples.split(self.batch_size):
            self.update_frechet(images, real=False)
        self.seen += len(samples)

    def compute(self) -> dict[str, Tensor]:
        self.validate_count(self.seen)
        return {self.objective: self._frechet_distance()}

    def reset(self) -> None:
        super().reset()
        self.frechet.reset()


class ClassifierQuality(FrechetQuality):
    """Quality, coverage of the classes and agreement with the labels, by a classifier of the data set's own classes.

    - `frechet_classifier_N`, lower is better: Fréchet distance between the classifier's 64 features;
    - `classes_N`, higher is better: number of classes predicted at least once;
    - `class_kl_N` in nats, lower is better: KL(predicted classes || classes that the same classifier predicts on the
      reference), so that its mistakes cancel; inf where a class is predicted that the reference lacks. The values of real
      data here and in `classes_N` are what a perfect sampler of the train split's classes scores on average
      (`perfect_class_scores`), a conditional one if labels are given;
    - `label_agreement_N` in [0, 1], higher is better: share of samples whose predicted class is their label, only if
      labels are given. The value for real data is the classifier's accuracy on the reference.
    """

    extractor = "classifier"

    def build(self, datamodule: TensorData, device: torch.device, split: str) -> dict:
        self.classifier, card = load_classifier(datamodule, device, split)
        self.accuracy = card["accuracy"]
        self.frechet = FrechetInceptionDistance(PassThrough(), reset_real_features=False)
        self.add_state("class_counts", torch.zeros(datamodule.num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("labeled", torch.tensor(0), dist_reduce_fx="sum")
        return card

    def setup(self, datamodule: TensorData, device: torch.device, split: str = "val") -> None:
        super().setup(datamodule, device, split)
        classes, mine = datamodule.num_classes, self._share_of_process(self.reference.y).to(device)
        pairs = mine * classes + torch.cat(self.reference_classes)
        confusion = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
        if is_distributed():
            torch.distributed.all_reduce(confusion)
        self.target = confusion.sum(0) / confusion.sum()
        labels = torch.bincount(datamodule.train.y, minlength=classes).double()
        self.perfect_scores = perfect_class_scores(confusion.cpu(), labels / labels.sum())
        self.real_scores |= self.append_count(self.perfect_scores[0]._asdict() | {"label_agreement": self.accuracy})

    def features(self, images: Tensor) -> Tensor:
        return self.classifier(images)[0]

    def update_frechet(self, images: Tensor, real: bool) -> Tensor:
        features, logits = self.classifier(images)
        self.frechet.update(features, real=real)
        return logits.argmax(dim=1)

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        predicted = torch.cat([self.update_frechet(images, real=False) for images in samples.split(self.batch_size)])
        self.seen += len(samples)
        self.class_counts += torch.bincount(predicted, minlength=len(self.target))
        self.real_scores |= self.append_count(self.perfect_scores[labels is not None]._asdict())
        if labels is not None:
            self.correct += (predicted == labels).sum()
            self.labeled += len(labels)

    def compute(self) -> dict[str, Tensor]:
        scores = {"classes": (self.class_counts > 0).sum(), "class_kl": kl_divergence(self.class_counts, self.target)}
        if self.labeled > 0:
            scores["label_agreement"] = self.correct / self.labeled
        return super().compute() | self.append_count(scores)


class PassThrough(nn.Identity):
    """The `feature` module of torchmetrics' FrechetInceptionDistance, which is then updated with features, not images."""

    num_features = Classifier.num_features


class InceptionQuality(FrechetQuality):
    """`frechet_inception_N`, the FID of the literature: 2048 features of Inception v3 with torch-fidelity's weights.

    torchmetrics resizes to 299 x 299 with antialiasing, so compare the value only with values computed the same way.

    Args:
        network: replaces Inception, uint8 [n, 3, H, W] -> features [n, d].

    Raises:
        FileNotFoundError: in `setup`, Inception's weights are not installed and cannot be downloaded.
    """

    extractor = "inception"

    def __init__(self, samples: int, batch_size: int = 100, network: nn.Module | None = None):
        super().__init__(samples, batch_size)
        self.network = network

    def build(self, datamodule: TensorData, device: torch.device, split: str) -> dict:
        try:
            self.frechet = FrechetInceptionDistance(self.network or 2048, reset_real_features=False)
        except (ModuleNotFoundError, OSError) as error:
            raise FileNotFoundError(
                f"metrics=inception cannot load its network ({error}): pip install 'ganlab[inception]', and offline put "
                f"weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release v0.2.0 into "
                f"{torch.hub.get_dir()}/checkpoints, or use metrics=classifier"
            ) from None
        return {"name": "inception", "weights": "torch-fidelity" if self.network is None else type(self.network).__name__}

    def features(self, images: Tensor) -> Tensor:
        return self.frechet.inception(to_inception_input(images)).float()

    def update_frechet(self, images: Tensor, real: bool) -> None:
        self.frechet.update(to_inception_input(images), real=real)


def to_inception_input(images: Tensor) -> Tensor:
    """Images [n, C, H, W] in [-1, 1] as uint8 [n, 3, H, W]: gray is repeated, of RGBA the alpha channel is dropped.

    torchmetrics' `normalize=True` is not used because it truncates, and values above 1 wrap around to black.

    Raises:
        ValueError: C is not 1, 3 or 4.
    """
    images = to_uint8(images)
    if images.shape[1] not in (1, 3, 4):
        raise ValueError(f"metrics=inception needs 1, 3 or 4 channels, got {images.shape[1]}: use metrics=classifier")
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
