"""A sweep's jobs as one table, seeds of the same setting together."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ganlab.report.runs import PREFIX, Run, read_run, worst
from ganlab.report.texts import number
from ganlab.utils.files import write_csv
from ganlab.utils.statistics import quartiles


def tell(folder: Path) -> list[Run]:
    """Writes the sweep's table and prints it; the jobs in it."""
    jobs = sorted(read_jobs(folder), key=lambda job: job.folder)
    if jobs:
        write_csv(folder / "sweep.csv", [_row(job, folder) for job in jobs])
        show(jobs, folder)
    return jobs


def read_jobs(folder: Path) -> list[Run]:
    """Every job below the folder; one without a summary counts as failed."""
    return [read_run(path.parent.parent) for path in folder.rglob(".hydra/overrides.yaml")]


def _row(job: Run, folder: Path) -> dict:
    """Of an ensemble the medians over its seeds."""
    summary, failed = job.summary, sum(seed.status != "finished" for seed in job.seeds)
    return (
        {"folder": str(job.folder.relative_to(folder)), "status": _status(job), **job.overrides}
        | (summary.get("quality") or {})
        | {"seeds_run": len(job.seeds), "seeds_failed": failed}
        | {"images_per_second": summary.get("images_per_second"), "error": summary.get("error", _error(job))}
    )


def _status(job: Run) -> str:
    return "failed" if job.status == "unfinished" else job.status


def _error(job: Run) -> str | None:
    return "ended without a word (killed, or no memory left?)" if job.status == "unfinished" else None


def show(jobs: list[Run], folder: Path) -> None:
    """Prints the table, and below it why jobs did not finish."""
    console = Console()
    console.print(table(jobs, console.width))
    for job in jobs:
        if job.status != "finished":
            error = job.summary.get("error", _error(job))
            what = escape(f"{job.folder.relative_to(folder)}: {error}")
            console.print(f"[red]{_status(job)}[/] {what}", soft_wrap=True, highlight=False)
    console.print(f"every job    {folder / 'sweep.csv'}", soft_wrap=True, highlight=False, markup=False)


def table(jobs: list[Run], room: int) -> Table:
    """A row per setting: the median over its seeds, and the quartiles where there are several. `room`: characters a line."""
    settings = by_setting(jobs)
    names = list(dict.fromkeys(name for job in jobs for name in job.summary.get("quality") or {}))
    objective = next((job.summary["objective"]["name"] for job in jobs if job.summary.get("objective")), None)
    several = any(len(job.seeds) > 1 for job in jobs) or len(settings) < len(jobs)
    rows = [
        (words, seeds_cell(group), {name: quality_cell(group, name) for name in names})
        for words, group in sorted(settings, key=lambda setting: rank(setting[1], objective))
    ]
    needed = {name: 3 + max(map(width, (heading(name), *(cells[name] for *_, cells in rows)))) for name in names}
    setting_width = min(28, max(width(words) for words, *_ in rows) + 4)
    seeds_width = max(width(seeds) for _, seeds, _ in rows) + 8
    shown = fitting(needed, objective, room - setting_width - seeds_width)
    best = f", best first by {'the median of ' * several}{objective}" if objective else ""
    found = Table(title=f"sweep of {len(jobs)} jobs{best}", title_justify="left", show_lines=True)
    found.add_column("setting", overflow="fold")
    for name in ("seeds", *shown):
        found.add_column(heading(name), justify="right", overflow="fold")
    for words, seeds, cells in rows:
        found.add_row(words, seeds, *(cells[name] for name in shown))
    notes = []
    if several and names:
        notes.append("median over the seeds, below it the quartiles; a seed that failed counts with the worst value there is")
    if hidden := [name.removeprefix(PREFIX) for name in names if name not in shown]:
        notes.append(f"no room here for {', '.join(hidden)}")
    found.caption = "\n".join(notes)
    return found


def by_setting(jobs: list[Run]) -> list[tuple[str, list[Run]]]:
    """The jobs of each setting, with the words that tell it from the others."""
    varying = {k for job in jobs for k in job.overrides if len({j.overrides.get(k) for j in jobs}) > 1} - {"seed"}
    settings = defaultdict(list)
    for job in jobs:
        settings[tuple((k, v) for k, v in job.overrides.items() if k in varying)].append(job)
    return [(escape(" ".join(f"{k}={short(v)}" for k, v in words) or "all"), group) for words, group in settings.items()]


def rank(group: list[Run], objective: str | None) -> float:
    found = values(group, objective) if objective else []
    return quartiles(found)[1] if found else math.inf


def quality_cell(group: list[Run], name: str) -> str:
    low, median, high = (number(value) for value in quartiles(values(group, name) or [math.nan]))
    return "–" if median == "nan" else median if low == high else f"{median}\n[dim]{low} … {high}[/]"


def seeds_cell(group: list[Run]) -> str:
    """How many there are, and how many of them did not end well."""
    states = [_status(job) if job.status in ("refused", "unfinished") else seed.status for job in group for seed in job.seeds]
    bad = "".join(f"\n[red]{n} {state}[/]" for state in ("failed", "refused") if (n := states.count(state)))
    return f"{len(states)}{bad}"


def heading(name: str) -> str:
    """Of several lines where it is long."""
    return "\n".join(wrap(name.removeprefix(PREFIX).replace("_", "_ "), 10)).replace("_ ", "_")


def width(text: str) -> int:
    return max(map(len, Text.from_markup(text).plain.splitlines()))


def fitting(needed: dict[str, int], objective: str | None, room: int) -> list[str]:
    """The columns that there is room for, of those that need so many characters; the one that ranks comes first, always."""
    found = []
    for name in sorted(needed, key=lambda name: name != objective):
        if not found or needed[name] <= room:
            room -= needed[name]
            found.append(name)
    return found


def values(group: list[Run], name: str) -> list[float]:
    """A quality of each seed that began; one that failed has the worst value, if any seed here has the quality."""
    seeds = [(seed, job) for job in group if job.status != "refused" for seed in job.seeds]
    if not any(name in seed.final for seed, _ in seeds):
        return []
    return [seed.final.get(name, worst(name, job.summary.get("protocol"))) for seed, job in seeds]


def short(value: str) -> str:
    """An override's value; a search's numbers with 4 digits instead of 17."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
