"""Numbers of the game itself: losses, logits, gradient norms, speed."""

from __future__ import annotations

import math
import time

from lightning import Callback
from torch import Tensor

from ganlab.callbacks.periodic import Periodic


def spread(name: str, value: Tensor) -> dict[str, float]:
    """A number as it is; of an ensemble's [K] the median, and the quartiles under names of their own."""
    if value.ndim == 0:
        return {name: float(value)}
    found = sorted(v for v in value.tolist() if not math.isnan(v)) or [math.nan]
    return {name: quantile(found, 0.5), f"{name}_q1": quantile(found, 0.25), f"{name}_q3": quantile(found, 0.75)}


def quantile(ascending: list[float], share: float) -> float:
    """Between two order statistics; where both are the same infinity, that one."""
    place = share * (len(ascending) - 1)
    low, high = ascending[math.floor(place)], ascending[math.ceil(place)]
    return low if low == high else low + (place - math.floor(place)) * (high - low)


class TrainMetrics(Callback):
    """Every `trainer.log_every_n_steps` batches: asks the next turns to be step_metrics, and logs what they showed.

    With n_critic > 1 a row waits for the generator's turn, so that each row holds both players. Stands before
    the callbacks that look, whose time it leaves out of `images_per_second`.

    `last` is the latest row; `seconds` since the start; `training_seconds` of them in training alone, on `images` real
    images. An ensemble's images are those of all its copies together, here and in `images_per_second`.
    """

    def __init__(self):
        self.last: dict[str, float] = {}
        self.seconds = self.training_seconds = 0.0
        self.images = 0
        self.before = 0.0  # seconds of the sessions before this one, if the run was stopped and went on

    def state_dict(self):
        return {name: getattr(self, name) for name in ("last", "seconds", "training_seconds", "images")}

    def load_state_dict(self, state):
        for name, value in state.items():
            setattr(self, name, value)
        self.before = self.seconds

    def on_save_checkpoint(self, trainer, gan, checkpoint):
        checkpoint["observation"] = {
            "log_next_step": gan.log_next_step,
            "step_metrics": gan.step_metrics,
        }  # a row that waits for G's turn

    def on_load_checkpoint(self, trainer, gan, checkpoint):
        gan.log_next_step, gan.step_metrics = checkpoint["observation"].values()

    def on_train_start(self, trainer, gan):
        self._looking = [c for c in trainer.callbacks if isinstance(c, Periodic)]
        self._start = time.perf_counter() - self.seconds
        self._copies = len(gan.seeds or [gan])
        self._first_image = gan.images_seen - self.images // self._copies
        self._row_at = (self.training_seconds, self.images)

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        every = trainer.log_every_n_steps  # 0: never, as in Lightning
        if every and trainer.fit_loop.epoch_loop.total_batch_idx % every == 0:
            gan.log_next_step = True

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        row = {}
        if gan.log_next_step and "g/loss" in gan.step_metrics:
            for name, value in gan.step_metrics.items():
                row |= spread(name, value)  # waits for a GPU, so that the clock counts what it has done
        self.seconds = time.perf_counter() - self._start
        self.training_seconds = self.seconds - sum(c.seconds for c in self._looking)
        self.images = self._copies * (gan.images_seen - self._first_image)
        if not row:
            return
        gan.log_next_step, gan.step_metrics = False, {}
        before, images = self._row_at
        row |= {"d_updates": gan.d_updates, "g_updates": gan.g_updates, "seconds": self.seconds}
        row["images_per_second"] = (self.images - images) / (self.training_seconds - before)
        self.last, self._row_at = row, (self.training_seconds, self.images)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)
