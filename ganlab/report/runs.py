"""What runs left, as runs and seeds. Each file is read once; a run that crashed or is not over is read as far as it got."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from ganlab.report.reading import as_number, hydra_config, plain_yaml, read_summary, table

LEFT_BY_A_RUN = ("summary.json", "metrics.csv", "seeds.csv", "config.yaml", ".hydra")
NOT_SEARCHED = {".hydra", "checkpoints", "samples", "wandb", "extractors", "report"}
PREFIX = "quality/"


@dataclass
class Seed:
    """One seed of a run. `status`: finished, failed, or unfinished (still under way, or killed).

    `images`, `seconds` and the lists in `quality` have one entry per look; `final` is what the run ended with (the
    summary's for a single run), empty if it did not end well. nan: the look has no value.
    """

    seed: int
    status: str
    images: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    quality: dict[str, list[float]] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    ended: float | None = None
    """Real images seen at the end of training; None if it did not finish, or left no word of it."""


@dataclass
class Run:
    """A run's folder: its config (empty if it left none), overrides, summary ({} if there is none) and seeds."""

    folder: Path
    config: dict
    overrides: dict[str, str]
    summary: dict
    seeds: list[Seed]
    images: float
    """Real images seen, as far as the files tell."""
    single: bool = True
    """One GAN by itself. A member of an ensemble, even of one, draws other batches and latents from the same seed."""
    together: int = 1
    """How many seeds were trained at once."""
    pictured: list[int] = field(default_factory=list)
    """The seeds that its pictures begin with: those that did not fail."""

    @property
    def is_ensemble(self) -> bool:
        return len(self.seeds) > 1

    @property
    def status(self) -> str:
        return self.summary.get("status", "unfinished")

    @property
    def ended_early(self) -> list[Seed]:
        """The seeds that finished short of max_images. A budget that is used up ends with a whole batch, never below it."""
        budget = self.config.get("max_images")
        return [s for s in self.seeds if isinstance(budget, int) and s.ended is not None and s.ended < budget]


def find_runs(paths: list[Path]) -> list[Run]:
    """Every run at or below the paths, each once.

    Raises:
        ValueError: a path does not exist, or no run is below any of them.
    """
    folders: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"report reads folders of runs, and {path} is {'a file' if path.exists() else 'not there'}")
        for folder in _walk(path.resolve()):
            folders[folder] = None
    runs = [read_run(folder) for folder in folders]
    if not runs:
        places = ", ".join(map(str, paths))
        raise ValueError(f"there is no run in {places}: give a run's folder, a sweep's, or one that holds them (outputs)")
    return runs


def _walk(top: Path):
    for name, folders, files in os.walk(top):
        present = {*folders, *files}
        if present.intersection(LEFT_BY_A_RUN) and "inspect.json" not in present:
            folders.clear()
            yield Path(name)
        else:
            folders[:] = sorted(f for f in folders if f not in NOT_SEARCHED)


def read_run(folder: Path) -> Run:
    """The run in a folder, whatever is missing or damaged there."""
    summary = read_summary(folder / "summary.json")
    config = plain_yaml(folder / "config.yaml") or hydra_config(folder / ".hydra" / "config.yaml")
    overrides = plain_yaml(folder / ".hydra" / "overrides.yaml") or []
    overrides = dict(o.lstrip("+").split("=", 1) for o in overrides if isinstance(o, str) and "=" in o)
    status = summary.get("status", "unfinished")
    rows = table(folder / "seeds.csv")
    single = not (rows or isinstance(config.get("seeds"), int) or summary.get("seeds"))
    if not single:
        seeds = _ensemble(rows, config, summary, status)
        images = max((seed.images[-1] for seed in seeds if seed.images), default=0.0)
    else:
        seed, images = _single(folder / "metrics.csv", config, summary, status)
        seeds = [seed]
    seeds.sort(key=lambda seed: seed.seed)
    pictured = [seed.seed for seed in seeds if seed.status != "failed"]
    return Run(folder, config, overrides, summary, seeds, images, single, len(seeds), pictured)


def _single(path: Path, config: dict, summary: dict, status: str) -> tuple[Seed, float]:
    seed = Seed(summary.get("seed", config.get("seed", 0)), status)
    clock: list[tuple[float, float]] = [(0.0, 0.0)]  # (images, seconds) of the rows that tell the time
    images = 0.0
    rows = table(path)
    names = [name for name in rows[0] if _is_quality(name)] if rows else []
    for row in rows:
        images = max(images, as_number(row.get("images_seen")))
        if row.get("seconds"):
            clock.append((images, as_number(row["seconds"])))
        if values := {name: row[name] for name in names if row[name]}:
            _append(seed, images, math.nan, values)
    seed.seconds = [_interpolate(clock, at) for at in seed.images]
    ended = (summary.get("clocks") or {}).get("images_seen")
    if status == "finished":
        seed.final = {name: _or_worst(name, value) for name, value in (summary.get("quality") or {}).items()}
        seed.ended = ended
    return seed, max(images, ended or 0)


def _ensemble(rows: list[dict], config: dict, summary: dict, status: str) -> list[Seed]:
    first = config.get("seed", 1)
    numbers = summary.get("seeds") or range(first, first + (config.get("seeds") or 1))
    seeds = {number: Seed(number, status) for number in numbers}
    for row in rows:
        try:
            number = int(row["seed"])
        except (TypeError, ValueError, KeyError):  # half a line, from a kill
            continue
        seed = seeds.setdefault(number, Seed(number, status))
        if row.get("status") in ("finished", "failed"):
            seed.status = row["status"]
        if row.get("status") == "finished":
            seed.ended = as_number(row["images_seen"])
        values = {name: value for name, value in row.items() if _is_quality(name)}
        _append(seed, as_number(row["images_seen"]), as_number(row.get("seconds")), values)
    for seed in seeds.values():
        if seed.status == "finished" and seed.quality:
            seed.final = {name: _or_worst(name, values[-1]) for name, values in seed.quality.items()}
    return list(seeds.values())


def _append(seed: Seed, images: float, seconds: float, values: dict[str, str]) -> None:
    for name, value in values.items():
        column = seed.quality.setdefault(name, [])
        column += [math.nan] * (len(seed.images) - len(column)) + [as_number(value)]
    seed.images.append(images)
    seed.seconds.append(seconds)
    for column in seed.quality.values():
        column += [math.nan] * (len(seed.images) - len(column))


def _is_quality(name: str | None) -> bool:
    return name is not None and name.startswith(PREFIX) and not name.endswith(("_real", "_q1", "_q3"))


def _or_worst(name: str, value: float | None) -> float:
    """JSON's null stands for a number that was not finite; nan is the worst there is."""
    return worst(name) if value is None or math.isnan(value) else float(value)


HIGHER_IS_BETTER = ("modes", "high_quality", "classes", "label_agreement", "precision", "recall", "density", "coverage",
                    "accuracy", "vendi", "cas", "success")  # fmt: skip


def higher_is_better(metric: str) -> bool:
    """By the beginning of its name; what is not known is taken for a distance."""
    return metric.removeprefix(PREFIX).startswith(HIGHER_IS_BETTER)


def worst(metric: str, protocol: dict | None = None) -> float:
    """What a run that failed scores: no mode, no agreement, an infinite distance; a bounded distance its bound.

    `kl_with_off_mode` is bounded by -log of the smallest bin's mass: all samples off the modes or, of 90 modes and more, in one.
    """
    if higher_is_better(metric):
        return 0.0
    protocol = protocol or {}
    mass = protocol.get("off_mode_mass")
    if mass and metric.removeprefix(PREFIX).startswith("kl_with_off_mode"):
        return -math.log(min(mass, (1 - mass) / protocol.get("modes", 1)))
    return math.inf


def _interpolate(clock: list[tuple[float, float]], at: float) -> float:
    """Seconds at a look, which are logged at the rows around it (both ascending in images); as fast on after the last."""
    before = max((c for c in clock if c[0] <= at), default=clock[0])
    after = min((c for c in clock if c[0] >= at), default=None)
    if after is None:
        return before[1] * at / before[0] if before[0] else math.nan
    if after[0] == before[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (at - before[0]) / (after[0] - before[0])
