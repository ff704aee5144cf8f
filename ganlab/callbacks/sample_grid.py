"""Sample pictures during training, always from the same latents."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ganlab.callbacks.periodic import Periodic
from ganlab.utils.files import atomic_replace, atomic_write

MIN_SIDE = 56  # pixels: smaller images are enlarged, by a whole factor, to be visible on a screen
MAX_PANELS = 16  # of an ensemble on points


class SampleGrid(Periodic):
    """Write `samples/<images seen>.png` at each evaluation, and the newest one as `samples.png`.

    Images: `rows` x 10, or one column per class of a conditional GAN (at most 20). Points: the samples over real points.
    Of an ensemble: a row of images, or a panel of points, for each of the first members that have not failed.
    """

    extra = True

    def __init__(self, every: int, run_dir: str, rows: int = 8, seed: int = 0):
        super().__init__(every)
        self.run_dir, self.rows, self.seed = Path(run_dir), rows, seed

    def run(self, trainer, gan):
        if not trainer.is_global_zero:
            return
        shape = tuple(trainer.datamodule.shape)
        is_points = len(shape) == 1
        if len(shape) != 3 and shape != (2,):
            raise ValueError(f"it draws images (C, H, W) and points (2,), and the samples have the shape {shape}")
        path = self.run_dir / "samples" / f"{gan.images_seen:010d}.png"
        partial = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        seeded = zip(gan.seeds or [None], gan.members())
        trained = ((seed, member) for seed, member in seeded if member is not None)
        shown = list(islice(trained, MAX_PANELS if is_points else self.rows))
        if is_points:
            samples = [member.sample(2500, seed=self.seed) for _, member in shown]
            titles = [f"seed {seed}" for seed, _ in shown] if gan.seeds else []
            draw_points(partial, trainer.datamodule, samples, gan.images_seen, titles)
        else:
            classes, rows = gan.conditioning.num_classes, self.rows // len(shown)
            columns = min(classes, 20) or 10
            y = torch.arange(columns).repeat(rows) if classes else None
            images = torch.cat([member.sample(columns * rows, y, seed=self.seed) for _, member in shown])
            draw_images(partial, images, columns)
        atomic_replace(partial, path)
        atomic_write(self.run_dir / "samples.png", path.read_bytes())
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("samples", [str(path)], step=gan.images_seen)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(Image.open(path)), gan.images_seen, dataformats="HWC")


def draw_images(path: Path, images: Tensor, columns: int) -> None:
    """Write images [n, C, H, W] in [-1, 1] as one PNG grid."""
    save_image(tile_images(images, columns), path, format="png")


def tile_images(images: Tensor, columns: int) -> Tensor:
    """Tile images [n, C, H, W] in [-1, 1] row by row into [3, …] in [0, 1]; of more than three channels the first three."""
    images = images.cpu()
    scale = max(1, MIN_SIDE // images.shape[-1])
    images = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    if images.shape[1] == 2:  # a PNG of two channels means gray and transparency
        images = torch.cat([images, -torch.ones_like(images[:, :1])], 1)
    return make_grid(images[:, :3], nrow=columns, value_range=(-1, 1), normalize=True, pad_value=1)


def draw_points(path: Path, datamodule, samples: list[Tensor], images_seen: int, titles: Sequence[str] = ()) -> None:
    """Write a PNG with a panel for each tensor of samples [n, 2].

    Each lies over 2,500 real points and, for a mixture with known `centers`, circles of 3 standard deviations.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(5, 5) if columns == 1 else (8, 8 * rows / columns + 0.3), dpi=110, layout="constrained")
    real, centers = datamodule.val.x[:2500], getattr(datamodule, "centers", None)
    limit = (real if centers is None else centers).abs().max().item() * 1.4
    for index, points in enumerate(samples, start=1):
        axes = figure.add_subplot(rows, columns, index, aspect="equal")
        for center in () if centers is None else centers.tolist():
            axes.add_patch(Circle(center, 3 * datamodule.std, fill=False, lw=0.6, color="0.5"))
        axes.scatter(real[:, 0], real[:, 1], s=3 / columns, c="0.75", lw=0, label="real")
        points = points.cpu()
        axes.scatter(points[:, 0], points[:, 1], s=3 / columns, c="C3", lw=0, alpha=0.6, label="generated")
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        if columns > 1:
            axes.set(xticks=[], yticks=[])
        if titles:
            axes.set_title(titles[index - 1], fontsize=9, pad=3)
    figure.suptitle(f"{images_seen:,} samples seen")
    figure.axes[0].legend(loc="upper right", markerscale=4, frameon=False, fontsize="medium" if columns == 1 else 6)
    figure.savefig(path, format="png")
