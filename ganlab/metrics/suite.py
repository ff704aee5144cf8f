"""The full evaluation of a trained generator: every metric with its protocol and what real data scores."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganlab.data import Split, TensorData, to_float, to_uint8
from ganlab.data.batches import permutation
from ganlab.metrics import cas
from ganlab.metrics.base import format_count
from ganlab.metrics.classifier import RECIPE_VERSION
from ganlab.metrics.fid import MIN_SAMPLES_PER_FEATURE, SUBSET_SIZES, frechet_distance, frechet_infinity
from ganlab.metrics.image_quality import FrechetQuality, evenly_spaced_indices
from ganlab.metrics.kid import kernel_distance
from ganlab.metrics.memorization import MemorizationResult, memorization
from ganlab.metrics.prdc import K_DENSITY_COVERAGE, K_PRECISION_RECALL, prdc
from ganlab.metrics.stacked import StackedQuality
from ganlab.metrics.vendi import vendi_score, vendi_score_of_points
from ganlab.utils.statistics import Estimate, percent, wilson_interval

MAX_VENDI_POINTS = 2000  # the kernel matrix of points needs n² memory and n³ time
BATCH_SIZE = 500


@dataclass(frozen=True)
class MetricResult:
    """A value, what real data scores at the same N, how it was measured, and its 95 % interval if there is one."""

    value: float
    real: float | None
    protocol: dict
    low: float | None = None
    high: float | None = None


@dataclass
class SuiteResults:
    """`metrics`: results by full name; `not_measured`: name -> reason; `memorization`: with the distance of each sample."""

    metrics: dict[str, MetricResult] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    memorization: MemorizationResult | None = None


class EvaluationSuite:
    """Evaluates a GAN's moving-average generator against a data set, in the features of its quality metrics.

    N generated samples are compared with N samples of the test split; real data scores what N train samples do in place
    of the generated ones. Real samples are spread evenly over their split. Metric names end with N.

    Args:
        gan, datamodule: in eval mode, and set up.
        metrics: quality metrics for N = `samples`; the features of the first are used for all other metrics.
        samples: N, from 20 to the size of the smaller split.
        seed: of latents, labels and subsets.
        progress: (iterable, description) -> iterable, such as `TerminalProgress.track`.

    Raises:
        ValueError: N is out of range; in `run`, the generator's samples are not finite.
    """

    def __init__(
        self, gan, datamodule: TensorData, metrics: Sequence, samples: int, seed: int, progress: Callable | None = None
    ):
        limit = min(len(datamodule.train.x), len(datamodule.test.x))
        if not cas.MIN_SAMPLES <= samples <= limit:
            raise ValueError(f"n must be in {cas.MIN_SAMPLES} … {limit}, the size of the smaller split, got {samples}")
        self.gan, self.data, self.metrics, self.samples, self.seed = gan, datamodule, list(metrics), samples, seed
        self.progress = progress or (lambda blocks, description: blocks)
        self.is_points = len(datamodule.shape) == 1
        self.results = SuiteResults()
        self.device = torch.device(gan.device)
        real = "as many train samples in place of the generated ones"
        self.sampling_protocol = {"samples": samples, "seed": seed, "real": real}

    @torch.no_grad()
    def run(self) -> SuiteResults:
        for metric in self.progress(self.metrics, "real statistics"):
            metric.setup(self.data, self.device)
        self._sample()
        train, test = self.data.train, self.data.test
        chosen = evenly_spaced_indices(len(train.x), self.samples)
        self.train_part = Split(train.x[chosen], train.y[chosen])
        self.test_part = test.x[evenly_spaced_indices(len(test.x), self.samples)]
        self.real = self._features(self.train_part.x)
        self.reference = self._features(self.test_part)
        self._quality()
        self._distances()
        self._prdc()
        self._vendi()
        self._memorization()
        self._classification_accuracy()
        return self.results

    def _sample(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.labels = self.gan.conditioning.sample_labels(None, self.samples, generator)
        batches = self.gan.sample_in_batches(self.samples, self.labels, seed=self.seed, batch_size=BATCH_SIZE)
        features, samples = [], []
        for start in self.progress(range(0, self.samples, BATCH_SIZE), "samples"):
            batch = next(batches)
            if not batch.isfinite().all():
                raise ValueError("the generator's samples are not finite, its training diverged; evaluate another checkpoint")
            labels = None if self.labels is None else self.labels[start : start + len(batch)].to(batch.device)
            for metric in self.metrics:
                metric.update(batch, labels)
            features.append(self.metrics[0].features(batch))
            samples.append((batch if self.is_points else to_uint8(batch)).cpu())
        self.fake, self.fake_samples = torch.cat(features), torch.cat(samples)

    def _features(self, x: Tensor) -> Tensor:
        blocks = (block.to(self.device) for block in x.split(BATCH_SIZE))
        return torch.cat([self.metrics[0].features(block if self.is_points else to_float(block)) for block in blocks])

    def _quality(self) -> None:
        """The metrics that are also logged during training."""
        for metric in self.metrics:
            for name, value in metric.compute().items():
                if name.startswith("label_agreement"):  # reported as gan_test, with an interval
                    self.label_agreement, self.labeling_metric = float(value), metric
                else:
                    protocol = metric.protocol | self.sampling_protocol
                    self.results.metrics[name] = MetricResult(float(value), metric.real_scores.get(name), protocol)

    def _distances(self) -> None:
        if not isinstance(self.metrics[0], FrechetQuality):
            finite = self._of_fake_and_real(lambda x, _: frechet_distance(x, self.reference), "Fréchet distance")
            self._add("frechet", *finite, {})
        infinity = lambda x, progress: frechet_infinity(x, self.reference, self.seed, progress)
        infinite = self._of_fake_and_real(infinity, "Fréchet distance at infinity")
        if None in infinite:
            reason = f"fewer than {MIN_SAMPLES_PER_FEATURE} for each of the {self.fake.shape[1]:,} features"
            self.results.not_measured["frechet_infinity"] = f"{self.samples:,} samples are {reason}"
        else:
            measures = f"intercept of a line in 1/N through {SUBSET_SIZES} sizes"
            self._add("frechet_infinity", *infinite, {"measures": measures, "sizes": [self.samples // 10, self.samples]})
        kid = self._of_fake_and_real(lambda x, progress: kernel_distance(x, self.reference, progress), "kernel distance")
        self._add("kid", *kid, {"kernel": "(x.y/d + 1)^3", "estimator": "unbiased MMD^2 over all pairs"})

    def _prdc(self) -> None:
        scores, real_scores = self._of_fake_and_real(lambda x, progress: prdc(self.reference, x, progress), "prdc")
        for name, score in scores.items():
            k = K_PRECISION_RECALL if name in ("precision", "recall") else K_DENSITY_COVERAGE
            self._add(name, score, real_scores[name], {"k": k})

    def _of_fake_and_real(self, function: Callable, description: str) -> tuple[Any, Any]:
        """`function(features, progress)` of the generated samples, and of the real ones in their place."""
        fake = function(self.fake, self._progress(f"{description}, generated data"))
        return fake, function(self.real, self._progress(f"{description}, real data"))

    def _vendi(self) -> None:
        if not self.is_points:
            return self._add("vendi", vendi_score(self.fake), vendi_score(self.real), {"kernel": "cosine"})
        if (centers := getattr(self.data, "centers", None)) is None:
            self.results.not_measured["vendi"] = "the kernel's width follows from the modes, which are unknown for this data"
            return
        n, width = min(MAX_VENDI_POINTS, self.samples), float(torch.pdist(centers.double()).min()) / 4
        chosen = permutation(self.samples, self.seed)[:n].to(self.device)
        value, real = (vendi_score_of_points(x[chosen], width) for x in (self.fake, self.real))
        protocol = {"kernel": f"Gaussian of width {width:.4g}, a quarter of the modes' smallest distance"}
        self._add("vendi", value, real, protocol | {"samples": n}, n=n)

    def _memorization(self) -> None:
        train, progress = self.data.train.x, self._progress("nearest training samples")
        result = memorization(self.fake_samples, self.test_part, train, self.device, progress)
        self.results.memorization = result
        space, unit = ("points", "points") if self.is_points else ("pixels", "pixels in [-1, 1]")
        common = {"distance": f"L2 between {unit}", "train": f"all {len(train)}", "held out": "test split"}
        medians = float(result.distance.median()), float(result.real_distance.median())
        median = common | {"measures": "median distance to the nearest training sample"}
        self._add("nearest_train", *medians, median, space)
        auc = {"measures": "P(further from the training data than a held-out real sample)", "interval": "DeLong 95 %"}
        self._add("nearest_train_auc", result.auc, 0.5, common | auc, space)
        measures = "within half the distance from its nearest training sample to that one's own nearest"
        copies = common | {"measures": measures, "interval": "Wilson 95 %"}
        self._add("copies", result.copies, result.real_copies.value, copies, space)

    def _classification_accuracy(self) -> None:
        """GAN-train and GAN-test of conditional models."""
        classes = self.data.num_classes
        if self.labels is None:
            reason = "the GAN is unconditional"
        elif isinstance(self.metrics[0], StackedQuality):
            reason = "the classifier predicts the class of a channel, not of a stack"
        elif classes < 2:
            reason = f"the data has {classes} classes"
        else:
            measure = self._accuracy_of_points if self.is_points else self._accuracy_of_images
            return measure(Split(self.fake_samples, self.labels))
        self.results.not_measured |= {"gan_train": reason, "gan_test": reason}

    def _accuracy_of_images(self, fake: Split) -> None:
        metric, test, classes = self.labeling_metric, self.data.test, self.data.num_classes
        agreement = wilson_interval(round(self.label_agreement * self.samples), self.samples)
        measures = "GAN-test: share of samples that a classifier trained on real data assigns to their label"
        self._add("gan_test", agreement, metric.accuracy, {"measures": measures}, metric=metric)

        def score(split: Split, kind: str) -> cas.CASResult:
            progress = self._progress(f"classifier of {kind} images")
            return cas.classification_accuracy_score(split, test, classes, self.device, self.seed, progress)

        value, real = score(fake, "generated"), score(self.train_part, "real")
        accuracy = wilson_interval(round(value.accuracy * len(test.x)), len(test.x))
        rates = f"{percent(cas.HELD_OUT_FRACTION)} % of the samples, held out, from the rates {list(cas.LEARNING_RATES)}"
        protocol = {
            "measures": "GAN-train (CAS): accuracy on the whole test split of a classifier that saw only samples",
            "chosen": f"on {rates}: {value.learning_rate:g}",
            "held-out accuracy": value.held_out_accuracy,
            "classifier": f"the extractor's architecture and training, recipe {RECIPE_VERSION}",
        }
        self._add("gan_train", accuracy, real.accuracy, protocol, metric=metric)

    def _accuracy_of_points(self, fake: Split) -> None:
        train, test = self.data.train, self.data.test
        for name, n, pairs in (
            ("gan_train", len(test.x), ((fake, test), (self.train_part, test))),
            ("gan_test", self.samples, ((train, fake), (train, test))),
        ):
            value, real = (cas.nearest_mean_accuracy(*pair, self.data.num_classes) for pair in pairs)
            self._add(name, wilson_interval(round(value * n), n), real, {"classifier": "nearest class mean"})

    def _progress(self, description: str) -> Callable[[Iterable], Iterable]:
        return partial(self.progress, description=description)

    def _add(
        self, name: str, value: float | Estimate, real: float, protocol: dict, space: str = "", metric=None, n: int = 0
    ) -> None:
        """Add a result as `<name>_<space>_<n>`, by default of the first metric, in its features and of all samples."""
        metric, n = metric or self.metrics[0], n or self.samples
        space = space or metric.extractor
        protocol = metric.protocol | {"metric": name, "reference": "test split"} | self.sampling_protocol | protocol
        if space == "pixels" or "classifier" in protocol:  # no use of the extractor
            protocol.pop("extractor", None)
        estimate = value if isinstance(value, Estimate) else Estimate(value)
        result = MetricResult(float(estimate.value), real, protocol, estimate.low, estimate.high)
        self.results.metrics[f"{name}_{space}_{format_count(n)}"] = result
