"""Evaluate the generator during training."""

from __future__ import annotations

import logging
import math
import time

import torch

from ganlab.callbacks.periodic import Periodic
from ganlab.callbacks.train_metrics import median_and_quartiles

log = logging.getLogger(__name__)


class Evaluation(Periodic):
    """Evaluate a metric of `ganlab.metrics` on samples of the averaged generator, and log it as `quality/…`.

    Every evaluation uses the same latents and labels, from its own random generator, so that training is not affected. Each
    process generates its share of the samples; torchmetrics combines them.

    Attributes:
        latest: the newest values by their logged names. Of an ensemble the medians over its members; a failed member counts
            as infinity in the objective and is left out of the other values.
        by_member: the newest values of each member, None for a failed one.
        objective: the logged name of the value that selects `best.ckpt` (lower is better).
        best: the lowest objective so far; improved: whether the newest one is the lowest.
        setup_seconds: time spent on the metric's feature extractor and real statistics.
    """

    def __init__(self, metric, every: int, seed: int = 0):
        super().__init__(every)
        self.metric, self.seed = metric, seed
        self.latest: dict[str, float] = {}
        self.by_member: list[dict[str, float] | None] = []
        self.best = float("inf")
        self.improved = False

    @property
    def objective(self) -> str:
        return f"quality/{self.metric.objective}"

    def setup(self, trainer, gan, stage):
        start = time.perf_counter()
        self.metric.setup(trainer.datamodule, trainer.strategy.root_device)
        self.setup_seconds = time.perf_counter() - start

    def state_dict(self):
        return super().state_dict() | {"best": self.best, "latest": self.latest}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.best, self.latest = state["best"], state["latest"]

    @torch.no_grad()
    def run(self, trainer, gan):
        self.by_member = [None if member is None else self._evaluate(trainer, member) for member in gan.members()]
        finite = [values for values in self.by_member if values is not None]
        row = {}
        for name in finite[0]:
            values = torch.tensor([values[name] for values in finite])
            row |= median_and_quartiles(name, values if len(self.by_member) > 1 else values[0])
        if len(finite) < len(self.by_member):  # a failed seed must not make a checkpoint look better
            scores = [v[self.objective] if v else math.inf for v in self.by_member]
            row |= median_and_quartiles(self.objective, torch.tensor(scores))
        self.latest = {name: row[name] for name in finite[0]}
        self.improved = self.latest[self.objective] < self.best
        self.best = min(self.best, self.latest[self.objective])
        row |= {f"quality/{name}_real": value for name, value in self.metric.real_scores.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)
        values = "   ".join(f"{name.removeprefix('quality/')} {value:.4g}" for name, value in self.latest.items())
        if trainer.is_global_zero:
            log.info(f"{gan.images_seen:>11,} images   {values}")

    def _evaluate(self, trainer, gan) -> dict[str, float]:
        n = len(range(trainer.global_rank, self.metric.samples, trainer.world_size))
        random = torch.Generator().manual_seed(self.seed + trainer.global_rank)
        y = gan.conditioning.sample_labels(None, n, random)
        samples = gan.sample(n, y, seed=self.seed + trainer.global_rank)
        self.metric.reset()
        self.metric.update(samples, None if y is None else y.to(samples.device))
        return {f"quality/{name}": float(value) for name, value in self.metric.compute().items()}
