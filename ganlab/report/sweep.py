"""The jobs of a sweep as a table, a row per setting: printed, and written to sweep.csv."""

import os
from collections import defaultdict
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganlab.report.formatting import format_mean, shorten_value
from ganlab.report.runs import PREFIX, Run, RunGroup, rank_key, read_run
from ganlab.runs.run_dir import NOT_SEARCHED, RunDir
from ganlab.utils.files import write_csv

JOB_FILES = {"config.yaml", "command.yaml", "summary.json"}  # a job begins with one of them
NO_SUMMARY = "ended without a word (killed, or no memory left?)"


def write_sweep_table(sweep_dir: Path) -> list[Run]:
    """Write sweep.csv, print the table, and return the jobs."""
    if jobs := read_jobs(sweep_dir):
        ranked = [job for group in rank_settings(jobs) for job in group.runs]
        write_csv(sweep_dir / "sweep.csv", [_csv_row(job, sweep_dir) for job in ranked])
        print_sweep_table(jobs, sweep_dir)
    return jobs


def read_jobs(sweep_dir: Path) -> list[Run]:
    """Every job below the directory, sorted by path; one without a summary counts as failed."""
    jobs = []
    for name, directories, files in os.walk(sweep_dir):
        if Path(name) != sweep_dir and JOB_FILES.intersection(files):
            directories.clear()
            jobs.append(read_run(RunDir(Path(name))))
        directories[:] = [directory for directory in directories if directory not in NOT_SEARCHED]
    return sorted(jobs, key=lambda job: job.dir.path)


def _csv_row(job: Run, sweep_dir: Path) -> dict:
    summary = job.summary
    return {
        "folder": str(job.dir.path.relative_to(sweep_dir)),
        "status": _status(job),
        **job.overrides,
        **(summary.get("quality") or {}),  # an ensemble's are medians over its seeds
        "seeds_run": len(job.seeds),
        "seeds_failed": sum(seed.status != "finished" for seed in job.seeds),
        "images_per_second": summary.get("images_per_second"),
        "error": _error(job),
    }


def _status(job: Run) -> str:
    return "failed" if job.status == "unfinished" else job.status


def _error(job: Run) -> str | None:
    messages = {"unfinished": NO_SUMMARY, "interrupted": "was asked to stop before it finished"}
    return messages.get(job.status) or job.summary.get("error")


def print_sweep_table(jobs: list[Run], sweep_dir: Path) -> None:
    """Print the table, and below it why jobs did not finish."""
    console = Console()
    console.print(sweep_table(jobs, console))
    for job in jobs:
        if job.status != "finished":
            error = escape(f"{job.dir.path.relative_to(sweep_dir)}: {_error(job)}")
            console.print(f"[red]{_status(job)}[/] {error}", soft_wrap=True, highlight=False)
    console.print(f"every job    {sweep_dir / 'sweep.csv'}", soft_wrap=True, highlight=False, markup=False)


def sweep_table(jobs: list[Run], console: Console) -> Table:
    """The mean over the seeds of each setting, over its interval where there are several; the metrics that fit."""
    groups, objective, protocol = rank_settings(jobs), _objective(jobs), RunGroup(jobs).metric_protocol
    names = dict.fromkeys(name for job in jobs for name in job.summary.get("quality") or {})
    metrics = sorted((name.removeprefix(PREFIX) for name in names), key=lambda metric: metric != objective)
    several = any(len(job.seeds) > 1 for job in jobs) or len(groups) < len(jobs)
    best = f", best first by {'the mean of ' * several}{PREFIX}{objective}" if objective else ""
    title, shown = f"sweep of {len(jobs)} jobs{best}", metrics.copy()
    unlimited = console.options.update(width=10_000)
    table = _build_table(groups, shown, title, protocol)
    while len(shown) > 1 and console.measure(table, options=unlimited).maximum > console.width:
        shown.pop()
        table = _build_table(groups, shown, title, protocol)
    notes = []
    if several and metrics:
        notes.append("mean over the seeds, below it its 95 % interval; a seed that failed counts with the worst value there is")
    if hidden := metrics[len(shown) :]:
        notes.append(f"no room here for {', '.join(hidden)}")
    table.caption = "\n".join(notes)
    return table


def _objective(jobs: list[Run]) -> str:
    """The metric that settings are sorted by; "" if no job has one."""
    return next((job.summary["objective"]["name"] for job in jobs if job.summary.get("objective")), "").removeprefix(PREFIX)


def rank_settings(jobs: list[Run]) -> list[RunGroup]:
    """The jobs of each setting, in the report's order."""
    objective, protocol = _objective(jobs), RunGroup(jobs).metric_protocol
    groups = _group_by_setting(jobs)
    return sorted(groups, key=lambda group: rank_key(group, _values(group, objective, protocol), objective or None))


def _build_table(groups: list[RunGroup], metrics: list[str], title: str, protocol: dict) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("setting", overflow="fold", max_width=25)
    for heading in ("seeds", *("\n".join(wrap(name.replace("_", "_ "), 10)).replace("_ ", "_") for name in metrics)):
        table.add_column(heading, justify="right", overflow="fold")
    for group in groups:
        table.add_row(escape(group.name), _seeds_cell(group), *(_metric_cell(group, metric, protocol) for metric in metrics))
    return table


def _group_by_setting(jobs: list[Run]) -> list[RunGroup]:
    """The jobs of each setting under the overrides that tell it from the others."""
    varying = {k for job in jobs for k in job.overrides if len({j.overrides.get(k) for j in jobs}) > 1} - {"seed"}
    groups = defaultdict(list)
    for job in jobs:
        groups[tuple((k, v) for k, v in job.overrides.items() if k in varying)].append(job)
    return [
        RunGroup(same, name=" ".join(f"{k}={shorten_value(v)}" for k, v in overrides) or "all")
        for overrides, same in groups.items()
    ]


def _values(group: RunGroup, metric: str, protocol: dict) -> list[float]:
    """The values of the seeds that began to train."""
    return [*RunGroup([job for job in group.runs if job.status != "refused"]).values(metric, protocol).values()]


def _metric_cell(group: RunGroup, metric: str, protocol: dict) -> str:
    cell = format_mean(_values(group, metric, protocol))
    return cell if isinstance(cell, str) else f"{cell[0]}\n[dim]{cell[1]}[/]"


def _seeds_cell(group: RunGroup) -> str:
    """How many seeds there are, and how many of them failed or were refused."""
    never_ended = ("interrupted", "refused", "unfinished")
    states = [_status(job) if job.status in never_ended else seed.status for job in group.runs for seed in job.seeds]
    bad = "".join(f"\n[red]{n} {state}[/]" for state in ("failed", "refused") if (n := states.count(state)))
    return f"{len(states)}{bad}"
