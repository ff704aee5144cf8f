"""`checkpoints/last.ckpt` at each look, and `best.ckpt` when the quality's objective improved."""

from __future__ import annotations

from pathlib import Path

from ganlab.callbacks.cadence import Periodic, sibling
from ganlab.callbacks.quality import Quality


class Checkpoints(Periodic):
    """Stands after `Quality` (if there is one); Lightning writes each file whole or not at all."""

    def __init__(self, every: int, folder: str):
        super().__init__(every)
        self.folder = Path(folder) / "checkpoints"

    def look(self, trainer, gan):
        trainer.save_checkpoint(self.folder / "last.ckpt")
        quality = sibling(trainer, Quality)
        if quality is not None and quality.improved:
            trainer.save_checkpoint(self.folder / "best.ckpt")
