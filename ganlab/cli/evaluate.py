"""Evaluate a trained generator: distances to real data, precision and recall, diversity, memorization.

    python -m ganlab evaluate run=latest
    python -m ganlab evaluate run=outputs/ring-ns-seed1_… n=2500 seed=3
    python -m ganlab evaluate run=latest split=val         # the numbers that training logged at its end
    python -m ganlab evaluate run=latest features=inception out=inception.json

It prints a table and writes evaluation.json (evaluation_val.json), with the protocol of each number and the value of real
data. Training measured on the validation split, and chose best.ckpt by it; this measures on the test split, which nothing has
seen.
"""

import time
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from torchmetrics import Metric

from ganlab.cli.options import EvaluateOptions, parse_options
from ganlab.cli.output import output_path
from ganlab.data import Stacked, TensorData
from ganlab.metrics import ClassifierQuality, InceptionQuality, StackedQuality, ToyQuality
from ganlab.metrics.sampling import SPLIT_NAMES
from ganlab.metrics.suite import EvaluationSuite, SuiteResults
from ganlab.runs.loading import build_trusted
from ganlab.runs.open_run import TrainedRun, load_data, open_run
from ganlab.utils.files import atomic_path, write_json
from ganlab.utils.progress import TerminalProgress
from ganlab.utils.statistics import percent

DEFAULT_SAMPLES = 10_000
SUSPICIOUS = 10  # samples closest to the training data that evaluation.json lists


def main(words: list[str]) -> None:
    options = parse_options(EvaluateOptions, words)
    trained = open_run(options.run, options.run_seed, options.trust)
    name = "evaluation.json" if options.split == "test" else f"evaluation_{options.split}.json"
    out = output_path(options.out, trained, name, {"seed": trained.member})
    data = load_data(trained, options.data_dir, options.root)
    size, split = min((len(getattr(data, name).x), name) for name in ("train", options.split))
    wanted = options.n or (trained.config.get("metrics") or {}).get("samples", DEFAULT_SAMPLES)
    n = min(wanted, size)  # every number compares as many real samples as generated ones
    if n < wanted:
        print(f"n = {n:,} instead of {wanted:,}: the {SPLIT_NAMES[split]} has no more real samples to compare with")
    metrics = choose_metrics(trained, data, n, options.features)
    started = time.perf_counter()
    with TerminalProgress() as progress:
        settings = {"seed": options.seed, "split": options.split, "draws": options.draws}
        suite = EvaluationSuite(trained.gan, data, metrics, n, **settings, progress=progress.track)
        results = suite.run()
    facts = {"samples": n, **settings, "draws": suite.draws}
    evaluation = as_json(trained, results, facts, time.perf_counter() - started)
    with atomic_path(out) as partial:
        write_json(partial, evaluation)
    print_table(evaluation)
    print(table_note(evaluation))
    for name, reason in evaluation["not_measured"].items():
        print(f"{name} was not measured: {reason}")
    print(memorization_sentence(evaluation))
    print(f"{evaluation['seconds']:.0f} s; every number's protocol: {out}")


def choose_metrics(trained: TrainedRun, data: TensorData, n: int, features: str | None) -> list[Metric]:
    """The metric whose features all numbers use: by the name of its extractor, else the run's own, else the data's default.

    With Inception's features, the classifier's metric follows where the data has classes.
    """
    by_extractor = {metric.extractor: metric for metric in metric_classes(data)}
    choices, config = list(by_extractor), trained.config.get("metrics")
    if features is not None and features not in choices:
        allowed = " or ".join(choices) or "left out"
        raise ValueError(f"features= must be {allowed} for {type(data).__name__}, got {features!r}")
    if features is None and config:
        metric = build_trusted(config | {"samples": n}, trained.trust)
    elif not choices:
        raise ValueError(
            f"evaluate knows no metric for {type(data).__name__} of shape {data.shape}: train with a metric of your own"
        )
    else:
        metric = by_extractor[features or choices[0]](n)
    if not hasattr(metric, "features"):
        kind = type(metric).__name__
        raise ValueError(f"the run's metric {kind} has no features(samples); choose features={'|'.join(choices)}")
    needs_classifier = isinstance(metric, InceptionQuality) and "classifier" in choices
    return [metric, ClassifierQuality(n)] if needs_classifier else [metric]


