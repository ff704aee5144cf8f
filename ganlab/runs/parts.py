"""An ensemble that was trained in parts, one after another: one table and one summary of them all."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from ganlab.utils.files import atomic_write, write_csv, write_json


def merge(folder: Path, parts: list[dict], failed: list[int]) -> dict:
    """Writes summary.json and seeds.csv of the ensembles in the folders below; medians are taken over all seeds.

    `parts`: their summaries. `failed`: the seeds of ensembles of which no copy was left, and so no summary.
    """
    from ganlab.diagnostics import merged  # here, since the report reads tables without torch

    tables = [list(csv.DictReader((part / "seeds.csv").open())) for part in part_folders(folder)]
    rows = in_one_time(tables)
    last = max(int(row["images_seen"]) for row in rows)
    rows += [{"images_seen": str(last), "seed": str(seed), "status": "failed"} for seed in failed]
    rows.sort(key=lambda row: (int(row["images_seen"]), int(row["seed"])))
    write_csv(folder / "seeds.csv", rows)
    ended = [part for part in part_folders(folder) if (part / "summary.json").exists()]
    if pictures := [part / "samples.png" for part in ended if (part / "samples.png").exists()]:
        atomic_write(folder / "samples.png", pictures[0].read_bytes())

    final = {row["seed"]: row for row in rows}.values()
    names = [name for name in dict.fromkeys(chain.from_iterable(rows)) if name.startswith("quality/")]
    quality = {n: statistics.median(values) for n in names if (values := [float(r[n]) for r in final if r.get(n)])}
    objective = parts[0]["objective"]
    if objective:
        name = objective["name"]
        scores = [float(row[name]) if row.get(name) else math.inf for row in final]
        quality[name] = statistics.median(scores)  # a failed seed is no reason to prefer this setting
        objective = {"name": name, "value": quality[name], "best": min(best(p) for p in parts)}
    seconds = {part: sum(p["seconds"].get(part) or 0 for p in parts) for part in parts[0]["seconds"]}
    whole = {seed for part in parts for seed in part["seeds"]}
    seconds["total"] += sum(_seconds(table[-1]) for table in tables if table and int(table[0]["seed"]) not in whole)
    summary = parts[0] | {
        "seeds": sorted([*failed, *whole]),
        "ended_by": next((p["ended_by"] for p in parts if p.get("ended_by")), None),
        "failed_seeds": sorted([*failed, *(seed for p in parts for seed in p["failed_seeds"])]),
        "quality": quality or None,
        "objective": objective,
        "seconds": seconds,
        "images_per_second": _speed(parts),
        "memory_bytes": max((p["memory_bytes"] for p in parts if p["memory_bytes"]), default=None),
        "verdicts": merged([p.get("verdicts") for p in parts]),
        "parts": len(parts),
    }
    write_json(folder / "summary.json", summary)
    return summary


def best(part: dict) -> float:
    """Of a part's summary; JSON has null where no look of it had a finite objective."""
    found = part["objective"]["best"]
    return math.inf if found is None else found


def part_folders(folder: Path) -> list[Path]:
    """`seeds_1-50`, `seeds_51-100` … below the run's folder, in the order in which they were trained; [] if it is whole."""
    return sorted((path.parent for path in folder.glob("seeds_[0-9]*-[0-9]*/seeds.csv")), key=lambda part: seeds_in(part)[0])


def seeds_in(part: Path) -> range:
    """The seeds that a part's folder is named after."""
    first, last = part.name.removeprefix("seeds_").split("-")
    return range(int(first), int(last) + 1)


def in_one_time(tables: Sequence[Sequence[dict]]) -> list[dict]:
    """The rows of the parts' seeds.csv, with the `seconds` of a look those of all parts together until they were there.

    So the wall time of a look is what all its seeds took, as where they are trained at once. A part that failed, or is
    not there yet, counts with what it took so far.
    """
    times = [sorted((int(row["images_seen"]), _seconds(row)) for row in table) for table in tables]

    def together(images: int) -> float:
        return round(sum(max((s for at, s in part if at <= images), default=0.0) for part in times), 3)

    clock = {images: together(images) for images in {images for part in times for images, _ in part}}
    return [row | {"seconds": clock[int(row["images_seen"])] or ""} for table in tables for row in table]


def _seconds(row: dict) -> float:
    return float(row.get("seconds") or 0)


def _speed(parts: list[dict]) -> float | None:
    """Images per second of training, as the parts had them one after another."""
    known = [(p["images_per_second"], p["seconds"]["training"]) for p in parts if p["images_per_second"]]
    return sum(speed * time for speed, time in known) / sum(time for _, time in known) if known else None
