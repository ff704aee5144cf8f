"""Draw what a trained GAN generates between the latents of two seeds, or between two classes.

    python -m ganlab interpolate from=1 to=2
    python -m ganlab interpolate labels=3,8 out=3-8.gif

Row i goes from the i-th latent of the seed `from` to the i-th latent of the seed `to`, along a great circle. labels=3,8 goes
from one class to the other at fixed latents (those of `from`); with to= given, the latents change as well.
out= chooses the format: *.png draws a row per pair, *.gif shows all pairs side by side, back and forth. 2-D points are drawn as a
path per pair, over real points.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ganlab.callbacks.sample_grid import draw_images, draw_points, tile_images
from ganlab.cli.options import InterpolateOptions, parse_options
from ganlab.cli.output import class_labels, class_note, default_path, output_path, sample_shape, validate_grid_size
from ganlab.models.gan import GAN
from ganlab.models.latents import sample_normal, slerp
from ganlab.runs.open_run import load_data, open_run
from ganlab.utils.files import atomic_path

FRAME_MS = 100
POINT_STEPS = 500  # points make a path


def main(words: list[str]) -> None:
    """Write the picture and print where."""
    options = parse_options(InterpolateOptions, words)
    rows, labels, start, end = options.rows, options.labels, options.from_, options.end
    trained = open_run(options.run, options.run_seed, options.trust)
    gan = trained.gan
    parts = {"labels": "-".join(map(str, labels)) or None, "label": options.label, "seeds": f"{start}-{end}"}
    default = default_path(trained, "interpolation", ".png", run_seed=trained.member, **parts)
    out = output_path(options.out, default, (".png", ".gif"))
    is_image = len(sample_shape(gan)) == 3
    if not is_image and out.suffix == ".gif":
        raise ValueError(f"the paths of points are one picture, got out={out}; use out=*.png")

    steps = options.steps if is_image else max(options.steps, POINT_STEPS)
    a, b = (sample_normal(rows, gan.generator.latent_dim, torch.Generator().manual_seed(seed)) for seed in (start, end))
    y = mixed_labels(gan, labels, rows, steps) if labels else constant_labels(gan, options.label, rows, steps)
    samples = generate_rows(gan, slerp(a, b, steps), y)
    if is_image:
        draw_frames(out, samples)
    else:
        data = load_data(trained, options.data_dir)
        with atomic_path(out) as partial:
            draw_points(partial, data, [samples.flatten(0, 1)], gan.images_seen)
    note = f", classes {labels[0]} to {labels[1]}" if labels else class_note(trained, options.label, unit="row")
    seeds = f"seed {start}" if start == end else f"seeds {start} to {end}"
    print(f"{rows:,} row{'s' * (rows != 1)} of {trained.name}{note}: {seeds}, in {steps} steps\n{out}")


def constant_labels(gan: GAN, label: int | None, rows: int, steps: int) -> Tensor | None:
    """Labels [rows, steps], the same along each row."""
    y = class_labels(gan, rows, label)
    return None if y is None else y[:, None].expand(rows, steps)


def mixed_labels(gan: GAN, labels: list[int], rows: int, steps: int) -> Tensor:
    """Weights of the classes [rows, steps, K], from all on the first label to all on the second.

    ganlab's generators take a label as a one-hot vector or as a row of an embedding, and both are linear in the weights.
    """
    ends = gan.conditioning.sample_labels(torch.tensor(labels), 2)
    ends = torch.nn.functional.one_hot(ends, gan.conditioning.num_classes).float()
    t = torch.linspace(0, 1, steps)[:, None]
    return ((1 - t) * ends[0] + t * ends[1]).expand(rows, steps, -1)


def generate_rows(gan: GAN, z: Tensor, y: Tensor | None) -> Tensor:
    """Samples [rows, steps, ...] of latents [rows, steps, dim], a row at a time.

    Raises:
        ValueError: y are weights, and the generator of a user's own takes only labels.
    """
    try:
        return torch.stack([gan.generate(z[i], None if y is None else y[i]) for i in range(len(z))]).cpu()
    except (RuntimeError, TypeError, IndexError) as error:
        if y is None or not y.is_floating_point():
            raise
        name = type(gan.generator).__name__
        raise ValueError(f"{name} takes integer labels and cannot mix two; leave labels= out, and choose a label=") from error


def draw_frames(path: Path, images: Tensor) -> None:
    """Images [rows, steps, C, H, W] as a PNG grid, or as a GIF that goes there and back."""
    rows, steps = images.shape[:2]
    is_grid = path.suffix == ".png"
    n, columns = (rows * steps, steps) if is_grid else (rows, math.ceil(math.sqrt(rows)))
    validate_grid_size(n, columns, images.shape[-1], "choose fewer rows= or steps=")
    with atomic_path(path) as partial:
        if is_grid:
            draw_images(partial, images.flatten(0, 1), columns)
            return
        forth = [to_pil_image((tile_images(images[:, step], columns) * 255).round().to(torch.uint8)) for step in range(steps)]
        frames = [*forth, *forth[-2:0:-1]]
        durations = [5 * FRAME_MS if i in (0, steps - 1) else FRAME_MS for i in range(len(frames))]  # longer at both ends
        frames[0].save(partial, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
