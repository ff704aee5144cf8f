"""`python -m ganlab report PATH… [out=FOLDER] [metric=NAME]`: what runs left, as one page to read.

Reads only what runs wrote: any family, single runs and ensembles, finished or not.
"""

from __future__ import annotations

from pathlib import Path

from ganlab.files import write_whole
from ganlab.report import page, pictures
from ganlab.report.page import Picture, Report, Section
from ganlab.report.runs import Run, find_runs
from ganlab.report.settings import Setting, differing, group
from ganlab.report.tables import Ranking, Table
from ganlab.report.texts import number, short_value

__all__ = ["Report", "build", "main", "write"]

OPTIONS = ("out", "metric")


def main(arguments: list[str]) -> None:
    """Writes report.html, report.md and report/*.png; prints the rankings and where they are.

    Raises:
        ValueError: an option is not known, a path is no folder or holds no run, no run has the metric, or the page
            cannot be written; one sentence with the way out.
    """
    paths = [Path(argument) for argument in arguments if _option(argument) is None]
    options = dict(argument.split("=", 1) for argument in arguments if _option(argument) is not None)
    if unknown := [name for name in options if name not in OPTIONS]:
        raise ValueError(f"report knows the options out=FOLDER and metric=NAME, got {unknown[0]}={options[unknown[0]]}")
    if not paths:
        raise ValueError("report needs the folder of a run, of a sweep, or several: python -m ganlab report outputs")
    report = build(paths, options.get("metric"))
    folder = Path(options.get("out", paths[0]))
    try:
        written = write(report, folder)
    except OSError as error:
        raise ValueError(
            f"the report cannot be written to {folder} ({error}); choose another place with out="
        ) from error
    _show(report, written)


def _option(argument: str) -> str | None:
    """The option's name; None for a path, which may hold "=" after a slash, as sweep folders do."""
    name, equals, _ = argument.partition("=")
    return name if equals and name.isidentifier() and not Path(argument).exists() else None


def build(paths: list[Path], metric: str | None = None) -> Report:
    """The report on every run at or below the paths."""
    found = find_runs(paths)
    runs = [run for run in found if run.status != "refused"]
    if not runs:
        raise ValueError(f"none of the {len(found)} runs here began to train; their summary.json says why")
    groups = group(runs)
    rankings = [Ranking(settings, metric) for settings in groups]
    if metric and not any(ranking.resolved(metric) for ranking in rankings):
        choices = dict.fromkeys(name for ranking in rankings for name in ranking.choices())
        raise ValueError(f"no run here has metric={metric}; choose one of {', '.join(choices)}")
    letters = [f"Ranking {chr(65 + i) if i < 26 else i + 1}" for i in range(len(rankings))]
    return Report(
        title=f"ganlab report: {_count(len(runs), 'run')}",
        about=_about(paths, runs, groups),
        warnings=[*_refused(len(found) - len(runs)), *_warnings(runs, rankings, letters, metric)],
        sections=[
            _section(ranking, letter if len(rankings) > 1 else "", i)
            for i, (ranking, letter) in enumerate(zip(rankings, letters, strict=True))
        ],
        protocols=_protocols(rankings, letters) if len(rankings) > 1 else None,
    )


def _refused(count: int) -> list[str]:
    """A run that was refused before it began says nothing about its loss, and is in no number."""
    return [f"{_count(count, 'run')} never began to train (a setting was refused): left out."] if count else []


def write(report: Report, folder: Path) -> list[Path]:
    """report.html, report.md, and the pictures in report/; returns the first two."""
    beside = folder / "report"
    beside.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures():
        (beside / picture.name).write_bytes(picture.content)
    written = [folder / "report.html", folder / "report.md"]
    for path, text in zip(written, (page.html(report), page.markdown(report, beside.name)), strict=True):
        write_whole(path, text)
    return written


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _about(paths: list[Path], runs: list[Run], groups: list[list[Setting]]) -> str:
    settings = [setting for card in groups for setting in card]
    seeds = [seed for setting in settings for seed in setting.seeds]
    states = [seed.status for seed in seeds]
    ended = ", ".join(f"{states.count(s):,} {s}" for s in ("finished", "failed", "unfinished") if s in states)
    return (
        f"{_count(len(settings), 'setting')}, {_count(len(seeds), 'seed')} ({ended}), "
        f"from {', '.join(path.resolve().name for path in paths)}."
    )


