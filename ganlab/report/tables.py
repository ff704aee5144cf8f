"""The tables of a report, free of any format: each cell is a text, with its interval or remark as a second one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from ganlab.report.names import loss
from ganlab.report.ranking import FEWEST_PAIRS, RATES, Ranking
from ganlab.report.runs import PREFIX
from ganlab.report.settings import Setting
from ganlab.report.texts import interval, number, percent, span
from ganlab.utils.statistics import Estimate


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[str | tuple[str, str]]]
    notes: list[str] = field(default_factory=list)


def leaderboard(ranking: Ranking) -> Table:
    metrics = sorted(ranking.metrics, key=lambda name: name != ranking.metric)
    mean = "mean " if any(len(setting.seeds) > 1 for setting in ranking.settings) else ""
    header = ["#", "setting", "seeds"]
    columns: list[Callable[[Setting], str | tuple[str, str]]] = []
    for rate in ranking.choices():
        if rate in RATES:
            header.append({"success": f"success (all {ranking.modes})", "failure": "failure"}[rate])
            columns.append(lambda setting, rate=rate: percent(ranking.estimate(setting, rate)))
    for name in metrics:
        header.append(mean + name + (" ▾" if name == ranking.metric else ""))
        columns.append(lambda setting, name=name: ranking.mean(setting, name))
    if any(run.summary.get("verdicts") for setting in ranking.settings for run in setting.runs):
        header.append("verdict at the end")
    rows = [
        [str(place), setting.name, seeds_cell(setting), *(column(setting) for column in columns)]
        for place, setting in enumerate(ranking.ranked, 1)
    ]
    for setting in ranking.settings:
        if not ranking.is_over(setting):
            latest = [latest_cell(setting, name) for name in metrics]
            empty = [""] * (len(columns) - len(metrics))
            rows.append(["–", setting.name, seeds_cell(setting), *empty, *latest])
    floor = next((run.summary["real"] for s in ranking.settings for run in s.runs if run.summary.get("real")), {})
    if floor:
        cells = ["" if floor.get(PREFIX + n) is None else number(floor[PREFIX + n]) for n in metrics]
        rates = [""] * (len(columns) - len(metrics))
        rows.append(["", "a perfect sampler" if ranking.modes else "real data", "", *rates, *cells])
    settings = {setting.name: setting for setting in ranking.settings}
    if len(header) > 3 + len(columns):
        rows = [[*row, verdict_cell(settings[row[1]]) if row[1] in settings else ""] for row in rows]
    return Table("Leaderboard", header, rows, _leaderboard_notes(ranking))


def _leaderboard_notes(ranking: Ranking) -> list[str]:
    settings, notes = ranking.ranked, []
    if ranking.metric and settings:
        way = "lower" if ranking.lower_is_better(ranking.metric) else "higher"
        notes.append(f"Sorted by {ranking.metric}, {way} is better. The values at the end of training.")
    if any(len(setting.seeds) > 1 for setting in settings):
        notes.append(
            "Intervals are 95 %: of rates Wilson's, of means the percentile bootstrap's (10,000 resamples of the seeds)."
        )
    if any(1 < len(setting.seeds) < 10 for setting in settings):
        notes.append("With fewer than about 10 seeds a bootstrap interval is too narrow: read it as a lower bound.")
    if any(len(setting.seeds) == 1 for setting in settings):
        notes.append("A setting with one seed has no interval, and proves nothing against another.")
    failure = "ended with no mode, or did not end" if ranking.has_success else "did not end well"
    rate = f"Success: all {ranking.modes} modes captured. " if ranking.has_success else ""
    notes.append(
        f"{rate}Failure: a run that {failure}. Such a run stays in every number with the worst value there is "
        "(0 modes, an infinite distance)."
    )
    if unfinished := sum(s.status == "unfinished" for setting in settings for s in setting.seeds):
        notes.append(f"Seeds without a result (killed, or still under way) count as failures: {unfinished}.")
    if early := [run for setting in settings for run in setting.runs if run.ended_early]:
        count = sum(len(run.ended_early) for run in early)
        causes = Counter(run.summary.get("ended_by") for run in early for _ in run.ended_early)
        why = ", ".join(f"{n} by {cause}" for cause, n in causes.items() if cause)
        why = f" ({why})" if why else ""
        notes.append(
            f"{count} seed{'s' * (count != 1)} ended early, short of max_images{why}: the values are those of that moment."
        )
    if len(settings) < len(ranking.settings):
        notes.append("Settings without a rank (–) are not over: none of their seeds has finished. Latest look shown.")
    if replaced := sum(setting.replaced for setting in ranking.settings):
        notes.append(
            f"Left out: {replaced} run{'s' * (replaced != 1)} of a config and seed that were run more than once. Of each seed the "
            "newest run counts, one that is over before one that is not."
        )
    return notes


def published(ranking: Ranking) -> Table | None:
    """What is here beside what the experiment's file says that a paper found.

    In the config: `published: {source: "Who and when, how many seeds", NAME: {METRIC: VALUE}}`. NAME is a loss, and where
    that is not enough what else the paper's setting has, each as the end of a key of the config: "ns pack=2 n_critic=5",
    or data=CLASS. METRIC is with or without its N, rates are shares of 1. A figure stands beside a setting that is the paper's
    in all but its length: one in which nothing else was overridden.
    """
    configs = [run.config.get("published") for setting in ranking.settings for run in setting.runs]
    claims = dict(next((config for config in configs if isinstance(config, dict)), {}))
    source = claims.pop("source", "the experiment's file, which names no source")
    rows, met = [], set()
    for setting in ranking.ranked:
        for name in (name for name in claims if is_claimed(setting, name)):
            met.add(name)
            for wanted, value in claims[name].items():
                metric = ranking.resolved(wanted)
                found = ranking.estimate(setting, metric) if metric else None
                if found is None:
                    continue
                rate = metric in RATES
                inside = "–" if found.low is None else "yes" if found.low <= value <= found.high else "no"
                here = percent(found) if rate else ranking.mean(setting, metric)
                theirs = percent(Estimate(value)) if rate else number(value)
                rows.append([setting.name, metric, seeds_cell(setting), here, theirs, inside])
    if not rows:
        return None
    header = ["setting", "metric", "seeds", "here: rate or mean (95 %)", "published", "inside the interval"]
    notes = [f"Published: {source}. Here: the protocol below."]
    if others := [name for name in claims if name not in met]:
        notes.append(f"The source also has {', '.join(others)}, of which no result is here.")
    return Table("Against the published figures", header, rows, notes)


# What a person may type without leaving the published setting: how long, how often, where and how it is looked at.
LENGTH = {"experiment", "loss", "max_images", "eval_every", "seed", "seeds", "seeds_at_once", "data_dir", "run_dir", "name"}
LOOKS = ("trainer", "logger", "monitor", "callbacks", "metrics", "hydra", "published")


def is_claimed(setting: Setting, name: str) -> bool:
    """Whether the setting is what `published` calls by this name."""
    words = name.split()
    conditions = dict(word.split("=", 1) for word in words if "=" in word)
    if loss(setting) not in words:
        return False
    for key, value in conditions.items():
        ends = [have for full, have in setting.flat.items() if f".{full}".endswith(f".{key}")]
        if key == "data":
            ends = [setting.flat.get("data._target_", "").rpartition(".")[2]]
        if not any(alike(value, end) for end in ends):
            return False
    typed = (
        key for key in setting.runs[0].overrides if key not in LENGTH and key.partition(".")[0].partition("/")[0] not in LOOKS
    )
    return all(any(f".{key}".endswith(f".{named}") for named in conditions) for key in typed)


def alike(one: str, other: str) -> bool:
    """The same value: 1 is 1.0."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def differences(ranking: Ranking) -> Table | None:
    """The leader against each other setting, seed by seed."""
    if ranking.metric is None or len(ranking.ranked) < 2:
        return None
    leader, *others = ranking.ranked
    header = [f"{leader.name} against", "seeds in common", f"mean difference of {ranking.metric}", "better in"]
    if ranking.has_success and ranking.metric not in RATES:
        header.append("mean difference of success")
    rows = []
    for other in others:
        found = ranking.paired(leader, other, ranking.metric)
        if found is None:
            rows.append([other.name, "0", "–", "–", *["–"] * (len(header) - 4)])
            continue
        lower = ranking.lower_is_better(ranking.metric)
        better = found.smaller if lower else found.pairs - found.smaller - found.equal
        ties = f"{found.equal} equal" if found.equal else ""
        row = [other.name, str(found.pairs), interval(found.mean, sign=True), (f"{better} of {found.pairs}", ties)]
        if len(header) > 4:
            row.append(percent(ranking.paired(leader, other, "success").mean, sign=True, unit="points"))
        rows.append(row)
    note = (
        f"Leader minus other, over the seeds that both have, with a 95 % bootstrap interval. If it holds 0, or with "
        f"fewer than {FEWEST_PAIRS} seeds in common, these runs do not tell the two apart. The leader was chosen by the "
        "same numbers, and of twenty comparisons one looks real by chance."
    )
    notes = [note]
    if len({setting.single for setting in ranking.ranked}) > 1:
        notes.append("A single run and an ensemble's copy of the same seed see other batches and latents: they are no pair.")
    return Table("Paired differences", header, rows, notes)


