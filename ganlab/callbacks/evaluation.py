"""Evaluate the generator during training, and keep a table of an ensemble's seeds."""

import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from ganlab.callbacks.periodic import Periodic, find_callback
from ganlab.callbacks.train_metrics import TrainMetrics, median_and_quartiles
from ganlab.metrics.sampling import NonFiniteSamples, evaluation_samples, reference_labels
from ganlab.utils.files import write_csv

log = logging.getLogger(__name__)

SPLIT = "val"  # `best.ckpt` and searches choose by it; `ganlab evaluate` measures on the test split


class Evaluation(Periodic):
    """Evaluate a metric of `ganlab.metrics` on samples of the averaged generator, and log it as `quality/…`.

    An evaluation takes the place of Lightning's validation: its values are `trainer.callback_metrics`, Lightning's
    `EarlyStopping` and `ModelCheckpoint` act on them, and `ReduceLROnPlateau` steps with the objective.

    Samples are compared with the validation split and, of a conditional GAN, have its labels. Every evaluation uses the same
    latents and labels, from its own random generator, so that training is not affected. Each process generates its share of
    the samples; torchmetrics combines them. An ensemble's member whose samples are not finite is marked as failed.

    Attributes:
        latest: the newest values by their logged names. Of an ensemble the medians over its members; a failed member counts
            as infinity in the objective and is left out of the other values.
        by_member: the newest values of each member, None for a failed one.
        objective: the logged name of the value that selects `best.ckpt` (lower is better).
        best: the lowest objective so far; improved: whether the newest one is the lowest.
        setup_seconds: time spent on the metric's feature extractor and real statistics.

    Raises:
        FloatingPointError: the samples of the generator, or of every member of an ensemble, are not finite.
    """

    saved = (*Periodic.saved, "best", "latest")

    def __init__(self, metric, every: int, seed: int = 0):
        super().__init__(every)
        self.metric, self.seed = metric, seed
        self.latest: dict[str, float] = {}
        self.by_member: list[dict[str, float] | None] = []
        self.best = float("inf")
        self.improved = False

    def setup(self, trainer, gan, stage):
        start = time.perf_counter()
        self.metric.setup(trainer.datamodule, trainer.strategy.root_device, SPLIT)
        self.setup_seconds = time.perf_counter() - start
        self.objective = f"quality/{self.metric.objective}"
        names = [f"quality/{name}" for name in self.metric.real_scores]
        if type(self.metric).__module__.startswith("ganlab."):  # a user's metric may score more than it scores real data by
            for callback in monitoring_callbacks(trainer.callbacks):
                if callback.monitor.startswith("quality/") and callback.monitor not in names:
                    raise ValueError(
                        f"{type(callback).__name__} monitors {callback.monitor}, which is not measured; give monitor= one of "
                        f"{', '.join(names)}"
                    )

    @torch.no_grad()
    def run(self, trainer, gan):
        self.by_member = [None if member is None else self._evaluate(trainer, member) for member in gan.members()]
        self._fail_members(gan)
        names = next(values for values in self.by_member if values is not None)
        failed = dict.fromkeys(names, math.nan) | {self.objective: math.inf}  # must not make a checkpoint look better
        row = {}
        for name in names:
            values = torch.tensor([(values or failed)[name] for values in self.by_member], dtype=torch.float64)
            row |= median_and_quartiles(name, values if len(values) > 1 else values[0])
        self.latest = {name: row[name] for name in names}
        self.improved = self.latest[self.objective] < self.best
        self.best = min(self.best, self.latest[self.objective])
        self._tell_lightning(trainer, gan)
        row |= {f"quality/{name}_real": value for name, value in self.metric.real_scores.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)
        if trainer.is_global_zero:
            values = "   ".join(f"{name.removeprefix('quality/')} {value:.4g}" for name, value in self.latest.items())
            log.info(f"{gan.images_seen:>11,} images   {values}")

    def _tell_lightning(self, trainer, gan) -> None:
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.latest.items()})
        gan.on_evaluation(self.latest[self.objective])
        for callback in monitoring_callbacks(trainer.callbacks):
            callback.on_train_epoch_end(trainer, gan)  # by its settings, it acts in one of the two
            callback.on_validation_end(trainer, gan)

    def on_train_epoch_end(self, trainer, gan):
        self.on_train_end(trainer, gan)  # before Lightning's callbacks look at the values once more

    def _evaluate(self, trainer, gan) -> dict[str, float] | None:
        """The values of a GAN; None if its samples are not finite."""
        n, rank, world_size = self.metric.samples, trainer.global_rank, trainer.world_size
        labels = reference_labels(gan, trainer.datamodule, SPLIT, n)
        self.metric.reset()
        failed = 0
        try:
            for samples, y in evaluation_samples(gan, labels, n, self.seed, rank, world_size):
                self.metric.update(samples, y)
        except NonFiniteSamples:
            failed = 1
        if trainer.strategy.reduce(torch.tensor(failed, device=gan.device), reduce_op="max"):  # of one process or more
            return None
        return {f"quality/{name}": float(value) for name, value in self.metric.compute().items()}

    def _fail_members(self, gan) -> None:
        message = f"the generator's samples are not finite at {gan.images_seen:,} images"
        remedy = "lower the learning rates, or regularize the discriminator (regularizer=r1)"
        if gan.seeds is None:
            if self.by_member[0] is None:
                raise FloatingPointError(f"{message}; {remedy}")
            return
        for k in (k for k, values in enumerate(self.by_member) if values is None and not gan.failed[k]):
            gan.failed[k] = True
            log.warning(f"seed {gan.seeds[k]} failed: {message}")
        if gan.failed.all():
            raise FloatingPointError(f"all {len(gan.seeds)} seeds failed by {gan.images_seen:,} images; {remedy}")


def monitoring_callbacks(callbacks: Iterable) -> list[EarlyStopping | ModelCheckpoint]:
    """Lightning's callbacks that monitor a logged value."""
    return [c for c in callbacks if isinstance(c, (EarlyStopping, ModelCheckpoint)) and c.monitor]


class SeedTable(Periodic):
    """Write `seeds.csv`: a row per seed and evaluation with `images_seen, seconds` since the start, `seed, status, quality/…`.

    The status is "training", "finished" in the last rows, or "failed" once a loss of the seed was not finite; the metrics
    of a failed seed are empty. Writes nothing for a single GAN. Must come after `Evaluation`.
    """

    extra = True
    saved = (*Periodic.saved, "rows")

    def __init__(self, every: int, run_dir: str):
        super().__init__(every)
        self.path = Path(run_dir) / "seeds.csv"
        self.rows: list[dict] = []

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        for row in self.rows:
            if row["status"] == "finished":  # of a shorter run
                row["status"] = "training"

    def run(self, trainer, gan):
        if gan.seeds is None:
            return
        evaluation, train_metrics = find_callback(trainer, Evaluation), find_callback(trainer, TrainMetrics)
        scores = evaluation.by_member if evaluation else [{}] * len(gan.seeds)
        at = {"images_seen": gan.images_seen, "seconds": round(train_metrics.seconds, 3) if train_metrics else None}
        for seed, failed, values in zip(gan.seeds, gan.failed.tolist(), scores):
            self.rows.append(at | {"seed": seed, "status": "failed" if failed else "training"} | (values or {}))
        write_csv(self.path, self.rows)

    def on_train_end(self, trainer, gan):
        super().on_train_end(trainer, gan)
        for row in self.rows:
            if row["images_seen"] == gan.images_seen and row["status"] == "training":
                row["status"] = "finished"
        if self.rows:
            write_csv(self.path, self.rows)
