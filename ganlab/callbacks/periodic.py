"""The image budget of a run, and the base class of callbacks that run every so many images."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TypeVar

from lightning import Callback, Trainer

from ganlab.utils.validation import validate_int

C = TypeVar("C", bound=Callback)


def find_callback(trainer: Trainer, kind: type[C]) -> C | None:
    """Return the trainer's first callback of this class, or None."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)


class MaxImages(Callback):
    """End training once `images` real images were seen. (Lightning's max_steps counts the steps of both D and G.)"""

    def __init__(self, images: int):
        self.images = validate_int("max_images", images)

    def on_train_start(self, trainer, gan):
        trainer.should_stop |= gan.images_seen >= self.images  # resumed from the checkpoint of a complete training

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if gan.images_seen >= self.images:
            trainer.should_stop = True


class Periodic(Callback, ABC):
    """Call `run` each time `images_seen` passes a multiple of `every`, and at the end of training.

    `seconds` is the total time spent in `run`, including the sessions before a resume; `last_run_at` is `count` at the
    last call. Pending losses are checked for non-finite values before each call.
    """

    def __init__(self, every: int):
        self.every = validate_int("eval_every", every)
        self.seconds = 0.0
        self.last_run_at = 0
        self._resumed_last_run_at: int | None = None

    @abstractmethod
    def run(self, trainer, gan) -> None:
        """What the callback does; called on every process."""

    def count(self, gan) -> int:
        """The number that `every` refers to."""
        return gan.images_seen

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "last_run_at": self.last_run_at}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self._resumed_last_run_at = state["seconds"], state["last_run_at"]

    def on_train_start(self, trainer, gan):
        # Not the checkpoint's count: a run that was interrupted in its last batch still owes its last call.
        self.last_run_at = self.count(gan) if self._resumed_last_run_at is None else self._resumed_last_run_at
        self._resumed_last_run_at = None

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if self.count(gan) // self.every > self.last_run_at // self.every:
            self._timed_run(trainer, gan)

    def on_train_end(self, trainer, gan):
        if self.last_run_at < self.count(gan):
            self._timed_run(trainer, gan)

    def _timed_run(self, trainer, gan):
        gan.check_finite()  # also waits for the GPU, so that its training time is not counted here
        start = time.perf_counter()
        self.last_run_at = self.count(gan)  # before `run`, which may write a checkpoint
        self.run(trainer, gan)
        self.seconds += time.perf_counter() - start
