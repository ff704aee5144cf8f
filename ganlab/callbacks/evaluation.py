"""How good the samples are, while training goes on."""

from __future__ import annotations

import logging
import math
import time

import torch

from ganlab.callbacks.periodic import Periodic
from ganlab.callbacks.train_metrics import spread

log = logging.getLogger(__name__)


class Evaluation(Periodic):
    """Shows samples of the moving-average generator to a quality metric (`ganlab.metrics`).

    Every look uses the same latents and labels, and a generator of random numbers of its own, so that
    looking does not change training. Each process makes its share of the samples; torchmetrics adds up.

    `latest` holds the newest values by their full names (`quality/…`), of an ensemble medians over its copies (those that
    failed count as infinite in the objective and are left out elsewhere);
    `by_member` each copy's own, None where it failed; `best` the lowest objective so far;
    `setup_seconds` went into the metric's extractor and real statistics.
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
        self.by_member = [None if one is None else self._measure(trainer, one) for one in gan.members()]
        finished = [values for values in self.by_member if values is not None]
        row = {}
        for name in finished[0]:
            values = torch.tensor([values[name] for values in finished])
            row |= spread(name, values if len(self.by_member) > 1 else values[0])
        if len(finished) < len(self.by_member):  # a seed that failed is no reason to prefer this checkpoint
            scores = [v[self.objective] if v else math.inf for v in self.by_member]
            row |= spread(self.objective, torch.tensor(scores))
        self.latest = {name: row[name] for name in finished[0]}
        self.improved = self.latest[self.objective] < self.best
        self.best = min(self.best, self.latest[self.objective])
        floors = {f"quality/{name}_real": value for name, value in self.metric.real_scores.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row | floors, step=gan.images_seen)
        values = "   ".join(f"{name.removeprefix('quality/')} {value:.4g}" for name, value in self.latest.items())
        if trainer.is_global_zero:
            log.info(f"{gan.images_seen:>11,} images   {values}")

    def _measure(self, trainer, gan) -> dict[str, float]:
        n = len(range(trainer.global_rank, self.metric.samples, trainer.world_size))
        random = torch.Generator().manual_seed(self.seed + trainer.global_rank)
        y = gan.conditioning.sample_labels(None, n, random)
        samples = gan.sample(n, y, seed=self.seed + trainer.global_rank)
        self.metric.reset()
        self.metric.update(samples, None if y is None else y.to(samples.device))
        return {f"quality/{name}": float(value) for name, value in self.metric.compute().items()}
