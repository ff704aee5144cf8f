"""`python -m ganlab neighbors`: samples beside the k training images that are closest to them.

Closest by the L2 distance between pixels in [-1, 1], in blocks: memory does not grow with the training set. A sample that is
a copy has a neighbor at nearly 0. What is usual is shown by held-out real images and their distances to the nearest training
image (`evaluate` tests for it). Without label= sample i of a conditional GAN has class i mod the number of classes.
"""

from __future__ import annotations

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganlab.callbacks.sample_grid import tile_images
from ganlab.cli.options import NeighborsOptions, parse_options
from ganlab.cli.sample import is_image, labels_of, place, show
from ganlab.data import to_float, to_uint8
from ganlab.metrics.prdc import BLOCK, as_vectors, blocks_of, distances, nearest
from ganlab.runs.trained import datamodule, open_run
from ganlab.utils.files import atomic_path, save_figure

HELD_OUT = 1000  # real test images that are compared with


def main(words: list[str]) -> None:
    """Writes the picture, says where, and prints the distances.

    Raises:
        ValueError, FileNotFoundError: an option, the run, its data, or the place to write to will not do.
    """
    options = parse_options(NeighborsOptions, words)
    n, k, seed = options.n, options.k, options.seed
    trained = open_run(options.run, options.run_seed, options.trust)
    if not is_image(trained):
        raise ValueError(f"{trained.name} makes points, which have no neighbors worth a picture; use sample out=*.png")
    asked = [] if options.label is None else [f"label{options.label}"]
    out = place(trained, options.out, "neighbors", [*asked, f"seed{seed}", f"n{n}"], (".png",))
    data = datamodule(trained, options.data_dir, options.root)
    if k > len(data.train.x):
        raise ValueError(f"k must be at most the number of training images, {len(data.train.x)}, got {k}")

    samples = to_uint8(trained.gan.sample(n, labels_of(trained, n, options.label), seed=seed)).cpu()
    device = trained.gan.device
    found, places = closest(samples, data.train.x, k, device)
    usual = nearest(data.test.x[:HELD_OUT], data.train.x, device)[0].quantile(torch.tensor([0.05, 0.5, 0.95]).double())
    with atomic_path(out) as partial:
        save_figure(partial, draw(samples, data.train.x[places.flatten()].unflatten(0, places.shape), found))
    tell(found, usual, min(HELD_OUT, len(data.test.x)))
    show(f"{n} samples of {trained.name}, seed {seed}, and their {k} closest training images", out)


@torch.no_grad()
def closest(x: Tensor, references, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The k nearest of `references` uint8 [N, ...] to each of x uint8 [n, ...]: (distance float64 [n, k], place [n, k]).

    Ascending, on the CPU; a few more than k are found by a matrix product and ordered by their exact distances.
    """
    kept, a = min(k + 8, len(references)), as_vectors(x, device)
    best, places = a.new_empty(len(a), 0), torch.empty(len(a), 0, dtype=torch.long, device=device)
    for first, block in blocks_of(references, 8 * BLOCK):
        d = distances(a, as_vectors(block, device))
        best, places = (
            torch.cat([best, d], 1),
            torch.cat([places, torch.arange(d.shape[1], device=device).expand(d.shape) + first], 1),
        )
        best, order = best.topk(min(kept, best.shape[1]), largest=False)
        places = places.gather(1, order)
    places = places.cpu()
    vectors = as_vectors(references[places.flatten()], torch.device("cpu")).double().unflatten(0, places.shape)
    exact, order = (vectors - a.cpu().double()[:, None]).norm(dim=2).sort(1)
    return exact[:, :k], places.gather(1, order)[:, :k]


def draw(samples: Tensor, neighbors: Tensor, found: Tensor) -> Figure:
    """A row per sample [n, C, H, W]: itself, then its neighbors [n, k, C, H, W] with their distances [n, k]."""
    n, k = found.shape
    size = max(samples.shape[-1], 56) / 56
    figure = Figure(figsize=(0.9 * size * (k + 1) + 0.2, 1.05 * size * n + 0.3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n, k + 1, squeeze=False)
    for row, sample, near, distance in zip(axes, samples, neighbors, found, strict=True):
        for axis, image in zip(row, (sample, *near), strict=True):
            axis.imshow(tile_images(to_float(image)[None], 1).permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_axis_off()
        for axis, value in zip(row[1:], distance.tolist(), strict=True):
            axis.set_title(f"{value:.2f}", fontsize=8, pad=2)
    axes[0, 0].set_title("sample", fontsize=8, pad=2)
    return figure


def tell(found: Tensor, usual: Tensor, count: int) -> None:
    table = Table(title="L2 distance between pixels in [-1, 1] to the closest training images", title_justify="left")
    table.add_column("sample", justify="right")
    for number in range(found.shape[1]):
        table.add_column(f"neighbor {number + 1}", justify="right")
    for number, row in enumerate(found.tolist()):
        table.add_row(str(number), *[f"{value:.3f}" for value in row])
    console = Console(highlight=False)
    console.print(table)
    low, median, high = usual.tolist()
    console.print(
        f"Of {count:,} held-out real images the nearest is at {median:.3f} (median; 5 % to 95 %: {low:.3f} to {high:.3f}).",
        soft_wrap=True,
    )
