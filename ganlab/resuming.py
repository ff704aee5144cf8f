"""Goes on with what was stopped, as if it never had been: `python -m ganlab resume=RUN`, a run's folder or `latest`, the
newest run that is not finished. With a sweep's folder, its jobs that are missing.

The run's own config.yaml says what is trained, in the same folder, from its last checkpoint. A class outside ganlab,
torch.optim and lightning is built only if its module is named: trust=my_gan.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from ganlab.arguments import parsed
from ganlab.finding import OUTPUTS, PART
from ganlab.job import guarded

OWN = ("lightning", "torchmetrics")  # what a run's configuration names besides ganlab's and torch's optimisers


def main(arguments: list[str]) -> None:
    """
    Raises:
        ValueError: the folder holds no run, the run is finished, or it names a class that is not trusted.
    """
    options = parsed("resume", arguments, resume="latest", trust=list[str])
    trust = options["trust"] or []
    folder = unfinished() if options["resume"] == "latest" else Path(options["resume"])
    if (folder / "multirun.yaml").is_file():
        sweep(folder, trust)
    elif (folder / "config.yaml").is_file():
        folder = folder.resolve()
        if (hydra := folder / ".hydra" / "hydra.yaml").is_file():
            stand_where_it_began(OmegaConf.load(hydra).hydra.runtime)
        config = prepared(folder, trust)
        guarded(lambda: go_on(config), folder, config["name"], go_on=False)
    else:
        raise ValueError(f"{folder} holds no run (no config.yaml) and no sweep; give a run's folder, or resume=latest")


def unfinished() -> Path:
    """The newest run at or below ./outputs that is not finished."""
    runs = [path.parent for path in OUTPUTS.rglob("config.yaml") if path.parent.name != ".hydra"]
    runs = [run for run in runs if not PART.fullmatch(run.name) and not over(run)]
    if not runs:
        raise ValueError(f"every run at or below ./{OUTPUTS} is finished; give a run's folder")
    return max(runs, key=lambda run: (run / "config.yaml").stat().st_mtime)


def status(run: Path) -> str | None:
    """What the run's summary says became of it; None if there is none, as of a run that was killed."""
    try:
        return json.loads((run / "summary.json").read_text()).get("status")
    except OSError:
        return None


def over(run: Path) -> bool:
    """Whether training again would bring the same: it finished, or a loss was not finite."""
    try:
        summary = json.loads((run / "summary.json").read_text())
    except OSError:
        return False
    return summary["status"] == "finished" or summary.get("error_type") == "FloatingPointError"


def stand_where_it_began(runtime) -> None:
    """data_dir and a user's own modules are found from the folder where the command was typed."""
    if Path(runtime.cwd).is_dir():
        here = os.getcwd()
        os.chdir(runtime.cwd)
        sys.path[:] = [runtime.cwd if path == here else path for path in sys.path]


def prepared(folder: Path, trust: Sequence[str] = ()) -> dict:
    """The configuration of the run in this folder, where it is now."""
    from ganlab.folders import moved
    from ganlab.loading import require_trusted, targets

    if over(folder):
        raise ValueError(f"{folder} is {status(folder)}, there is nothing to go on with; start a new run")
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    for target in targets(config):
        require_trusted(target, (*OWN, *trust))
    return moved(config, config["run_dir"], str(folder))


def go_on(config: dict) -> float:
    """The run to its end; returns its objective."""
    from ganlab import train

    train.quieten_libraries()
    goes = train.run if config["seeds"] is None else train.run_seeds
    return train.objective(goes(config, resume=True))


def sweep(folder: Path, trust: Sequence[str]) -> None:
    """The sweep's own command again, in its folder: jobs that are over stay as they are, others go on or begin."""
    from ganlab.__main__ import compose_and_call
    from ganlab.loading import require_trusted

    told = OmegaConf.load(folder / "multirun.yaml").hydra
    for word in told.overrides.task:
        key, _, value = word.partition("=")
        if key.endswith("_target_"):
            for target in value.split(","):
                require_trusted(target, (*OWN, *trust))
    folder = folder.resolve()
    stand_where_it_began(told.runtime)
    own = [f"--config-dir={source.path}" for source in told.runtime.config_sources if source.provider == "command-line"]
    kept = [word for word in told.overrides.hydra if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    os.environ["GANLAB_RESUME"] = ",".join([*OWN, *trust])  # a launcher's processes hear it too
    sys.argv[1:] = ["-m", *own, *told.overrides.task, *kept, f"hydra.sweep.dir={folder}"]
    compose_and_call("train")
