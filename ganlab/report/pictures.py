"""The pictures of a report: curves with bands, every seed's result, samples over the true density, training as a GIF."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ganlab.report.ranking import RATES, TOYS, Ranking
from ganlab.report.runs import PREFIX, Run, worst
from ganlab.report.settings import Setting
from ganlab.utils.statistics import quartiles

MOST, MOST_SEEDS = 8, 16  # settings in a picture of curves, and in one with a row for each
MOST_PANELS = 16  # of an ensemble of points (ganlab/callbacks/sample_grid.py)
INK, FAINT = "#1f2430", "#d5d9e0"
COLORS = ["#2563c9", "#e07b1a", "#2a9d5c", "#cc3333", "#7c4dbd", "#8c5a3c", "#d6559f", "#5f6b7a"]
FRAMES, GIF_SIZE = 24, 300
DAMAGED = (OSError, SyntaxError, ValueError)  # what Pillow raises for a picture that is not whole
STYLE = {"font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#8a92a0", "xtick.color": INK,
         "ytick.color": INK, "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True,
         "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


def curve(ranking: Ranking, metric: str, against: str) -> bytes | None:
    """PNG: the median over seeds of each setting with the quartiles as a band, against "images" or "seconds"."""
    lines = [(s.name, *band(s, metric, against, ranking.protocol)) for s in ranking.settings[:MOST]]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.4), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for color, (name, x, low, middle, high) in zip(COLORS, lines, strict=False):
            axes.plot(x, middle, "o-", ms=3.5, lw=1.8, color=color, label=_wrapped(name))
            axes.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
        _scale(axes, [value for line in lines for part in line[2:] for value in part])
        floor = next((r.summary["real"] for s in ranking.settings for r in s.runs if r.summary.get("real")), {})
        if (best := floor.get(PREFIX + metric)) is not None:
            axes.axhline(best, color=INK, lw=1, ls=":", label="a perfect sampler" if ranking.modes else "real data")
        axes.set_xlim(left=0)
        axes.set_xlabel({"images": "real images seen", "seconds": "wall time in seconds"}[against])
        axes.set_ylabel(f"median {metric}" if any(len(s.seeds) > 1 for s in ranking.settings) else metric)
        axes.xaxis.set_major_formatter(_thousands)
        columns = 3 if max(len(line[0]) for line in lines) < 18 else 2 if len(lines) > 3 else 1
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)
        return _png(figure)


def _thousands(x: float, position: int) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def band(setting: Setting, metric: str, against: str, protocol: dict) -> tuple[list[float], ...]:
    """(x, lower quartile, median, upper quartile) at each look. A seed that failed has the worst value from then on."""
    bad = worst(metric, protocol)
    at: dict[float, list[tuple[float, float]]] = {}
    for seed in setting.seeds:
        values = seed.quality.get(PREFIX + metric, [])
        for images, seconds, value in zip(seed.images, seed.seconds, values, strict=False):
            if not (math.isnan(value) and seed.status != "failed"):
                at.setdefault(images, []).append((seconds, bad if math.isnan(value) else value))
    for seed in setting.seeds:
        if seed.status == "failed":
            for images, found in at.items():
                if images not in seed.images:
                    found.append((math.nan, bad))
    x, bands = [], []
    for images in sorted(at):
        seconds = [s for s, _ in at[images] if not math.isnan(s)]
        if against == "seconds" and not seconds:
            continue
        x.append(images if against == "images" else float(np.median(seconds)))
        bands.append(quartiles([value for _, value in at[images]]))
    return x, *([list(part) for part in zip(*bands)] or ([], [], []))


def _scale(axes, values: Sequence[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    if positive and len(positive) == len(finite) and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
    if finite and len(finite) < len(values):
        axes.text(0.99, 0.99, "gaps: infinite", transform=axes.transAxes, ha="right", va="top", fontsize=9, color="#5f6b7a")


def every_seed(ranking: Ranking, metric: str) -> bytes | None:
    """PNG: each seed's final value as a dot, a row per setting, with the mean and its interval."""
    if metric in RATES:
        return None
    settings = [setting for setting in ranking.ranked if ranking.values(setting, metric)][:MOST_SEEDS]
    rows = [list(ranking.values(setting, metric).values()) for setting in settings]
    finite = [value for row in rows for value in row if math.isfinite(value)]
    if len(finite) < 2:
        return None
    random = np.random.default_rng(0)
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(6.2, 1.3 + 0.62 * len(settings)), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for place, (setting, row) in enumerate(zip(settings, rows, strict=True)):
            color = COLORS[place % len(COLORS)]
            shown = [value for value in row if math.isfinite(value)]
            spread = random.uniform(-0.2, 0.2, len(shown)) if len(shown) > 1 else np.zeros(len(shown))
            axes.plot(shown, place + spread, "o", ms=5, mew=0, alpha=0.55, color=color)
            found = ranking.estimate(setting, metric)
            if math.isfinite(found.value) and found.low is not None:
                axes.plot([found.low, found.high], [place + 0.34] * 2, "-", lw=2.2, color=INK)
                axes.plot([found.value], [place + 0.34], "|", ms=10, mew=2.2, color=INK)
            if infinite := len(row) - len(shown):
                axes.text(1, place, f"∞ × {infinite}", transform=axes.get_yaxis_transform(), ha="right", va="center")
        axes.set_yticks(range(len(settings)), [_wrapped(setting.name, 24) for setting in settings])
        axes.set_ylim(len(settings) - 0.4, -0.6)
        if min(finite) > 0 and max(finite) > 20 * min(finite):
            axes.set_xscale("log")
        axes.set_xlabel(metric)
        return _png(figure)


