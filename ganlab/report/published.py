"""Compare results with the figures that a paper published, as an experiment's file quotes them.

In the config: `published: {source: "Who and when, how many seeds", NAME: {METRIC: VALUE}}`. NAME is a loss, and where that is
not enough what else the paper's setting has, each as the end of a config key: "ns pack=2 n_critic=5", or data=CLASS. METRIC
is with or without its N; rates are in [0, 1].
"""

import re

from ganlab.report.formatting import Cell, format_number, format_rate
from ganlab.report.naming import loss_name
from ganlab.report.ranking import RATES, Ranking
from ganlab.report.rendering import render_notes
from ganlab.report.runs import RunGroup
from ganlab.report.tables import Table, seeds_cell
from ganlab.utils.statistics import Estimate

# Overrides that leave a run in the published setting: how long it trains, how often, where and how it is evaluated.
FREE_KEYS = {"experiment", "loss", "max_images", "eval_every", "seed", "seeds", "threads", "data_dir", "run_dir", "name"}
FREE_GROUPS = ("trainer", "logger", "monitor", "callbacks", "metrics", "hydra", "published")


def published_table(ranking: Ranking) -> Table | None:
    """Results beside published figures; None if the config has no figure for any group."""
    configs = [run.config.get("published") for group in ranking.groups for run in group.runs]
    figures = dict(next((config for config in configs if isinstance(config, dict)), {}))
    source = figures.pop("source", "the experiment's file, which names no source")
    rows: list[list[Cell]] = []
    matched = set()
    for group in ranking.ranked:
        for name in (name for name in figures if is_published_setting(group, name)):
            matched.add(name)
            for wanted, value in figures[name].items():
                metric = ranking.full_name(wanted)
                if metric is None or (estimate := ranking.estimate(group, metric)) is None:
                    continue
                inside = "–" if estimate.low is None else "yes" if estimate.low <= value <= estimate.high else "no"
                theirs = format_rate(Estimate(value)) if metric in RATES else format_number(value)
                rows.append([group.name, metric, seeds_cell(group), ranking.cell(group, metric), theirs, inside])
    if not rows:
        return None
    header = ["setting", "metric", "seeds", "here: rate or mean (95 %)", "published", "inside the interval"]
    notes = render_notes("published", source=source, others=[name for name in figures if name not in matched])
    return Table("Against the published figures", header, rows, notes)


def is_published_setting(group: RunGroup, name: str) -> bool:
    """Whether a group is the setting that `published` calls by this name, and nothing else of it was overridden."""
    words = name.split()
    conditions = dict(word.split("=", 1) for word in words if "=" in word)
    if loss_name(group) not in words:
        return False
    for key, wanted in conditions.items():
        values = [value for full_key, value in group.settings.items() if f".{full_key}".endswith(f".{key}")]
        if key == "data":
            values = [group.settings.get("data._target_", "").rpartition(".")[2]]
        if not any(_equal(wanted, value) for value in values):
            return False
    overrides = group.runs[0].overrides
    bound = [key for key in overrides if key not in FREE_KEYS and re.split("[./]", key)[0] not in FREE_GROUPS]
    return all(any(f".{key}".endswith(f".{condition}") for condition in conditions) for key in bound)


def _equal(one: str, other: str) -> bool:
    """1 equals 1.0."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other
