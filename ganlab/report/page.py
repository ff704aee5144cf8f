"""Build a report, and write it as one self-contained HTML page and as Markdown beside its pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from ganlab.report import figures, tables
from ganlab.report.figures import Picture
from ganlab.report.formatting import Cell, cell_text, plural, shorten_value
from ganlab.report.groups import differing_fields
from ganlab.report.published import published_table
from ganlab.report.ranking import Ranking, rank_runs
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
    samples_note: str

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
            atomic_write(file, _render(f"{file.name}.j2", report))
    except OSError as error:
        raise ValueError(f"the report cannot be written to {out} ({error}); choose another directory with out=") from error
    return report, files


def build_report(paths: list[Path], metric: str | None = None) -> Report:
    """The report on every run at or below the paths."""
    rankings = rank_runs(paths, metric)
    differences = differing_fields([ranking.protocol for ranking in rankings])
    groups = [group for ranking in rankings for group in ranking.groups]
    states = [seed.status for group in groups for seed in group.seeds]
    counts = ", ".join(f"{states.count(s):,} {s}" for s in ("finished", "failed", "unfinished") if s in states)
    names = ", ".join(path.resolve().name for path in paths)
    return Report(
        title=f"ganlab report: {plural(sum(len(group.runs) + group.replaced for group in groups), 'run')}",
        about=f"{plural(len(groups), 'setting')}, {plural(len(states), 'seed')} ({counts}), from {names}.",
        warnings=_warnings(rankings, differences, metric),
        sections=[_build_section(ranking, chr(97 + i) if i < 26 else str(i + 1)) for i, ranking in enumerate(rankings)],
        protocol_differences=_protocol_differences(rankings, differences) if differences else None,
    )


def ranking_tables(ranking: Ranking) -> list[Table]:
    """All tables, the leaderboard first and the protocol last."""
    makers = (tables.leaderboard, published_table, tables.paired_differences, tables.time_to_all_modes, tables.cost,
              tables.unfinished_runs, tables.protocol_table)  # fmt: skip
    return [table for make in makers if (table := make(ranking))]


def _build_section(ranking: Ranking, stem: str) -> Section:
    return Section(
        ranking=ranking,
        tables=ranking_tables(ranking),
        seeds=figures.seed_pictures(ranking, stem),
        curves=figures.curve_pictures(ranking, stem),
        samples=figures.sample_pictures(ranking, stem),
        samples_note=figures.samples_note(ranking),
    )


def _warnings(rankings: list[Ranking], differences: dict[str, list[str]], metric: str | None) -> list[str]:
    warnings = []
    if differences:
        values = [f" ({' / '.join(map(shorten_value, row))})" * (len(differences) <= 3) for row in differences.values()]
        names = [name.replace("_", " ") + value for name, value in zip(differences, values, strict=True)]
        warnings.append(
            f"These runs were not trained and measured under one protocol, so they stand in {len(rankings)} rankings that "
            f"must not be compared. The protocols differ in: {', '.join(names)}."
        )
    for ranking in rankings:
        if metric and not ranking.full_name(metric):
            warnings.append(f"{ranking.label} has no {metric} and is sorted by {ranking.metric or 'name'}.")
    runs = [run for ranking in rankings for group in ranking.groups for run in group.runs]
    if unfinished := sum(run.status == "unfinished" for run in runs):
        has = "has" if unfinished == 1 else "have"
        warnings.append(
            f"{plural(unfinished, 'run')} {has} left no result: killed, or still training. The table at the end says how far."
        )
    return warnings


def _protocol_differences(rankings: list[Ranking], differences: dict[str, list[str]]) -> Table:
    rows: list[list[Cell]] = [[name.replace("_", " "), *map(shorten_value, values)] for name, values in differences.items()]
    return Table("Where the protocols differ", ["", *(ranking.label for ranking in rankings)], rows)


def _render(template: str, report: Report) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "cell_text": cell_text}
    return environment.get_template(template).render(report=report)


def _breakable(text: str) -> Markup:
    """Escape text for HTML, and let a long name break after an underscore, equals sign, comma or dot, but not in a number."""
    return Markup("<wbr>").join(map(Markup, re.split(r"(?<=\w[_=])(?=\w)|(?<=\w[.,])(?=[A-Za-z+])", str(escape(text)))))
