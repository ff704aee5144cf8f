"""The full evaluation of a trained generator: every metric with its protocol and what real data scores."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ganlab.data import Split, TensorData, to_float, to_uint8
from ganlab.data.batches import permutation
from ganlab.metrics import cas
from ganlab.metrics.base import format_count
from ganlab.metrics.classifier import RECIPE_VERSION
from ganlab.metrics.fid import MIN_SAMPLES_PER_FEATURE, SUBSET_SIZES, frechet_distance, frechet_infinity
from ganlab.metrics.image_quality import FrechetQuality
from ganlab.metrics.kid import kernel_distance
from ganlab.metrics.knn import Progress
from ganlab.metrics.memorization import MemorizationResult, memorization
from ganlab.metrics.mode_coverage import smallest_gap
from ganlab.metrics.prdc import K_DENSITY_COVERAGE, K_PRECISION_RECALL, prdc
from ganlab.metrics.sampling import (
    BATCH_SIZE,
    SAMPLING_PROTOCOL,
    SPLIT_NAMES,
    evaluation_samples,
    evenly_spaced_samples,
    reference_labels,
    reference_protocol,
)
from ganlab.metrics.stacked import StackedQuality
from ganlab.metrics.vendi import vendi_score, vendi_score_of_points
from ganlab.utils.statistics import Estimate, percent, prediction_interval, wilson_interval

MAX_VENDI_POINTS = 2000  # the kernel matrix of points needs n² memory and n³ time
DRAWS, MAX_REPEATED_SAMPLES = 10, 2500  # with more samples, draws differ less than checkpoints do
SHARES = ("precision", "recall", "coverage", "high_quality")  # in [0, 1]
SIGNED = ("kid", "frechet_infinity")  # other values are at least 0


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

    N generated samples are compared with N samples of a held-out split, whose labels they have if the GAN is conditional;
    real data scores what N train samples do in place of the generated ones. Real samples are stratified and spread evenly
    over their split. Metric names end with N. `split="val"`, `seed=0` and a run's own N give the numbers that the run logged.

    Where N <= 2,500, `draws` sets of N samples are generated, from other latents each, and what has no interval of its own
    gets the one that holds 95 % of such draws. Its value is always that of the first draw.

    Args:
        gan, datamodule: in eval mode, and set up.
        metrics: quality metrics for N = `samples`; the features of the first are used for all other metrics.
        samples: N, from 20 to the size of the smaller split.
        seed: of latents and subsets.
        split: the reference, "test" or "val".
        draws: sets of samples; 1 gives no intervals.
        progress: (iterable, description) -> iterable, such as `TerminalProgress.track`.

    Raises:
        ValueError: N is out of range; in `run`, the generator's samples are not finite.
    """

    def __init__(
        self,
        gan,
        datamodule: TensorData,
        metrics: Sequence,
        samples: int,
        seed: int = 0,
        *,
        split: str = "test",
        draws: int = DRAWS,
        progress: Callable | None = None,
    ):
        limit = min(len(datamodule.train.x), len(getattr(datamodule, split).x))
        if not cas.MIN_SAMPLES <= samples <= limit:
            if limit < cas.MIN_SAMPLES:
                raise ValueError(f"an evaluation needs {cas.MIN_SAMPLES} real samples of each split, the smaller has {limit}")
            raise ValueError(f"n must be in {cas.MIN_SAMPLES} … {limit}, the size of the smaller split, got {samples}")
        self.gan, self.data, self.metrics, self.samples, self.seed = gan, datamodule, list(metrics), samples, seed
        self.split, self.held_out = split, getattr(datamodule, split)
        self.draws = draws if samples <= MAX_REPEATED_SAMPLES else 1
        self.progress = progress or (lambda blocks, description: blocks)
        self.is_points = len(datamodule.shape) == 1
        centers = getattr(datamodule, "centers", None)
        self.vendi_width = math.inf if centers is None else smallest_gap(centers) / 4  # of the kernel for points
        self.results = SuiteResults()
        self.device = torch.device(gan.device)
        real = "as many train samples in place of the generated ones"
        self.sampling_protocol = SAMPLING_PROTOCOL | {"samples": samples, "seed": seed, "real": real}
        self.reference_protocol = reference_protocol(datamodule, split)

    @torch.no_grad()
    def run(self) -> SuiteResults:
        for metric in self.metrics:
            metric.setup(self.data, self.device, self.split)
        self.labels = reference_labels(self.gan, self.data, self.split, self.samples)
        self.train_part = evenly_spaced_samples(self.data.train, self.samples)
        self.held_out_part = evenly_spaced_samples(self.held_out, self.samples).x
        real, self.reference = (self._features(x) for x in (self.train_part.x, self.held_out_part))
        quality, fake, self.fake_samples = self._draw(self.seed, self._progress("samples"))
        scored_by = {name: metric for metric in self.metrics for name in metric.compute()}  # as torchmetrics remembers it
        scores = self._feature_scores(fake, "generated data")
        self._repeat_draws(quality | scores)
        self._add_quality(quality, scored_by)
        self._add_feature_scores(scores, self._feature_scores(real, "real data"))
        self._memorization()
        self._classification_accuracy()
        return self.results

    def _draw(self, seed: int, progress: Progress = iter) -> tuple[dict[str, float], Tensor, Tensor]:
        """The metrics' values, features [N, d] and samples [N, ...] (images as uint8, on the CPU) of N generated samples."""
        for metric in self.metrics:
            metric.reset()
        features, samples = [], []
        batches = evaluation_samples(self.gan, self.labels, self.samples, seed)
        for _ in progress(range(0, self.samples, BATCH_SIZE)):
            batch, labels = next(batches)
            for metric in self.metrics:
                metric.update(batch, labels)
            features.append(self.metrics[0].features(batch))
            samples.append((batch if self.is_points else to_uint8(batch)).cpu())
        values = {name: float(value) for metric in self.metrics for name, value in metric.compute().items()}
        return values, torch.cat(features), torch.cat(samples)

    def _features(self, x: Tensor) -> Tensor:
        blocks = (block.to(self.device) for block in self.progress(x.split(BATCH_SIZE), "features of real data"))
        return torch.cat([self.metrics[0].features(block if self.is_points else to_float(block)) for block in blocks])

    def _feature_scores(self, x: Tensor, data: str = "") -> dict[str, float]:
        """Scores of features x [N, d]; only those that they allow. `data`: whose, for the progress bar."""

        def progress(score: str) -> Progress:
            return self._progress(f"{score}, {data}") if data else iter

        scores: dict[str, float] = {}
        if not isinstance(self.metrics[0], FrechetQuality):
            scores["frechet"] = frechet_distance(x, self.reference)
        infinity = frechet_infinity(x, self.reference, self.seed, progress("Fréchet distance at infinity"))
        if infinity is not None:
            scores["frechet_infinity"] = infinity
        scores["kid"] = kernel_distance(x, self.reference, progress("kernel distance"))
        scores |= prdc(self.reference, x, progress("precision and recall"))
        if not self.is_points:
            scores["vendi"] = vendi_score(x)
        elif self.vendi_width < math.inf:
            chosen = permutation(len(x), self.seed)[:MAX_VENDI_POINTS].to(x.device)
            scores["vendi"] = vendi_score_of_points(x[chosen], self.vendi_width)
        return scores

    def _repeat_draws(self, first: dict[str, float]) -> None:
        """Collect the values of all draws by name."""
        self.by_draw = {name: [value] for name, value in first.items()}
        generator = torch.Generator().manual_seed(self.seed)
        for seed in self.progress(torch.randint(2**62, (self.draws - 1,), generator=generator).tolist(), "more draws"):
            values, features, _ = self._draw(seed)
            for name, value in (values | self._feature_scores(features)).items():
                self.by_draw[name].append(value)

    def _of_draws(self, name: str, value: float, protocol: dict) -> tuple[Estimate, dict]:
        """The value with the interval of 95 % of draws, and the protocol with what that is."""
        values = self.by_draw[name]
        if len(values) < 2 or not all(map(math.isfinite, values)):
            return Estimate(value), protocol
        low, high = prediction_interval(values)
        low, high = min(low, value), max(high, value)  # the value is one of the draws
        kind = name.removesuffix(f"_{format_count(self.samples)}")
        largest = dict.fromkeys(SHARES, 1.0) | {"modes": protocol.get("modes"), "classes": self.data.num_classes}
        low = low if kind in SIGNED or min(values) < 0 else max(low, 0.0)
        high = min(high, largest.get(kind) or math.inf)
        facts = {"interval": f"95 % of draws, Student's t from {len(values)}", "mean of draws": sum(values) / len(values)}
        return Estimate(value, low, high), protocol | facts

    def _add_quality(self, quality: dict[str, float], scored_by: dict) -> None:
        """The metrics that are also logged during training."""
        for name, value in quality.items():
            metric = scored_by[name]
            if name.startswith("label_agreement"):  # reported as gan_test, with an interval
                self.label_agreement, self.labeling_metric = value, metric
            else:
                estimate, protocol = self._of_draws(name, value, metric.protocol | self.sampling_protocol)
                real = metric.real_scores.get(name)
                self.results.metrics[name] = MetricResult(value, real, protocol, estimate.low, estimate.high)

    def _add_feature_scores(self, scores: dict[str, float], real: dict[str, float]) -> None:
        sizes = [self.samples // 10, self.samples]
        protocols: dict[str, dict] = {
            "frechet_infinity": {"measures": f"intercept of a line in 1/N through {SUBSET_SIZES} sizes", "sizes": sizes},
            "kid": {"kernel": "(x.y/d + 1)^3", "estimator": "unbiased MMD^2 over all pairs"},
            **dict.fromkeys(("precision", "recall"), {"k": K_PRECISION_RECALL}),
            **dict.fromkeys(("density", "coverage"), {"k": K_DENSITY_COVERAGE}),
            "vendi": {"kernel": "cosine"},
        }
        if self.is_points:
            kernel = f"Gaussian of width {self.vendi_width:.4g}, a quarter of the modes' smallest distance"
            protocols["vendi"] = {"kernel": kernel, "samples": min(MAX_VENDI_POINTS, self.samples)}
        for name, value in scores.items():
            estimate, protocol = self._of_draws(name, value, protocols.get(name, {}))
            self._add(name, estimate, real[name], protocol)
        if "frechet_infinity" not in scores:
            reason = f"fewer than {MIN_SAMPLES_PER_FEATURE} for each of the {self.reference.shape[1]:,} features"
            self.results.not_measured["frechet_infinity"] = f"{self.samples:,} samples are {reason}"
        if "vendi" not in scores:
            self.results.not_measured["vendi"] = "the kernel's width follows from the distance of modes, which this data lacks"

    def _memorization(self) -> None:
        train, progress = self.data.train.x, self._progress("nearest training samples")
        self.results.memorization = result = memorization(self.fake_samples, self.held_out_part, train, self.device, progress)
        space, unit = ("points", "points") if self.is_points else ("pixels", "pixels in [-1, 1]")
        common = {"distance": f"L2 between {unit}", "train": f"all {len(train)}", "held out": SPLIT_NAMES[self.split]}
        medians = float(result.distance.median()), float(result.real_distance.median())
        median = {"measures": "median distance to the nearest training sample"}
        self._add("nearest_train", *medians, common | median, space)
        auc = {"measures": "P(further from the training data than a held-out real sample)", "interval": "DeLong 95 %"}
        self._add("nearest_train_auc", result.auc, 0.5, common | auc, space)
        measures = "within half the distance from its nearest training sample to that one's own nearest"
        copies = {"measures": measures, "interval": "Wilson 95 %"}
        self._add("copies", result.copies, result.real_copies.value, common | copies, space)

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
        metric, held_out, classes = self.labeling_metric, self.held_out, self.data.num_classes
        agreement = wilson_interval(round(self.label_agreement * self.samples), self.samples)
        measures = "GAN-test: share of samples that a classifier trained on real data assigns to their label"
        self._add("gan_test", agreement, metric.accuracy, {"measures": measures}, metric=metric)

        def score(split: Split, kind: str) -> cas.CASResult:
            progress = self._progress(f"classifier of {kind} images")
            return cas.classification_accuracy_score(split, held_out, classes, self.device, self.seed, progress)

        value, real = score(fake, "generated"), score(self.train_part, "real")
        accuracy = wilson_interval(round(value.accuracy * len(held_out.x)), len(held_out.x))
        rates = f"{percent(cas.HELD_OUT_FRACTION)} % of the samples, held out, from the rates {list(cas.LEARNING_RATES)}"
        protocol = {
            "measures": "GAN-train (CAS): accuracy on the whole reference split of a classifier that saw only samples",
            "chosen": f"on {rates}: {value.learning_rate:g}",
            "held-out accuracy": value.held_out_accuracy,
            "classifier": f"the extractor's architecture and training, recipe {RECIPE_VERSION}",
        }
        self._add("gan_train", accuracy, real.accuracy, protocol, metric=metric)

    def _accuracy_of_points(self, fake: Split) -> None:
        train, held_out = self.data.train, self.held_out
        pairs = {"gan_train": ((fake, held_out), (self.train_part, held_out)), "gan_test": ((train, fake), (train, held_out))}
        for name, of_fake_and_real in pairs.items():
            value, real = (cas.nearest_mean_accuracy(*pair, self.data.num_classes) for pair in of_fake_and_real)
            n = len(of_fake_and_real[0][1].x)
            self._add(name, wilson_interval(round(value * n), n), real, {"classifier": "nearest class mean"})

    def _progress(self, description: str) -> Callable[[Iterable], Iterable]:
        return partial(self.progress, description=description)

    def _add(self, name: str, value: float | Estimate, real: float, protocol: dict, space: str = "", metric=None) -> None:
        """Add a result as `<name>_<space>_<samples>`, by default of the first metric, in its features."""
        metric = metric or self.metrics[0]
        space = space or metric.extractor
        protocol = metric.protocol | {"metric": name} | self.reference_protocol | self.sampling_protocol | protocol
        if space == "pixels" or "classifier" in protocol:  # no use of the extractor
            protocol.pop("extractor", None)
        estimate = value if isinstance(value, Estimate) else Estimate(value)
        result = MetricResult(float(estimate.value), real, protocol, estimate.low, estimate.high)
        self.results.metrics[f"{name}_{space}_{format_count(protocol['samples'])}"] = result
