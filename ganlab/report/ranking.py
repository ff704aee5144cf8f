"""Rank the groups of one protocol by a metric, with intervals over seeds."""

import math
from functools import cached_property
from itertools import combinations
from pathlib import Path

from ganlab.report.formatting import Cell, format_mean, format_rate
from ganlab.report.groups import BUDGET, SAMPLES, group_runs
from ganlab.report.rendering import render_notes
from ganlab.report.runs import PREFIX, RunGroup, SeedResult, find_runs, rank_key
from ganlab.utils.statistics import Estimate, PairedDifference, holm, mean_interval, paired_difference, wilson_interval

RATES = ("success", "failure")
TOYS = ("Ring", "Grid")
SIGNIFICANT = 0.05  # corrected p-values up to this one tell two groups apart


class Ranking:
    """The groups of one protocol, the best first.

    Args:
        groups: with the same protocol.
        metric: a metric's name with or without "quality/" and its N, "success" or "failure"; None, and a metric that no
            group has, rank by the objective of the runs.
        label: what tells it from other rankings, such as "Ranking A"; "" if there is only one.
    """

    def __init__(self, groups: list[RunGroup], metric: str | None = None, label: str = ""):
        self.label = label
        self.metrics = list(dict.fromkeys(n for g in groups for seed in g.seeds for n in (*seed.final, *seed.history)))
        self.protocol = groups[0].protocol
        self.is_toy = self.protocol["data"] in TOYS
        self.has_ensembles = any(group.is_ensemble for group in groups)
        self.has_several_seeds = any(len(group.seeds) > 1 for group in groups)
        self.metric_protocol = next((group.metric_protocol for group in groups if group.metric_protocol), {})
        self.modes: int | None = self.metric_protocol.get("modes")
        self.modes_metric = next((name for name in self.metrics if name.startswith("modes_")), None)
        self.has_success = self.modes is not None and self.modes_metric is not None
        summaries = [run.summary for group in groups for run in group.runs]
        objectives = (s["objective"]["name"].removeprefix(PREFIX) for s in summaries if s.get("objective"))
        self.objective = next(objectives, self.metrics[-1] if self.metrics else None)
        real: dict = next((summary["real"] for summary in summaries if summary.get("real")), {})
        self.real = {name.removeprefix(PREFIX): value for name, value in real.items() if value is not None}
        self.real_name = "real data" if self.modes is None else "a perfect sampler"  # what scores `real`
        self._estimates: dict[tuple[int, str], Estimate | None] = {}
        self.metric = self.full_name(metric) or self.objective
        self.groups = sorted(groups, key=self._sort_key)

    def _sort_key(self, group: RunGroup) -> tuple:
        values = self.values(group, self.metric).values() if self.metric else ()
        return *rank_key(group, values, self.metric), group.name

    @property
    def title(self) -> str:
        budget, packed, _ = self.protocol[BUDGET].partition(" (")
        parts = [self.protocol["data"], f"N = {self.protocol[SAMPLES]}", budget if packed else f"{budget} images"]
        return f"{self.label}: {', '.join(parts)}" if self.label else ", ".join(parts)

    def names(self) -> list[str]:
        """What it can be ranked by: the metrics and the rates."""
        return [*self.metrics, *(RATES if self.has_success else RATES[1:])]

    def full_name(self, metric: str | None) -> str | None:
        """A metric's full name, given with or without "quality/" and N; None if there is none such."""
        metric = (metric or "").removeprefix(PREFIX)
        if metric in self.names():
            return metric
        return next((name for name in self.metrics if name.rpartition("_")[0] == metric), None)

    @cached_property
    def ranked(self) -> list[RunGroup]:
        return [group for group in self.groups if group.is_over]

    def values(self, group: RunGroup, metric: str) -> dict[int, float]:
        """seed -> value; a seed that did not finish scores the worst value. {} if the group lacks the metric."""
        if metric in RATES:
            return {seed.seed: float(self._outcome(seed) == metric) for seed in group.seeds}
        return group.values(metric, self.metric_protocol)

    def _outcome(self, seed: SeedResult) -> str:
        if seed.status != "finished":
            return "failure"
        if self.modes is None or self.modes_metric is None:
            return "neither"
        modes = seed.score(self.modes_metric)
        return "success" if modes >= self.modes else "failure" if modes == 0 else "neither"

    def estimate(self, group: RunGroup, metric: str) -> Estimate | None:
        """A rate with Wilson's interval, or a mean with Student's; None if the group lacks the metric."""
        key = id(group), metric
        if key not in self._estimates:
            values = list(self.values(group, metric).values())
            if metric in RATES:
                self._estimates[key] = wilson_interval(int(sum(values)), len(values))
            else:
                self._estimates[key] = mean_interval(values) if values else None
        return self._estimates[key]

    def cell(self, group: RunGroup, metric: str) -> Cell:
        """The estimate of a rate or a metric as a table cell; "–" if the group lacks the metric."""
        estimate = self.estimate(group, metric)
        if estimate is None:
            return "–"
        return format_rate(estimate) if metric in RATES else format_mean(list(self.values(group, metric).values()))

    def paired(self, one: RunGroup, other: RunGroup, metric: str) -> PairedDifference | None:
        """one - other over their shared seeds; None without any. A single run and an ensemble's member are no pair."""
        if one.is_ensemble != other.is_ensemble:
            return None
        return paired_difference(self.values(one, metric), self.values(other, metric))

    @cached_property
    def comparisons(self) -> dict[frozenset[str], float]:
        """Names of two ranked groups -> their corrected p-value, for every pair that shares at least two seeds.

        Not for pairs with the leader alone: the leader was chosen by the same numbers, so that any pair could have been tested.
        """
        if self.metric is None:
            return {}
        tested = {
            frozenset((one.name, other.name)): difference.p
            for one, other in combinations(self.ranked, 2)
            if (difference := self.paired(one, other, self.metric)) and difference.pairs > 1
        }
        return dict(zip(tested, holm([*tested.values()])))

    def p_value(self, one: RunGroup, other: RunGroup) -> float:
        """The corrected p-value of "both have the same mean"; 1 where there is no test."""
        return self.comparisons.get(frozenset((one.name, other.name)), 1.0)

    def finite_numbers(self) -> dict[str, float]:
        """The finite estimates: METRIC of a lone group, GROUP/METRIC of several; with _low and _high where there are any."""
        numbers = {}
        for group in self.ranked:
            prefix = f"{group.name}/" if len(self.groups) > 1 else ""
            for metric in self.names():
                estimate = self.estimate(group, metric)
                for end, value in zip(("", "_low", "_high"), estimate or (), strict=False):
                    if value is not None and math.isfinite(value):
                        numbers[f"{prefix}{metric}{end}"] = value
        return numbers

    def conclusion(self) -> str:
        """The best group, and whether the seeds tell it from the next, in a sentence."""
        leader, second = [*self.ranked, None, None][:2]
        difference = self.paired(leader, second, self.metric) if leader and second and self.metric else None
        p = self.p_value(leader, second) if leader and second else 1.0
        facts = {"leader": leader, "second": second, "pairs": difference and difference.pairs, "p": p, "rates": RATES}
        return " ".join(render_notes("conclusion", ranking=self, is_significant=p <= SIGNIFICANT, **facts))


def rank_runs(paths: list[Path], metric: str | None = None) -> list[Ranking]:
    """Every run at or below the paths, in a ranking per protocol; the one with the most runs comes first.

    Raises:
        ValueError: a path is no directory or holds no run, or no run has the metric.
    """
    by_protocol = group_runs(find_runs(paths))
    labels = [f"Ranking {chr(65 + i) if i < 26 else i + 1}" if len(by_protocol) > 1 else "" for i in range(len(by_protocol))]
    rankings = [Ranking(groups, metric, label) for groups, label in zip(by_protocol, labels, strict=True)]
    if metric and not any(ranking.full_name(metric) for ranking in rankings):
        names = dict.fromkeys(name for ranking in rankings for name in ranking.names())
        raise ValueError(f"no run here has metric={metric}; choose one of {', '.join(names)}")
    return rankings
