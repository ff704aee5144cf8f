"""A run's folder: one run at a time, and no run over another."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only


class Occupied(ValueError):
    """The folder is another run's, whose files stay as they are."""


@contextmanager
def claimed(folder: Path, resume: bool) -> Iterator[None]:
    """Nobody else trains in this folder meanwhile; a killed process claims nothing.

    Raises:
        Occupied: another process trains there; or the folder holds a run and `resume` is not asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    node = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or 0  # as Lightning reads them; no trainer yet
    if rank_zero_only.rank or int(node):  # the first process claims for all
        yield
        return
    with (folder / ".claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Occupied(f"another process trains in {folder}; wait for it, or choose another run_dir=") from error
        if not resume and (folder / "config.yaml").exists():
            raise Occupied(
                f"{folder} holds a run already; go on with it (python -m ganlab resume={folder}), or choose another run_dir="
            )
        yield


def moved(config, old: str, new: str):
    """The configuration with the run's folder where it is now."""
    if isinstance(config, dict):
        return {key: moved(value, old, new) for key, value in config.items()}
    if isinstance(config, list):
        return [moved(value, old, new) for value in config]
    inside = isinstance(config, str) and (config == old or config.startswith(f"{old}/"))
    return new + config[len(old) :] if inside else config
