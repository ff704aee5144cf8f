"""What Hydra calls for each job, a function per verb."""

from __future__ import annotations

import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ganlab.cli.errors import explain
from ganlab.config import schema
from ganlab.config.paths import conf_folder
from ganlab.config.resolvers import one_name
from ganlab.runs import begun
from ganlab.utils import slurm

log = logging.getLogger(__name__)

# What the user asked of the first process. ganlab sets HYDRA_FULL_ERROR for its own use, and the processes it starts inherit it.
WANTS_TRACEBACK = os.environ.setdefault("GANLAB_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", "0")) == "1"

LEFT_BY_TRAINING = ("metrics.csv", "seeds.csv", "samples")
PLAYS = ("training_step", "discriminator_step", "generator_step")  # an ensemble tries its turns before it steps
verb = "train"  # what this process was asked to do


def stem(run: str) -> str:
    """How a job's folder begins: with the run's name, safe as one name, after a verb that is not to train."""
    run = one_name(str(run))
    return run if verb == "train" else f"{verb}-{run}"


OmegaConf.register_new_resolver("ganlab.stem", stem, replace=True)


class Checks(Callback):
    """Refuses, before Hydra writes anything: values of a wrong type, and then the folder of another run."""

    def on_run_start(self, config: DictConfig, **kwargs) -> None:
        in_a_sentence(lambda: (refuse(config.hydra.job), validate_types(config), occupy(config)))

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        in_a_sentence(lambda: refuse(config.hydra.job))


def refuse(job: DictConfig) -> None:
    """What Hydra would write where it should not be."""
    if "/" in job.name:
        raise ValueError(f"hydra.job.name is the log file's name and has no folders, got {job.name!r}; leave it out")


def occupy(config: DictConfig) -> None:
    """Claims the run's folder, before Hydra writes the words of this command over those of another."""
    if verb != "train":
        return
    from ganlab.runs.folders import claim_early  # loads torch

    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(config)  # which the folder's name asks
    try:
        folder = Path(config.hydra.run.dir)
    finally:
        hydra.cfg = before
    claim_early(folder, resume=slurm.is_restart())


def in_a_sentence(call: Callable) -> None:
    """An error ends the program here: Hydra would only warn of a callback's, and add words of its own to a job's."""
    try:
        call()
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        sys.exit(f"ganlab: {explain(error)}")


def validate_types(cfg: DictConfig) -> None:
    """Every setting of the kind that conf/ gives it."""
    with open_dict(cfg):
        schema.validate_types(cfg, Path(conf_folder()))


def train(cfg: DictConfig) -> float:
    """One run. In a sweep a failure is recorded in its folder and the next job goes on.

    A job that is started a second time, by `resume=SWEEP`, by Slurm or by the same command typed again, goes on.
    """
    from ganlab.callbacks.checkpoints import reraise_pending_signal
    from ganlab.runs.train import train  # torch and lightning load here, after Hydra has accepted the command line

    folder = Path(HydraConfig.get().runtime.output_dir)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN

    def run() -> float:
        validate_types(cfg)
        if Path(str(cfg.run_dir)) != folder:
            raise ValueError(
                f"run_dir is the folder that Hydra makes, got {cfg.run_dir!r}; choose it with hydra.run.dir=FOLDER, and that "
                "of a sweep with hydra.sweep.dir=FOLDER"
            )
        if sweep:
            begun.note_start(folder)
        if trust := os.environ.get("GANLAB_RESUME"):
            if (folder / "config.yaml").exists():
                return resumed(folder, trust.split(","))
            begun.require_all_trusted(OmegaConf.to_container(cfg, resolve=True), trust.split(","))
        if (sweep or slurm.is_restart()) and begun.same(cfg, folder):
            return resumed(folder, begun.named(cfg))
        return train(cfg)

    result = guarded(run, folder, _name(cfg) or folder.name, go_on=sweep)
    if sweep:
        reraise_pending_signal()
    return result


def _name(cfg: DictConfig) -> str | None:
    """The run's name; None where it leads to what the config does not have."""
    try:
        return str(cfg.name)
    except OmegaConfBaseException:
        return None


def guarded(run: Callable[[], float], folder: Path, name: str, *, go_on: bool) -> float:
    """The run's result. A failure is recorded in its folder and told in a sentence; it ends the program or is nan."""
    from lightning.pytorch.utilities import rank_zero_only

    from ganlab.callbacks.checkpoints import Interrupted
    from ganlab.runs.folders import RunDirInUse
    from ganlab.utils.files import write_json

    try:
        return run()
    except Interrupted as stop:
        if not rank_zero_only.rank:
            print(f"ganlab: {stop}; {begun.way_on(folder)} goes on", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # a second Ctrl-C, or one before training: Lightning says nothing
            sys.exit(f"ganlab: interrupted; {begun.way_on(folder)} goes on with what was saved before")
        raise
    except Exception as error:
        sentence = explain(error)
        status = "failed" if trained(error, folder) else "refused"  # a run that never began says nothing about its loss
        summary = {"name": name, "status": status, "error": sentence, "error_type": type(error).__name__}
        if verdicts := getattr(error, "verdicts", None):
            summary["verdicts"] = verdicts
        if not isinstance(error, RunDirInUse):
            with suppress(OSError):  # a full disk may be why
                write_json(folder / "summary.json", summary)
        if go_on and not isinstance(error, RunDirInUse):  # which would hold for every job of the sweep
            log.error(f"ganlab: {sentence}")
            return math.nan
        if WANTS_TRACEBACK:
            raise
        sys.exit(f"ganlab: {sentence}")


def trained(error: Exception, folder: Path) -> bool:
    """Whether the run trained, or crashed in its first turn; what ganlab itself refuses there in words is a setting."""
    if isinstance(error, (FloatingPointError, begun.Died)) or any((folder / left).exists() for left in LEFT_BY_TRAINING):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    in_words = isinstance(error, ValueError) and Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])
    return not in_words and any(frame.name in PLAYS for frame in frames)


def resumed(folder: Path, trust: list[str]) -> float:
    """A sweep's job once more: what it brought, or what it brings when it goes on."""
    from ganlab.runs.train import objective

    if begun.over(folder):
        told = begun.summary(folder)
        log.info(f"{folder} is {told['status']} already")
        return objective(told)
    return begun.go_on(begun.prepared(folder, trust))


def inspect(cfg: DictConfig) -> None:
    from ganlab.cli.inspect import run
    from ganlab.utils.files import write_json

    folder = Path(HydraConfig.get().runtime.output_dir)

    def noted() -> None:
        try:
            run(OmegaConf.to_container(cfg, resolve=True), folder)
        except Exception as error:
            with suppress(OSError):  # the file tells a report that no run was trained here
                write_json(folder / "inspect.json", {"error": explain(error)})
            raise

    in_a_sentence(noted)
