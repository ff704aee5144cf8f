"""The image budget of a run, and the base class of callbacks that run every so many images."""

import time
from abc import ABC, abstractmethod
from typing import TypeVar

from lightning import Callback, Trainer

from ganlab.utils.validation import validate_int

C = TypeVar("C", bound=Callback)


def find_callback(trainer: Trainer, kind: type[C]) -> C | None:
    """The trainer's first callback of this class, or None."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)


class MaxImages(Callback):
    """End training once `images` real images were seen. (Lightning's max_steps counts the steps of both D and G.)"""

    def __init__(self, images: int):
        self.images = validate_int("max_images", images)

    def on_train_start(self, trainer, gan):
        trainer.should_stop |= gan.images_seen >= self.images  # resumed from the checkpoint of a complete training

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        trainer.should_stop |= gan.images_seen >= self.images


class Periodic(Callback, ABC):
    """Call `run` each time `images_seen` passes a multiple of `every`, and at the end of training.

    Pending losses are checked for non-finite values before each call. A subclass with `extra = True` costs no run: an error
    switches it off (see `Extra`).

    Attributes:
        seconds: total time spent in `run`, including the sessions before a resume.
        last_run_at: `count` at the last call.
        saved: names of the attributes that a checkpoint keeps, in types that load with `weights_only`.
    """

    saved: tuple[str, ...] = ("seconds", "last_run_at")

    def __init__(self, every: int):
        self.every = validate_int("eval_every", every)
        self.seconds = 0.0
        self.last_run_at: int | None = None

    @abstractmethod
    def run(self, trainer, gan) -> None:
        """What the callback does; called on every process."""

    def count(self, gan) -> int:
        """The number that `every` refers to."""
        return gan.images_seen

    def state_dict(self) -> dict:
        return {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state: dict) -> None:
        self.__dict__.update(state)

    def on_train_start(self, trainer, gan):
        # A resumed run keeps the count of its last call: it still owes one where it was interrupted in its last batch.
        count = self.count(gan)
        self.last_run_at = count if self.last_run_at is None else min(self.last_run_at, count)

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if self.count(gan) // self.every > self.last_run_at // self.every:
            self._timed_run(trainer, gan)

    def on_train_end(self, trainer, gan):
        if self.last_run_at < self.count(gan):
            self._timed_run(trainer, gan)

    def _timed_run(self, trainer, gan):
        gan.check_finite()  # also waits for the GPU, so that its training time is not counted here
        start = time.perf_counter()
        previous, self.last_run_at = self.last_run_at, self.count(gan)  # before `run`, which may write a checkpoint
        try:
            self.run(trainer, gan)
        except Exception:
            self.last_run_at = previous  # a resumed run owes this call
            raise
        self.seconds += time.perf_counter() - start
