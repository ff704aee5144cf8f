"""Files that are whole or not there."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """The file has the text or does not change; a kill in between leaves no half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def save_figure(path: Path, figure) -> None:
    """A matplotlib Figure as a PNG, likewise."""
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)


def write_json(path: Path, value: dict) -> None:
    """Strict JSON: numbers that are not finite become null."""
    write_whole(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value):
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
