"""Everything there is to measure on a trained generator, each number with its protocol and what real data scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ganlab.data import Split, to_float, to_uint8
from ganlab.metrics.cas import HELD_OUT, RATES, nearest_mean_accuracy, transfer
from ganlab.metrics.classifier import RECIPE
from ganlab.metrics.fid import PER_FEATURE, SIZES, frechet_distance, frechet_infinity
from ganlab.metrics.histograms import short_count
from ganlab.metrics.image_quality import FrechetQuality, spread_evenly
from ganlab.metrics.kid import kernel_distance
from ganlab.metrics.memorization import Memorization, memorization
from ganlab.metrics.prdc import K_DENSITY_COVERAGE, K_PRECISION_RECALL, Track, manifold_scores
from ganlab.metrics.stacked import StackedQuality
from ganlab.metrics.vendi import vendi, vendi_of_points
from ganlab.utils.statistics import wilson_interval

LEAST = 20
VENDI_POINTS = 2000  # its kernel on points needs n² memory and n³ time
BATCH = 500


@dataclass(frozen=True)
class MetricResult:
    """A value, its 95 % interval where there is one, what real data scores at the same N, and how it was measured."""

    value: float
    real: float | None
    protocol: dict
    low: float | None = None
    high: float | None = None


@dataclass
class Findings:
    """`numbers` by their full names; `not_measured`: name -> why; `memorization` with all its distances."""

    numbers: dict[str, MetricResult] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    memorization: Memorization | None = None


class EvaluationSuite:
    """Measures a GAN's moving-average generator against a data set, in the features of its quality metrics.

    N samples stand against N of the test split; what real data scores is N of the train split in the samples' place.
    The N are spread evenly over their split. All numbers use as many, and their names say how many.

    Args:
        gan: in eval mode.
        datamodule: set up.
        metrics: quality metrics for `samples`; the first one's features are used for everything else.
        samples: N, from 20 to the size of the smaller split.
        seed: of the latents, labels and subsets.
        track: description -> a wrapper around the blocks of a long loop, for a progress bar.

    Raises:
        ValueError: N is out of range, or the generator returns values that are not finite.
    """

    def __init__(
        self, gan, datamodule, metrics: Sequence, samples: int, seed: int, track: Callable[[str], Track] | None = None
    ):
        limit = min(len(datamodule.train.x), len(datamodule.test.x))
        if not LEAST <= samples <= limit:
            raise ValueError(f"n must be in {LEAST} … {limit}, the size of the smaller split, got {samples}")
        self.gan, self.data, self.metrics = gan, datamodule, list(metrics)
        self.samples, self.seed = samples, seed
        self.track = track or (lambda description: lambda blocks: blocks)
        self.space = self.metrics[0].extractor
        self.points = len(datamodule.shape) == 1
        self.findings = Findings()
        self.device = torch.device(gan.device)

    @torch.no_grad()
    def run(self) -> Findings:
        for metric in self.track("real statistics")(self.metrics):
            metric.setup(self.data, self.device)
        self._sample()
        train, test = self.data.train.x, self.data.test.x
        self.train_part = train[spread_evenly(len(train), self.samples)]
        self.test_part = test[spread_evenly(len(test), self.samples)]
        self.real = self._features(self.train_part)
        self.reference = self._features(self.test_part)
        self._quality()
        self._distances()
        self._manifolds()
        self._vendi()
        self._memorization()
        self._transfer()
        return self.findings

    # What is measured

    def _sample(self) -> None:
        y = self.gan.conditioning.sample_labels(None, self.samples, torch.Generator().manual_seed(self.seed))
        self.labels, features, kept = y, [], []
        batches = self.gan.sample_in_batches(self.samples, y, seed=self.seed, batch_size=BATCH)
        for start in self.track("samples")(range(0, self.samples, BATCH)):
            batch = next(batches)
            if not batch.isfinite().all():
                raise ValueError(
                    "the generator returns values that are not finite; its run went wrong, evaluate another checkpoint"
                )
            for metric in self.metrics:
                metric.update(batch, None if y is None else y[start : start + len(batch)].to(batch.device))
            features.append(self.metrics[0].features(batch))
            kept.append((batch if self.points else to_uint8(batch)).cpu())
        self.fake, self.kept = torch.cat(features), torch.cat(kept)

    def _features(self, x: Tensor) -> Tensor:
        shown = (x if self.points else to_float(x) for x in (part.to(self.device) for part in x.split(BATCH)))
        return torch.cat([self.metrics[0].features(part) for part in shown])

    def _quality(self) -> None:
        """The numbers that training logs, too."""
        for metric in self.metrics:
            for name, value in metric.compute().items():
                if name.startswith("label_agreement"):
                    self.agreement, self.named_by = float(value), metric
                else:
                    self.findings.numbers[name] = MetricResult(
                        float(value), metric.real_scores.get(name), metric.protocol | self._of_samples()
                    )

    def _distances(self) -> None:
        if not isinstance(self.metrics[0], FrechetQuality):
            value = frechet_distance(self.fake, self.reference)
            self._add("frechet", self.space, value, frechet_distance(self.real, self.reference), {})
        pairs = {"value": self.fake, "real": self.real}
        infinite = {
            side: frechet_infinity(x, self.reference, self.seed, self.track(f"Fréchet distance at infinity, {side}"))
            for side, x in pairs.items()
        }
        if infinite["value"] is None:
            self.findings.not_measured["frechet_infinity"] = (
                f"{self.samples:,} samples are fewer than {PER_FEATURE} for each of the {self.fake.shape[1]:,} features"
            )
        else:
            sizes = infinite["value"].sizes
            how = {"measures": f"intercept of a line in 1/N through {SIZES} sizes", "sizes": [sizes[0], sizes[-1]]}
            self._add("frechet_infinity", self.space, infinite["value"].value, infinite["real"].value, how)
        kernel = {side: kernel_distance(x, self.reference, self.track(f"kernel distance, {side}")) for side, x in pairs.items()}
        how = {"kernel": "(x.y/d + 1)^3", "estimator": "unbiased MMD^2 over all pairs"}
        self._add("kid", self.space, kernel["value"], kernel["real"], how)

    def _manifolds(self) -> None:
        value = manifold_scores(self.reference, self.fake, self.track("neighbors' balls, value"))
        real = manifold_scores(self.reference, self.real, self.track("neighbors' balls, real"))
        for name in value:
            k = K_PRECISION_RECALL if name in ("precision", "recall") else K_DENSITY_COVERAGE
            self._add(name, self.space, value[name], real[name], {"k": k})

    def _vendi(self) -> None:
        if not self.points:
            return self._add("vendi", self.space, vendi(self.fake), vendi(self.real), {"kernel": "cosine"})
        if (centers := getattr(self.data, "centers", None)) is None:  # points of one's own
            self.findings.not_measured["vendi"] = (
                "its kernel's width follows from the modes' distances, and these are not known"
            )
            return
        n, width = min(VENDI_POINTS, self.samples), float(torch.pdist(centers.double()).min()) / 4
        some = torch.randperm(self.samples, generator=torch.Generator().manual_seed(self.seed))[:n].to(self.device)
        value, real = (vendi_of_points(x[some], width) for x in (self.fake, self.real))
        how = {"kernel": f"Gaussian of width {width:.4g}, a quarter of the modes' smallest distance"}
        self._add("vendi", self.space, value, real, how, samples=n)

    def _memorization(self) -> None:
        found = memorization(self.kept, self.test_part, self.data.train.x, self.device, self.track("nearest training samples"))
        self.findings.memorization = found
        space = "points" if self.points else "pixels"
        how = {"distance": f"L2 between {space}" + ("" if self.points else " in [-1, 1]"),
               "train": f"all {len(self.data.train.x)}", "held out": "test split"}  # fmt: skip
        median = {"measures": "median distance to the nearest training sample"}
        medians = float(found.distance.median()), float(found.real_distance.median())
        self._add("nearest_train", space, *medians, how | median)
        auc = {"measures": "P(further from the training data than a held-out real sample)", "interval": "DeLong 95 %"}
        self._add("nearest_train_auc", space, found.auc, 0.5, how | auc)
        copies = {"measures": "within half the distance from its nearest training sample to that one's own nearest",
                  "interval": "Wilson 95 %"}  # fmt: skip
        self._add("copies", space, found.copies, found.copies_of_real.value, how | copies)

    def _transfer(self) -> None:
        """GAN-train, and for points GAN-test, of conditional models."""
        classes = self.data.num_classes
        if self.labels is None:
            reason = "the GAN is unconditional"
        elif isinstance(self.metrics[0], StackedQuality):
            reason = "the classifier names channels, not stacks"
        elif classes < 2:
            reason = f"the data has {classes} classes"
        else:
            fakes, reals = Split(self.kept, self.labels), self._real_split()
            return self._transfer_of_points(fakes, reals) if self.points else self._transfer_of_images(fakes, reals)
        self.findings.not_measured |= {"gan_train": reason, "gan_test": reason}

    def _real_split(self) -> Split:
        places = spread_evenly(len(self.data.train.x), self.samples)
        return Split(self.train_part, self.data.train.y[places])

    def _transfer_of_images(self, fakes: Split, reals: Split) -> None:
        agreed = wilson_interval(round(self.agreement * self.samples), self.samples)
        how = {"measures": "GAN-test: share of samples that a classifier of the train split names as asked"}
        self._add("gan_test", "classifier", agreed, self.named_by.accuracy, how, self.named_by)
        test, classes = self.data.test, self.data.num_classes
        value, real = (
            transfer(split, test, classes, self.device, self.seed, self.track(f"classifier of {what} images"))
            for split, what in ((fakes, "generated"), (reals, "real"))
        )
        accuracy = wilson_interval(round(value.accuracy * len(test.x)), len(test.x))
        self._add("gan_train", "classifier", accuracy, real.accuracy, {
            "measures": "GAN-train (CAS): accuracy on the whole test split of a classifier that saw only samples",
            "chosen": f"on {HELD_OUT:.0%} of the samples, held out, from the rates {list(RATES)}: {value.rate:g}",
            "held-out accuracy": value.held_out,
            "classifier": f"the extractor's architecture and training, recipe {RECIPE}",
        }, self.named_by)  # fmt: skip

    def _transfer_of_points(self, fakes: Split, reals: Split) -> None:
        classes, test = self.data.num_classes, self.data.test
        how = {"classifier": "nearest class mean"}
        trained = {
            "gan_train": [nearest_mean_accuracy(split, test, classes) for split in (fakes, reals)],
            "gan_test": [nearest_mean_accuracy(self.data.train, split, classes) for split in (fakes, test)],
        }
        for (name, (value, real)), asked in zip(trained.items(), (len(test.x), self.samples)):
            self._add(name, self.space, wilson_interval(round(value * asked), asked), real, how)

    # How it is written down

    def _of_samples(self) -> dict:
        real = "as many train samples in the place of the generated ones"
        return {"samples": self.samples, "seed": self.seed, "real": real}

    def _add(self, name: str, space: str, value, real: float, how: dict, metric=None, samples: int | None = None) -> None:
        """`value` is a number or an `Estimate`."""
        metric = metric or self.metrics[0]
        low, high = (value.low, value.high) if isinstance(value, tuple) else (None, None)
        n = samples or self.samples
        protocol = metric.protocol | self._of_samples() | {"metric": name, "reference": "test split", "samples": n}
        if space == "pixels" or "classifier" in how:  # it saw nothing of the extractor
            protocol.pop("extractor", None)
        number = MetricResult(float(value[0] if isinstance(value, tuple) else value), real, protocol | how, low, high)
        self.findings.numbers[f"{name}_{space}_{short_count(n)}"] = number
