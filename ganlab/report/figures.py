"""The figures of a ranking with their captions: every seed's result, learning curves, samples, and training as a GIF."""

import base64
import io
import math
import textwrap
from contextlib import suppress
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from ganlab.report.formatting import format_number, format_seeds
from ganlab.report.ranking import RATES, TOYS, Ranking
from ganlab.report.runs import Run, RunGroup, worst_value
from ganlab.utils.statistics import quartiles

MAX_CURVES, MAX_ROWS = 8, 16  # groups in a figure of curves, and in one with a row for each
MAX_PANELS = 16  # of an ensemble of points, in callbacks/sample_grid.py
INK, FAINT = "#1f2430", "#d5d9e0"
# Told apart also by the color-blind (Okabe & Ito 2008; their yellow, too light on white, is a gray), and by the markers
COLORS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#7f7f7f"]
MARKERS = "os^DvP*X"
GIF_FRAMES, GIF_SIZE = 24, 300
DAMAGED = (OSError, SyntaxError, ValueError)  # what Pillow raises for a damaged image
STYLE = {"font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#8a92a0", "xtick.color": INK,
         "ytick.color": INK, "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True,
         "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


@dataclass
class Picture:
    """An image file: its bytes, the name it has beside report.md, and what it shows."""

    name: str
    content: bytes
    caption: str

    @property
    def is_gif(self) -> bool:
        return self.name.endswith(".gif")

    @property
    def data_uri(self) -> str:
        return f"data:image/{'gif' if self.is_gif else 'png'};base64,{base64.b64encode(self.content).decode()}"


def seed_pictures(ranking: Ranking, stem: str) -> list[Picture]:
    caption = " at the end: a dot per seed, below them the mean and its 95 % interval." + _best_of(MAX_ROWS, ranking.ranked)
    plots = {metric: plot_seeds(ranking, metric) for metric in _plotted_metrics(ranking)}
    return [Picture(f"{stem}_{metric}_seeds.png", png, metric + caption) for metric, png in plots.items() if png]


def curve_pictures(ranking: Ranking, stem: str) -> list[Picture]:
    pictures = []
    for metric in _plotted_metrics(ranking):
        for against, words in (("images", "real images seen"), ("seconds", "wall time")):
            if png := plot_curves(ranking, metric, against):
                caption = f"{metric} against {words}: median over seeds, band from quartile to quartile."
                pictures.append(Picture(f"{stem}_{metric}_{against}.png", png, caption + _best_of(MAX_CURVES, ranking.groups)))
    return pictures


def sample_pictures(ranking: Ranking, stem: str) -> list[Picture]:
    """Samples of the same seed of every group, the smallest that all have, so that nobody chooses a pretty one."""
    groups = ranking.groups[:MAX_CURVES]
    shared = set.intersection(*({seed.seed for seed in group.seeds} for group in groups))
    pictures = []
    for place, group in enumerate(groups, 1):
        seed = min(shared or {seed.seed for seed in group.seeds})
        run = next(run for run in group.runs if any(other.seed == seed for other in run.seeds))
        if (png := plot_samples(run)) is None:
            continue
        name = f"{group.name}, {_seeds_shown(ranking, run) if run.is_ensemble else f'seed {seed}'}"
        values = ranking.values(group, ranking.metric) if ranking.metric in ranking.metrics else {}
        score = f": {ranking.metric} {format_number(values[seed])}" if seed in values and not run.is_ensemble else ""
        pictures.append(Picture(f"{stem}_samples_{place}.png", png, name + score))
        if ranking.is_toy and (gif := training_gif(run)):
            pictures.append(Picture(f"{stem}_training_{place}.gif", gif, f"{name}, while it trained"))
    return pictures


def _plotted_metrics(ranking: Ranking) -> list[str]:
    """The metric that ranks (for a rate, the objective of the runs) and the number of modes."""
    first = ranking.metric if ranking.metric in ranking.metrics else ranking.objective
    return [name for name in dict.fromkeys((first, ranking.modes_metric)) if name]


def _best_of(limit: int, groups: list[RunGroup]) -> str:
    return f" The best {limit} of {len(groups)} settings." if len(groups) > limit else ""


def _seeds_shown(ranking: Ranking, run: Run) -> str:
    """Which seeds the sample grid of an ensemble shows."""
    grid = (run.config.get("callbacks") or {}).get("sample_grid") or {}
    shown = run.pictured_seeds[: MAX_PANELS if ranking.is_toy else grid.get("rows", 8)]
    total = f" of {len(run.seeds)}" if len(shown) < len(run.seeds) else ""
    return f"seed{'s' * (len(shown) != 1)} {format_seeds(shown)}{total}"


def plot_curves(ranking: Ranking, metric: str, against: str) -> bytes | None:
    """PNG: the median over seeds of each group with the quartiles as a band, against "images" or "seconds"."""
    bands = {g.name: quartile_band(g, metric, against, ranking.metric_protocol) for g in ranking.groups[:MAX_CURVES]}
    if not (bands := {name: band for name, band in bands.items() if band[0]}):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.4), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for place, (name, (x, low, middle, high)) in enumerate(bands.items()):
            above = len(bands) - 1 - place  # the first curves are wider: equal ones show as stripes
            style = {"marker": MARKERS[place], "ms": 4 + 0.8 * above, "lw": 1.5 + above, "color": COLORS[place]}
            axes.plot(x, middle, **style, label=textwrap.fill(name, 40))
            axes.fill_between(x, low, high, color=COLORS[place], alpha=0.15, lw=0)
        values = [value for band in bands.values() for part in band[1:] for value in part]
        finite = [value for value in values if math.isfinite(value)]
        if _spans_decades(finite):
            axes.set_yscale("log")
        if finite and len(finite) < len(values):
            axes.text(0.99, 0.99, "gaps: infinite", transform=axes.transAxes, ha="right", va="top", fontsize=9, color="#5f6b7a")
        if metric in ranking.real:
            axes.axhline(ranking.real[metric], color=INK, lw=1, ls=":", label=ranking.real_name)
        axes.set_xlim(left=0)
        axes.set_xlabel({"images": "real images seen", "seconds": "wall time in seconds"}[against])
        axes.set_ylabel(f"median {metric}" if ranking.has_several_seeds else metric)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if against == "images":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        columns = 3 if max(map(len, bands)) < 18 else 2 if len(bands) > 3 else 1
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)
        return _to_png(figure)


