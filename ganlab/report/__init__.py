"""`python -m ganlab report PATH… [out=FOLDER] [metric=NAME]`: what runs left, as one page.

It reads only what runs wrote: of any family, single runs, sweeps and ensembles, finished or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ganlab.cli.options import ReportOptions, parse_options
from ganlab.report import gallery, page
from ganlab.report.cards import BUDGET, differing
from ganlab.report.details import card, costs, coverage, troubles
from ganlab.report.grouping import group
from ganlab.report.page import Report, Section
from ganlab.report.ranking import Ranking
from ganlab.report.runs import Run, find_runs
from ganlab.report.tables import Table, differences, leaderboard, published
from ganlab.report.texts import short_value
from ganlab.utils.files import atomic_write

__all__ = ["Comparison", "Report", "build", "compare", "letters", "main", "titled_tables", "write"]


def main(arguments: list[str]) -> None:
    """Writes report.html, report.md and report/*.png; prints the rankings and where they are.

    Raises:
        ValueError: an option is not known, a path is no folder or holds no run, no run has the metric, or the page
            cannot be written; one sentence with the way out.
    """
    words = [argument for argument in arguments if _is_option(argument)]
    paths = [Path(argument) for argument in arguments if argument not in words]
    options = parse_options(ReportOptions, words)
    if not paths:
        raise ValueError("report needs the folder of a run, of a sweep, or several: python -m ganlab report outputs")
    report = build(paths, options.metric)
    folder = Path(options.out or paths[0])
    try:
        written = write(report, folder)
    except OSError as error:
        raise ValueError(f"the report cannot be written to {folder} ({error}); choose another place with out=") from error
    _show(report, written)


def _is_option(argument: str) -> bool:
    """And no path, which may hold "=" after a slash, as sweep folders do."""
    name, equals, _ = argument.partition("=")
    return argument in ("-h", "--help") or bool(equals and name.isidentifier() and not Path(argument).exists())


class Comparison(NamedTuple):
    """The runs that were found and began to train, how many did not, and a ranking per protocol card."""

    runs: list[Run]
    refused: int
    rankings: list[Ranking]


def compare(paths: list[Path], metric: str | None = None) -> Comparison:
    """Every run at or below the paths, ranked.

    Raises:
        ValueError: a path is no folder or holds no run, no run began to train, or none has the metric.
    """
    found = find_runs(paths)
    runs = [run for run in found if run.status != "refused"]
    if not runs:
        raise ValueError(f"none of the {len(found)} runs here began to train; their summary.json says why")
    rankings = [Ranking(settings, metric) for settings in group(runs)]
    if metric and not any(ranking.resolved(metric) for ranking in rankings):
        choices = dict.fromkeys(name for ranking in rankings for name in ranking.choices())
        raise ValueError(f"no run here has metric={metric}; choose one of {', '.join(choices)}")
    return Comparison(runs, len(found) - len(runs), rankings)


def build(paths: list[Path], metric: str | None = None) -> Report:
    """The report on every run at or below the paths."""
    runs, refused, rankings = compare(paths, metric)
    letters = _letters(rankings)
    return Report(
        title=f"ganlab report: {_count(len(runs), 'run')}",
        about=_about(paths, rankings),
        warnings=[*_refused(refused), *_warnings(rankings, letters, metric)],
        sections=[
            _section(ranking, letter if len(rankings) > 1 else "", i)
            for i, (ranking, letter) in enumerate(zip(rankings, letters, strict=True))
        ],
        protocols=_protocols(rankings, letters) if len(rankings) > 1 else None,
    )


def _letters(rankings: list[Ranking]) -> list[str]:
    return [f"Ranking {chr(65 + i) if i < 26 else i + 1}" for i in range(len(rankings))]


def _refused(count: int) -> list[str]:
    """A run that was refused before it began says nothing about its loss, and is in no number."""
    return [f"{_count(count, 'run')} never began to train (a setting was refused): left out."] if count else []


def write(report: Report, folder: Path) -> list[Path]:
    """report.html, report.md, and the pictures in report/; returns the first two."""
    beside = folder / "report"
    beside.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures():
        atomic_write(beside / picture.name, picture.content)
    written = [folder / "report.html", folder / "report.md"]
    for path, text in zip(written, (page.html(report), page.markdown(report, beside.name)), strict=True):
        atomic_write(path, text)
    return written


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _about(paths: list[Path], rankings: list[Ranking]) -> str:
    settings = [setting for ranking in rankings for setting in ranking.settings]
    seeds = [seed for setting in settings for seed in setting.seeds]
    states = [seed.status for seed in seeds]
    ended = ", ".join(f"{states.count(s):,} {s}" for s in ("finished", "failed", "unfinished") if s in states)
    return (
        f"{_count(len(settings), 'setting')}, {_count(len(seeds), 'seed')} ({ended}), "
        f"from {', '.join(path.resolve().name for path in paths)}."
    )


def _warnings(rankings: list[Ranking], letters: list[str], metric: str | None) -> list[str]:
    sentences = []
    if len(rankings) > 1:
        fields = differing([ranking.settings[0].card for ranking in rankings])
        names = [name.replace("_", " ") for name in fields]
        if len(fields) <= 3:
            names = [f"{n} ({' / '.join(map(short_value, v))})" for n, v in zip(names, fields.values(), strict=True)]
        sentences.append(
            f"These runs were not trained and measured under one protocol, so they stand in {len(rankings)} rankings that "
            f"must not be compared. The protocols differ in: {', '.join(names)}."
        )
    if metric:
        for ranking, letter in zip(rankings, letters, strict=True):
            if not ranking.resolved(metric):
                sentences.append(f"{letter} has no {metric} and is sorted by {ranking.metric or 'name'}.")
    counted = [run for ranking in rankings for setting in ranking.settings for run in setting.runs]
    if unfinished := [run for run in counted if run.status == "unfinished"]:
        what = "1 run has" if len(unfinished) == 1 else f"{len(unfinished)} runs have"
        sentences.append(f"{what} left no result: killed, or still under way. The table at the end says how far.")
    return sentences


def _protocols(rankings: list[Ranking], letters: list[str]) -> Table:
    fields = differing([ranking.settings[0].card for ranking in rankings])
    rows = [[name.replace("_", " "), *map(short_value, values)] for name, values in fields.items()]
    return Table("Where the protocols differ", ["", *letters], rows)


def title(ranking: Ranking) -> str:
    card = ranking.settings[0].card
    budget, packed, _ = card[BUDGET].partition(" (")
    return ", ".join([card["data"], f"N = {card['N (samples per look)']}", budget if packed else f"{budget} images"])


def tables(ranking: Ranking) -> list[Table]:
    """All but the protocol, the leaderboard first."""
    found = (part(ranking) for part in (leaderboard, published, differences, coverage, costs, troubles))
    return [table for table in found if table]


def letters(rankings: list[Ranking]) -> list[str]:
    """What stands before the names of each ranking's tables and numbers: "Ranking B/"; nothing if there is but one."""
    return [f"{letter}/" for letter in _letters(rankings)] if len(rankings) > 1 else [""]


def titled_tables(rankings: list[Ranking]) -> list[tuple[str, Table]]:
    """Every table with its protocol, each under a name of its own."""
    found = []
    for ranking, before in zip(rankings, letters(rankings), strict=True):
        found += [(before + table.title, table) for table in (*tables(ranking), card(ranking))]
    return found


def _section(ranking: Ranking, letter: str, place: int) -> Section:
    stem = f"{chr(97 + place) if place < 26 else place + 1}"
    return Section(
        title=(f"{letter}: " if letter else "") + title(ranking),
        verdict=ranking.verdict(),
        tables=tables(ranking),
        card=card(ranking),
        seeds=gallery.seeds(ranking, stem),
        curves=gallery.curves(ranking, stem),
        samples=gallery.samples(ranking, stem),
        samples_note=gallery.samples_note(ranking),
        samples_show="images" if not ranking.is_toy else "several" if ranking.has_ensembles else "one",
    )


def _show(report: Report, written: list[Path]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = Console(highlight=False)
    for sentence in report.warnings:
        console.print(f"[yellow]{escape(sentence)}[/]")
    for section in report.sections:
        board = section.tables[0]
        shown = next((i for i, heading in enumerate(board.header) if heading.endswith("▾")), len(board.header)) + 1
        table = RichTable(title=escape(section.title), title_justify="left", show_lines=True)
        for heading in board.header[:shown]:
            table.add_column(escape(heading), justify="left" if heading == "setting" else "right", overflow="fold")
        for row in board.rows[:20]:
            cells = [cell if isinstance(cell, str) else "\n".join(filter(None, cell)) for cell in row[:shown]]
            table.add_row(*map(escape, cells))
        console.print(table)
        console.print(escape(section.verdict))
    for path in written:
        console.print(f"{path.suffix[1:]:9} {path}", soft_wrap=True, markup=False)
