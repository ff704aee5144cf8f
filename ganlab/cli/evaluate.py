"""Everything there is to measure on a trained generator: distances, precision and recall, diversity, copies.

    python -m ganlab evaluate run=latest
    python -m ganlab evaluate run=outputs/ring-ns-seed1_… n=2500 seed=3
    python -m ganlab evaluate run=latest features=inception out=inception.json

n samples are compared with n images of the test split; if that is smaller, so is n. Prints a table, and writes
evaluation.json into the run's folder, with the protocol of each number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ganlab.cli.options import EvaluateOptions, parse_options
from ganlab.data import Stacked
from ganlab.metrics import ClassifierQuality, InceptionQuality, StackedQuality, ToyQuality
from ganlab.metrics.suite import LEAST, EvaluationSuite, Findings
from ganlab.runs.loading import build_trusted
from ganlab.runs.trained import Trained, datamodule, open_run
from ganlab.utils.files import atomic_path, write_json

CLOSEST = 10  # suspicious samples that evaluation.json names


def main(words: list[str]) -> None:
    options = parse_options(EvaluateOptions, words)
    n, seed, trust = options.n, options.seed, options.trust
    if n < LEAST:
        raise ValueError(f"n must be at least {LEAST} (neighbors and classifiers need some), got {n}")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    trained = open_run(options.run, options.run_seed, trust)
    out = place(options.out, trained)
    data = datamodule(trained, options.data_dir, options.root)
    samples = as_many_as_real(n, data, console)
    metrics = metrics_for(trained, data, samples, options.features)
    started = time.perf_counter()
    with Bar() as bar:
        findings = EvaluationSuite(trained.gan, data, metrics, samples, seed, bar.track).run()
    evaluation = written(trained, findings, samples, seed, time.perf_counter() - started)
    with atomic_path(out) as partial:
        write_json(partial, evaluation)
    show(evaluation, out, console)


def place(out: str | None, trained: Trained) -> Path:
    """Where the numbers go: `out`, a file or a folder, or the run's folder; a copy of an ensemble has its own file."""
    name = "evaluation.json" if trained.copy is None else f"evaluation_seed{trained.copy}.json"
    path = trained.folder / name if out is None else Path(out).expanduser()
    path = path / name if path.is_dir() else path
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):  # known before minutes of work, and not after them
        raise ValueError(f"{path} cannot be written, {above} does not allow it; choose another place with out=")
    return path


def as_many_as_real(n: int, data, console: Console) -> int:
    """n, or the size of the smaller split: every number compares as many real samples as generated ones."""
    splits = {"train": len(data.train.x), "test": len(data.test.x)}
    smaller = min(splits, key=splits.get)
    if splits[smaller] < LEAST:
        raise ValueError(
            f"evaluate needs at least {LEAST} real samples per split, got {splits[smaller]} in the {smaller} split; "
            "use more data, or a larger data.test_fraction"
        )
    if n > splits[smaller]:
        console.print(
            f"n = {splits[smaller]:,}: the {smaller} split has no more, and {n:,} samples would have no real "
            "counterpart of their number"
        )
    return min(n, splits[smaller])


def metrics_for(trained: Trained, data, samples: int, features: str | None) -> list:
    """The metric whose features everything uses: the one that `features` names, the run's own, or the data's first.

    Beside Inception stands the classifier's, for the classes, where the data has some.
    """
    possible = {metric.extractor: metric for metric in fitting(data)}
    config = trained.config.get("metrics")
    if features is not None and features not in possible:
        raise ValueError(f"features= must be {' or '.join(possible)} for {type(data).__name__}, got {features!r}")
    if features is None and isinstance(config, dict):
        metric = build_trusted(config | {"samples": samples}, trained.trust)
    else:
        metric = possible[features or next(iter(possible))](samples)
    if not hasattr(metric, "features"):
        raise ValueError(
            f"the run's metric {type(metric).__name__} has no features(samples); choose features={'|'.join(possible)}"
        )
    classes = isinstance(metric, InceptionQuality) and "classifier" in possible
    return [metric, ClassifierQuality(samples)] if classes else [metric]


def fitting(data) -> tuple[type, ...]:
    """The quality metrics that the data allows, the usual one first."""
    if len(data.shape) == 1:
        return (ToyQuality,)
    if isinstance(data, Stacked):
        return StackedQuality, InceptionQuality
    return (ClassifierQuality, InceptionQuality) if data.num_classes >= 2 else (InceptionQuality,)


def written(trained: Trained, findings: Findings, samples: int, seed: int, seconds: float) -> dict:
    """All of it, JSON-able."""
    gan, found = trained.gan, findings.memorization
    run = {
        "run": trained.name,
        "family": gan.family,
        "run_seed": trained.seed,
        "checkpoint": trained.checkpoint.name,
        "generator": "moving average" if gan.ema_decay else "last weights",
        "images_seen": gan.images_seen,
    }
    order = found.distance.argsort()[:CLOSEST].tolist()
    return {
        **run,
        "samples": samples,
        "seed": seed,
        "numbers": {
            name: {
                "value": number.value,
                "interval": None if number.low is None else [number.low, number.high],
                "real": number.real,
                "protocol": number.protocol | run,
            }
            for name, number in findings.numbers.items()
        },
        "memorized": found.memorized,
        "copied_samples": found.copied.nonzero().flatten().tolist(),
        "closest_to_training_data": [
            {"sample": i, "train": int(found.place[i]), "distance": float(found.distance[i])} for i in order
        ],
        "not_measured": findings.not_measured,
        "seconds": seconds,
        "device": torch.cuda.get_device_name(gan.device) if gan.device.type == "cuda" else gan.device.type,
        "versions": {package: version(package) for package in ("ganlab", "torch", "torchmetrics")},
    }


def show(evaluation: dict, out: Path, console: Console) -> None:
    table = Table(title=f"{evaluation['run']} ({evaluation['family']})", title_justify="left")
    table.add_column(f"of {evaluation['samples']:,} samples, seed {evaluation['seed']}")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("of real data", justify="right", style="dim")
    for name, number in evaluation["numbers"].items():
        interval = number["interval"]
        table.add_row(
            name,
            f"{number['value']:.4g}",
            "" if interval is None else f"{interval[0]:.3g} … {interval[1]:.3g}",
            "" if number["real"] is None else f"{number['real']:.4g}",
        )
    console.print(table)
    for name, reason in evaluation["not_measured"].items():
        console.print(f"{name} was not measured: {reason}")
    console.print(f"{memory_sentence(evaluation)}\n{evaluation['seconds']:.0f} s; every number's protocol: {out}")


def memory_sentence(evaluation: dict) -> str:
    copies = next(n for name, n in evaluation["numbers"].items() if name.startswith("copies_"))
    verdict = "TRAINING DATA IS COPIED" if evaluation["memorized"] else "no sign of copied training data"
    return (
        f"{verdict}: {copies['value']:.1%} of the samples count as copies of one training sample, and "
        f"{copies['real']:.1%} of held-out real data"
    )


class Bar:
    """One line that says what is measured and how far it is; nothing where there is no terminal."""

    def __enter__(self) -> Bar:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self

    def __exit__(self, *error) -> None:
        self._progress.stop()

    def track(self, description: str):
        def over(blocks: Iterable) -> Iterator:
            blocks = list(blocks)
            self._progress.reset(self._task, description=description, total=len(blocks))
            for block in blocks:
                yield block
                self._progress.advance(self._task)

        return over
