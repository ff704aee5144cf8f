"""The end of a sweep: one table over its jobs, seeds of the same setting together."""

from __future__ import annotations

import atexit
import math
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from ganlab.files import write_csv, write_whole

if TYPE_CHECKING:
    from ganlab.report.runs import Run


class SweepTable(Callback):
    """Prints the table, writes `sweep.csv` (a row per job), and ends with exit code 1 if a job failed.

    So it does for the jobs that there are when the sweep ends early: asked to stop, or a launcher's process died.
    Where Weights & Biases is on, the report's tables go there, as a run of the sweep's own name.
    A search whose sampler has no seed gets the run's, so that `resume=` asks for the same trials once more.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        sampler = OmegaConf.select(config, "hydra.sweeper.sampler") or {}
        if "seed" in sampler and sampler.seed is None:
            with read_write(config):
                sampler.seed = config.seed
        with suppress(OSError):  # the first job tells it
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "multirun.yaml", OmegaConf.to_yaml(config))  # Hydra's own sweeper does; Optuna's does not
        atexit.register(end_early, folder)  # a launcher's exception passes Hydra's callbacks by

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        atexit.unregister(end_early)
        folder = Path(config.hydra.sweep.dir)
        jobs = tell(folder)
        if any(job.seeds and job.status == "finished" for job in jobs):
            from ganlab.tracking import report_beside

            report_beside(folder, OmegaConf.to_container(config, resolve=False).get("logger") or {})
        if failed := sum(job.status != "finished" for job in jobs):
            raise SystemExit(f"ganlab: {failed} of {len(jobs)} jobs failed; see the table above")


def end_early(folder: Path) -> None:
    if tell(folder):
        print(f"not all jobs are over; python -m ganlab resume={folder} goes on")


def tell(folder: Path) -> list[Run]:
    """Writes the sweep's table and prints it; the jobs in it."""
    jobs = sorted(read_jobs(folder), key=lambda job: job.folder)
    if jobs:
        write_csv(folder / "sweep.csv", [_row(job, folder) for job in jobs])
        show(jobs, folder)
    return jobs


def read_jobs(folder: Path) -> list[Run]:
    """Every job below the folder; one without a summary counts as failed."""
    from ganlab.report.runs import read_run

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
    """A row per setting: the median over its seeds, and the quartiles where there are several."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from ganlab.report.runs import PREFIX
    from ganlab.report.statistics import quartiles
    from ganlab.report.texts import number

    varying = {k for job in jobs for k in job.overrides if len({j.overrides.get(k) for j in jobs}) > 1}
    settings = defaultdict(list)
    for job in jobs:
        settings[tuple((k, v) for k, v in job.overrides.items() if k in varying and k != "seed")].append(job)
    names = list(dict.fromkeys(name for job in jobs for name in job.summary.get("quality") or {}))
    objective = next((job.summary["objective"]["name"] for job in jobs if job.summary.get("objective")), None)

    def cell(group: list[Run], name: str) -> str:
        low, median, high = (number(value) for value in quartiles(values(group, name) or [math.nan]))
        return "–" if median == "nan" else median if low == high else f"{median}\n[dim]{low} … {high}[/]"

    def heading(name: str) -> str:
        """Of several lines where it is long."""
        return "\n".join(wrap(name.removeprefix(PREFIX).replace("_", "_ "), 10)).replace("_ ", "_")

    def width(text: str) -> int:
        return max(map(len, Text.from_markup(text).plain.splitlines()))

    def rank(item) -> float:
        found = values(item[1], objective) if objective else []
        return quartiles(found)[1] if found else math.inf

    several = any(len(job.seeds) > 1 for job in jobs) or len(settings) < len(jobs)
    rows = []
    for setting, group in sorted(settings.items(), key=rank):
        states = [
            _status(job) if job.status in ("refused", "unfinished") else seed.status for job in group for seed in job.seeds
        ]
        bad = "".join(f"\n[red]{n} {state}[/]" for state in ("failed", "refused") if (n := states.count(state)))
        words = " ".join(f"{name}={short(value)}" for name, value in setting) or "all"
        rows.append((escape(words), f"{len(states)}{bad}", {name: cell(group, name) for name in names}))

    console = Console()
    needed = {name: 3 + max(map(width, (heading(name), *(cells[name] for *_, cells in rows)))) for name in names}
    setting_width = min(28, max(width(words) for words, *_ in rows) + 4)
    seeds_width = max(width(seeds) for _, seeds, _ in rows) + 8
    shown = fitting(needed, objective, console.width - setting_width - seeds_width)
    best = f", best first by {'the median of ' * several}{objective}" if objective else ""
    table = Table(title=f"sweep of {len(jobs)} jobs{best}", title_justify="left", show_lines=True)
    table.add_column("setting", overflow="fold")
    for name in ("seeds", *shown):
        table.add_column(heading(name), justify="right", overflow="fold")
    for words, seeds, cells in rows:
        table.add_row(words, seeds, *(cells[name] for name in shown))
    notes = []
    if several and names:
        notes.append("median over the seeds, below it the quartiles; a seed that failed counts with the worst value there is")
    if hidden := [name.removeprefix(PREFIX) for name in names if name not in shown]:
        notes.append(f"no room here for {', '.join(hidden)}")
    table.caption = "\n".join(notes)
    console.print(table)
    for job in jobs:
        if job.status != "finished":
            error = job.summary.get("error", _error(job))
            what = escape(f"{job.folder.relative_to(folder)}: {error}")
            console.print(f"[red]{_status(job)}[/] {what}", soft_wrap=True, highlight=False)
    console.print(f"every job    {folder / 'sweep.csv'}", soft_wrap=True, highlight=False, markup=False)


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
    from ganlab.report.runs import worst

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
