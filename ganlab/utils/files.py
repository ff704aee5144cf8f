"""Files that are whole or not there."""

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


def atomic_write(path: Path, content: str | bytes) -> None:
    """The file has the content or does not change; a kill in between leaves no half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    atomic_replace(partial, path)


def atomic_torch_save(path: Path, value, suffix: str = "") -> None:
    """Tensors and plain values, likewise, as `torch.load` reads them. `suffix` tells what several processes write at once.

    Raises:
        OSError: it cannot be written; the file is as it was before.
        ValueError: it holds what `torch.load` would refuse; likewise.
    """
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{suffix}.partial")
    try:
        torch.save(value, partial)
        if not made_of(value, {NoneType, bool, int, float, str, torch.Tensor}):  # reading takes longer than writing
            torch.load(partial, map_location="cpu", mmap=True, weights_only=True)
        atomic_replace(partial, path)
    except pickle.UnpicklingError as error:
        partial.unlink(missing_ok=True)
        kind = re.search(r"GLOBAL (\S+)|$", str(error))[1] or "an object"
        raise ValueError(
            f"{path} would hold {kind}, which nobody could read again without running code; a callback, optimizer or schedule "
            "of your own keeps only numbers, strings, lists, dicts and tensors in its state (float(x) of a NumPy number)"
        ) from error
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        if isinstance(error, RuntimeError):  # torch says "unexpected pos …" or "iostream error" of a full disk
            reason = "not all of it was written, the disk may be full"
        raise OSError(reason) from error


def made_of(value, kinds: set[type]) -> bool:
    """Whether there is nothing else in it, in dicts, lists and tuples."""
    if type(value) in (dict, OrderedDict):
        return all(made_of(part, kinds) for item in value.items() for part in item)
    if type(value) in (list, tuple):
        return all(made_of(part, kinds) for part in value)
    return type(value) in kinds


def atomic_replace(partial: Path, path: Path) -> None:
    """A whole file, or a folder, takes the name: a file once it is on the disk, so that also a power cut leaves it or
    what was there before."""
    if partial.is_file():
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(partial, path)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """A table whose columns are the rows' keys, in the order in which they first occur; empty where a row has none."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, table.getvalue())


def save_figure(path: Path, figure) -> None:
    """A matplotlib Figure as a PNG, likewise."""
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    atomic_replace(partial, path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file or a folder to. It takes the name at the end, and is gone if anything fails.

    Raises:
        ValueError: it cannot be written (a full disk, no permission), in a sentence with the way out for `out=`.
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


def write_json(path: Path, value: dict) -> None:
    """Strict JSON: numbers that are not finite become null."""
    atomic_write(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value):
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
