"""What a folder says of the run that began in it, whether that may go on, and how it does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from ganlab.config.schema import REQUIRED
from ganlab.utils.files import atomic_write


def summary(run: Path) -> dict:
    """What the run says became of it; nothing if it was killed, or left what cannot be read."""
    try:
        found = json.loads((run / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def over(run: Path) -> bool:
    """Whether training again would bring the same: it finished, or a loss was not finite."""
    told = summary(run)
    return told.get("status") == "finished" or told.get("error_type") == "FloatingPointError"


def read(path: Path) -> DictConfig:
    try:
        found = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}); put a whole one there") from error
    return found if isinstance(found, DictConfig) else OmegaConf.create()


def prepared(folder: Path, trust: Sequence[str] = ()) -> dict:
    """The configuration of the run in this folder, where it is now."""
    from ganlab.runs.folders import moved

    if over(folder):
        raise ValueError(f"{folder} is {summary(folder)['status']}, there is nothing to go on with; start a new run")
    config = OmegaConf.to_container(read(folder / "config.yaml"))
    if missing := [key for key in (*REQUIRED, "seeds") if key not in config]:
        raise ValueError(f"{folder / 'config.yaml'} is of no run of ganlab (it has no {missing[0]}); give a run's folder")
    require_all_trusted(config, trust)
    return moved(config, config["run_dir"], str(folder))


def require_all_trusted(config: dict, trust: Sequence[str]) -> None:
    from ganlab.runs.loading import OWN, require_trusted, targets

    require_trusted(targets(config), (*OWN, *trust))


def same(cfg: DictConfig, folder: Path) -> bool:
    """Whether the folder holds the very run that this configuration describes."""
    try:
        saved = OmegaConf.load(folder / "config.yaml")
    except FileNotFoundError:
        return False
    ours = OmegaConf.create(OmegaConf.to_yaml(cfg, resolve=True))
    return {**saved, "seeds_at_once": None} == {**ours, "seeds_at_once": None}  # which a run settles by the memory it finds


def named(cfg: DictConfig) -> list[str]:
    """The modules of every class that the configuration names: what somebody types is trusted."""
    from ganlab.runs.loading import targets

    return sorted({target.partition(".")[0] for target in targets(OmegaConf.to_container(cfg, resolve=True))})


def way_on(folder: Path) -> str:
    """The command that goes on with the run in this folder, to paste into a shell."""
    from ganlab.runs.loading import ALWAYS, OWN, targets

    known, names = {*ALWAYS, *OWN, "torch"}, []
    with suppress(ValueError, OSError):
        names = [name.partition(".")[0] for name in targets(OmegaConf.to_container(read(folder / "config.yaml")))]
    own = [name for name in dict.fromkeys(names) if name not in known]
    return shlex.join(["python", "-m", "ganlab", f"resume={folder}", *([f"trust={','.join(own)}"] if own else [])])


class Died(ValueError):
    """A sweep's job that would end the sweep with it once more."""


def note_start(folder: Path) -> None:
    """Keeps count of a job's starts in its folder, each with the time of the newest checkpoint, also of an ensemble's parts.

    Raises:
        Died: at the last two starts its process ended without a word and without a new checkpoint.
    """
    path, told = folder / ".starts", summary(folder)
    now = str(max((file.stat().st_mtime_ns for file in folder.rglob("checkpoints/last.ckpt")), default=0))
    before = path.read_text().split() if path.is_file() else []
    if told and told.get("error_type") != Died.__name__:
        before = []
    if before[-2:] == [now, now]:
        raise Died(
            "its process ended twice without a word (killed, or no memory left), so the sweep leaves it out; "
            f"{way_on(folder)} tries it alone"
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, " ".join([*before, now]) + "\n")
    if not over(folder):
        (folder / "summary.json").unlink(missing_ok=True)  # of the start before; this one may end without a word


def go_on(config: dict) -> float:
    """The run to its end; returns its objective."""
    from ganlab.runs import train
    from ganlab.utils.library_warnings import silence_library_warnings

    silence_library_warnings()
    goes = train.run if config["seeds"] is None else train.run_seeds
    return train.objective(goes(config, resume=True))
