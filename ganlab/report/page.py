"""Build a report, and write it as one self-contained HTML page and as Markdown beside its pictures."""

from dataclasses import dataclass
from pathlib import Path

from ganlab.report import figures, tables
from ganlab.report.figures import Picture
from ganlab.report.formatting import Cell, field_title, plural, shorten_value
from ganlab.report.groups import differing_fields
from ganlab.report.published import published_table
from ganlab.report.ranking import Ranking, rank_runs
from ganlab.report.rendering import render, render_notes
from ganlab.report.tables import Table
from ganlab.utils.files import atomic_write


@dataclass
class Section:
    """A ranking with its tables (the first is the leaderboard, the last the protocol) and pictures."""

    ranking: Ranking
    tables: list[Table]
    seeds: list[Picture]
    curves: list[Picture]
    samples: list[Picture]

    @property
    def pictures(self) -> list[Picture]:
        return [*self.seeds, *self.curves, *self.samples]


@dataclass
class Report:
    title: str
    about: str
    warnings: list[str]
    sections: list[Section]
    protocol_differences: Table | None
    """None if there is one protocol."""


def write_report(paths: list[Path], out: Path | None = None, metric: str | None = None) -> tuple[Report, list[Path]]:
    """Write report.html, report.md and report/*.png on every run at or below the paths.

    Args:
        out: the directory to write to; None: the first path.
        metric: what ranks the runs (see `Ranking`); None: their objective.

    Returns:
        The report, and the paths of report.html and report.md.

    Raises:
        ValueError: a path is no directory or holds no run, no run has the metric, or `out` cannot be written to.
    """
    report = build_report(paths, metric)
    out = out or paths[0]
    try:
        (out / "report").mkdir(parents=True, exist_ok=True)
        for section in report.sections:
            for picture in section.pictures:
                atomic_write(out / "report" / picture.name, picture.content)
        files = [out / "report.html", out / "report.md"]
        for file in files:
            atomic_write(file, render(f"{file.name}.j2", report=report))
    except OSError as error:
        raise ValueError(f"the report cannot be written to {out} ({error}); choose another directory with out=") from error
    return report, files


def build_report(paths: list[Path], metric: str | None = None) -> Report:
    """The report on every run at or below the paths."""
    rankings = rank_runs(paths, metric)
    groups = [group for ranking in rankings for group in ranking.groups]
    states = [seed.status for group in groups for seed in group.seeds]
    counts = ", ".join(f"{states.count(s):,} {s}" for s in ("finished", "failed", "unfinished") if s in states)
    names = ", ".join(path.resolve().name for path in paths)
    differences = differing_fields([ranking.protocol for ranking in rankings])
    rows: list[list[Cell]] = [[field_title(name), *map(shorten_value, values)] for name, values in differences.items()]
    header = ["", *(ranking.label for ranking in rankings)]
    unfinished = sum(run.status == "unfinished" for group in groups for run in group.runs)
    return Report(
        title=f"ganlab report: {plural(sum(len(group.runs) + group.replaced for group in groups), 'run')}",
        about=f"{plural(len(groups), 'setting')}, {plural(len(states), 'seed')} ({counts}), from {names}.",
        warnings=render_notes("warnings", rankings=rankings, differences=differences, metric=metric, unfinished=unfinished),
        sections=[_build_section(ranking, chr(97 + i) if i < 26 else str(i + 1)) for i, ranking in enumerate(rankings)],
        protocol_differences=Table("Where the protocols differ", header, rows) if rows else None,
    )


def _build_section(ranking: Ranking, stem: str) -> Section:
    pictures = [make(ranking, stem) for make in (figures.seed_pictures, figures.curve_pictures, figures.sample_pictures)]
    return Section(ranking, ranking_tables(ranking), *pictures)


def ranking_tables(ranking: Ranking) -> list[Table]:
    """All tables, the leaderboard first and the protocol last."""
    makers = (tables.leaderboard, published_table, tables.paired_differences, tables.time_to_all_modes, tables.cost,
              tables.unfinished_runs, tables.protocol_table)  # fmt: skip
    return [table for make in makers if (table := make(ranking))]
