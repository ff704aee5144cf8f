"""A run's directory. `RunDir` is the one place that knows its files, reads them and writes them.

outputs/NAME_DATE/
  config.yaml      the resolved configuration, from the moment training starts; a directory without it holds no run
  command.yaml     the overrides that were typed, in which directory, and the presets that Hydra chose
  summary.json     how it ended: status, quality, verdicts, protocol; absent while it trains and after a kill
  metrics.csv      every logged number; seeds.csv: each seed of an ensemble at each evaluation
  samples.png      the last sample grid; samples/: all of them
  checkpoints/     last.ckpt, and best.ckpt by the metric's objective
  ganlab.log       what was printed
"""

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from ganlab.utils.files import atomic_write, write_json

OUTPUTS = Path("outputs")  # where Hydra makes run directories, relative to the current directory
CHECKPOINTS = ("best.ckpt", "last.ckpt")
NOT_SEARCHED = {".hydra", "checkpoints", "extractors", "report", "samples", "wandb"}
CHOOSE_ANOTHER = "choose another directory with hydra.run.dir=DIR"

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a saved config is plain YAML, and OmegaConf takes 20 times as long


class RunDirInUse(ValueError):
    """The directory belongs to another run, whose files stay as they are."""


class Command(NamedTuple):
    """What started a run: the overrides that were typed, the directory in which, and the presets, such as {"loss": "ns"}.

    `starts`: the last two starts, each by the time of the checkpoint that it began from, in ns (0: there was none).
    """

    overrides: list[str]
    cwd: str | None
    presets: dict[str, str]
    starts: list[int]


class RunDir:
    """The files of one run below `path`."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file, self.command_file = path / "config.yaml", path / "command.yaml"
        self.summary_file, self.log_file = path / "summary.json", path / "ganlab.log"
        self.metrics_file, self.seeds_file = path / "metrics.csv", path / "seeds.csv"
        self.samples_file = path / "samples.png"

    @property
    def best_or_last_checkpoint(self) -> Path | None:
        """The best checkpoint, else the last; None if there is none."""
        return next((file for name in CHECKPOINTS if (file := self.path / "checkpoints" / name).is_file()), None)

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint that training resumes from."""
        file = self.path / "checkpoints" / "last.ckpt"
        return file if file.is_file() else None

    @property
    def is_run(self) -> bool:
        return self.config_file.is_file()

    # Config and command

    def read_config(self) -> dict:
        """The saved configuration.

        Raises:
            ValueError: config.yaml is missing, damaged, or no configuration of a run.
        """
        config = read_yaml(self.config_file)
        if not isinstance(config, dict):
            raise ValueError(f"{self.config_file} is of no run of ganlab (it holds no settings); give a run's directory")
        return config

    def write_config(self, config: dict) -> None:
        atomic_write(self.config_file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10_000))

    def read_command(self) -> Command:
        """What started the run; nothing and None where that is not known."""
        try:
            command = read_yaml(self.command_file) or {}
        except ValueError:
            command = {}
        overrides = [str(word) for word in command.get("overrides") or []]
        return Command(overrides, command.get("cwd"), command.get("presets") or {}, command.get("starts") or [])

    def write_command(self, overrides: Sequence[str], presets: Mapping[str, str] | None = None) -> None:
        if not is_first_process():
            return
        command: dict[str, object] = {"overrides": list(overrides), "cwd": os.getcwd(), "presets": dict(presets or {})}
        command["starts"] = [*self.read_command().starts, self._checkpoint_time][-2:]
        atomic_write(self.command_file, yaml.safe_dump(command, sort_keys=False, allow_unicode=True))

    # How it ended

    def read_summary(self) -> dict:
        """summary.json; {} if there is none. A damaged one counts as a failure."""
        try:
            summary = json.loads(self.summary_file.read_text())
        except OSError:
            return {}
        except ValueError as error:
            return {"status": "failed", "error": f"its summary.json cannot be read ({error})"}
        return summary if isinstance(summary, dict) else {"status": "failed", "error": "its summary.json holds no summary"}

    def write_summary(self, summary: dict) -> None:
        write_json(self.summary_file, summary)

    @property
    def status(self) -> str:
        """finished (also short of max_images: see `ended_early`), failed, interrupted, refused (a sweep's job that never trained)
        or unfinished (training, or killed)."""
        return self.read_summary().get("status", "unfinished")

    @property
    def is_complete(self) -> bool:
        """Whether training again would change nothing: it finished, or a loss was not finite."""
        summary = self.read_summary()
        return summary.get("status") == "finished" or summary.get("error_type") == "FloatingPointError"

    @property
    def has_failed(self) -> bool:
        """Whether training failed, and not for want of disk space."""
        summary = self.read_summary()
        return summary.get("status") == "failed" and summary.get("error_type") != "OSError"

    @property
    def was_killed_twice(self) -> bool:
        """Whether its last two processes ended without a word, from the same checkpoint on."""
        return self.status == "unfinished" and self.read_command().starts == [self._checkpoint_time] * 2

    @property
    def _checkpoint_time(self) -> int:
        return 0 if self.last_checkpoint is None else self.last_checkpoint.stat().st_mtime_ns

    @property
    def ended_early(self) -> str | None:
        """What ended a finished run short of its max_images; None if nothing did."""
        return self.read_summary().get("ended_by")

    # One process at a time

    @contextmanager
    def lock(self, resume: bool) -> Iterator[None]:
        """Nobody else trains in this directory meanwhile; a killed process holds no lock.

        Raises:
            RunDirInUse: another process trains there, or it holds a run that `resume` does not ask to continue.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not is_first_process():  # which locks for all
            yield
            return
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunDirInUse(f"another process trains in {self.path}; wait for it, or {CHOOSE_ANOTHER}") from error
            if self.is_run and not resume:
                raise RunDirInUse(
                    f"{self.path} holds a run already; continue it (python -m ganlab resume={self.path}), or {CHOOSE_ANOTHER}"
                )
            yield

    def discard(self, existing: Collection[Path]) -> None:
        """Remove what a run that never trained has left, but nothing of `existing`: the files from before it."""
        if not is_first_process():
            return
        (self.path / ".lock").unlink(missing_ok=True)
        if self.command_file not in existing:
            self.command_file.unlink(missing_ok=True)
        if (wandb := self.path / "wandb") not in existing:
            shutil.rmtree(wandb, ignore_errors=True)
        self.remove_if_empty()

    def remove_if_empty(self) -> None:
        """Remove the directory if there is nothing in it but the log of what was printed."""
        if is_first_process() and self.path.is_dir() and {*self.path.iterdir()} <= {self.log_file}:
            self.log_file.unlink(missing_ok=True)
            self.path.rmdir()


def is_first_process() -> bool:
    """Whether this is rank 0 of its run, by the variables that Lightning and cluster launchers set."""
    ranks = (os.environ.get(name) or 0 for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
    return not any(int(rank) for rank in ranks)


def read_yaml(path: Path):
    """
    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        return yaml.load(path.read_text(), Loader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}); put a whole one there") from error


