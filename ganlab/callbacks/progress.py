"""The terminal while training runs: one bar with both losses, speed and the time left."""

from __future__ import annotations

import sys
import time

from lightning import Callback
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ganlab.callbacks.periodic import find_callback
from ganlab.callbacks.train_metrics import TrainMetrics


class ProgressBar(Callback):
    """A bar over the budget of images, redrawn four times a second at most; nothing where there is no terminal."""

    def __init__(self, images: int):
        self.images = images

    def on_train_start(self, trainer, gan):
        self._bar, self._drawn, self._record = None, 0.0, find_callback(trainer, TrainMetrics)
        if not (trainer.is_global_zero and sys.stdout.isatty()):
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[game]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(gan.family, total=self.images, completed=gan.images_seen, game="")
        self._bar.start()

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        now = time.perf_counter()
        if self._bar is not None and now - self._drawn > 0.25:
            self._drawn = now
            self._draw(gan)

    def _draw(self, gan):
        row = self._record and self._record.last
        game = row and f"D {row['d/loss']:+.3f} G {row['g/loss']:+.3f} {row['images_per_second']:,.0f} images/s"
        self._bar.update(self._task, completed=min(gan.images_seen, self.images), game=game or "")
        self._bar.refresh()

    def on_train_end(self, trainer, gan):
        if self._bar is not None:
            self._draw(gan)
            self._bar.stop()

    def on_exception(self, trainer, gan, exception):
        if getattr(self, "_bar", None) is not None:
            self._bar.stop()
