"""Where things are: conf/, and the checkpoint that somebody means by a run's folder, a file, or `latest`."""

from __future__ import annotations

import json
import re
from pathlib import Path

OUTPUTS = Path("outputs")  # where Hydra makes the runs' folders, relative to where one stands
NAMES = ("best.ckpt", "last.ckpt")
PART = re.compile(r"seeds_(\d+)-(\d+)")  # the folder of one part of an ensemble


def find(run: str | Path, seed: int | None = None) -> Path:
    """The checkpoint file of a run: its best by the quality's objective, else its last.

    Args:
        run: a run's folder, a `.ckpt` file, or `latest`: the newest run with a checkpoint at or below ./outputs, jobs
            of sweeps included.
        seed: of an ensemble that was trained in parts, the copy whose part is wanted; None takes the first part.

    Raises:
        FileNotFoundError: there is no checkpoint; the sentence says what became of the run.
        ValueError: no part of the ensemble has the seed.
    """
    path = latest() if str(run) == "latest" and not Path(run).exists() else Path(run).expanduser()
    if path.is_file():
        return path
    if found := _checkpoint_in(path):
        return found
    if parts := _parts(path):
        return _of_part(path, parts, seed)
    raise FileNotFoundError(_why_not(path))


def latest() -> Path:
    """The folder of the newest run with a checkpoint at or below ./outputs."""
    found = [file for name in NAMES for file in OUTPUTS.rglob(f"checkpoints/{name}")]
    if not found:
        raise FileNotFoundError(
            f"run=latest found no checkpoint at or below ./{OUTPUTS}; train first (python -m ganlab), or give a run's folder"
        )
    folder = max(found, key=lambda file: file.stat().st_mtime).parents[1]
    return folder.parent if PART.fullmatch(folder.name) else folder


def folder_of(checkpoint: Path) -> Path:
    """The run's folder, or the one a lone checkpoint lies in."""
    return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _checkpoint_in(folder: Path) -> Path | None:
    return next((file for name in NAMES if (file := folder / "checkpoints" / name).is_file()), None)


def _parts(folder: Path) -> list[tuple[range, Path]]:
    named = [(PART.fullmatch(path.name), path) for path in folder.glob("seeds_*")]
    return sorted(((range(int(m[1]), int(m[2]) + 1), path) for m, path in named if m), key=lambda part: part[0].start)


def _of_part(folder: Path, parts: list[tuple[range, Path]], seed: int | None) -> Path:
    wanted = [part for part in parts if seed is None or seed in part[0]]
    if not wanted:
        raise ValueError(f"this ensemble has the seeds {parts[0][0].start} … {max(p[0].stop for p in parts) - 1}, got {seed}")
    for _, path in wanted:
        if found := _checkpoint_in(path):
            return found
    raise FileNotFoundError(_why_not(wanted[0][1] if seed is not None else folder))


def _why_not(path: Path) -> str:
    sentence = f"no checkpoint at {path}"
    if not path.is_dir():
        return f"{sentence}; give a run's folder (with checkpoints/ inside) or a .ckpt file"
    if jobs := sorted(path.glob("*/checkpoints")):
        return f"{sentence}, which holds {len(jobs)} runs with one; give a run's folder, such as {jobs[0].parent}"
    try:
        summary = json.loads((path / "summary.json").read_text())
        error = str(summary.get("error", "it kept none")).partition("\n")[0]
        happened = f"the run {'finished' if summary.get('status') == 'finished' else 'failed'} ({error})"
    except OSError:
        left = any((path / name).exists() for name in ("config.yaml", "metrics.csv", ".hydra"))
        happened = "the run is unfinished: killed, or not yet at its first look" if left else ""
    except (ValueError, AttributeError):
        happened = "its summary.json cannot be read"
    return f"{sentence}{happened and ', ' + happened}; give a run's folder with checkpoints/ inside, or a .ckpt file"
