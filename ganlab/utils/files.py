"""Atomic file writes: a file has its complete new content, or is unchanged.

Content goes to `<name>.partial` beside the file, is flushed to the disk, and is renamed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pickle
import re
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `path` atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    atomic_replace(partial, path)


def atomic_torch_save(path: Path, value: object, suffix: str = "") -> None:
    """`torch.save` atomically, for values that `torch.load(weights_only=True)` can read.

    Args:
        suffix: distinguishes the partial files of processes that write the same path at the same time.

    Raises:
        OSError: the file cannot be written, for example because the disk is full; `path` is unchanged.
        ValueError: `value` contains an object that `weights_only` loading refuses; `path` is unchanged.
    """
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{suffix}.partial")
    try:
        torch.save(value, partial)
        if not _contains_only(value, {NoneType, bool, int, float, str, torch.Tensor}):  # reading is slower than writing
            torch.load(partial, map_location="cpu", mmap=True, weights_only=True)
        atomic_replace(partial, path)
    except pickle.UnpicklingError as error:
        partial.unlink(missing_ok=True)
        match = re.search(r"GLOBAL (\S+)", str(error))
        kind = match[1] if match else "an object"
        raise ValueError(
            f"{path} would contain {kind}, which cannot be loaded without running code; keep only numbers, strings, lists, "
            "dicts and tensors in the state of your callback, optimizer or schedule (float(x) for a NumPy number)"
        ) from error
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        if isinstance(error, RuntimeError):  # torch reports a full disk as "unexpected pos …" or "iostream error"
            reason = "the file was not written completely, the disk may be full"
        raise OSError(reason) from error


def _contains_only(value: Any, types: set[type]) -> bool:
    """Whether everything in nested dicts, lists and tuples is of one of the types."""
    if type(value) in (dict, OrderedDict):
        return all(_contains_only(part, types) for item in value.items() for part in item)
    if type(value) in (list, tuple):
        return all(_contains_only(part, types) for part in value)
    return type(value) in types


def atomic_replace(partial: Path, path: Path) -> None:
    """Rename a complete file or directory to `path`; a file is flushed to the disk first, so that a power cut leaves
    either the new content or the old."""
    if partial.is_file():
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(partial, path)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows as a CSV table atomically; its columns are the rows' keys in order of first occurrence."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, table.getvalue())


def write_json(path: Path, value: dict) -> None:
    """Write strict JSON atomically; nan and infinities become null."""
    atomic_write(path, json.dumps(non_finite_to_none(value), indent=2, allow_nan=False) + "\n")


def non_finite_to_none(value: object) -> object:
    """A copy of nested dicts, lists and tuples (as lists) with None in place of nan and infinities."""
    if isinstance(value, dict):
        return {key: non_finite_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [non_finite_to_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_figure(path: Path, figure: Figure) -> None:
    """Write a matplotlib figure as PNG atomically."""
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    atomic_replace(partial, path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file or directory to; rename it to `path` on success, delete it on failure.

    Raises:
        ValueError: an OSError in the block (full disk, no permission); the message suggests `out=`.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        _remove(partial)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        atomic_replace(partial, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error}); choose another place with out=") from error
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():  # unlink(missing_ok=True) would raise where a parent is a file
        path.unlink()
