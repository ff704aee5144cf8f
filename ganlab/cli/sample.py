"""`python -m ganlab sample`: samples of a trained GAN as one PNG grid, single PNG files or a NumPy array.

`out=` *.png draws one grid (points: over the real ones), *.npy writes float32 [n, C, H, W] in [-1, 1] (points: [n, 2]), anything
else is a new folder of files 00000.png … in the images' own size. The last two take any n at constant memory. Without label=
sample i of a conditional GAN has class i mod the number of classes. run_seed= chooses a copy of an ensemble, truncation= cuts
the latents to [-truncation, truncation].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ganlab.callbacks.sample_grid import draw_images, draw_points
from ganlab.cli.options import SampleOptions, parse_options
from ganlab.data import to_uint8
from ganlab.data.folder import MODES
from ganlab.runs.trained import Trained, datamodule, open_run
from ganlab.utils.files import atomic_path

LARGEST_GRID = 89_478_485  # pixels: beyond it Pillow takes a picture for an attack


def main(words: list[str]) -> None:
    """Writes the samples and says where.

    Raises:
        ValueError, FileNotFoundError: an option, the run, or the place to write to will not do.
    """
    options = parse_options(SampleOptions, words)
    n, seed = options.n, options.seed
    trained = open_run(options.run, options.run_seed, options.trust)
    chosen = {"label": options.label, "truncation": options.truncation}
    asked = [f"{name}{value:g}" for name, value in chosen.items() if value is not None]
    out = place(trained, options.out, "samples", [*asked, f"seed{seed}", f"n{n}"])
    images = is_image(trained)
    suffix = out.suffix if out.suffix in (".png", ".npy") else ""
    if not suffix and not images:
        raise ValueError(f"points have no pictures of their own, got out={out}; use out=*.png (all in one) or out=*.npy")
    labels = labels_of(trained, n, options.label)
    blocks = trained.gan.sample_in_batches(n, labels, seed=seed, truncation=options.truncation)
    first = next(blocks)  # what cannot be sampled is refused before anything is written
    blocks = tracked(first, blocks, n)
    if suffix == ".npy":
        write_array(out, blocks, n, first.shape[1:])
    elif not suffix:
        write_folder(out, blocks)
    elif images:
        columns = columns_for(trained, n, options.label)
        refuse_large_grid(n, columns, first.shape[-1], "write single files (out=FOLDER) or an array (out=*.npy)")
        with atomic_path(out) as partial:
            draw_images(partial, torch.cat(list(blocks)), columns)
    else:
        data = datamodule(trained, options.data_dir)
        with atomic_path(out) as partial:
            draw_points(partial, data, [torch.cat(list(blocks)).cpu()], trained.gan.images_seen)
    said = describe(trained, options.label)
    show(f"{n:,} sample{'s' * (n != 1)} of {trained.name}{said}, seed {seed}", out)


def is_image(trained: Trained) -> bool:
    """The generator draws images [C, H, W], not points [2]."""
    gan = trained.gan
    y = torch.zeros(2, dtype=torch.int64) if gan.conditioning.num_classes else None
    return gan.generate(torch.zeros(2, gan.generator.latent_dim), y).ndim == 4


def place(
    trained: Trained, out: str | None, what: str, asked: list[str], suffixes: tuple[str, ...] = (".png", ".npy", "")
) -> Path:
    """Where to write: `out`, or a PNG in the run's folder whose name says what was asked for.

    Raises:
        ValueError: its ending is none of `suffixes` ("": a new folder), or the folder has something in it.
    """
    copy = [] if trained.copy is None else [f"copy{trained.copy}"]
    path = Path(out).expanduser() if out else trained.folder / ("_".join([what, *copy, *asked]) + suffixes[0])
    is_file = path.suffix in suffixes and path.suffix
    looks_like_a_file = path.suffix[1:].isalpha() and not path.is_dir() and not str(out).endswith("/")
    if not is_file and ("" not in suffixes or looks_like_a_file):
        endings = " or ".join(filter(None, suffixes)) + (", or name a folder" if "" in suffixes else "")
        raise ValueError(f"out= must end in {endings}, got {out}")
    if is_file and path.is_dir():
        raise ValueError(f"out={path} is a folder already; choose another name")
    if not is_file and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"out={path} exists and is not an empty folder; choose another, or remove it")
    return path


def labels_of(trained: Trained, n: int, label: int | None) -> Tensor | int | None:
    """`label` for all; without one, sample i has class i mod the number of classes; None for unconditional GANs.

    Raises:
        ValueError: the GAN is unconditional or has no such label.
    """
    classes = trained.gan.conditioning.num_classes
    if label is not None:
        trained.gan.conditioning.sample_labels(label, 1)
        return label
    kind = torch.int16 if classes < 2**15 else torch.int64  # they are all in memory
    return torch.arange(classes, dtype=kind).repeat(math.ceil(n / classes))[:n] if classes else None


def columns_for(trained: Trained, n: int, label: int | None) -> int:
    """A column per class where the classes take turns; as square as can be otherwise."""
    classes = trained.gan.conditioning.num_classes
    return classes if label is None and 0 < classes <= min(n, 20) else math.ceil(math.sqrt(n))


def describe(trained: Trained, label: int | None) -> str:
    """`, label 3` or how the classes take turns, and which copy of an ensemble."""
    copy = "" if trained.copy is None else f", copy {trained.copy}"
    classes = trained.gan.conditioning.num_classes
    if label is not None:
        return f"{copy}, label {label}"
    return f"{copy}, sample i of class i mod {classes}" if classes else copy


def refuse_large_grid(n: int, columns: int, size: int, way_out: str) -> None:
    side = max(size, 56) + 2
    width, height = side * columns, side * math.ceil(n / columns)
    if width * height > LARGEST_GRID:
        raise ValueError(f"a grid of {n:,} images would have {width:,} x {height:,} pixels; {way_out}")


def tracked(first: Tensor, rest: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """All blocks, with a progress bar while a person watches."""
    columns = TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=n)
        for block in chain([first], rest):
            progress.advance(task, len(block))
            yield block


def write_array(path: Path, blocks: Iterable[Tensor], n: int, shape: torch.Size) -> None:
    """float32 [n, *shape] as .npy, block by block. A mapped file would crash on a full disk instead of raising."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": (n, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.cpu().numpy().astype("<f4").tobytes())


def write_folder(path: Path, blocks: Iterable[Tensor]) -> None:
    """00000.png …, images in their own size; channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA."""
    with atomic_path(path) as partial:
        partial.mkdir()
        number = 0
        for block in blocks:
            for image in to_uint8(block).cpu():
                as_picture(image).save(partial / f"{number:05}.png")
                number += 1
        path.is_dir() and path.rmdir()  # an empty one, for systems on which a rename does not replace it


def as_picture(image: Tensor) -> Image.Image:
    """uint8 [C, H, W] as Pillow has it."""
    if len(image) not in MODES:
        raise ValueError(f"an image of {len(image)} channels has no PNG; use out=*.npy")
    array = image.permute(1, 2, 0).numpy()
    return Image.frombytes(MODES[len(image)], (array.shape[1], array.shape[0]), array.tobytes())


def show(what: str, path: Path) -> None:
    Console(highlight=False).print(f"{what}\n{path}", soft_wrap=True, markup=False)