def samples(run: Run) -> bytes | None:
    """PNG of the run's final samples: over the density of its toy, or as the run itself drew them; None without any."""
    if not run.is_ensemble and (png := over_density(run)):
        return png
    try:
        png = (run.folder / "samples.png").read_bytes()
        Image.open(io.BytesIO(png)).verify()
    except DAMAGED:
        return None
    return png


def over_density(run: Run) -> bytes | None:
    """PNG: 2,500 samples of the run's last checkpoint over the density of its toy; None where either is not to be had."""
    settings = {key: value for key, value in run.config.get("data", {}).items() if key != "_target_"}
    target = str(run.config.get("data", {}).get("_target_", ""))
    if target not in [f"ganlab.data.{toy}" for toy in TOYS] or not (run.folder / "checkpoints" / "last.ckpt").exists():
        return None
    import torch
    from hydra.errors import HydraException

    from ganlab import data
    from ganlab.runs.loading import load

    try:
        toy = getattr(data, target.rpartition(".")[2])(**settings)
        with torch.no_grad():
            points = load(run.folder / "checkpoints" / "last.ckpt").sample(2500, seed=0).cpu()
    except (*DAMAGED, RuntimeError, TypeError, HydraException):  # a user's own class, an older version's checkpoint
        return None
    limit = toy.centers.abs().max().item() * 1.4
    # A mode of std 0.01 is thinner than a pixel: the density is that of the modes seen through a lens of 1/80 of the
    # picture, on a logarithmic scale, so that its place and its relative height can be seen.
    blurred = type(toy)(**settings | {"std": max(toy.std, limit / 80)})
    axis = torch.linspace(-limit, limit, 300)
    grid = torch.cartesian_prod(axis, axis)
    density = blurred.log_density(grid).reshape(300, 300).T
    density = (density - density.max()).clamp(min=-6).numpy()
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(4.2, 4.2), dpi=130, layout="constrained")
        axes = figure.add_subplot(aspect="equal")
        axes.imshow(density, extent=(-limit, limit) * 2, origin="lower", cmap="Greys", vmin=-6, vmax=3, aspect="equal")
        axes.scatter(*points.T, s=4, c="#cc3333", lw=0, alpha=0.5)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        return _png(figure)


def training_gif(run: Run) -> bytes | None:
    """The run's own pictures over time, from the same latents; None with fewer than two."""
    paths = sorted(run.folder.glob("samples/*.png"))
    if len(paths) < 2:
        return None
    if len(paths) > FRAMES:
        paths = [paths[round(i * (len(paths) - 1) / (FRAMES - 1))] for i in range(FRAMES)]
    size = 2 * GIF_SIZE if run.is_ensemble else GIF_SIZE
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image = image.convert("RGB")
        except DAMAGED:
            continue
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        frames.append(image.quantize(48, dither=Image.Dither.NONE))
    if len(frames) < 2:
        return None
    file = io.BytesIO()
    times = [max(120, 4000 // len(frames))] * (len(frames) - 1) + [2500]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    return file.getvalue()


def _wrapped(name: str, width: int = 40) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, width)) or name


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
