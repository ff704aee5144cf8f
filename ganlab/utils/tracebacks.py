"""Describe an exception in one line, and find the user's own code in its traceback."""

import sysconfig
import traceback
from pathlib import Path


def describe_error(error: Exception) -> str:
    """The error's message, after its type's name unless the message is a sentence by itself (a ValueError's is)."""
    message = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, ArithmeticError)) and message:
        return message
    return f"{type(error).__name__}: {message}".rstrip(": ")


def line_in_user_code(error: Exception) -> traceback.FrameSummary | None:
    """The innermost frame of the error's traceback that is in user code; None if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_code(frame.filename)]
    return frames[-1] if frames else None


def is_user_code(file: str) -> bool:
    """Whether a source file is neither part of ganlab, nor of an installed library, nor of the standard library."""
    return not file.startswith(("<", str(Path(__file__).parents[1]), *sysconfig.get_paths().values()))
