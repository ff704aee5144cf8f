"""A run's folder: one run at a time, and no run over another."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lightning.pytorch.utilities import rank_zero_only

CHOOSE = "hydra.run.dir=FOLDER"


class RunDirInUse(ValueError):
    """The folder is another run's, whose files stay as they are."""


_early: dict[Path, IO] = {}  # the locks that `lock_run_dir` takes over


@contextmanager
def lock_run_dir(folder: Path, resume: bool) -> Iterator[None]:
    """Nobody else trains in this folder meanwhile; a killed process claims nothing.

    Raises:
        RunDirInUse: another process trains there; or the folder holds a run and `resume` is not asked for.
    """
    lock = _early.pop(folder.resolve(), None) or _lock(folder, resume)
    try:
        yield
    finally:
        if lock:
            lock.close()


def claim_early(folder: Path, resume: bool) -> None:
    """What `lock_run_dir` does, but before it is known what to do in the folder."""
    if before := _early.pop(folder.resolve(), None):
        before.close()
    if lock := _lock(folder, resume):
        _early[folder.resolve()] = lock


def _lock(folder: Path, resume: bool) -> IO | None:
    """An open file that locks the folder until it is closed; None in all but the first process, which claims for all."""
    folder.mkdir(parents=True, exist_ok=True)
    node = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or 0  # as Lightning reads them; no trainer yet
    if rank_zero_only.rank or int(node):
        return None
    file = (folder / ".claim").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RunDirInUse(f"another process trains in {folder}; wait for it, or choose another {CHOOSE}") from error
    if not resume and (folder / "config.yaml").exists():
        file.close()
        raise RunDirInUse(
            f"{folder} holds a run already; go on with it (python -m ganlab resume={folder}), or choose another {CHOOSE}"
        )
    return file


def moved(config, old: str, new: str):
    """The configuration with the run's folder where it is now."""
    if isinstance(config, dict):
        return {key: moved(value, old, new) for key, value in config.items()}
    if isinstance(config, list):
        return [moved(value, old, new) for value in config]
    inside = isinstance(config, str) and (config == old or config.startswith(f"{old}/"))
    return new + config[len(old) :] if inside else config