def _warnings(runs: list[Run], rankings: list[Ranking], letters: list[str], metric: str | None) -> list[str]:
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
    if unfinished := [run for run in runs if run.status == "unfinished"]:
        what = "1 run has" if len(unfinished) == 1 else f"{len(unfinished)} runs have"
        sentences.append(f"{what} left no result: killed, or still under way. The table at the end says how far.")
    return sentences


def _protocols(rankings: list[Ranking], letters: list[str]) -> Table:
    fields = differing([ranking.settings[0].card for ranking in rankings])
    rows = [[name.replace("_", " "), *map(short_value, values)] for name, values in fields.items()]
    return Table("Where the protocols differ", ["", *letters], rows)


def _section(ranking: Ranking, letter: str, place: int) -> Section:
    card = ranking.settings[0].card
    parts = [card["data"], f"N = {card['N (samples per look)']}", f"{card['budget (real images)']} images"]
    title = (f"{letter}: " if letter else "") + ", ".join(parts)
    tables = [
        ranking.leaderboard(),
        ranking.published(),
        ranking.differences(),
        ranking.coverage(),
        ranking.costs(),
        ranking.troubles(),
    ]
    stem = f"{chr(97 + place) if place < 26 else place + 1}"
    return Section(
        title=title,
        verdict=ranking.verdict(),
        tables=[table for table in tables if table],
        card=ranking.card(),
        seeds=_seeds(ranking, stem),
        curves=_curves(ranking, stem),
        samples=_samples(ranking, stem),
        samples_note=_samples_note(ranking),
        samples_show="images" if not ranking.is_toy else "several" if ranking.has_ensembles else "one",
    )


def _drawn(ranking: Ranking) -> list[str]:
    """The metrics that are drawn: the ranking's (what the runs aimed at, if that is a rate) and the number of modes."""
    first = ranking.metric if ranking.metric in ranking.metrics else ranking.objective
    return [name for name in dict.fromkeys((first, ranking.modes_metric)) if name]


def _seeds(ranking: Ranking, stem: str) -> list[Picture]:
    found = []
    for metric in _drawn(ranking):
        if png := pictures.every_seed(ranking, metric):
            caption = f"{metric} at the end: a dot per seed, below them the mean and its 95 % interval."
            found.append(Picture(f"{stem}_{metric}_seeds.png", png, caption))
    return found


def _curves(ranking: Ranking, stem: str) -> list[Picture]:
    drawn = (
        f" The best {pictures.MOST} of {len(ranking.settings)} settings."
        if len(ranking.settings) > pictures.MOST
        else ""
    )
    found = []
    for metric in _drawn(ranking):
        for against, words in (("images", "real images seen"), ("seconds", "wall time")):
            if png := pictures.curve(ranking, metric, against):
                caption = f"{metric} against {words}: median over seeds, band from quartile to quartile.{drawn}"
                found.append(Picture(f"{stem}_{metric}_{against}.png", png, caption))
    return found


def _samples(ranking: Ranking, stem: str) -> list[Picture]:
    """The same seed of every setting, so that nobody chooses a pretty one: the smallest that all have."""
    shown = ranking.settings[: pictures.MOST]
    shared = set.intersection(*({seed.seed for seed in setting.seeds} for setting in shown))
    found = []
    for place, setting in enumerate(shown, 1):
        seed = min(shared or {seed.seed for seed in setting.seeds})
        run = next(run for run in setting.runs if any(other.seed == seed for other in run.seeds))
        png = pictures.samples(run)
        if png is None:
            continue
        whose = f"{setting.name}, seed {seed}" if run.together == 1 else f"{setting.name}, the first seeds"
        values = ranking.values(setting, ranking.metric) if ranking.metric in ranking.metrics else {}
        scored = f": {ranking.metric} {number(values[seed])}" if seed in values and run.together == 1 else ""
        found.append(Picture(f"{stem}_samples_{place}.png", png, whose + scored))
        if ranking.is_toy and (gif := pictures.training_gif(run)):
            found.append(Picture(f"{stem}_training_{place}.gif", gif, f"{whose}, while it trained"))
    return found


def _samples_note(ranking: Ranking) -> str:
    note = "The same latents for every setting, of the averaged generator; the smallest seed that all have, not a chosen one."
    if ranking.is_toy and not ranking.has_ensembles:
        note += " Red: 2,500 samples at the end; grey: the true density, widened until it can be seen."
    if ranking.has_ensembles:
        note += " Of an ensemble the first seeds that did not fail."
    return note


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
