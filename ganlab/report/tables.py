"""The tables of a report, independent of any format."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median

from ganlab.report.formatting import (
    Cell,
    field_title,
    format_duration,
    format_estimate,
    format_number,
    format_p_value,
    format_quartiles,
    format_range,
    format_rate,  # fmt: skip
    format_seeds,
    shorten_value,
)
from ganlab.report.groups import BUDGET
from ganlab.report.ranking import RATES, Ranking
from ganlab.report.rendering import render_notes
from ganlab.report.runs import Run, RunGroup, higher_is_better
from ganlab.utils.statistics import detectable_difference, time_to_target, wilson_interval

MAX_UNFINISHED = 50  # rows
TEXT_COLUMNS = ("why", "device", "which seeds", "metric", "verdict at the end")


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What each column holds: the row's "name", its "rank", "text", or a "number"."""
        kinds = ["rank" if h == "#" else "text" if h in ("", *TEXT_COLUMNS) else "number" for h in self.header]
        names = [i for i, h in enumerate(self.header) if h in ("setting", "") or h.endswith(" against")]
        if names:
            kinds[names[0]] = "name"
        return kinds


def leaderboard(ranking: Ranking) -> Table:
    metrics = sorted(ranking.metrics, key=lambda name: name != ranking.metric)
    rates = [name for name in ranking.names() if name in RATES]
    mean = "mean " if ranking.has_several_seeds else ""
    header = ["#", "setting", "seeds", *(f"success (all {ranking.modes})" if rate == "success" else rate for rate in rates)]
    header += [mean + name + (" ▾" if name == ranking.metric else "") for name in metrics]
    header.append("verdict at the end")
    rows: list[list[Cell]] = []
    for place, group in enumerate(ranking.groups, 1):  # those that are not over come last
        cells = [ranking.cell(group, name) for name in (*rates, *metrics)]
        if not group.is_over:
            cells = [*("" for _ in rates), *(_latest_cell(group, name) for name in metrics)]
        rows.append([str(place) if group.is_over else "–", group.name, seeds_cell(group), *cells, _verdict_cell(group)])
    if ranking.real:
        cells = [format_number(ranking.real[name]) if name in ranking.real else "" for name in metrics]
        rows.append(["", ranking.real_name, "", *("" for _ in rates), *cells, ""])
    if not any(run.summary.get("verdicts") for group in ranking.groups for run in group.runs):
        header, rows = header[:-1], [row[:-1] for row in rows]
    higher = higher_is_better(ranking.metric or "")
    ended_by = Counter(run.summary.get("ended_by") for group in ranking.ranked for run in group.runs for _ in run.ended_early)
    notes = render_notes("leaderboard", ranking=ranking, higher_is_better=higher, ended_by=ended_by)
    return Table("Leaderboard", header, rows, notes)


def seeds_cell(group: RunGroup) -> Cell:
    states = [seed.status for seed in group.seeds]
    remarks = [f"{states.count(state)} {state}" for state in ("failed", "unfinished") if state in states]
    if early := [seed.images_seen for run in group.runs for seed in run.ended_early if seed.images_seen is not None]:
        remarks.append(f"{len(early)} ended early at {format_range(early)} images")
    return (str(len(states)), ", ".join(remarks)) if remarks else str(len(states))


def _latest_cell(group: RunGroup, metric: str) -> Cell:
    latest = [(seed.history[metric][-1], seed.images[-1]) for seed in group.seeds if seed.history.get(metric)]
    if not latest:
        return "–"
    several = f"median of {len(latest)}, " if len(latest) > 1 else ""
    return format_number(median(value for value, _ in latest)), f"{several}at {max(at for _, at in latest):,.0f} images"


def _verdict_cell(group: RunGroup) -> str:
    """The verdicts that hold at the end, each with the number of seeds it holds for."""
    counts: Counter[str] = Counter()
    seeds = 0
    for run in group.runs:
        if verdicts := run.summary.get("verdicts"):
            seeds_of = verdicts.get("seeds") or {}
            counts.update({name: len(seeds_of.get(name, [None])) for name in verdicts["current"]})
            seeds += len(run.seeds)
    return ", ".join(name if seeds == 1 else f"{name} {n} of {seeds}" for name, n in counts.most_common()) or "–"


def paired_differences(ranking: Ranking) -> Table | None:
    """The leader against each other group, seed by seed."""
    if ranking.metric is None or len(ranking.ranked) < 2:
        return None
    leader, *others = ranking.ranked
    header = [f"{leader.name} against", "seeds in common", f"mean difference of {ranking.metric}", "p (Holm)",
              "better in", "detectable"]  # fmt: skip
    with_success = ranking.has_success and ranking.metric not in RATES
    if with_success:
        header.append("mean difference of success")
    rows: list[list[Cell]] = []
    for other in others:
        difference = ranking.paired(leader, other, ranking.metric)
        if difference is None:
            rows.append([other.name, "0", *["–"] * (len(header) - 2)])
            continue
        larger = difference.pairs - difference.smaller - difference.equal
        better = larger if higher_is_better(ranking.metric) else difference.smaller
        better_in = f"{better} of {difference.pairs}", f"{difference.equal} equal" if difference.equal else ""
        p = format_p_value(ranking.p_value(leader, other)) if difference.pairs > 1 else "–"
        detectable = "–"
        if difference.std:
            detectable = format_number(detectable_difference(difference.std, difference.pairs, len(ranking.comparisons)))
        mean = "–" if math.isnan(difference.mean.value) else format_estimate(difference.mean, sign=True)
        rows.append([other.name, str(difference.pairs), mean, p, better_in, detectable])
        if with_success and (success := ranking.paired(leader, other, "success")):
            rows[-1].append(format_rate(success.mean, sign=True, unit="points"))
    has_both_kinds = len({group.is_ensemble for group in ranking.ranked}) > 1
    notes = render_notes("paired_differences", tests=len(ranking.comparisons), has_both_kinds=has_both_kinds)
    return Table("Paired differences", header, rows, notes)