def quartile_band(group: RunGroup, metric: str, against: str, metric_protocol: dict) -> tuple[list[float], ...]:
    """(x, lower quartile, median, upper quartile) at each evaluation. A failed seed has the worst value from then on."""
    worst = worst_value(metric, metric_protocol)
    at: dict[float, list[tuple[float, float]]] = {}
    for seed in group.seeds:
        for images, seconds, value in zip(seed.images, seed.seconds, seed.history.get(metric, []), strict=False):
            if not (math.isnan(value) and seed.status != "failed"):
                at.setdefault(images, []).append((seconds, worst if math.isnan(value) else value))
    for seed in group.seeds:
        if seed.status == "failed":
            for images in at.keys() - set(seed.images):
                at[images].append((math.nan, worst))
    x, bands = [], []
    for images in sorted(at):
        times = [seconds for seconds, _ in at[images] if not math.isnan(seconds)]
        if against == "seconds" and not times:
            continue
        x.append(images if against == "images" else float(np.median(times)))
        bands.append(quartiles([value for _, value in at[images]]))
    return x, *([list(part) for part in zip(*bands)] or ([], [], []))


def plot_seeds(ranking: Ranking, metric: str) -> bytes | None:
    """PNG: each seed's final value as a dot, a row per group, with the mean and its interval."""
    if metric in RATES:
        return None
    groups = [group for group in ranking.ranked if ranking.values(group, metric)][:MAX_ROWS]
    rows = [list(ranking.values(group, metric).values()) for group in groups]
    finite = [value for row in rows for value in row if math.isfinite(value)]
    if len(finite) < 2:
        return None
    random = np.random.default_rng(0)
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(6.2, 1.3 + 0.62 * len(groups)), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for place, (group, row) in enumerate(zip(groups, rows, strict=True)):
            shown = [value for value in row if math.isfinite(value)]
            jitter = random.uniform(-0.2, 0.2, len(shown)) if len(shown) > 1 else np.zeros(len(shown))
            look = {"marker": MARKERS[place % len(MARKERS)], "color": COLORS[place % len(COLORS)]}
            axes.plot(shown, place + jitter, ls="", ms=5, mew=0, alpha=0.6, **look)
            estimate = ranking.estimate(group, metric)
            if estimate and estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place + 0.34] * 2, "-", lw=2.2, color=INK)
                axes.plot([estimate.value], [place + 0.34], "|", ms=10, mew=2.2, color=INK)
            if infinite := len(row) - len(shown):
                axes.text(1, place, f"∞ × {infinite}", transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.set_yticks(range(len(groups)), [textwrap.fill(group.name, 24) for group in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        if _spans_decades(finite):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=all(value.is_integer() for value in finite)))
        axes.set_xlabel(metric)
        return _to_png(figure)


def plot_samples(run: Run) -> bytes | None:
    """PNG of the run's final samples: over the density of its toy, else its own sample grid; None without one."""
    if not run.is_ensemble and (png := plot_over_density(run)):
        return png
    try:
        png = run.dir.samples_file.read_bytes()
        Image.open(io.BytesIO(png)).verify()
    except DAMAGED:
        return None
    return png


def plot_over_density(run: Run) -> bytes | None:
    """PNG: 2,500 samples of the last checkpoint over the density of its toy; None if either is unavailable."""
    settings = dict(run.config.get("data") or {})
    target = str(settings.pop("_target_", ""))
    checkpoint = run.dir.last_checkpoint
    if target not in [f"ganlab.data.{toy}" for toy in TOYS] or checkpoint is None:
        return None
    import torch
    from hydra.errors import HydraException

    from ganlab import data
    from ganlab.runs.loading import load

    try:
        toy = getattr(data, target.rpartition(".")[2])(**settings)
        with torch.no_grad():
            points = load(checkpoint).sample(2500, seed=0).cpu()
    except (*DAMAGED, RuntimeError, TypeError, HydraException):  # a user's own class, or a checkpoint of an older version
        return None
    limit = toy.centers.abs().max().item() * 1.4
    # A mode of std 0.01 is thinner than a pixel. So the density is widened to a std of 1/80 of the picture and shown in
    # logarithms, which keeps the modes' places and relative heights.
    widened = type(toy)(**settings | {"std": max(toy.std, limit / 80)})
    axis = torch.linspace(-limit, limit, 300)
    density = widened.log_density(torch.cartesian_prod(axis, axis)).reshape(300, 300).T
    density = (density - density.max()).clamp(min=-6).numpy()
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(4.2, 4.2), dpi=130, layout="constrained")
        axes = figure.add_subplot(aspect="equal")
        axes.imshow(density, extent=(-limit, limit) * 2, origin="lower", cmap="Greys", vmin=-6, vmax=3, aspect="equal")
        axes.scatter(points[:, 0], points[:, 1], s=4, c="#cc3333", lw=0, alpha=0.5)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        return _to_png(figure)


def training_gif(run: Run) -> bytes | None:
    """The run's sample grids over time, from the same latents; None with fewer than two."""
    paths = sorted(run.dir.path.glob("samples/*.png"))
    if len(paths) > GIF_FRAMES:
        paths = [paths[round(i * (len(paths) - 1) / (GIF_FRAMES - 1))] for i in range(GIF_FRAMES)]
    size = 2 * GIF_SIZE if run.is_ensemble else GIF_SIZE
    frames = []
    for path in paths:
        with suppress(*DAMAGED), Image.open(path) as file:
            image = file.convert("RGB")
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
            frames.append(image.quantize(48, dither=Image.Dither.NONE))
    if len(frames) < 2:
        return None
    gif = io.BytesIO()
    times = [max(120, 4000 // len(frames))] * (len(frames) - 1) + [2500]  # milliseconds
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    return gif.getvalue()


def _spans_decades(values: list[float]) -> bool:
    return min(values, default=0) > 0 and max(values) > 20 * min(values)


def _to_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
