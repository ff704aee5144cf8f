"""The end of a sweep: one table over its jobs, seeds of the same setting together."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class SweepTable(Callback):
    """Prints the table, writes `sweep.csv` (a row per job), and ends with exit code 1 if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(read_jobs(folder), key=lambda job: job["folder"])
        if not jobs:
            return
        write_csv(folder / "sweep.csv", jobs)
        show(jobs, folder)
        if failed := sum(job["status"] != "finished" for job in jobs):
            raise SystemExit(f"ganlab: {failed} of {len(jobs)} jobs failed; see the table above")


def read_jobs(folder: Path) -> list[dict]:
    """summary.json of every job below the folder, with its overrides; a job without one counts as failed."""
    jobs = []
    for hydra in folder.rglob(".hydra/overrides.yaml"):
        job = hydra.parent.parent
        path = job / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else {"status": "failed", "error": "left no summary"}
        overrides = dict(o.lstrip("+").split("=", 1) for o in OmegaConf.load(hydra) if "=" in o)
        jobs.append(summary | {"folder": str(job.relative_to(folder)), "overrides": overrides})
    return jobs


def write_csv(path: Path, jobs: list[dict]) -> None:
    rows = [
        {"folder": job["folder"], "status": job["status"], **job["overrides"], **(job.get("quality") or {})}
        | {"images_per_second": job.get("images_per_second"), "error": job.get("error")}
        for job in jobs
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def show(jobs: list[dict], folder: Path) -> None:
    """A row per setting: the median over its seeds, and the range where there are several."""
    from rich.console import Console
    from rich.table import Table

    varying = {k for job in jobs for k in job["overrides"] if len({j["overrides"].get(k) for j in jobs}) > 1}
    settings = defaultdict(list)
    for job in jobs:
        settings[tuple((k, v) for k, v in job["overrides"].items() if k in varying and k != "seed")].append(job)
    names = list(dict.fromkeys(name for job in jobs for name in job.get("quality") or {}))
    objective = next((job["objective"]["name"] for job in jobs if job.get("objective")), None)

    def values(group, name):  # null in JSON: the value was not finite
        qualities = [job.get("quality") or {} for job in group]
        return [math.inf if q[name] is None else q[name] for q in qualities if name in q]

    def cell(group, name):
        found = values(group, name)
        if not found:
            return "–"
        median = f"{statistics.median(found):.4g}"
        return median if len(found) == 1 else f"{median}\n[dim]{min(found):.4g} … {max(found):.4g}[/]"

    def rank(item):
        found = values(item[1], objective)
        return statistics.median(found) if found else math.inf

    table = Table(title=f"sweep of {len(jobs)} jobs, best first by {objective}", title_justify="left", show_lines=True)
    for heading in ("setting", "seeds", *(name.removeprefix("quality/") for name in names)):
        table.add_column(heading, justify="left" if heading == "setting" else "right", overflow="fold")
    for setting, group in sorted(settings.items(), key=rank):
        done, failed = (sum(counted) for counted in zip(*map(seeds_of, group)))
        seeds = f"{done}, [red]{failed} failed[/]" if failed else str(done)
        table.add_row(
            " ".join(f"{name}={short(value)}" for name, value in setting) or "all",
            seeds,
            *(cell(group, name) for name in names),
        )
    table.caption = "median, below it smallest … largest over the seeds; failed jobs have no numbers"
    console = Console()
    console.print(table)
    for job in jobs:
        if job["status"] != "finished":
            console.print(f"[red]failed[/] {job['folder']}: {job['error']}", soft_wrap=True, highlight=False)
    console.print(f"every job    {folder / 'sweep.csv'}", soft_wrap=True, highlight=False)


def seeds_of(job: dict) -> tuple[int, int]:
    """How many of a job's seeds finished and failed; an ensemble has many."""
    seeds, failed = len(job.get("seeds") or [None]), len(job.get("failed_seeds") or [])
    return (seeds - failed, failed) if job["status"] == "finished" else (0, seeds)


def short(value: str) -> str:
    """An override's value; a search's numbers with 4 digits instead of 17."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
