"""Training metrics: losses, logits, gradient norms and speed."""

import logging
import math
import time
from statistics import median

import torch
from lightning import Callback
from torch import Tensor

from ganlab.callbacks.periodic import Periodic
from ganlab.models.adversarial import NETWORKS

log = logging.getLogger(__name__)


def median_and_quartiles(name: str, value: Tensor) -> dict[str, float]:
    """Return {name: value} of a scalar; of a member axis [K] the median, and the quartiles as `<name>_q1` and `<name>_q3`.

    nan members are left out.
    """
    if value.ndim == 0:
        return {name: float(value)}
    ascending = sorted(v for v in value.tolist() if not math.isnan(v)) or [math.nan]
    return {suffixed: quantile(ascending, q) for suffixed, q in ((name, 0.5), (f"{name}_q1", 0.25), (f"{name}_q3", 0.75))}


def quantile(ascending: list[float], q: float) -> float:
    """Linear interpolation between order statistics; between two equal infinities that infinity, where NumPy gives nan."""
    position = q * (len(ascending) - 1)
    low, high = ascending[math.floor(position)], ascending[math.ceil(position)]
    return low if low == high else low + (position - math.floor(position)) * (high - low)


class TrainMetrics(Callback):
    """Log the metrics of one D step and one G step, and the learning rates after it, every `trainer.log_every_n_steps` batches.

    With n_critic > 1 a row waits for the next generator step, so that it holds both. Must come before the `Periodic`
    callbacks, whose time `images_per_second` leaves out.

    `last` is the newest row. `seconds` have passed since the start, `training_seconds` of them in training, on `images`
    real images; of an ensemble the images of all members are added, here and in `images_per_second`.
    `seconds_before_resume` is the part of `seconds` before the run was resumed.

    Says once where training has become slower than a third of its speed at the start of this process (the medians of
    `RECENT_ROWS` and of the first `FIRST_ROWS` rows).
    """

    FIRST_ROWS, RECENT_ROWS = 10, 5

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.seconds = self.training_seconds = 0.0
        self.images = 0
        self.seconds_before_resume = 0.0

    def state_dict(self):
        return {name: getattr(self, name) for name in ("last", "seconds", "training_seconds", "images")}

    def load_state_dict(self, state):
        self.__dict__.update(state)
        self.seconds_before_resume = self.seconds

    def on_save_checkpoint(self, trainer, gan, checkpoint):  # a row may be waiting for its generator step
        checkpoint["train_metrics"] = {"log_next_step": gan.log_next_step, "step_metrics": gan.step_metrics}

    def on_load_checkpoint(self, trainer, gan, checkpoint):
        gan.log_next_step, gan.step_metrics = checkpoint["train_metrics"].values()

    def on_train_start(self, trainer, gan):
        self._periodic = [c for c in trainer.callbacks if isinstance(c, Periodic)]
        self._start = time.perf_counter() - self.seconds
        self._members = len(gan.seeds or [gan])
        self._first_image = gan.images_seen - self.images // self._members
        self._last_row_at = (self.training_seconds, self.images)
        self._speeds: list[float] = []  # of this process' rows
        self._is_slow = False

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        every = trainer.log_every_n_steps  # 0: never, as in Lightning
        if every and trainer.fit_loop.epoch_loop.total_batch_idx % every == 0:
            gan.log_next_step = True

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        row = {}
        if gan.log_next_step and "g/grad_norm" in gan.step_metrics:
            for name, value in gan.step_metrics.items():
                row |= median_and_quartiles(name, value)  # waits for the GPU: the time below includes its work
        self.seconds = time.perf_counter() - self._start
        self.training_seconds = self.seconds - sum(c.seconds for c in self._periodic)
        self.images = self._members * (gan.images_seen - self._first_image)
        if not row:
            return
        gan.log_next_step, gan.step_metrics = False, {}
        seconds, images = self._last_row_at
        row |= {"d_updates": gan.d_updates, "g_updates": gan.g_updates, "seconds": self.seconds}
        row |= {f"{network}/lr": float(o.param_groups[0]["lr"]) for network, o in zip(NETWORKS, trainer.optimizers)}
        row["images_per_second"] = (self.images - images) / (self.training_seconds - seconds)
        self._check_speed(row["images_per_second"], torch.get_num_threads() if gan.device.type == "cpu" else 1)
        self.last, self._last_row_at = row, (self.training_seconds, self.images)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)

    def _check_speed(self, speed: float, threads: int) -> None:
        """Say once that training has slowed down, and what to do."""
        self._speeds.append(speed)
        first, recent = median(self._speeds[: self.FIRST_ROWS]), median(self._speeds[-self.RECENT_ROWS :])
        if self._is_slow or len(self._speeds) < self.FIRST_ROWS + self.RECENT_ROWS or recent >= first / 3:
            return
        self._is_slow = True
        log.warning(
            f"training has slowed down from {first:,.0f} to {recent:,.0f} images/s; other processes seem to use this machine: "
            + (f"{threads} threads wait for each other then, and threads=1 does not" if threads > 1 else "stop or move them")
        )