def find_run_dirs(top: Path) -> list[RunDir]:
    """Every run at or below a directory, in the order of their paths. Below a run no other is looked for."""
    found = []
    for name, folders, files in os.walk(top):
        if "config.yaml" in files and "inspect.json" not in files:
            folders.clear()
            found.append(RunDir(Path(name)))
        folders[:] = sorted(folder for folder in folders if folder not in NOT_SEARCHED)
    return sorted(found, key=lambda run: run.path)


def latest_unfinished() -> RunDir:
    """The run at or below ./outputs that was started or resumed last, of those not complete or short of their max_images.

    Raises:
        ValueError: there is no run, or all are complete.
    """
    runs = find_run_dirs(OUTPUTS)
    if not runs:
        raise ValueError(f"there is no run at or below ./{OUTPUTS}; train first (python -m ganlab), or give a run's directory")
    unfinished = [run for run in runs if not run.is_complete or run.ended_early]
    if not unfinished:
        raise ValueError(f"all {len(runs)} runs at or below ./{OUTPUTS} are finished; give a run's directory")
    return max(unfinished, key=lambda run: run.config_file.stat().st_mtime)


def find_checkpoint(run: str | Path) -> Path:
    """The checkpoint file of a run: the best by its metric's objective, else the last.

    Args:
        run: a run's directory, a `.ckpt` file, or `latest`: the run at or below ./outputs with the newest checkpoint.

    Raises:
        FileNotFoundError: there is no checkpoint; the sentence says what became of the run.
    """
    path = Path(run).expanduser()
    if str(run) == "latest" and not path.exists():
        checkpoints = [file for name in CHECKPOINTS for file in OUTPUTS.rglob(f"checkpoints/{name}")]
        if not checkpoints:
            raise FileNotFoundError(
                f"run=latest found no checkpoint below ./{OUTPUTS}; train first (python -m ganlab), or give a run's directory"
            )
        path = max(checkpoints, key=lambda file: file.stat().st_mtime).parents[1]
    if path.is_file():
        return path
    if (checkpoint := RunDir(path).best_or_last_checkpoint) is None:
        raise FileNotFoundError(f"no checkpoint at {path}{_why_not(RunDir(path))}, or a .ckpt file")
    return checkpoint


def _why_not(run: RunDir) -> str:
    """What became of a run without a checkpoint, and what to give instead."""
    if others := sorted(run.path.glob("*/checkpoints")):
        return f", which holds {len(others)} runs with one; give a run's directory, such as {others[0].parent}"
    reason = ""
    if summary := run.read_summary():
        error = str(summary.get("error", "it kept none")).partition("\n")[0]
        reason = f", the run {'finished' if run.status == 'finished' else 'failed'} ({error})"
    elif run.is_run:
        reason = ", the run is unfinished: killed, or not yet at its first evaluation"
    return f"{reason}; give a run's directory with checkpoints/ inside"


def run_dir_of(checkpoint: Path) -> RunDir:
    """The directory of the run that a checkpoint belongs to, or the one that a lone checkpoint lies in."""
    return RunDir(checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent)
