"""One run: build, fit, evaluate, summarize, in that order; or many seeds of it, as ensembles that fit into memory."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from ganlab.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, reraise_pending_signal
from ganlab.callbacks.loggers import CSV, Wandb, finish_wandb
from ganlab.models.ensemble import Ensemble
from ganlab.models.gan import GAN
from ganlab.report.wandb import log_report, report_beside
from ganlab.runs.folders import lock_run_dir, moved
from ganlab.runs.loading import read
from ganlab.runs.memory import available_memory, memory_per_copy
from ganlab.runs.parts import merge
from ganlab.runs.summary import show, summarize
from ganlab.utils import slurm
from ganlab.utils.files import atomic_write, write_json
from ganlab.utils.library_warnings import silence_library_warnings

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Train what the config says; returns the quality's objective (lower is better, nan without a metric)."""
    silence_library_warnings()
    config = resolved(cfg)
    prepare_for_sweep(config["trainer"])
    summary = run(config) if config["seeds"] is None else run_seeds(config)
    return objective(summary)


def objective(summary: dict) -> float:
    """The number that a search minimizes; nan where there is none."""
    found = summary.get("objective")
    return found["value"] if found and found["value"] is not None else math.nan


def resolved(cfg: DictConfig) -> dict:
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def build(part: dict):
    return instantiate(part, _convert_="all")


def run(config: dict, seeds: list[int] | None = None, *, resume: bool = False) -> dict:
    """One fit in one folder, of one GAN or of an ensemble with a copy per seed; returns its summary.

    `resume`: go on from the folder's last checkpoint, or begin again if there is none.

    Raises:
        ValueError: the folder is in use, or holds a run that `resume` does not ask to go on with.
    """
    folder = Path(config["run_dir"])
    with lock_run_dir(folder, resume):
        checkpoint = folder / "checkpoints" / "last.ckpt"
        return fit(config, folder, seeds, checkpoint if resume and checkpoint.is_file() else None)


def fit(config: dict, folder: Path, seeds: list[int] | None, checkpoint: Path | None) -> dict:
    started = time.perf_counter()
    seen = 0 if checkpoint is None else read(checkpoint)["state_dict"]["_extra_state"]["images_seen"]
    datamodule = build(config["data"])
    if seeds is None:
        game = seeded(config, config["seed"])
    else:
        game = Ensemble([seeded(config, seed) for seed in seeds], seeds)
        datamodule.seeds = seeds
        seed_everything(config["seed"], workers=True, verbose=False)
    game.run_config = config
    callbacks = [build(callback) for callback in config["callbacks"].values() if callback]
    callbacks.sort(key=lambda callback: isinstance(callback, Checkpoints))  # last, whatever a preset or a user adds
    loggers = [build(logger) for logger in config["logger"].values() if logger]
    trainer = instantiate(config["trainer"], _partial_=True, _convert_="all")(
        callbacks=callbacks, logger=loggers, plugins=[AtomicCheckpointIO(), *slurm.lightning_plugins()]
    )

    if trainer.is_global_zero:
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(config))  # before W&B, which may take its time
    for logger in loggers:
        logger.log_hyperparams(config)
    if trainer.is_global_zero:
        for table in (logger for logger in loggers if isinstance(logger, CSV)):
            table.drop_rows_after(seen)
        (folder / "summary.json").unlink(missing_ok=True)  # of a start before this one
        count = len(seeds) if seeds else 1
        sizes = [f"{sum(p.numel() for p in part.parameters()) // count:,}" for part in (game.generator, game.discriminator)]
        copies = f", {count} copies at once" if seeds else ""
        onward = f", from {seen:,} images on" if seen else ""
        log.info(f"{config['name']}: {game.family}, {sizes[0]} weights in G and {sizes[1]} in D{copies}, on {folder}{onward}")
    try:
        trainer.fit(game, datamodule, ckpt_path=checkpoint, weights_only=True)
        summary = summarize(config, game, trainer, seconds=time.perf_counter() - started)
        if trainer.is_global_zero:
            write_json(folder / "summary.json", summary)
            for wandb in (logger for logger in loggers if isinstance(logger, Wandb)):
                log_report(wandb.experiment, folder)
    finally:
        finish_wandb()
    if trainer.is_global_zero:
        show(summary, folder)
    return summary


def seeded(config: dict, seed: int) -> GAN:
    """The GAN as a run of this seed begins."""
    seed_everything(seed, workers=True, verbose=False)
    return build(config["gan"])


def run_seeds(config: dict, *, resume: bool = False) -> dict:
    """`seeds` copies, from `seed` on, in as few ensembles as the memory allows; several have a folder each."""
    count, at_once = config["seeds"], config["seeds_at_once"]
    for name, number, otherwise in (
        ("seeds", count, "one run"),
        ("seeds_at_once", 1 if at_once is None else at_once, "as many as fit"),
    ):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of at least 1 (or null for {otherwise}), got {number!r}")
    seeds = list(range(config["seed"], config["seed"] + count))
    folder = Path(config["run_dir"])
    begun = resume and (folder / "checkpoints" / "last.ckpt").is_file()  # as a whole, however little memory is free now
    at_once = count if begun else at_once or seeds_that_fit(config, count)
    if at_once >= count:
        return run(config, seeds, resume=resume)
    config = config | {"seeds_at_once": at_once}  # whoever resumes this cuts it into the same parts
    with lock_run_dir(folder, resume):
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(config))
        (folder / "summary.json").unlink(missing_ok=True)
        return run_parts(config, folder, seeds, resume)


def run_parts(config: dict, folder: Path, seeds: list[int], resume: bool) -> dict:
    parts, failed, at_once = [], [], config["seeds_at_once"]
    for chunk in (seeds[i : i + at_once] for i in range(0, len(seeds), at_once)):
        part = moved(config, str(folder), str(folder / f"seeds_{chunk[0]}-{chunk[-1]}"))
        done = Path(part["run_dir"]) / "summary.json"
        if resume and done.exists():
            parts.append(json.loads(done.read_text()))
            continue
        try:
            parts.append(run(part | {"seed": chunk[0], "seeds": len(chunk)}, chunk, resume=resume))
            reraise_pending_signal()
        except FloatingPointError as error:  # all of these failed; the others have not been tried
            log.warning(str(error))
            failed += chunk
    if not parts:
        raise FloatingPointError(f"all {len(seeds)} seeds failed; lower the learning rates, or use regularizer=r1")
    summary = merge(folder, parts, failed)
    report_beside(folder, config["logger"])
    show(summary, folder)
    return summary


def seeds_that_fit(config: dict, count: int) -> int:
    """How many copies the device's free memory holds; says what a copy takes."""
    trainer = instantiate(config["trainer"], _convert_="all", logger=False)
    device = trainer.strategy.root_device
    each, free = memory_per_copy(seeded(config, config["seed"]), build(config["data"])), available_memory(device)
    at_once = count if free is None else max(1, int(0.8 * free / each))
    log.info(f"{count} seeds of about {each / 2**20:,.1f} MiB each: {min(at_once, count)} at a time")
    return at_once


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