def metric_classes(data: TensorData) -> tuple[type[Any], ...]:
    """The quality metrics that the data allows, the default first."""
    if len(data.shape) != 3:
        return (ToyQuality,) if hasattr(data, "centers") else ()
    if isinstance(data, Stacked):
        return StackedQuality, InceptionQuality
    return (ClassifierQuality, InceptionQuality) if data.num_classes >= 2 else (InceptionQuality,)


def as_json(trained: TrainedRun, results: SuiteResults, facts: dict, seconds: float) -> dict:
    """The content of evaluation.json."""
    gan, memorization = trained.gan, results.memorization
    assert memorization is not None  # the suite always tests for it
    run = {
        "run": trained.name,
        "family": gan.family,
        "run_seed": trained.seed,
        "checkpoint": trained.checkpoint.name,
        "generator": "moving average" if gan.ema_decay else "last weights",
        "images_seen": gan.images_seen,
    }
    metrics = {}
    for name, result in results.metrics.items():
        interval = None if result.low is None else [result.low, result.high]
        protocol = result.protocol | run
        metrics[name] = {"value": result.value, "interval": interval, "real": result.real, "protocol": protocol}
    nearest, distance = memorization.nearest_index, memorization.distance
    closest = distance.argsort()[:SUSPICIOUS].tolist()
    return {
        **run,
        **facts,
        "metrics": metrics,
        "memorized": memorization.memorized,
        "copied_samples": memorization.is_copy.nonzero().flatten().tolist(),
        "closest_to_training_data": [{"sample": i, "train": int(nearest[i]), "distance": float(distance[i])} for i in closest],
        "not_measured": results.not_measured,
        "seconds": seconds,
        "device": torch.cuda.get_device_name(gan.device) if gan.device.type == "cuda" else gan.device.type,
        "versions": {package: version(package) for package in ("ganlab", "torch", "torchmetrics")},
    }


def print_table(evaluation: dict) -> None:
    columns = [Column(heading, justify="right") for heading in ("value", "95 % interval", "of real data")]
    samples = f"{evaluation['samples']:,} samples, seed {evaluation['seed']}; {SPLIT_NAMES[evaluation['split']]}"
    table = Table(samples, *columns, title=f"{evaluation['run']} ({evaluation['family']})", title_justify="left")
    for name, number in evaluation["metrics"].items():
        interval = "{:.3g} … {:.3g}".format(*number["interval"]) if number["interval"] else ""
        table.add_row(name, f"{number['value']:.4g}", interval, "" if number["real"] is None else f"{number['real']:.4g}")
    Console(highlight=False, markup=False).print(table)


def table_note(evaluation: dict) -> str:
    """Which split the numbers are of, and what the intervals mean."""
    note = "Training measured on the validation split."
    if evaluation["split"] == "test":
        note = "On the test split; training measured on the validation split (split=val repeats its numbers)."
    if evaluation["draws"] > 1:
        note += (
            f" Intervals: of rates (gan_test, gan_train, copies) and of nearest_train_auc for the true value; of the others, "
            f"what 95 % of draws of {evaluation['samples']:,} samples give, from {evaluation['draws']} draws."
        )
    return note


def memorization_sentence(evaluation: dict) -> str:
    """Both shares of copies first, then the verdict that follows from them."""
    copies = next(number for name, number in evaluation["metrics"].items() if name.startswith("copies_"))
    shares = (
        f"{percent(copies['value'])} % of the samples and {percent(copies['real'])} % of held-out real data lie so close to a "
        "training sample"
    )
    verdict = "not significantly more than real data: no sign of memorization."
    if evaluation["memorized"]:
        verdict = "significantly more than real data: THE GENERATOR COPIES TRAINING DATA."
    return f"{shares} that they count as its copies. That is {verdict}"
