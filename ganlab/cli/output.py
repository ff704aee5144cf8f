"""What the verbs on trained runs share: where they write, which labels they take, how they draw samples."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ganlab.callbacks.sample_grid import MIN_SIDE, draw_images, draw_points
from ganlab.models.gan import GAN
from ganlab.runs.open_run import TrainedRun, load_data
from ganlab.utils.files import atomic_path

MAX_PIXELS = 89_478_485  # of a PNG: beyond it Pillow warns of a decompression bomb


def output_path(
    out: str | None, trained: TrainedRun, name: str, parts: dict, suffixes: Sequence[str] = (), *, directory: bool = False
) -> Path:
    """The path `out`, checked before anything is computed; None: a file in the run directory.

    Args:
        name, parts: the default file, such as samples.png; parts that are not None are added: samples_label3_seed1.png.
        suffixes: allowed endings; empty allows any.
        directory: whether `out` may also name a new or empty directory to fill.

    Raises:
        ValueError: `out` has another ending, is a directory with something in it, or cannot be written.
    """
    added = "".join(f"_{part}{value}" for part, value in parts.items() if value is not None)
    name = Path(name).stem + added + Path(name).suffix
    path = Path(out).expanduser() if out else trained.run_dir.path / name
    if path.is_dir() and not directory:
        path = path / name
    if suffixes and path.suffix not in suffixes:
        looks_like_a_file = path.suffix[1:].isalpha() and not path.is_dir() and not str(out).endswith("/")
        if not directory or looks_like_a_file:
            endings = " or ".join(suffixes) + (", or name a directory" if directory else "")
            raise ValueError(f"out= must end in {endings}, got {out}")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"out={path} exists and is not an empty directory; choose another, or remove it")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{path} cannot be written, {parent} does not allow it; choose another place with out=")
    return path


def example_inputs(gan: GAN) -> tuple[Tensor, ...]:
    """Latents [2, latent_dim] and, of a conditional GAN, labels [2]."""
    z, y = torch.randn(2, gan.generator.latent_dim, generator=torch.Generator().manual_seed(0)), class_labels(gan, 2, None)
    return (z,) if y is None else (z, y)


def sample_shape(gan: GAN) -> torch.Size:
    """[C, H, W] of images, [2] of points."""
    return gan.generate(*example_inputs(gan)).shape[1:]


def class_labels(gan: GAN, n: int, label: int | None) -> Tensor | None:
    """int64 [n]: `label` (ValueError if there is none such), or i mod the number of classes; None for an unconditional GAN."""
    classes = gan.conditioning.num_classes
    if label is not None:
        return gan.conditioning.sample_labels(label, n)
    return torch.arange(n) % classes if classes else None


def class_note(trained: TrainedRun, label: int | None, unit: str = "sample") -> str:
    """`, run_seed 5, label 3` for the line that a verb prints: the member of an ensemble and the classes."""
    note = "" if trained.member is None else f", run_seed {trained.member}"
    if label is not None:
        return f"{note}, label {label}"
    classes = trained.gan.conditioning.num_classes
    return f"{note}, {unit} i of class i mod {classes}" if classes else note


def validate_grid_size(n: int, columns: int, size: int, advice: str) -> None:
    """Raise ValueError if a grid of n images, `size` pixels wide, has more than MAX_PIXELS."""
    side = max(size, MIN_SIDE) + 2
    width, height = side * columns, side * math.ceil(n / columns)
    if width * height > MAX_PIXELS:
        raise ValueError(f"a grid of {n:,} images would have {width:,} x {height:,} pixels; {advice}")


def draw_samples(path: Path, trained: TrainedRun, samples: Tensor, columns: int, data_dir: str | None) -> None:
    """Write samples as one PNG: images [n, C, H, W] as a grid, points [n, 2] over the real ones; ValueError for others."""
    if samples.ndim != 4 and samples.shape[1:] != (2,):
        raise ValueError(f"samples of shape {tuple(samples.shape[1:])} cannot be drawn; choose out=*.npy")
    data = load_data(trained, data_dir) if samples.ndim == 2 else None
    with atomic_path(path) as partial:
        if data is None:
            draw_images(partial, samples, columns)
        else:
            draw_points(partial, data, [samples], trained.gan.images_seen)
