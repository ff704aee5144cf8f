"""Continues what was stopped, as if it had never stopped: `python -m ganlab resume=RUN`. RUN is a run's folder, or `latest`,
the newest run that is not finished; of a sweep's folder, the missing jobs are trained.

The run's own config.yaml says what is trained, in the same folder, from its last checkpoint. A class outside ganlab,
torch.optim, lightning and torchmetrics is built only if its module is named: trust=my_gan. The same holds for a sweep's
--config-dir, and for what its command tells Hydra beyond launcher and sweeper.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from ganlab.arguments import parsed
from ganlab.files import write_whole
from ganlab.finding import OUTPUTS, PART
from ganlab.job import guarded
from ganlab.kinds import REQUIRED

OWN = ("lightning", "torchmetrics")  # what a run's configuration names besides ganlab's and torch's optimisers
# Of what a sweep's command says to Hydra: more could name classes, or a shell's commands to a cluster's launcher.
HARMLESS = re.compile(r"hydra/(launcher|sweeper)(/\w+)?=\w+|hydra\.(launcher|sweeper)\.[\w.]+=[\w.+-]*|hydra\.sweep\.subdir=.*")


def main(arguments: list[str]) -> None:
    """
    Raises:
        ValueError: the folder holds no run, the run is finished, or it names a class that is not trusted.
    """
    options = parsed("resume", arguments, resume="latest", trust=list[str])
    trust = options["trust"] or []
    folder = unfinished() if options["resume"] == "latest" else Path(options["resume"]).expanduser()
    if (folder / "multirun.yaml").is_file():
        sweep(folder, trust)
    elif (folder / "config.yaml").is_file():
        folder = folder.resolve()
        if (hydra := folder / ".hydra" / "hydra.yaml").is_file():
            stand_where_it_began(OmegaConf.select(read(hydra), "hydra.runtime.cwd"), trust)
        config = prepared(folder, trust)
        sys.argv[1:] = [f"resume={folder}"] + ([f"trust={','.join(trust)}"] if trust else [])  # Lightning's other processes
        guarded(lambda: go_on(config), folder, config["name"], go_on=False)
    else:
        raise ValueError(f"{folder} holds no run (no config.yaml) and no sweep; give a run's folder, or resume=latest")


def unfinished() -> Path:
    """The newest run at or below ./outputs that is not finished."""
    found = [path for path in OUTPUTS.rglob("config.yaml") if not {".hydra", "wandb"} & {*path.parts}]
    runs = [path.parent for path in found if not PART.fullmatch(path.parent.name) and not over(path.parent)]
    if not runs:
        raise ValueError(f"every run at or below ./{OUTPUTS} is finished; give a run's folder")
    return max(runs, key=lambda run: (run / "config.yaml").stat().st_mtime)


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


def stand_where_it_began(cwd: str | None, trust: Sequence[str]) -> None:
    """data_dir is found from the folder where the command was typed, and a user's own modules, if any is trusted."""
    if cwd and Path(cwd).is_dir():
        here = os.getcwd()
        os.chdir(cwd)
        if trust:  # or a stranger's folder could hold a module of any name
            sys.path[:] = [cwd if path == here else path for path in sys.path]


def prepared(folder: Path, trust: Sequence[str] = ()) -> dict:
    """The configuration of the run in this folder, where it is now."""
    from ganlab.folders import moved

    if over(folder):
        raise ValueError(f"{folder} is {summary(folder)['status']}, there is nothing to go on with; start a new run")
    config = OmegaConf.to_container(read(folder / "config.yaml"))
    if missing := [key for key in (*REQUIRED, "seeds") if key not in config]:
        raise ValueError(f"{folder / 'config.yaml'} is of no run of ganlab (it has no {missing[0]}); give a run's folder")
    require_all_trusted(config, (*OWN, *trust))
    return moved(config, config["run_dir"], str(folder))


def require_all_trusted(config: dict, trust: Sequence[str]) -> None:
    from ganlab.loading import require_trusted, targets

    for target in targets(config):
        require_trusted(target, trust)


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
    from ganlab.loading import targets

    return sorted({target.partition(".")[0] for target in targets(OmegaConf.to_container(cfg, resolve=True))})


class Died(ValueError):
    """A sweep's job that would end the sweep with it once more."""


def note_start(folder: Path) -> None:
    """Keeps count of a job's starts in its folder, each with the time of the checkpoint that it goes on from.

    Raises:
        Died: at the last two starts its process ended without a word and without a new checkpoint.
    """
    path, checkpoint, told = folder / ".starts", folder / "checkpoints" / "last.ckpt", summary(folder)
    now = str(checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0)
    before = path.read_text().split() if path.is_file() else []
    if told and told.get("error_type") != Died.__name__:
        before = []
    if before[-2:] == [now, now]:
        raise Died(
            "its process ended twice without a word (killed, or no memory left), so the sweep leaves it out; "
            f"python -m ganlab resume={folder} tries it alone"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, " ".join([*before, now]) + "\n")
    if not over(folder):
        (folder / "summary.json").unlink(missing_ok=True)  # of the start before; this one may end without a word


def go_on(config: dict) -> float:
    """The run to its end; returns its objective."""
    from ganlab import train
    from ganlab.quiet import quieten_libraries

    quieten_libraries()
    goes = train.run if config["seeds"] is None else train.run_seeds
    return train.objective(goes(config, resume=True))


def sweep(folder: Path, trust: Sequence[str]) -> None:
    """The sweep's own command again, in its folder: jobs that are over stay as they are, others go on or begin."""
    from ganlab.__main__ import compose_and_call
    from ganlab.loading import require_trusted

    told = read(folder / "multirun.yaml").get("hydra")
    if not told:
        raise ValueError(f"{folder / 'multirun.yaml'} is of no sweep (it has no hydra); give a sweep's folder")
    task, hydra = (OmegaConf.to_container(told.overrides[kind]) for kind in ("task", "hydra"))  # as typed, unresolved
    kept = [word for word in hydra if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    folders = [source.path for source in told.runtime.config_sources if source.provider == "command-line"]
    for word in task:
        key, _, value = word.partition("=")
        if key.endswith("_target_"):
            for target in value.split(","):
                require_trusted(target, (*OWN, *trust))
    for word in [*(word for word in kept if not HARMLESS.fullmatch(word)), *folders]:
        name = word.partition("=")[0]
        if name not in trust:
            raise ValueError(
                f"the command of this sweep has {word}, which may run anything; if it is yours, add "
                f"trust={','.join([*trust, name])}"
            )
    folder = folder.resolve()
    stand_where_it_began(told.runtime.cwd, trust)
    os.environ["GANLAB_RESUME"] = ",".join([*OWN, *trust])  # a launcher's processes hear it, and look at each job's settings
    sys.argv[1:] = ["-m", *(f"--config-dir={path}" for path in folders), *task, *kept, f"hydra.sweep.dir={folder}"]
    compose_and_call("train")
