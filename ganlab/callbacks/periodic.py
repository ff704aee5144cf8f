"""Time in ganlab is counted in real images seen: the budget of a run, and what happens every so many images."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from lightning import Callback


def validate_count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


class MaxImages(Callback):
    """Ends training once `images` real images were seen (Lightning's max_steps counts both players' steps)."""

    def __init__(self, images: int):
        self.images = validate_count("max_images", images)

    def on_train_start(self, trainer, gan):
        trainer.should_stop |= gan.images_seen >= self.images  # killed after its last checkpoint, and resumed

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if gan.images_seen >= self.images:
            trainer.should_stop = True


class Periodic(Callback, ABC):
    """Calls `look` each time `images_seen` passes a multiple of `every`, and at the end of training.

    `seconds` adds up what the looks cost, over resumed runs too; `last_run_at` is the clock at the last one.
    """

    def __init__(self, every: int):
        self.every = validate_count("eval_every", every)
        self.seconds = 0.0
        self.last_run_at = 0
        self._resumed: int | None = None

    @abstractmethod
    def run(self, trainer, gan) -> None:
        """What happens; on every process."""

    def clock(self, gan) -> int:
        """What `every` counts."""
        return gan.images_seen

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "last_run_at": self.last_run_at}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self._resumed = state["seconds"], state["last_run_at"]

    def on_train_start(self, trainer, gan):
        # Not where the checkpoint is: a run that is asked to stop in its last batch has the last look still before it.
        self.last_run_at = self.clock(gan) if self._resumed is None else self._resumed
        self._resumed = None

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if self.clock(gan) // self.every > self.last_run_at // self.every:
            self._timed_run(trainer, gan)

    def on_train_end(self, trainer, gan):
        if self.last_run_at < self.clock(gan):
            self._timed_run(trainer, gan)

    def _timed_run(self, trainer, gan):
        gan.check_finite()  # waits for a GPU's training, which is no part of the look
        start = time.perf_counter()
        self.last_run_at = self.clock(gan)  # before the look, which may be to write a checkpoint
        self.run(trainer, gan)
        self.seconds += time.perf_counter() - start


def find_callback(trainer, kind: type[Callback]):
    """The run's callback of this kind, or None."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)
