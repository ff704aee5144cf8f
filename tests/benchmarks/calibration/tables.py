"""The error rates of the verdicts, as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from calibration.thresholds import verdicts
from calibration.truth import Outcome
from ganlab.diagnostics.rules import VERDICTS
from ganlab.utils.files import atomic_write, write_csv
from ganlab.utils.statistics import percent, wilson_interval


def error_rates(runs: Sequence[Outcome], thresholds: Mapping) -> list[dict]:
    """A row per verdict: how often it is active at the end where it is true, at the end where it is false, ever where it is
    false, and ever in healthy runs."""
    given = [(run, *verdicts(run, thresholds)) for run in runs]
    rows = []
    for name in VERDICTS:
        true = [name in end for run, end, _ in given if run.truth[name] is True]
        false = [(name in end, name in ever) for run, end, ever in given if run.truth[name] is False]
        healthy = [name in ever for run, _, ever in given if run.truth["HEALTHY"] is True]
        row = {"verdict": name, "true runs": len(true)} | rate("detected", sum(true), len(true))
        row |= {"other runs": len(false)} | rate("false alarms at the end", sum(end for end, _ in false), len(false))
        row |= rate("false alarms ever", sum(ever for _, ever in false), len(false))
        if name != "HEALTHY":
            row |= {"healthy runs": len(healthy)} | rate("alarms in healthy runs", sum(healthy), len(healthy))
        rows.append(row)
    return rows


def rate(name: str, successes: int, n: int) -> dict[str, float | None]:
    if not n:
        return dict.fromkeys((name, f"{name} low", f"{name} high"))
    interval = wilson_interval(successes, n)
    return {name: interval.value, f"{name} low": interval.low, f"{name} high": interval.high}


def mistakes(runs: Sequence[Outcome], thresholds: Mapping) -> list[str]:
    """List the settings with misses and false alarms."""
    counted: dict[tuple[str, str, str], int] = {}
    for run in runs:
        end, _ = verdicts(run, thresholds)
        for name in VERDICTS:
            if run.truth[name] is not None and run.truth[name] != (name in end):
                key = (name, "false alarm" if name in end else "missed", run.setting)
                counted[key] = counted.get(key, 0) + 1
    return [f"- {name} {kind} in {count} runs of *{setting}*" for (name, kind, setting), count in sorted(counted.items())]


def write_tables(folder: Path, rows: list[dict], mistakes: list[str], protocol: str) -> None:
    """Write `calibration.csv` and `calibration.md`."""
    write_csv(folder / "calibration.csv", rows)
    head = ["verdict", "detected", "false alarms at the end", "ever in the run", "ever in healthy runs"]
    lines = [protocol, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            cell(row, "detected", row["true runs"]),
            cell(row, "false alarms at the end", row["other runs"]),
            cell(row, "false alarms ever", row["other runs"]),
            cell(row, "alarms in healthy runs", row.get("healthy runs")),
        ]
        lines.append(f"| `{row['verdict']}` | {' | '.join(cells)} |")
    atomic_write(folder / "calibration.md", "\n".join([*lines, "", *mistakes]) + "\n")


def cell(row: dict, name: str, n: int | None) -> str:
    if row.get(name) is None:
        return ""
    share, low, high = (percent(row[key]) for key in (name, f"{name} low", f"{name} high"))
    return f"{share} % [{low}, {high}] of {n}"
