"""The pictures of a ranking with what they show in words: every seed, learning curves, samples."""

from __future__ import annotations

from ganlab.report import pictures
from ganlab.report.page import Picture
from ganlab.report.pictures import MOST, MOST_PANELS, MOST_SEEDS
from ganlab.report.ranking import Ranking
from ganlab.report.runs import Run
from ganlab.report.settings import Setting
from ganlab.report.texts import number, ranges


def _drawn(ranking: Ranking) -> list[str]:
    """The metrics that are drawn: the ranking's (what the runs aimed at, if that is a rate) and the number of modes."""
    first = ranking.metric if ranking.metric in ranking.metrics else ranking.objective
    return [name for name in dict.fromkeys((first, ranking.modes_metric)) if name]


def _best(most: int, settings: list[Setting]) -> str:
    return f" The best {most} of {len(settings)} settings." if len(settings) > most else ""


def seeds(ranking: Ranking, stem: str) -> list[Picture]:
    found = []
    for metric in _drawn(ranking):
        if png := pictures.every_seed(ranking, metric):
            caption = f"{metric} at the end: a dot per seed, below them the mean and its 95 % interval."
            found.append(Picture(f"{stem}_{metric}_seeds.png", png, caption + _best(MOST_SEEDS, ranking.ranked)))
    return found


def curves(ranking: Ranking, stem: str) -> list[Picture]:
    found = []
    for metric in _drawn(ranking):
        for against, words in (("images", "real images seen"), ("seconds", "wall time")):
            if png := pictures.curve(ranking, metric, against):
                caption = f"{metric} against {words}: median over seeds, band from quartile to quartile."
                found.append(Picture(f"{stem}_{metric}_{against}.png", png, caption + _best(MOST, ranking.settings)))
    return found


def samples(ranking: Ranking, stem: str) -> list[Picture]:
    """The same seed of every setting, so that nobody chooses a pretty one: the smallest that all have."""
    shown = ranking.settings[:MOST]
    shared = set.intersection(*({seed.seed for seed in setting.seeds} for setting in shown))
    found = []
    for place, setting in enumerate(shown, 1):
        seed = min(shared or {seed.seed for seed in setting.seeds})
        run = next(run for run in setting.runs if any(other.seed == seed for other in run.seeds))
        png = pictures.samples(run)
        if png is None:
            continue
        whose = f"{setting.name}, {_pictured(ranking, run) if run.is_ensemble else f'seed {seed}'}"
        values = ranking.values(setting, ranking.metric) if ranking.metric in ranking.metrics else {}
        scored = f": {ranking.metric} {number(values[seed])}" if seed in values and not run.is_ensemble else ""
        found.append(Picture(f"{stem}_samples_{place}.png", png, whose + scored))
        if ranking.is_toy and (gif := pictures.training_gif(run)):
            found.append(Picture(f"{stem}_training_{place}.gif", gif, f"{whose}, while it trained"))
    return found


def _pictured(ranking: Ranking, run: Run) -> str:
    """Which seeds of an ensemble its picture shows."""
    grids = (run.config.get("callbacks") or {}).get("sample_grid") or {}
    most = MOST_PANELS if ranking.is_toy else grids.get("rows", 8)
    shown = run.pictured[:most]
    of = f" of {len(run.seeds)}" if len(shown) < len(run.seeds) else ""
    return f"seed{'s' * (len(shown) != 1)} {ranges(shown)}{of}"


def samples_note(ranking: Ranking) -> str:
    averaged = "averaged " * (ranking.settings[0].card["EMA of the generator"] not in ("0", "0.0"))
    note = f"The same latents for every setting, of the {averaged}generator; the smallest seed that all have, not a chosen one."
    if ranking.is_toy and not ranking.has_ensembles:
        note += " Red: 2,500 samples at the end; gray: the true density, widened until it can be seen."
    if ranking.has_ensembles:
        order = "row by row" if ranking.is_toy else "from top to bottom"
        note += f" Of an ensemble the first seeds that did not fail, {order}."
    return note
