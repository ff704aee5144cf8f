"""Compose the configuration with Hydra and hand it over: to training, in a sweep job by job, or to inspect."""

import errno
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import ganlab.config.resolvers  # noqa: F401  what conf/ asks for
from ganlab.cli.handler import errors_as_sentences
from ganlab.cli.sweep import is_search, require_objective
from ganlab.config.paths import conf_folder
from ganlab.config.schema import validate_types
from ganlab.runs.run_dir import RunDir, RunDirInUse
from ganlab.utils import slurm

log = logging.getLogger(__name__)


def run_hydra(show_traceback: bool) -> None:
    """Run what the command line says: `hydra.main` reads it, prints help, or calls the job for each run."""

    def job(cfg: DictConfig) -> float:
        os.environ["HYDRA_FULL_ERROR"] = str(int(show_traceback))  # for the processes that this one starts
        try:
            return run_job(cfg, show_traceback)
        finally:  # a sweep goes on
            os.environ["HYDRA_FULL_ERROR"] = "1"

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors and does not print them
    hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")(job)()


def run_job(cfg: DictConfig, show_traceback: bool) -> float:
    """Train one run; in a sweep, one of its jobs.

    Returns:
        the metric's objective, lower is better; nan if there is none, or if a sweep's job failed.

    Raises:
        RuntimeError: a search's trial has no value.
        RunDirInUse: another process trains this trial.
    """
    about = HydraConfig.get()
    run = RunDir(Path(about.runtime.output_dir))
    is_sweep = about.mode == RunMode.MULTIRUN
    searched = is_sweep and is_search(about)
    failure: Exception = RuntimeError(f"{run.path} has no value and counts as failed")
    with errors_as_sentences("train", show_traceback, run):
        try:
            value = start(cfg, about, run, is_sweep)
        except RunDirInUse as error:
            if not searched:
                raise
            value, failure = math.nan, error
        except Exception as error:
            if not is_sweep:
                run.remove_if_empty()
            is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not is_sweep or searched and is_disk_full:  # the settings are not to blame
                raise
            value = record_failure(run, about, error)
    if searched and math.isnan(value):
        raise failure
    return value


def record_failure(run: RunDir, about: DictConfig, error: Exception) -> float:
    """Say why a sweep's job failed, for the sweep's table and for `resume=`; the next job starts."""
    from ganlab.cli.errors import explain  # start-up time

    sentence = explain(error)
    if not run.is_run:  # of one that trained, training has written a summary with more in it
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_command(about.overrides.task, presets(about))
        run.write_summary({"status": "refused", "error": sentence, "error_type": type(error).__name__})
    log.error(f"ganlab: {sentence}")
    return math.nan


def start(cfg: DictConfig, about: DictConfig, run: RunDir, is_sweep: bool) -> float:
    """Check the configuration and train; continue a job that is started again by its sweep or by Slurm."""
    validate_types(cfg, about.overrides.task)
    if Path(str(cfg.run_dir)) != run.path:
        raise ValueError(
            f"run_dir is the directory that Hydra makes, got {cfg.run_dir!r}; choose it with hydra.run.dir=DIR, and that of a "
            "sweep with hydra.sweep.dir=DIR"
        )
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)

    from ganlab.report.wandb import log_run_report  # start-up time: torch loads here, after the command line is accepted
    from ganlab.runs.resume import matches_saved_config
    from ganlab.runs.train import train

    if is_sweep:
        require_one_device(config["trainer"], about)
        os.environ["WANDB_RUN_GROUP"] = Path(about.sweep.dir).name
    if searched := is_sweep and is_search(about):
        require_objective(config)
    may_resume = is_sweep or slurm.is_restart()
    if may_resume and run.is_run and not any(word.startswith("threads=") for word in about.overrides.task):
        config["threads"] = run.read_config().get("threads")  # chosen on another machine: bit for bit the same numbers
    resume = may_resume and matches_saved_config(run, config)
    if resume and searched and run.was_killed_twice:
        raise RuntimeError(f"{run.path} was killed twice without a new checkpoint (out of memory?); remove it to try again")
    if resume and is_sweep and (run.is_complete or searched and run.has_failed):
        log.info(f"{run.path} is {run.status} already")
        return objective(run.read_summary())
    result = train(config, overrides=about.overrides.task, presets=presets(about), resume=resume, on_finish=log_run_report)
    if is_sweep and result.pending_signal is not None:  # it came when training was over: it stops the jobs that follow
        raise KeyboardInterrupt
    return objective(result.summary)


def presets(about: DictConfig) -> dict[str, str]:
    """The presets that Hydra chose, group -> name."""
    return {group: name for group, name in about.runtime.choices.items() if isinstance(name, str) and "/" not in group}


def objective(summary: dict) -> float:
    """The number that a search minimizes; nan where there is none."""
    found = summary.get("objective")
    return found["value"] if found and found["value"] is not None else math.nan


def require_one_device(trainer: dict, about: DictConfig) -> None:
    """
    Raises:
        ValueError: a job of a sweep on this machine asks for several processes.
    """
    if "submitit" not in about.launcher._target_ and (trainer["devices"] != 1 or trainer["num_nodes"] != 1):
        raise ValueError(
            f"a local sweep runs one device per job, got trainer.devices={trainer['devices']} and "
            f"num_nodes={trainer['num_nodes']}: Lightning would start the other processes with the sweep's own command "
            "line; use trainer.devices=1, or a cluster job per run (hydra/launcher=submitit_slurm)"
        )


def inspect(words: Sequence[str]) -> None:
    """Compose the configuration without running Hydra's job, and check its loss."""
    overrides, config_dirs = split_config_dirs(words)
    if not any(word.startswith("hydra.run.dir=") for word in overrides):
        overrides.append("hydra.run.dir='outputs/inspect-${ganlab.file_name:${name}}_${now:%Y-%m-%d_%H-%M-%S}'")
    if config_dirs:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{Path(folder).resolve()}' for folder in config_dirs)}]")
    with hydra.initialize_config_dir(conf_folder(), version_base="1.3"):
        cfg = hydra.compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # the run's name interpolates the choices made
    folder = Path(cfg.hydra.run.dir).resolve()
    cfg.run_dir = str(folder)
    with open_dict(cfg):
        del cfg.hydra
    validate_types(cfg, overrides)

    from ganlab.cli.inspect import run  # start-up time: torch loads here, after the command line is accepted

    run(OmegaConf.to_container(cfg, resolve=True), folder)


def split_config_dirs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides, and the directories of `--config-dir DIR` or `--config-dir=DIR`.

    Raises:
        ValueError: another option.
    """
    overrides, config_dirs = [], []
    words = list(words)
    while words:
        word = words.pop(0)
        option, _, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            config_dirs.append(value or (words.pop(0) if words else ""))
        elif word.startswith("-"):
            raise ValueError(f"inspect takes overrides and --config-dir=DIR, got {word}; one loss at a time, so no -m")
        else:
            overrides.append(word)
    return overrides, config_dirs
