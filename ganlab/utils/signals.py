"""What a run raises when a signal has asked it to stop."""

from __future__ import annotations


class Interrupted(Exception):
    """The run was asked to stop and has saved itself. `signal`: the signal's number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal
