"""Draw samples of a trained GAN beside the k training images closest to them.

    python -m ganlab neighbors run=latest
    python -m ganlab neighbors label=3 n=20 k=5

The distance is L2 between pixels in [-1, 1]. A sample that copies a training image has a neighbor at a distance near 0. For
comparison, the distances of held-out real images to their nearest training image are printed. `evaluate` counts copies
among any number of samples.
"""

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganlab.callbacks.sample_grid import tile_images
from ganlab.cli.options import NeighborsOptions, parse_options
from ganlab.cli.output import class_labels, class_note, output_path, sample_shape
from ganlab.data import to_float, to_uint8
from ganlab.metrics.knn import BLOCK_SIZE, flatten_samples, iter_blocks, nearest_neighbors
from ganlab.metrics.sampling import evenly_spaced_samples, require_finite
from ganlab.runs.open_run import load_data, open_run
from ganlab.utils.files import atomic_path, save_figure
from ganlab.utils.validation import validate_int

HELD_OUT = 1000  # real test images, for comparison


def main(words: list[str]) -> None:
    options = parse_options(NeighborsOptions, words)
    n, k, label, seed = options.n, options.k, options.label, options.seed
    trained = open_run(options.run, options.run_seed, options.trust)
    if len(sample_shape(trained.gan)) != 3:
        raise ValueError(f"{trained.name} generates points, whose neighbors are no picture; use sample out=*.png")
    parts = {"run_seed": trained.member, "label": label, "seed": seed, "n": n}
    out = output_path(options.out, trained, "neighbors.png", parts, (".png",))
    data = load_data(trained, options.data_dir, options.root)
    train, held_out, device = (
        data.train.x,
        evenly_spaced_samples(data.test, min(HELD_OUT, len(data.test.x))).x,
        trained.gan.device,
    )
    validate_int("k", k, maximum=len(train))

    samples = to_uint8(require_finite(trained.gan.sample(n, class_labels(trained.gan, n, label), seed=seed))).cpu()
    distances, indices = k_nearest(samples, train, k, device)
    neighbors = train[indices.flatten()].unflatten(0, indices.shape)
    with atomic_path(out) as partial:
        save_figure(partial, draw(samples, neighbors, distances))
    print_distances(distances)
    real_distances, _ = nearest_neighbors(held_out, train, device)
    low, median, high = real_distances.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
    print(
        f"Distance of {len(held_out):,} held-out real images to their nearest training image: "
        f"{median:.3f} (median; 5 % to 95 %: {low:.3f} to {high:.3f})."
    )
    note = class_note(trained, label)
    print(f"{n} samples of {trained.name}{note}, seed {seed}, and their {k} nearest training images\n{out}")


@torch.no_grad()
def k_nearest(x: Tensor, references, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distance float32 [n, k], ascending, and index int64 [n, k] of the k references [N, ...] nearest to each x, on the CPU."""
    x = flatten_samples(x, device)
    exact = "donot_use_mm_for_euclid_dist"  # 0 for a copy
    blocks = (flatten_samples(block, device) for _, block in iter_blocks(references, BLOCK_SIZE))
    distances = torch.cat([torch.cdist(x, block, compute_mode=exact) for block in blocks], 1)
    nearest = distances.topk(k, largest=False)
    return nearest.values.cpu(), nearest.indices.cpu()


def draw(samples: Tensor, neighbors: Tensor, distances: Tensor) -> Figure:
    """A row per sample [n, C, H, W]: itself, then its neighbors [n, k, C, H, W] with their distances [n, k]."""
    n, k = distances.shape
    size = max(samples.shape[-1], 56) / 56
    figure = Figure(figsize=(0.9 * size * (k + 1) + 0.2, 1.05 * size * n + 0.3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n, k + 1, squeeze=False)
    for row in range(n):
        titles = ["sample" if row == 0 else "", *(f"{distance:.2f}" for distance in distances[row].tolist())]
        for axis, image, title in zip(axes[row], (samples[row], *neighbors[row]), titles, strict=True):
            axis.imshow(tile_images(to_float(image)[None], 1).permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_axis_off()
            axis.set_title(title, fontsize=8, pad=2)
    return figure


def print_distances(distances: Tensor) -> None:
    table = Table(title="L2 distance to the nearest training images", title_justify="left")
    for heading in ("sample", *(f"neighbor {number}" for number in range(1, distances.shape[1] + 1))):
        table.add_column(heading, justify="right")
    for number, row in enumerate(distances.tolist()):
        table.add_row(str(number), *(f"{value:.3f}" for value in row))
    Console(highlight=False).print(table)
