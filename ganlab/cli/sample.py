"""Draw samples from a trained GAN into a PNG grid, PNG files or a NumPy array.

    python -m ganlab sample run=latest
    python -m ganlab sample n=50_000 out=samples.npy
    python -m ganlab sample label=3 truncation=0.7 seed=5 out=threes

The samples come from the moving average of the generator. A seed gives the same samples on every device.
out= chooses the format:
*.png    one grid, a column per class; points are drawn over the real ones
*.npy    float32 [n, C, H, W] as the generator gives them (ganlab's own: in [-1, 1]), of points [n, 2]
else     a new directory of files 00000.png …, one image each
*.npy and single files are written in batches, so that memory does not grow with n.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ganlab.cli.options import SampleOptions, parse_options
from ganlab.cli.output import class_labels, class_note, draw_samples, output_path, validate_grid_size
from ganlab.data import to_uint8
from ganlab.metrics.sampling import require_finite
from ganlab.runs.open_run import open_run
from ganlab.utils.files import atomic_path
from ganlab.utils.progress import TerminalProgress


def main(words: list[str]) -> None:
    options = parse_options(SampleOptions, words)
    n, label, seed = options.n, options.label, options.seed
    trained = open_run(options.run, options.run_seed, options.trust)
    parts = {"run_seed": trained.member, "label": label, "truncation": options.truncation, "seed": seed, "n": n}
    out = output_path(options.out, trained, "samples.png", parts, (".png", ".npy"), directory=True)
    labels = class_labels(trained.gan, n, label)
    batches = trained.gan.sample_in_batches(n, labels, seed=seed, truncation=options.truncation)
    first = require_finite(next(batches))  # what cannot be sampled raises before anything is written
    shape, batches = first.shape[1:], with_progress(chain([first], batches), n)
    is_image = len(shape) == 3
    if out.suffix == ".npy":
        write_array(out, batches, n, shape)
    elif out.suffix == ".png":
        columns = grid_columns(n, trained.gan.conditioning.num_classes if label is None else 0)
        if is_image:
            validate_grid_size(n, columns, shape[-1], "write single files (out=DIRECTORY) or an array (out=*.npy)")
        draw_samples(out, trained, torch.cat(list(batches)), columns, options.data_dir)
    elif is_image and shape[0] <= 4:
        write_directory(out, batches)
    else:
        raise ValueError(f"samples {list(shape)} cannot be PNG files, got out={out}; use out=*.npy, or *.png for one picture")
    print(f"{n:,} sample{'s' * (n != 1)} of {trained.name}{class_note(trained, label)}, seed {seed}\n{out}")


def with_progress(batches: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """The same batches, with a progress bar."""
    with TerminalProgress("sampling", n, stderr=True) as progress:
        for batch in batches:
            yield require_finite(batch)
            progress.advance(len(batch))


def grid_columns(n: int, classes: int) -> int:
    """A column per class, if there are 1 to 20 and at least one sample of each; else as many columns as rows."""
    return classes if 0 < classes <= min(n, 20) else math.ceil(math.sqrt(n))


def write_array(path: Path, batches: Iterable[Tensor], n: int, shape: torch.Size) -> None:
    """float32 [n, *shape] as .npy, batch by batch. A memory-mapped file would crash on a full disk instead of raising."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": (n, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(batch.cpu().numpy().astype("<f4").tobytes())


def write_directory(path: Path, batches: Iterable[Tensor]) -> None:
    """00000.png …, images in their own size; channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA."""
    with atomic_path(path) as partial:
        partial.mkdir()
        for number, image in enumerate(image for batch in batches for image in to_uint8(batch).cpu()):
            to_pil_image(image).save(partial / f"{number:05}.png")
        if path.is_dir():  # an empty one: not every system's rename replaces it
            path.rmdir()
