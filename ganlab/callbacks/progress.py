"""The terminal while training runs: one bar with both losses, speed and the time left."""

from lightning import Callback

from ganlab.callbacks.periodic import find_callback
from ganlab.callbacks.train_metrics import TrainMetrics
from ganlab.utils.progress import TerminalProgress


class ProgressBar(Callback):
    """A progress bar over the run's `images`, with the newest losses and images/s; nothing where there is no terminal."""

    extra = True

    def __init__(self, images: int):
        self.images = images
        self._bar: TerminalProgress | None = None

    def on_train_start(self, trainer, gan):
        self._bar = TerminalProgress(
            gan.family, self.images, completed=gan.images_seen, transient=False, enabled=trainer.is_global_zero
        )

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        train_metrics, status = find_callback(trainer, TrainMetrics), ""
        if train_metrics and (row := train_metrics.last):
            status = f"D {row['d/loss']:+.3f} G {row['g/loss']:+.3f} {row['images_per_second']:,.0f} images/s"
        self._bar.update(min(gan.images_seen, self.images), status)

    def on_train_end(self, trainer, gan):
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer, gan, exception):
        self.on_train_end(trainer, gan)