def time_to_all_modes(ranking: Ranking) -> Table | None:
    metric, modes = ranking.modes_metric, ranking.modes
    if metric is None or modes is None:
        return None
    header = ["setting", "seeds that ever had all modes", "images seen (median)", "wall time (median)"]
    rows: list[list[Cell]] = []
    for group in ranking.ranked:
        histories = [(seed, seed.history.get(metric, [])) for seed in group.seeds]
        images = [time_to_target(seed.images[: len(values)], values, modes) for seed, values in histories]
        seconds = [time_to_target(seed.seconds[: len(values)], values, modes) for seed, values in histories]
        reached = sum(map(math.isfinite, images))
        rate = format_rate(wilson_interval(reached, len(images)), counts=(reached, len(images)))
        rows.append([group.name, rate, format_quartiles(images, "{:,.0f}".format), format_quartiles(seconds, format_duration)])
    notes = render_notes("time_to_all_modes", ranking=ranking, has_packs="updates of D" in ranking.protocol[BUDGET])
    return Table(f"Time to all {ranking.modes} modes", header, rows, notes)


def cost(ranking: Ranking) -> Table:
    header = ["setting", "seeds at once", "wall time of a run (median)", "images/s, all seeds (median)",
              "peak memory (largest)", "device"]  # fmt: skip
    rows: list[list[Cell]] = []
    all_devices: set[str] = set()
    for group in ranking.groups:
        summaries = [run.summary for run in group.runs if run.summary.get("seconds")]
        devices = list(dict.fromkeys(s["device"] for s in summaries if s.get("device")))
        all_devices |= set(devices)
        memory = [s["memory_bytes"] for s in summaries if s.get("memory_bytes")]
        speeds = [s["images_per_second"] for s in summaries if s.get("images_per_second")]
        at_once = ", ".join(map(str, sorted({run.members for run in group.runs})))
        times = format_quartiles([s["seconds"]["total"] for s in summaries], format_duration)
        peak = f"{max(memory) / 2**20:,.0f} MiB" if memory else "–"
        speed = format_quartiles(speeds, "{:,.0f}".format)
        rows.append([group.name, at_once, times, speed, peak, "; ".join(devices) or "–"])
    return Table("Cost", header, rows, render_notes("cost", devices=all_devices))


def unfinished_runs(ranking: Ranking) -> Table | None:
    """Every seed that did not finish, with the reason; seeds of one group and reason in one row."""
    by_reason: dict[tuple[str, str, str, str], list[tuple[int, float]]] = defaultdict(list)
    for group in ranking.groups:
        for run, seed in ((run, seed) for run in group.runs for seed in run.seeds if seed.status != "finished"):
            budget = run.config.get("max_images")
            total = f" of {budget:,}" if isinstance(budget, int) else ""
            by_reason[group.name, seed.status, _reason(run), total].append((seed.seed, run.images))
    if not by_reason:
        return None
    rows: list[list[Cell]] = []
    for (name, state, reason, total), seeds in list(by_reason.items())[:MAX_UNFINISHED]:
        images = format_range([images for _, images in seeds]) + total
        rows.append([name, format_seeds([seed for seed, _ in seeds]), state, images, reason])
    header = ["setting", "which seeds", "status", "images seen", "why"]
    notes = render_notes("unfinished_runs", hidden=len(by_reason) - MAX_UNFINISHED)
    return Table("Runs that did not finish", header, rows, notes)


def _reason(run: Run) -> str:
    if run.summary.get("error"):
        return " ".join(str(run.summary["error"]).split())
    return "left no summary: killed, or still training" if run.status == "unfinished" else "a loss or penalty was not finite"


def protocol_table(ranking: Ranking) -> Table:
    rows: list[list[Cell]] = [[field_title(name), shorten_value(value)] for name, value in ranking.protocol.items()]
    seeds = {group.name: format_seeds([seed.seed for seed in group.seeds]) for group in ranking.groups}
    if len(set(seeds.values())) == 1:
        rows.append(["seeds", *set(seeds.values())])
    else:
        rows += [[f"seeds of {name}", numbers] for name, numbers in seeds.items()]
    summaries = [run.summary for group in ranking.groups for run in group.runs]
    for package in ("ganlab", "torch"):
        if versions := dict.fromkeys(s["versions"][package] for s in summaries if package in (s.get("versions") or {})):
            rows.append([package, ", ".join(versions)])
    if devices := dict.fromkeys(s["device"] for s in summaries if s.get("device")):
        rows.append(["device", "; ".join(devices)])
    commands = dict.fromkeys(" ".join(["python -m", *s["command"]]) for s in summaries if s.get("command"))
    rows += [["command", command] for command in list(commands)[:5]]
    return Table("Protocol", ["", ""], rows)
