"""python -m ganlab report PATH… [out=DIR] [metric=NAME]

Compare all runs at or below the paths, such as a run directory, a sweep's directory, or outputs. It writes report.html,
report.md and pictures in report/, and prints the rankings. Runs that failed or are still training are read as far as they got.
"""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganlab.cli.options import ReportOptions, parse_options


def main(arguments: list[str]) -> None:
    words = [argument for argument in arguments if _is_option(argument)]
    paths = [Path(argument) for argument in arguments if argument not in words]
    options = parse_options(ReportOptions, words)
    if not paths:
        raise ValueError("report needs the directory of a run, of a sweep, or of several: python -m ganlab report outputs")

    from ganlab.report import write_report  # start-up time: it loads matplotlib

    report, files = write_report(paths, Path(options.out) if options.out else None, options.metric)
    _print(report, files)


def _is_option(argument: str) -> bool:
    """Whether an argument is key=value, and not a path: that of a sweep's job has "=" in it, after a slash."""
    name, equals, _ = argument.partition("=")
    return bool(equals and name.isidentifier() and not Path(argument).exists())


def _print(report, files: list[Path]) -> None:
    console = Console(highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]{escape(warning)}[/]")
    for section in report.sections:
        leaderboard = section.tables[0]
        ranked_by = next((i for i, heading in enumerate(leaderboard.header) if heading.endswith("▾")), None)
        shown = len(leaderboard.header) if ranked_by is None else ranked_by + 1
        table = Table(title=escape(section.ranking.title), title_justify="left", show_lines=True)
        for heading in leaderboard.header[:shown]:
            table.add_column(escape(heading), justify="left" if heading == "setting" else "right", overflow="fold")
        for row in leaderboard.rows[:20]:
            cells = [cell if isinstance(cell, str) else "\n".join(filter(None, cell)) for cell in row[:shown]]
            table.add_row(*map(escape, cells))
        console.print(table)
        console.print(escape(section.ranking.conclusion()))
    for file in files:
        console.print(f"{file.suffix[1:]:9} {file}", soft_wrap=True, markup=False)
