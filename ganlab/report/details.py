"""The tables behind a ranking: when all modes were there, what it cost, what did not finish, and the protocol."""

from __future__ import annotations

import math
from collections import defaultdict

from ganlab.report.cards import BUDGET
from ganlab.report.ranking import Ranking
from ganlab.report.runs import PREFIX, Run, Seed
from ganlab.report.tables import Table
from ganlab.report.texts import duration, percent, ranges, short_value, span, spread
from ganlab.utils.statistics import time_to_target, wilson_interval

MOST_ROWS = 50  # of runs in trouble


def coverage(ranking: Ranking) -> Table | None:
    """When all modes were first there, over all seeds."""
    if not ranking.has_success:
        return None
    header = ["setting", "seeds that ever had all modes", "images seen (median)", "wall time (median)"]
    rows = []
    for setting in ranking.ranked:
        times = [_first_full(ranking, seed) for seed in setting.seeds]
        reached = sum(math.isfinite(images) for images, _ in times)
        rows.append(
            [
                setting.name,
                percent(wilson_interval(reached, len(times)), of=(reached, len(times))),
                spread([images for images, _ in times], lambda x: f"{x:,.0f}"),
                spread([seconds for _, seconds in times], duration),
            ]
        )
    note = (
        f"All {ranking.modes} modes in one look of {ranking.protocol['samples']:,} samples; looks are as far apart as "
        "eval_every, so these are upper bounds. Median and quartiles over all seeds; a seed that never had all "
        "counts as never. Modes can be lost again: compare with success above."
    )
    notes = [note]
    if ranking.has_ensembles:
        notes.append("Wall time of an ensemble's seed is that of the whole ensemble.")
    if "updates of D" in ranking.settings[0].card[BUDGET]:
        notes.append(
            "A packed D sees several images where another sees one: at the same images seen it has learned less often."
        )
    return Table(f"Time to all {ranking.modes} modes", header, rows, notes)


def _first_full(ranking: Ranking, seed: Seed) -> tuple[float, float]:
    modes = seed.quality.get(PREFIX + ranking.modes_metric, [])
    return tuple(time_to_target(at[: len(modes)], modes, ranking.modes) for at in (seed.images, seed.seconds))


def costs(ranking: Ranking) -> Table:
    header = [
        "setting",
        "seeds at once",
        "wall time of a run (median)",
        "images/s, all seeds (median)",
        "peak memory (largest)",
        "device",
    ]
    rows: list = []
    devices: set[str] = set()
    for setting in ranking.settings:
        summaries = [run.summary for run in setting.runs if run.summary.get("seconds")]
        together = sorted({run.together for run in setting.runs})
        here = list(dict.fromkeys(s["device"] for s in summaries if s.get("device")))
        devices |= set(here)
        memory = [s["memory_bytes"] for s in summaries if s.get("memory_bytes")]
        speeds = [s["images_per_second"] for s in summaries if s.get("images_per_second")]
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
    note = (
        "Median and quartiles over the runs that ended; images/s while training, without looks at quality, of an ensemble "
        "all its seeds' images together."
    )
    notes = [note]
    if len(devices) > 1:
        notes.append("These ran on different devices: their times are not comparable.")
    return Table("Cost", header, rows, notes)


def troubles(ranking: Ranking) -> Table | None:
    """Every seed that did not finish, with its reason; seeds of one setting and reason together."""
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    budgets: dict[str, str] = {}
    for setting in ranking.settings:
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
        got = span([images for _, images in seeds]) + budgets[name]
        rows.append([name, ranges([seed for seed, _ in seeds]), state, got, reason])
    notes = [f"{len(found) - MOST_ROWS} more kinds are not listed."] if len(found) > MOST_ROWS else []
    return Table("Runs that did not finish", ["setting", "which seeds", "status", "images seen", "why"], rows, notes)


def card(ranking: Ranking) -> Table:
    rows = [[name.replace("_", " "), short_value(value)] for name, value in ranking.settings[0].card.items()]
    seeds = {s.name: ranges([seed.seed for seed in s.seeds]) for s in ranking.settings}
    if len(set(seeds.values())) == 1:
        rows.append(["seeds", next(iter(seeds.values()))])
    else:
        rows += [[f"seeds of {name}", numbers] for name, numbers in seeds.items()]
    summaries = [run.summary for setting in ranking.settings for run in setting.runs]
    for package in ("ganlab", "torch"):
        if found := dict.fromkeys(s["versions"][package] for s in summaries if package in (s.get("versions") or {})):
            rows.append([package, ", ".join(found)])
    if devices := dict.fromkeys(s["device"] for s in summaries if s.get("device")):
        rows.append(["device", "; ".join(devices)])
    commands = dict.fromkeys(" ".join(["python -m", *s["command"]]) for s in summaries if s.get("command"))
    rows += [["command", command] for command in list(commands)[:5]]
    return Table("Protocol", ["", ""], rows)


def _reason(run: Run) -> str:
    if run.summary.get("error"):
        return " ".join(str(run.summary["error"]).split())
    return "left no summary: killed, or still under way" if run.status == "unfinished" else "a loss or penalty was not finite"
