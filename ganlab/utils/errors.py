"""What a run raises when a signal stops it; how an exception is described, and where in the user's own code it arose."""

import sysconfig
import traceback
from pathlib import Path


class Interrupted(Exception):
    """The run was asked to stop and has saved itself. `signal`: the signal's number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def describe_error(error: Exception) -> str:
    """The error's message, after its type's name unless the message is a sentence by itself (a ValueError's is).

    Without a message, where the error was raised.
    """
    message = " ".join(str(error).split())
    if not message and (frames := traceback.extract_tb(error.__traceback__)):
        return f"{type(error).__name__} in {frames[-1].filename}, line {frames[-1].lineno}"
    if isinstance(error, (ValueError, OSError, ArithmeticError)) and message:
        return message
    return f"{type(error).__name__}: {message}".rstrip(": ")


def line_in_user_code(error: Exception) -> traceback.FrameSummary | None:
    """The innermost frame of the error's traceback that is in user code; None if there is none."""
    return next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if is_user_code(f.filename)), None)


def is_user_code(file: str) -> bool:
    """Whether a source file is neither part of ganlab, nor of an installed library, nor of the standard library."""
    return not file.startswith(("<", str(Path(__file__).parents[1]), *sysconfig.get_paths().values()))
