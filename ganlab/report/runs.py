"""Read the results of runs. A run that crashed, or is not over, is read as far as its files go."""

import csv
import io
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from ganlab.runs.run_dir import RunDir, find_run_dirs

PREFIX = "quality/"  # of a metric's name in a run's files; the report leaves it out


@dataclass
class SeedResult:
    """One seed of a run.

    `images`, `seconds` and the lists in `history` have one entry per evaluation (nan: no value); `final` is what the run ended
    with (a single run's summary.json; nan: not finite), empty if it did not finish.
    """

    seed: int
    status: str
    """finished, failed, or unfinished (still training, or killed)"""
    images: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    images_seen: float | None = None
    """Real images at the end of training; None if it did not finish, or this is not known."""

    def score(self, metric: str, metric_protocol: dict | None = None) -> float:
        """The final value; the worst value if the seed did not finish, or the value is not finite."""
        value = self.final.get(metric, math.nan)
        return worst_value(metric, metric_protocol) if math.isnan(value) else value


@dataclass
class Run:
    """A run: its config ({} if it cannot be read), overrides, summary ({} if there is none) and seeds."""

    dir: RunDir
    config: dict
    overrides: dict[str, str]
    presets: dict[str, str]
    """The presets that Hydra chose, such as {"loss": "ns"}."""
    summary: dict
    seeds: list[SeedResult]
    images: float
    """Real images seen, as far as the files tell."""
    is_ensemble: bool
    """Whether it trained as an ensemble, even of one: its members draw other batches and latents than single runs do."""
    started: float
    """When config.yaml was written, in seconds since the epoch."""
    members: int = 1
    """Seeds trained at once."""
    pictured_seeds: list[int] = field(default_factory=list)
    """The seeds in the order of its sample grid: those that did not fail."""

    @property
    def name(self) -> str:
        return self.dir.path.name

    @property
    def status(self) -> str:
        return self.summary.get("status", "unfinished")

    @property
    def ended_early(self) -> list[SeedResult]:
        """The seeds that finished short of max_images. (The budget ends with a whole batch, at or above max_images.)"""
        budget = self.config.get("max_images")
        return [s for s in self.seeds if isinstance(budget, int) and s.images_seen is not None and s.images_seen < budget]


@dataclass
class RunGroup:
    """Runs of one setting: the same configuration but for seeds, trained and measured alike. `name`: unique in its ranking."""

    runs: list[Run]
    name: str = ""
    replaced: int = 0
    """Runs left out because newer ones have the same configuration and seeds."""
    settings: dict[str, str] = field(default_factory=dict)
    """The config keys that training and measuring depend on, as {"gan.n_critic": "5", …}."""
    all_settings: dict[str, str] = field(default_factory=dict)
    """`settings`, and the presets that they are interpolated from, under the keys that a user types."""
    protocol: dict[str, str] = field(default_factory=dict)
    """What has to be equal before two results are comparable (groups.protocol_of)."""

    @property
    def seeds(self) -> list[SeedResult]:
        return sorted((seed for run in self.runs for seed in run.seeds), key=lambda seed: seed.seed)

    @property
    def is_ensemble(self) -> bool:
        return self.runs[0].is_ensemble

    @property
    def is_over(self) -> bool:
        """Whether it can be ranked: a seed finished, or all failed."""
        states = {seed.status for seed in self.seeds}
        return "finished" in states or states == {"failed"}

    def values(self, metric: str, metric_protocol: dict) -> dict[int, float]:
        """seed -> final value; a seed that did not finish scores the worst value. {} if those that finished lack the metric."""
        finished = [seed for seed in self.seeds if seed.status == "finished"]
        if finished and not any(metric in seed.final for seed in finished):
            return {}
        return {seed.seed: seed.score(metric, metric_protocol) for seed in self.seeds}

    @property
    def metric_protocol(self) -> dict:
        """What the metric wrote down of itself; {} if no run has a result."""
        return next((run.summary["protocol"] for run in self.runs if run.summary.get("protocol")), {})


def rank_key(group: RunGroup, values: Collection[float], metric: str | None) -> tuple:
    """The key that sorts groups by their seeds' values of a metric, the best first; those that are not over come last.

    An infinite mean ranks by how many values are infinite, then by the mean of the others.
    """
    finite = [value for value in values if math.isfinite(value)]
    if metric is None or not values:
        return not group.is_over, 1.0, math.inf
    mean = fmean(finite) if finite else math.inf
    return not group.is_over, 1 - len(finite) / len(values), -mean if higher_is_better(metric) else mean


def find_runs(paths: list[Path]) -> list[Run]:
    """Read every run at or below the paths, each once.

    Raises:
        ValueError: a path is no directory, or no run is below any of them.
    """
    run_dirs: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"report reads run directories, and {path} is {'a file' if path.exists() else 'not there'}")
        run_dirs |= dict.fromkeys(run_dir.path for run_dir in find_run_dirs(path.resolve()))
    if not run_dirs:
        places = ", ".join(map(str, paths))
        raise ValueError(f"there is no run in {places}: give the directory of a run, of a sweep, or of several (outputs)")
    return [read_run(RunDir(path)) for path in run_dirs]


