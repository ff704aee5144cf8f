"""`python -m ganlab interpolate`: what lies between the latents of two seeds, or between two labels.

Row i goes from the i-th latent of the seed from= to the i-th of to= (the next seed, if left out) along a great circle, with the
class of label= (if left out, row i has class i mod the number of classes). labels=3,8 goes from one class to another: both
enter with weights 1 - t and t, at the latents of from=, or on the way to those of to= if that is given.
out= *.png: a row per pair; *.gif: the pairs side by side, there and back. Points: a path per pair, over the real ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganlab.callbacks.sample_grid import draw_images, draw_points, tile_images
from ganlab.cli.options import InterpolateOptions, parse_options
from ganlab.cli.sample import as_picture, describe, is_image, labels_of, place, refuse_large_grid, show
from ganlab.models.latents import between, normal
from ganlab.runs.trained import Trained, datamodule, open_run
from ganlab.utils.files import atomic_path

FRAME = 100  # milliseconds
FEWER = "choose fewer rows= or steps="


def main(words: list[str]) -> None:
    """Writes the picture and says where.

    Raises:
        ValueError, FileNotFoundError: an option, the run, or the place to write to will not do.
    """
    options = parse_options(InterpolateOptions, words)
    rows, steps, labels = options.rows, options.steps, options.labels
    start, end = options.from_, options.to
    trained = open_run(options.run, options.run_seed, options.trust)
    about = [f"labels{'-'.join(map(str, labels))}"] if labels else []
    about += [f"label{options.label}"] if options.label is not None else []
    out = place(trained, options.out, "interpolation", [*about, f"seeds{start}-{end}"], (".png", ".gif"))

    images, dim = is_image(trained), trained.gan.generator.latent_dim
    steps = steps if images else max(steps, 500)  # points make a path
    a, b = (normal(rows, dim, torch.Generator().manual_seed(seed)) for seed in (start, end))
    y = mixtures(trained, labels, rows, steps) if labels else fixed(trained, options.label, rows, steps)
    if not images and out.suffix == ".gif":
        raise ValueError(f"the paths of points are one picture, got out={out}; use out=*.png")
    samples = generate(trained, between(a, b, steps), y)
    if images:
        draw_frames(out, samples)
    else:
        data = datamodule(trained, options.data_dir)
        with atomic_path(out) as partial:
            draw_points(partial, data, [samples.flatten(0, 1)], trained.gan.images_seen)
    way = f"classes {labels[0]} to {labels[1]}, " if labels else ""
    seeds = f"seed {start}" if start == end else f"seeds {start} to {end}"
    said = "" if labels else describe(trained, options.label).replace("sample", "row")
    show(f"{rows} rows of {trained.name}{said}: {way}{seeds}, in {steps} steps", out)


def fixed(trained: Trained, label: int | None, rows: int, steps: int) -> Tensor | None:
    """Labels [rows, steps], the same along each row."""
    y = labels_of(trained, rows, label)
    return None if y is None else torch.as_tensor(y).expand(rows).long()[:, None].expand(rows, steps)


def mixtures(trained: Trained, labels: list[int], rows: int, steps: int) -> Tensor:
    """Weights of the classes [rows, steps, K], from all on the first label to all on the second.

    ganlab's generators take a label as a one-hot vector or as a row of an embedding, and both are linear in the weights.
    """
    ends = trained.gan.conditioning.sample_labels(torch.tensor(labels), 2)
    ends = torch.nn.functional.one_hot(ends, trained.gan.conditioning.num_classes).float()
    t = torch.linspace(0, 1, steps)[:, None]
    return ((1 - t) * ends[0] + t * ends[1]).expand(rows, steps, -1)


def generate(trained: Trained, z: Tensor, y: Tensor | None) -> Tensor:
    """Samples [rows, steps, ...] of latents [rows, steps, dim], a row at a time."""
    try:
        return torch.stack([trained.gan.generate(z[i], None if y is None else y[i]) for i in range(len(z))]).cpu()
    except (RuntimeError, TypeError, IndexError) as error:
        if y is None or not y.is_floating_point():
            raise
        name = type(trained.gan.generator).__name__
        raise ValueError(f"{name} takes whole labels and cannot mix two; leave labels= out, and choose a label=") from error


def draw_frames(path, images: Tensor) -> None:
    """Images [rows, steps, C, H, W] as a grid, or as a GIF that goes there and back."""
    rows, steps = images.shape[:2]
    if path.suffix == ".png":
        refuse_large_grid(rows * steps, steps, images.shape[-1], FEWER)
        with atomic_path(path) as partial:
            draw_images(partial, images.flatten(0, 1), steps)
        return
    columns = math.ceil(math.sqrt(rows))
    refuse_large_grid(rows, columns, images.shape[-1], FEWER)
    there = [as_picture((tile_images(images[:, step], columns) * 255).round().to(torch.uint8)) for step in range(steps)]
    frames = [*there, *there[-2:0:-1]]
    waits = [5 * FRAME if i in (0, steps - 1) else FRAME for i in range(len(frames))]  # longer at the two ends
    with atomic_path(path) as partial:
        frames[0].save(partial, format="GIF", save_all=True, append_images=frames[1:], duration=waits, loop=0)
