"""The progress bar of the terminal."""

import pytest

from ganlab.utils.progress import TerminalProgress


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_terminals_only(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    with TerminalProgress("sampling", 30) as bar:
        for _ in range(3):
            bar.advance(10)
    shown = capsys.readouterr().out
    assert ("sampling" in shown and "100%" in shown) == terminal == bool(shown)


def test_track_yields_the_blocks_under_a_description(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with TerminalProgress() as bar:
        assert list(bar.track(range(4), "FID")) == [0, 1, 2, 3]
    shown = capsys.readouterr().out
    assert "FID" in shown and "100%" in shown