def read_run(run_dir: RunDir) -> Run:
    """Read the run in a directory, whatever is missing or damaged there."""
    command, summary, rows = run_dir.read_command(), run_dir.read_summary(), read_table(run_dir.seeds_file)
    try:
        config = run_dir.read_config()
    except ValueError:
        config = {}
    status = summary.get("status", "unfinished")
    is_ensemble = bool(rows or isinstance(config.get("seeds"), int) or summary.get("seeds"))
    if is_ensemble:
        seeds = _read_members(rows, config, summary, status)
        images = max((seed.images[-1] for seed in seeds if seed.images), default=0.0)
    else:
        seed, images = _read_single(run_dir, config, summary, status)
        seeds = [seed]
    return Run(
        dir=run_dir,
        config=config,
        overrides=dict(word.lstrip("+").split("=", 1) for word in command.overrides if "=" in word),
        presets=command.presets,
        summary=summary,
        seeds=seeds,
        images=images,
        is_ensemble=is_ensemble,
        started=run_dir.config_file.stat().st_mtime if run_dir.is_run else 0.0,
        members=len(seeds),
        pictured_seeds=[seed.seed for seed in seeds if seed.status != "failed"],
    )


def read_table(path: Path) -> list[dict]:
    """The rows of a CSV file; [] if there is none. The half line that a kill may have left at the end is dropped."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    whole_lines = text[: text.rfind("\n") + 1].replace("\0", "")
    return list(csv.DictReader(io.StringIO(whole_lines)))


def _read_single(run_dir: RunDir, config: dict, summary: dict, status: str) -> tuple[SeedResult, float]:
    """The result of a single run, and the real images that it has seen."""
    seed = SeedResult(summary.get("seed", config.get("seed", 0)), status)
    clock = [(0.0, 0.0)]  # (images, seconds) of the rows that have a time
    images = 0.0
    rows = read_table(run_dir.metrics_file)
    names = [name for name in rows[0] if _is_metric(name)] if rows else []
    for row in rows:
        images = max(images, _to_float(row.get("images_seen")))
        if row.get("seconds"):
            clock.append((images, _to_float(row["seconds"])))
        if any(row[name] for name in names):
            _append(seed, images, math.nan, row)
    seed.seconds = [_interpolate(clock, at) for at in seed.images]
    images_seen = (summary.get("counters") or {}).get("images_seen")
    if status == "finished":
        values = summary.get("quality") or {}
        seed.final = {name.removeprefix(PREFIX): _to_float(value) for name, value in values.items()}
        seed.images_seen = images_seen
    return seed, max(images, images_seen or 0)


def _read_members(rows: list[dict], config: dict, summary: dict, status: str) -> list[SeedResult]:
    first = config.get("seed", 1)
    numbers = summary.get("seeds") or range(first, first + (config.get("seeds") or 1))
    seeds = {number: SeedResult(number, status) for number in numbers}
    for row in rows:
        try:
            number = int(row["seed"])
        except (TypeError, ValueError, KeyError):  # half a line
            continue
        seed = seeds.setdefault(number, SeedResult(number, status))
        images = _to_float(row["images_seen"])
        if row.get("status") in ("finished", "failed"):
            seed.status = row["status"]
        if row.get("status") == "finished":
            seed.images_seen = images
        _append(seed, images, _to_float(row.get("seconds")), row)
    for seed in seeds.values():
        if seed.status == "finished" and seed.history:
            seed.final = {name: values[-1] for name, values in seed.history.items()}
    return sorted(seeds.values(), key=lambda seed: seed.seed)


def _append(seed: SeedResult, images: float, seconds: float, row: dict[str, str]) -> None:
    """Add an evaluation; every evaluation of a table has the same metrics."""
    seed.images.append(images)
    seed.seconds.append(seconds)
    for name in filter(_is_metric, row):
        seed.history.setdefault(name.removeprefix(PREFIX), []).append(_to_float(row[name]))


def _is_metric(name: str | None) -> bool:
    return name is not None and name.startswith(PREFIX) and not name.endswith(("_real", "_q1", "_q3"))


def _to_float(text) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _interpolate(clock: list[tuple[float, float]], at: float) -> float:
    """Seconds at `at` images, from (images, seconds) in ascending order; after the last of them, at the same speed."""
    images, seconds = zip(*clock)
    if at > images[-1]:
        return seconds[-1] * at / images[-1] if images[-1] else math.nan
    return float(np.interp(at, images, seconds))


HIGHER_IS_BETTER = ("modes", "high_quality", "classes", "label_agreement", "precision", "recall", "density", "coverage",
                    "accuracy", "vendi", "cas", "success")  # fmt: skip


def higher_is_better(metric: str) -> bool:
    """By the beginning of its name; an unknown metric is taken for a distance."""
    return metric.removeprefix(PREFIX).startswith(HIGHER_IS_BETTER)


def worst_value(metric: str, protocol: dict | None = None) -> float:
    """What a failed run scores: no mode, no agreement, an infinite distance; of a bounded distance its bound.

    `kl_with_off_mode` is at most -log of the smallest bin's mass: all samples off the modes or, with 90 modes and more, in one.
    """
    if higher_is_better(metric):
        return 0.0
    if metric.removeprefix(PREFIX).startswith("kl_with_off_mode") and protocol and protocol.get("off_mode_mass"):
        mass = protocol["off_mode_mass"]
        return -math.log(min(mass, (1 - mass) / protocol.get("modes", 1)))
    return math.inf