def seeds_cell(setting: Setting) -> str | tuple[str, str]:
    states = [seed.status for seed in setting.seeds]
    bad = [f"{states.count(state)} {state}" for state in ("failed", "unfinished") if state in states]
    if early := [seed.ended for run in setting.runs for seed in run.ended_early]:
        bad.append(f"{len(early)} ended early at {span(early)} images")
    return (str(len(states)), ", ".join(bad)) if bad else str(len(states))


def latest_cell(setting: Setting, name: str) -> str | tuple[str, str]:
    found = [(seed.quality[PREFIX + name][-1], seed.images[-1]) for seed in setting.seeds if seed.quality.get(PREFIX + name)]
    if not found:
        return "–"
    many = f"median of {len(found)}, " if len(found) > 1 else ""
    return number(median(value for value, _ in found)), f"{many}at {max(at for _, at in found):,.0f} images"


def verdict_cell(setting: Setting) -> str:
    """What the monitor said last, with how many of the seeds it said it of; an ensemble names them."""
    said, seeds = Counter(), 0
    for run in setting.runs:
        if verdicts := run.summary.get("verdicts"):
            whose = verdicts.get("seeds") or {}
            said.update({name: len(whose.get(name, [None])) for name in verdicts["current"]})
            seeds += len(run.seeds)
    return ", ".join(name if seeds == 1 else f"{name} {count} of {seeds}" for name, count in said.most_common()) or "–"
