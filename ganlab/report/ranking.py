"""The settings of one protocol card, compared: what each scores, its interval, and who is first."""

from __future__ import annotations

import math
from functools import cached_property
from statistics import fmean, median

from ganlab.report.runs import PREFIX, Seed, higher_is_better, worst
from ganlab.report.settings import Setting
from ganlab.report.texts import interval, number, percent, plain
from ganlab.utils.statistics import Estimate, PairedDifference, bootstrap_mean, paired_difference, wilson_interval

RATES = ("success", "failure")
TOYS = ("Ring", "Grid")
FEWEST_PAIRS = 6  # five that all point one way still do so by chance in 1 of 16 cases (sign test, two-sided)


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
        return any(run.is_ensemble for setting in self.settings for run in setting.runs)

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
        objectives = [run.summary["objective"]["name"] for s in settings for run in s.runs if run.summary.get("objective")]
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
            found = (wilson_interval(int(sum(values)), len(values)) if rate else bootstrap_mean(values)) if values else None
            self._estimates[key] = found
        return self._estimates[key]

    def paired(self, one: Setting, other: Setting, metric: str) -> PairedDifference | None:
        """one - other, seed by seed; None without a pair: a single run and a copy of an ensemble never are one."""
        return paired_difference(self.values(one, metric), self.values(other, metric)) if one.single == other.single else None

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

    def mean(self, setting: Setting, name: str) -> str | tuple[str, str]:
        """A metric's mean over the setting's seeds as a cell, with its interval."""
        found = self.estimate(setting, name)
        if found is None or math.isfinite(found.value):
            return "–" if found is None else interval(found)
        values = list(self.values(setting, name).values())
        infinite = sum(math.isinf(value) for value in values)
        return "∞", f"∞ in {infinite} of {len(values)}; median {number(median(values))}" if len(values) > 1 else ""

    def headline(self) -> dict[str, float]:
        """The finite numbers by name: METRIC of a lone setting, SETTING/METRIC of several; with _low and _high if known."""
        found = {}
        for setting in self.ranked:
            whose = f"{setting.name}/" if len(self.settings) > 1 else ""
            for metric in self.choices():
                estimate = self.estimate(setting, metric)
                for end, value in zip(("", "_low", "_high"), estimate or (), strict=False):
                    if value is not None and math.isfinite(value):
                        found[f"{whose}{metric}{end}"] = value
        return found

    def verdict(self) -> str:
        """The ranking in a sentence."""
        if not self.ranked:
            return "Nothing to rank yet: no seed has finished."
        if self.metric is None:
            return "Nothing to rank by: these runs measured no quality."
        leader, *others = self.ranked
        n = len(leader.seeds)
        cell = percent(self.estimate(leader, self.metric)) if self.metric in RATES else self.mean(leader, self.metric)
        what = self.metric if n == 1 or self.metric in RATES else f"mean {self.metric}"
        best = f"{leader.name}: {what} {plain(cell)} over {n} seed{'s' * (n != 1)}"
        if not others:
            return f"{best}."
        return f"First of {len(self.ranked)}, {best}. {self._lead(leader, others[0])}"

    def _lead(self, leader: Setting, second: Setting) -> str:
        found = self.paired(leader, second, self.metric)
        if found is None:
            return f"It has no seed to compare with the next, {second.name}."
        if found.pairs < FEWEST_PAIRS:
            return f"{found.pairs} seed{'s' * (found.pairs != 1)} in common: too few to tell it from the next, {second.name}."
        if found.mean.low is None:  # an infinite difference
            return f"Its difference from the next, {second.name}, is infinite: see how many seeds have no number."
        if found.mean.low <= 0 <= found.mean.high:
            return f"The {found.pairs} seeds in common do not tell it from the next, {second.name}."
        return f"The {found.pairs} seeds in common tell it from the next, {second.name}."
