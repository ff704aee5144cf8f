"""The one progress bar of the package, for terminals only."""

import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")


class TerminalProgress:
    """A bar with the share done and the time left, drawn at most four times a second; nothing where there is no terminal.

    A context manager; `close` ends the bar where a `with` block does not fit.

    Args:
        total: units to do, None while that is unknown.
        completed: units done before the start, for example in the session that a run resumes.
        transient: remove the bar from the terminal at the end.
        stderr: draw on stderr instead of stdout.
        enabled: False draws nothing, for example in all processes of a run but the first.
    """

    def __init__(
        self, description="", total: int | None = None, *, completed=0, transient=True, stderr=False, enabled=True
    ) -> None:
        self._completed, self._status, self._drawn_at = completed, "", 0.0
        console = Console(stderr=stderr)
        status = TextColumn("{task.fields[status]}")
        columns = TextColumn("[bold]{task.description}"), BarColumn(bar_width=10), TaskProgressColumn(), status
        remaining = TimeRemainingColumn(compact=True), TextColumn("left")
        disable = not (enabled and console.file.isatty())
        self._bar = Progress(*columns, *remaining, console=console, auto_refresh=False, transient=transient, disable=disable)
        self._task = self._bar.add_task(description, total=total, status="")
        self._bar.start()

    def update(self, completed: int, status: str = "") -> None:
        """Set the number of units done and the text beside the bar."""
        self._completed, self._status = completed, status
        if time.perf_counter() - self._drawn_at > 0.25:
            self._draw()

    def advance(self, units: int = 1) -> None:
        """Count more units as done."""
        self.update(self._completed + units, self._status)

    def track(self, blocks: Iterable[T], description: str) -> Iterator[T]:
        """Yield the blocks, while the bar starts anew under this description and advances by one for each."""
        blocks = list(blocks)
        self._bar.reset(self._task, description=description, total=len(blocks))
        self._completed = 0
        for block in blocks:
            yield block
            self.advance()

    def close(self) -> None:
        """Draw the final state and end the bar."""
        self._draw()
        self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def _draw(self) -> None:
        self._drawn_at = time.perf_counter()
        if not self._bar.disable:
            self._bar.update(self._task, completed=self._completed, status=self._status, refresh=True)
