"""One run: build, fit, evaluate, summarise, in that order."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from ganlab.files import write_json, write_whole
from ganlab.summary import show, summarise

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Train what the config says; returns the quality's objective (lower is better, nan without a metric)."""
    started = time.perf_counter()
    quieten_libraries()
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    folder = Path(config["run_dir"])
    prepare_for_sweep(config["trainer"])
    seed_everything(config["seed"], workers=True, verbose=False)

    def build(part: dict):
        return instantiate(part, _convert_="all")

    datamodule, gan = build(config["data"]), build(config["gan"])
    gan.run_config = config
    callbacks = [build(callback) for callback in config["callbacks"].values() if callback]
    loggers = [build(logger) for logger in config["logger"].values() if logger]
    trainer = instantiate(config["trainer"], _partial_=True, _convert_="all")(callbacks=callbacks, logger=loggers)

    for logger in loggers:
        logger.log_hyperparams(config)
    if trainer.is_global_zero:
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(config))
        sizes = [f"{sum(p.numel() for p in player.parameters()):,}" for player in (gan.generator, gan.discriminator)]
        log.info(f"{config['name']}: {type(gan).__name__}, {sizes[0]} weights in G and {sizes[1]} in D, on {folder}")
    try:
        trainer.fit(gan, datamodule)
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()  # a live run would swallow the next job's numbers
    summary = summarise(config, gan, trainer, seconds=time.perf_counter() - started)
    if trainer.is_global_zero:
        write_json(folder / "summary.json", summary)
        show(summary, folder)
    return summary["objective"]["value"] if summary["objective"] else math.nan


def quieten_libraries() -> None:
    """Keep advice that does not apply to ganlab off the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # ganlab counts over epochs


def prepare_for_sweep(trainer: dict) -> None:
    """In a sweep: group its runs in W&B, and refuse jobs of several processes in one process."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    os.environ["WANDB_RUN_GROUP"] = Path(hydra.sweep.dir).name
    if "submitit" not in hydra.launcher._target_ and (trainer["devices"] != 1 or trainer["num_nodes"] != 1):
        raise ValueError(
            f"a local sweep runs one device per job, got trainer.devices={trainer['devices']} and "
            f"num_nodes={trainer['num_nodes']}: Lightning would start the other processes with the sweep's own command "
            "line; use trainer.devices=1, or a cluster job per run (hydra/launcher=submitit_slurm)"
        )
