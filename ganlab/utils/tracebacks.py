"""Which lines of a traceback are the user's own."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path


def line_in_user_code(error: Exception) -> traceback.FrameSummary | None:
    """The innermost line that is neither ganlab's nor a library's."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_code(frame.filename)]
    return own[-1] if own else None


def is_user_code(file: str) -> bool:
    return not file.startswith(("<", str(Path(__file__).parents[1]), *sysconfig.get_paths().values()))
