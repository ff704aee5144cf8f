"""Continues what was stopped, as if it had never stopped: `python -m ganlab resume=RUN`. RUN is a run's folder, or `latest`,
the newest run that is not finished; of a sweep's folder, the missing jobs are trained.

The run's own config.yaml says what is trained, in the same folder, from its last checkpoint. A class outside ganlab,
torch.optim, lightning and torchmetrics is built only if its module is named: trust=my_gan. The same holds for a sweep's
--config-dir, and for what its command tells Hydra beyond launcher and sweeper.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import OmegaConf

from ganlab.cli.hydra_app import compose
from ganlab.cli.job import guarded
from ganlab.cli.options import ResumeOptions, parse_options
from ganlab.runs.begun import go_on, over, prepared, read
from ganlab.runs.finding import OUTPUTS, PART

# Of what a sweep's command says to Hydra: more could name classes, or a shell's commands to a cluster's launcher.
HARMLESS = re.compile(r"hydra/(launcher|sweeper)(/\w+)?=\w+|hydra\.(launcher|sweeper)\.[\w.]+=[\w.+-]*|hydra\.sweep\.subdir=.*")


def main(arguments: list[str]) -> None:
    """
    Raises:
        ValueError: the folder holds no run, the run is finished, or it names a class that is not trusted.
    """
    options = parse_options(ResumeOptions, arguments)
    trust = options.trust
    folder = unfinished() if options.resume == "latest" else Path(options.resume).expanduser()
    if (folder / "multirun.yaml").is_file():
        sweep(folder, trust)
    elif (folder / "config.yaml").is_file():
        folder = folder.resolve()
        if (hydra := folder / ".hydra" / "hydra.yaml").is_file():
            stand_where_it_began(OmegaConf.select(read(hydra), "hydra.runtime.cwd"), trust)
        config = prepared(folder, trust)
        sys.argv[1:] = [f"resume={folder}"] + ([f"trust={','.join(trust)}"] if trust else [])  # Lightning's other processes
        with logged(folder):
            guarded(lambda: go_on(config), folder, config["name"], go_on=False)
    else:
        raise ValueError(f"{folder} holds no run (no config.yaml) and no sweep; give a run's folder, or resume=latest")


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """What is told goes to the run's ganlab.log, too, as Hydra writes it while a run is composed."""
    file = logging.FileHandler(folder / "ganlab.log", delay=True)
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.getLogger().addHandler(file)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(file)
        file.close()


def unfinished() -> Path:
    """The newest run at or below ./outputs that is not finished."""
    runs = [path for path in configs(OUTPUTS) if not PART.fullmatch(path.parent.name) and not over(path.parent)]
    if not runs:
        raise ValueError(f"every run at or below ./{OUTPUTS} is finished; give a run's folder")
    return max(runs, key=lambda path: path.stat().st_mtime).parent


def configs(folder: Path) -> list[Path]:
    """What the runs at or below a folder saved of their configuration."""
    return [path for path in folder.rglob("config.yaml") if not {".hydra", "wandb"} & {*path.parts}]


def stand_where_it_began(cwd: str | None, trust: Sequence[str]) -> None:
    """data_dir is found from the folder where the command was typed, and a user's own modules, if any is trusted."""
    if cwd and Path(cwd).is_dir():
        here = os.getcwd()
        os.chdir(cwd)
        if trust:  # or a stranger's folder could hold a module of any name
            sys.path[:] = [cwd if path == here else path for path in sys.path]


def sweep(folder: Path, trust: Sequence[str]) -> None:
    """The sweep's own command again, in its folder: jobs that are over stay as they are, others go on or begin."""
    from ganlab.runs.loading import OWN, strangers, suggested, targets

    folder = folder.resolve()
    told = read(folder / "multirun.yaml").get("hydra")
    if not told:
        raise ValueError(f"{folder / 'multirun.yaml'} is of no sweep (it has no hydra); give a sweep's folder")
    task, hydra = (OmegaConf.to_container(told.overrides[kind]) for kind in ("task", "hydra"))  # as typed, unresolved
    kept = [word for word in hydra if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    folders = [source.path for source in told.runtime.config_sources if source.provider == "command-line"]
    stand_where_it_began(told.runtime.cwd, trust)

    words = [*(word for word in kept if not HARMLESS.fullmatch(word)), *folders]
    asked = [word for word in words if word.partition("=")[0] not in trust]
    trusted = (*OWN, *trust)
    classes = strangers((target for word in task for target in in_word(word)), trusted)
    begun = sorted(configs(folder), key=lambda path: over(path.parent))  # first those that will go on
    for path in begun[:50]:  # what began may name more: a preset of --config-dir has classes; a file takes 0.03 s
        with suppress(ValueError):  # its own job tells of it
            classes += strangers(targets(OmegaConf.to_container(read(path))), trusted)
    if asked or classes:
        names = [*suggested(trust, classes), *(word.partition("=")[0] for word in asked)]
        raise ValueError(
            f"this sweep has {' and '.join(dict.fromkeys([*classes, *asked]))}, which may run anything; if it is yours, add "
            f"trust={','.join(names)}"
        )
    os.environ["GANLAB_RESUME"] = ",".join([*OWN, *trust])  # a launcher's processes hear it, and look at each job's settings
    place = str(folder).replace("'", r"\'")  # in quotes, since Hydra reads few letters and signs without
    sys.argv[1:] = ["-m", *(f"--config-dir={path}" for path in folders), *task, *kept, f"hydra.sweep.dir='{place}'"]
    compose("train")


def in_word(word: str) -> list[str]:
    """The classes that an override names by itself."""
    key, _, value = word.partition("=")
    return value.split(",") if key.endswith("_target_") else re.findall(r"_target_: *([\w.]+)", value)
