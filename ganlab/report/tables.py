"""The tables of a report, free of any format: each cell is a text, with its interval or remark as a second one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, median

from ganlab.report.runs import PREFIX, Run, Seed, higher_is_better, worst
from ganlab.report.settings import Setting
from ganlab.report.statistics import Estimate, bootstrap_mean, first_reaching, paired_difference, wilson
from ganlab.report.texts import duration, interval, number, percent, plain, ranges, short_value, spread

RATES = ("success", "failure")
TOYS = ("Ring", "Grid")
MOST_ROWS = 50  # of runs in trouble
FEWEST_PAIRS = 6  # five that all point one way still do so by chance in 1 of 16 cases (sign test, two-sided)


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[str | tuple[str, str]]]
    notes: list[str] = field(default_factory=list)


class Ranking:
    """The settings of one protocol card, best first by `metric` (without "quality/"; or success, failure; or None)."""

    def __init__(self, settings: list[Setting], wanted: str | None = None):
        names = dict.fromkeys(n for s in settings for seed in s.seeds for n in (*seed.final, *seed.quality))
        self.metrics = [name.removeprefix(PREFIX) for name in names]
        self.protocol = next((s.protocol for s in settings if s.protocol), {})
        self.modes = self.protocol.get("modes")
        self.modes_metric = next((name for name in self.metrics if name.startswith("modes_")), None)
        self._estimates: dict[tuple[int, str], Estimate | None] = {}
        self.objective = self._objective(settings)
        self.metric = self.resolved(wanted) or self.objective
        self.settings = sorted(settings, key=lambda setting: (self._rank(setting), setting.name))

    @property
    def has_success(self) -> bool:
        return bool(self.modes and self.modes_metric)

    @property
    def is_toy(self) -> bool:
        return self.settings[0].card["data"] in TOYS

    @property
    def has_ensembles(self) -> bool:
        return any(run.together > 1 for setting in self.settings for run in setting.runs)

    def choices(self) -> list[str]:
        return [*self.metrics, *(RATES if self.has_success else RATES[1:])]

    def resolved(self, wanted: str | None) -> str | None:
        """A metric's full name from what a person wrote: with or without "quality/" and N; None if there is no such."""
        wanted = (wanted or "").removeprefix(PREFIX)
        if wanted in self.choices():
            return wanted
        return next((name for name in self.metrics if name.rpartition("_")[0] == wanted), None)

    def _objective(self, settings: list[Setting]) -> str | None:
        """What the runs themselves aimed at."""
        objectives = [
            run.summary["objective"]["name"] for s in settings for run in s.runs if run.summary.get("objective")
        ]
        return next((name.removeprefix(PREFIX) for name in objectives), self.metrics[-1] if self.metrics else None)

    # Values ------------------------------------------------------------------------------------------------------

    @staticmethod
    def is_over(setting: Setting) -> bool:
        """Whether the setting can be ranked: a seed finished, or all failed. Else its seeds are still under way."""
        states = {seed.status for seed in setting.seeds}
        return "finished" in states or states == {"failed"}

    def values(self, setting: Setting, metric: str) -> dict[int, float]:
        """seed -> value; a seed that did not finish scores the worst that there is. Empty: the setting lacks the metric."""
        seeds, name = setting.seeds, PREFIX + metric
        if metric in RATES:
            return {seed.seed: float(self._outcome(seed) == metric) for seed in seeds}
        finished = [seed for seed in seeds if seed.status == "finished"]
        if finished and not any(name in seed.final for seed in finished):
            return {}
        bad = worst(metric, self.protocol)
        found = {seed.seed: seed.final.get(name, bad) for seed in seeds}
        return {seed: bad if math.isnan(value) else value for seed, value in found.items()}

    def _outcome(self, seed: Seed) -> str:
        if seed.status != "finished":
            return "failure"
        if not self.has_success:
            return "neither"
        modes = seed.final.get(PREFIX + self.modes_metric, 0)
        return "success" if modes >= self.modes else "failure" if modes == 0 else "neither"

    def estimate(self, setting: Setting, metric: str) -> Estimate | None:
        """A rate with Wilson's interval, a mean with the bootstrap's; None if the setting lacks the metric."""
        key = (id(setting), metric)
        if key not in self._estimates:
            values = list(self.values(setting, metric).values())
            rate = metric in RATES
            found = (wilson(int(sum(values)), len(values)) if rate else bootstrap_mean(values)) if values else None
            self._estimates[key] = found
        return self._estimates[key]

    @staticmethod
    def lower_is_better(metric: str) -> bool:
        return not higher_is_better(metric)

    def _rank(self, setting: Setting) -> tuple:
        """Settings not over come last. An infinite mean ranks by how many are infinite, then by the rest's mean."""
        values = list(self.values(setting, self.metric).values()) if self.metric else []
        if not values:
            return not self.is_over(setting), 1.0, math.inf
        finite = [value for value in values if math.isfinite(value)]
        mean = fmean(finite) if finite else math.inf
        return (
            not self.is_over(setting),
            (len(values) - len(finite)) / len(values),
            mean if self.lower_is_better(self.metric) else -mean,
        )

    @cached_property
    def ranked(self) -> list[Setting]:
        return [setting for setting in self.settings if self.is_over(setting)]

    # Tables ------------------------------------------------------------------------------------------------------

    def leaderboard(self) -> Table:
        metrics = sorted(self.metrics, key=lambda name: name != self.metric)
        header = ["#", "setting", "seeds"]
        columns: list[Callable[[Setting], str | tuple[str, str]]] = []
        for rate in self.choices():
            if rate in RATES:
                header.append({"success": f"success (all {self.modes})", "failure": "failure"}[rate])
                columns.append(lambda setting, rate=rate: percent(self.estimate(setting, rate)))
        for name in metrics:
            header.append(name + (" ▾" if name == self.metric else ""))
            columns.append(lambda setting, name=name: self._mean(setting, name))
        rows = [
            [str(place), setting.name, seeds_cell(setting), *(column(setting) for column in columns)]
            for place, setting in enumerate(self.ranked, 1)
        ]
        for setting in self.settings:
            if not self.is_over(setting):
                latest = [latest_cell(setting, name) for name in metrics]
                empty = [""] * (len(columns) - len(metrics))
                rows.append(["–", setting.name, seeds_cell(setting), *empty, *latest])
        floor = next((run.summary["floor"] for s in self.settings for run in s.runs if run.summary.get("floor")), {})
        if floor:
            cells = ["" if floor.get(PREFIX + n) is None else number(floor[PREFIX + n]) for n in metrics]
            rates = [""] * (len(columns) - len(metrics))
            rows.append(["", "a perfect sampler" if self.modes else "real data", "", *rates, *cells])
        return Table("Leaderboard", header, rows, self._leaderboard_notes())

    def _mean(self, setting: Setting, name: str) -> str | tuple[str, str]:
        found = self.estimate(setting, name)
        if found is None or math.isfinite(found.value):
            return "–" if found is None else interval(found)
        values = list(self.values(setting, name).values())
        infinite = sum(math.isinf(value) for value in values)
        return "∞", f"∞ in {infinite} of {len(values)}; median {number(median(values))}" if len(values) > 1 else ""

    def _leaderboard_notes(self) -> list[str]:
        settings, notes = self.ranked, []
        if self.metric and settings:
            way = "lower" if self.lower_is_better(self.metric) else "higher"
            notes.append(f"Sorted by {self.metric}, {way} is better. Means over seeds at the end of training.")
        if any(len(setting.seeds) > 1 for setting in settings):
            notes.append(
                "Intervals are 95 %: of rates Wilson's, of means the percentile bootstrap's (10,000 resamples of the seeds)."
            )
        if any(1 < len(setting.seeds) < 10 for setting in settings):
            notes.append("With fewer than about 10 seeds a bootstrap interval is too narrow: read it as a lower bound.")
        if any(len(setting.seeds) == 1 for setting in settings):
            notes.append("A setting with one seed has no interval, and proves nothing against another.")
        failure = "ended with no mode, or did not end" if self.has_success else "did not end well"
        rate = f"Success: all {self.modes} modes captured. " if self.has_success else ""
        notes.append(
            f"{rate}Failure: a run that {failure}. Such a run stays in every number with the worst value there is "
            "(0 modes, an infinite distance)."
        )
        if unfinished := sum(s.status == "unfinished" for setting in settings for s in setting.seeds):
            notes.append(f"{unfinished} seeds left no result (killed, or still under way) and count as failures.")
        if len(settings) < len(self.settings):
            notes.append(
                "Settings without a rank (–) are not over: none of their seeds has finished. Latest look shown."
            )
        if replaced := sum(setting.replaced for setting in self.settings):
            notes.append(f"{replaced} older runs of a config and seed that were run again are left out.")
        return notes

    def published(self) -> Table | None:
        """What is here beside what the experiment's file says that a paper found.

        In the config: `published: {source: "Who and when, how many seeds", NAME: {METRIC: VALUE}}`, NAME a setting as it
        is called here or its loss, METRIC with or without its N, rates as shares of 1.
        """
        configs = [run.config.get("published") for setting in self.settings for run in setting.runs]
        claims: dict = next((config for config in configs if isinstance(config, dict)), {})
        rows = []
        for setting in self.ranked:
            loss = setting.name.partition(" ")[0]
            alone = sum(other.name.partition(" ")[0] == loss for other in self.settings) == 1
            claimed = claims.get(setting.name) or (claims.get(loss) if alone else None) or {}
            for name, value in claimed.items():
                metric = self.resolved(name)
                found = self.estimate(setting, metric) if metric else None
                if found is None:
                    continue
                rate = metric in RATES
                inside = "–" if found.low is None else "yes" if found.low <= value <= found.high else "no"
                here = percent(found) if rate else self._mean(setting, metric)
                theirs = percent(Estimate(value)) if rate else number(value)
                rows.append([setting.name, metric, seeds_cell(setting), here, theirs, inside])
        if not rows:
            return None
        header = ["setting", "metric", "seeds", "here", "published", "within the interval"]
        source = claims.get("source", "the experiment's file, which names no source")
        return Table("Against the published figures", header, rows, [f"Published: {source}. Here: the protocol below."])

    def differences(self) -> Table | None:
        """The leader against each other setting, seed by seed."""
        if self.metric is None or len(self.ranked) < 2:
            return None
        leader, *others = self.ranked
        header = [f"{leader.name} against", "seeds in common", f"difference of {self.metric}", "better in"]
        if self.has_success and self.metric not in RATES:
            header.append("difference of success")
        rows = []
        for other in others:
            pair = [self.values(setting, self.metric) for setting in (leader, other)]
            found = paired_difference(*pair)
            if found is None:
                rows.append([other.name, "0", "–", "–", *["–"] * (len(header) - 4)])
                continue
            lower = self.lower_is_better(self.metric)
            better = found.smaller if lower else found.pairs - found.smaller - found.equal
            ties = f"{found.equal} equal" if found.equal else ""
            row = [other.name, str(found.pairs), interval(found.mean, sign=True), (f"{better} of {found.pairs}", ties)]
            if len(header) > 4:
                rates = paired_difference(*(self.values(setting, "success") for setting in (leader, other)))
                row.append(percent(rates.mean, sign=True, unit="points"))
            rows.append(row)
        note = (
            f"Leader minus other, over the seeds that both have, with a 95 % bootstrap interval. If it holds 0, or with "
            f"fewer than {FEWEST_PAIRS} seeds in common, these runs do not tell the two apart. The leader was chosen by the "
            "same numbers, and of twenty comparisons one looks real by chance."
        )
        return Table("Paired differences", header, rows, [note])

    def coverage(self) -> Table | None:
        """When all modes were first there, over all seeds."""
        if not self.has_success:
            return None
        header = ["setting", "seeds that ever had all modes", "images seen (median)", "wall time (median)"]
        rows = []
        for setting in self.ranked:
            times = [self._first_full(seed) for seed in setting.seeds]
            reached = sum(math.isfinite(images) for images, _ in times)
            rows.append(
                [
                    setting.name,
                    percent(wilson(reached, len(times)), of=(reached, len(times))),
                    spread([images for images, _ in times], lambda x: f"{x:,.0f}"),
                    spread([seconds for _, seconds in times], duration),
                ]
            )
        note = (
            f"All {self.modes} modes in one look of {self.protocol['samples']:,} samples; looks are as far apart as "
            "look_every, so these are upper bounds. Median and quartiles over all seeds; a seed that never had all "
            "counts as never. Modes can be lost again: compare with success above."
        )
        notes = [note]
        if self.has_ensembles:
            notes.append("Wall time of seeds trained at once is that of the whole ensemble.")
        return Table(f"Time to all {self.modes} modes", header, rows, notes)

    def _first_full(self, seed: Seed) -> tuple[float, float]:
        modes = seed.quality.get(PREFIX + self.modes_metric, [])
        return tuple(first_reaching(at[: len(modes)], modes, self.modes) for at in (seed.images, seed.seconds))

    def costs(self) -> Table:
        header = ["setting", "seeds at once", "wall time of a run", "images/s, all seeds", "peak memory", "device"]
        rows: list = []
        devices: set[str] = set()
        for setting in self.settings:
            summaries = [run.summary for run in setting.runs if run.summary.get("seconds")]
            together = sorted({run.together for run in setting.runs})
            here = list(dict.fromkeys(s["device"] for s in summaries if s.get("device")))
            devices |= set(here)
            memory = [s["memory_bytes"] for s in summaries if s.get("memory_bytes")]
            speeds = [  # a run's own number is that of one copy
                run.summary["images_per_second"] * run.together
                for run in setting.runs
                if run.summary.get("images_per_second")
            ]
            rows.append(
                [
                    setting.name,
                    ", ".join(map(str, together)),
                    spread([s["seconds"]["total"] for s in summaries], duration),
                    spread(speeds, lambda x: f"{x:,.0f}"),
                    f"{max(memory) / 2**20:,.0f} MiB" if memory else "–",
                    "; ".join(here) or "–",
                ]
            )
        notes = ["Median and quartiles over the runs that ended; images/s while training, without looks at quality."]
        if len(devices) > 1:
            notes.append("These ran on different devices: their times are not comparable.")
        return Table("Cost", header, rows, notes)

    def troubles(self) -> Table | None:
        """Every seed that did not finish, with its reason; seeds of one setting and reason together."""
        found: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
        budgets: dict[str, str] = {}
        for setting in self.settings:
            for run in setting.runs:
                budget = run.config.get("max_images")
                budgets[setting.name] = f" of {budget:,}" if isinstance(budget, int) else ""
                for seed in run.seeds:
                    if seed.status != "finished":
                        found[setting.name, seed.status, _reason(run)].append((seed.seed, run.images))
        if not found:
            return None
        rows = []
        for (name, state, reason), seeds in list(found.items())[:MOST_ROWS]:
            least, most = min(images for _, images in seeds), max(images for _, images in seeds)
            got = f"{least:,.0f}" + (f" … {most:,.0f}" if most > least else "") + budgets[name]
            rows.append([name, ranges([seed for seed, _ in seeds]), state, got, reason])
        notes = [f"{len(found) - MOST_ROWS} more kinds are not listed."] if len(found) > MOST_ROWS else []
        return Table(
            "Runs that did not finish", ["setting", "which seeds", "status", "images seen", "why"], rows, notes
        )

    def card(self) -> Table:
        rows = [[name.replace("_", " "), short_value(value)] for name, value in self.settings[0].card.items()]
        seeds = {s.name: ranges([seed.seed for seed in s.seeds]) for s in self.settings}
        if len(set(seeds.values())) == 1:
            rows.append(["seeds", next(iter(seeds.values()))])
        else:
            rows += [[f"seeds of {name}", numbers] for name, numbers in seeds.items()]
        summaries = [run.summary for setting in self.settings for run in setting.runs]
        for package in ("ganlab", "torch"):
            if found := dict.fromkeys(
                s["versions"][package] for s in summaries if package in (s.get("versions") or {})
            ):
                rows.append([package, ", ".join(found)])
        if devices := dict.fromkeys(s["device"] for s in summaries if s.get("device")):
            rows.append(["device", "; ".join(devices)])
        commands = dict.fromkeys(" ".join(["python -m", *s["command"]]) for s in summaries if s.get("command"))
        rows += [["command", command] for command in list(commands)[:5]]
        return Table("Protocol", ["", ""], rows)

    def verdict(self) -> str:
        """The ranking in a sentence."""
        if not self.ranked:
            return "Nothing to rank yet: no seed has finished."
        if self.metric is None:
            return "Nothing to rank by: these runs measured no quality."
        leader, *others = self.ranked
        n = len(leader.seeds)
        cell = percent(self.estimate(leader, self.metric)) if self.metric in RATES else self._mean(leader, self.metric)
        best = f"{leader.name}: {self.metric} {plain(cell)} over {n} seed{'s' * (n != 1)}"
        if not others:
            return f"{best}."
        return f"First of {len(self.ranked)}, {best}. {self._lead(leader, others[0])}"

    def _lead(self, leader: Setting, second: Setting) -> str:
        found = paired_difference(self.values(leader, self.metric), self.values(second, self.metric))
        if found is None:
            return f"It has no seed in common with the next, {second.name}."
        if found.pairs < FEWEST_PAIRS:
            return f"{found.pairs} seed{'s' * (found.pairs != 1)} in common: too few to tell it from the next, {second.name}."
        if found.mean.low is None:  # an infinite difference
            return f"Its difference from the next, {second.name}, is infinite: see how many seeds have no number."
        if found.mean.low <= 0 <= found.mean.high:
            return f"The {found.pairs} seeds in common do not tell it from the next, {second.name}."
        return f"The {found.pairs} seeds in common tell it from the next, {second.name}."


def _reason(run: Run) -> str:
    if run.summary.get("error"):
        return " ".join(str(run.summary["error"]).split())
    return (
        "left no summary: killed, or still under way"
        if run.status == "unfinished"
        else "a loss or penalty was not finite"
    )


def seeds_cell(setting: Setting) -> str | tuple[str, str]:
    states = [seed.status for seed in setting.seeds]
    bad = [f"{states.count(state)} {state}" for state in ("failed", "unfinished") if state in states]
    return (str(len(states)), ", ".join(bad)) if bad else str(len(states))


def latest_cell(setting: Setting, name: str) -> str | tuple[str, str]:
    found = [
        (seed.quality[PREFIX + name][-1], seed.images[-1]) for seed in setting.seeds if seed.quality.get(PREFIX + name)
    ]
    if not found:
        return "–"
    return number(median(value for value, _ in found)), f"at {max(at for _, at in found):,.0f} images"
