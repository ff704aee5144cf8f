"""Draw what a trained GAN generates between the latents of two seeds, or between two classes.

    python -m ganlab interpolate from=1 to=2
    python -m ganlab interpolate labels=3,8 out=3-8.gif

Row i goes from the i-th latent of the seed `from` to the i-th latent of the seed `to`, along a great circle. labels=3,8 goes
from one class to the other at fixed latents (those of `from`); with to= given, the latents change as well.
out= chooses the format: *.png draws a row per pair, *.gif shows all pairs side by side, back and forth. 2-D points are drawn
as a path per pair, over real points.
"""

import math
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ganlab.callbacks.sample_grid import tile_images
from ganlab.cli.options import InterpolateOptions, parse_options
from ganlab.cli.output import class_labels, class_note, draw_samples, output_path, sample_shape, validate_grid_size
from ganlab.metrics.sampling import require_finite
from ganlab.models.gan import GAN
from ganlab.models.latents import sample_normal, slerp
from ganlab.runs.open_run import open_run
from ganlab.utils.files import atomic_path

FRAME_MS = 100
POINT_STEPS = 500  # points make a path


def main(words: list[str]) -> None:
    options = parse_options(InterpolateOptions, words)
    rows, labels, start, end = options.rows, options.labels, options.from_, options.to
    if end is None:
        end = start if labels else start + 1
    trained = open_run(options.run, options.run_seed, options.trust)
    gan = trained.gan
    classes = "-".join(map(str, labels)) or None
    parts = {"run_seed": trained.member, "labels": classes, "label": options.label, "seeds": f"{start}-{end}"}
    out = output_path(options.out, trained, "interpolation.png", parts, (".png", ".gif"))
    shape, is_gif = sample_shape(gan), out.suffix == ".gif"
    is_image = len(shape) == 3
    if is_gif and not is_image:
        raise ValueError(f"the paths of points are one picture, got out={out}; use out=*.png")
    steps = options.steps if is_image else max(options.steps, POINT_STEPS)
    n, columns = (rows, math.ceil(math.sqrt(rows))) if is_gif else (rows * steps, steps)
    a, b = (sample_normal(rows, gan.generator.latent_dim, torch.Generator().manual_seed(seed)) for seed in (start, end))
    if labels:
        y = mixed_labels(gan, labels, steps).expand(rows, -1, -1)
    elif (y := class_labels(gan, rows, options.label)) is not None:
        y = y[:, None].expand(-1, steps)
    if is_image:
        validate_grid_size(n, columns, shape[-1], "choose fewer rows= or steps=")
    samples = require_finite(generate_rows(gan, slerp(a, b, steps), y))
    if is_gif:
        write_gif(out, samples, columns)
    else:
        draw_samples(out, trained, samples.flatten(0, 1), columns, options.data_dir)
    note = f", classes {labels[0]} to {labels[1]}" if labels else class_note(trained, options.label, unit="row")
    seeds = f"seed {start}" if start == end else f"seeds {start} to {end}"
    print(f"{rows:,} row{'s' * (rows != 1)} of {trained.name}{note}: {seeds}, in {steps} steps\n{out}")


def mixed_labels(gan: GAN, labels: list[int], steps: int) -> Tensor:
    """Weights of the classes [steps, K], from all on the first label to all on the second.

    ganlab's generators take a label as a one-hot vector or as a row of an embedding, and both are linear in the weights.
    """
    ends = gan.conditioning.sample_labels(torch.tensor(labels), 2)
    first, second = torch.nn.functional.one_hot(ends, gan.conditioning.num_classes).float()
    return torch.lerp(first, second, torch.linspace(0, 1, steps)[:, None])


def generate_rows(gan: GAN, z: Tensor, y: Tensor | None) -> Tensor:
    """Samples [rows, steps, ...] of latents [rows, steps, dim], a row at a time; ValueError if G takes no weights of labels."""
    try:
        return torch.stack([gan.generate(z[i], None if y is None else y[i]) for i in range(len(z))]).cpu()
    except (RuntimeError, TypeError, IndexError) as error:
        if y is None or not y.is_floating_point():
            raise
        name = type(gan.generator).__name__
        raise ValueError(f"{name} takes integer labels and cannot mix two; leave labels= out, and choose a label=") from error


def write_gif(path: Path, images: Tensor, columns: int) -> None:
    """Images [rows, steps, C, H, W] as a GIF that goes there and back; the rows are tiled into a grid."""
    forth = [to_pil_image((tile_images(step, columns) * 255).round().to(torch.uint8)) for step in images.unbind(1)]
    frames = [*forth, *forth[-2:0:-1]]
    durations = [FRAME_MS] * len(frames)
    durations[0] = durations[len(forth) - 1] = 5 * FRAME_MS  # longer at both ends
    with atomic_path(path) as partial:
        frames[0].save(partial, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
