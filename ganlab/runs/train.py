"""One run: build data, GAN, callbacks, loggers and trainer, fit, and write the summary."""

import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.utils import instantiate
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

import ganlab
from ganlab.callbacks import Checkpoints, Evaluation
from ganlab.callbacks.checkpoints import AtomicCheckpointIO
from ganlab.callbacks.evaluation import monitoring_callbacks
from ganlab.callbacks.extras import Extra, ExtraLogger, attempt
from ganlab.callbacks.loggers import finish_wandb
from ganlab.callbacks.periodic import find_callback
from ganlab.models.adversarial import AdversarialModule
from ganlab.models.ensemble import Ensemble
from ganlab.models.gan import GAN
from ganlab.runs.loading import read_checkpoint, set_threads
from ganlab.runs.memory import memory_per_member
from ganlab.runs.run_dir import RunDir
from ganlab.runs.summary import print_summary, summarize, summarize_failure
from ganlab.utils import slurm
from ganlab.utils.errors import Interrupted
from ganlab.utils.library_warnings import silence_library_warnings
from ganlab.utils.memory import available_memory
from ganlab.utils.validation import validate_int

log = logging.getLogger(__name__)

OnFinish = Callable[[RunDir, list[Logger]], None]


class Result(NamedTuple):
    """`summary`: what summary.json holds. `pending_signal`: one that arrived when training was over, or None."""

    summary: dict
    pending_signal: int | None


def train(
    config: dict,
    *,
    resume: bool = False,
    overrides: Sequence[str] | None = None,
    presets: Mapping[str, str] | None = None,
    on_finish: OnFinish | None = None,
) -> Result:
    """Train the run that a resolved configuration describes, in `config["run_dir"]`.

    Args:
        config: as conf/config.yaml lays it out, without interpolations.
        resume: continue from the directory's last checkpoint, or start again if there is none.
        overrides: what was typed, kept in the run's directory; None keeps what is there.
        presets: the names that were chosen in conf/, group -> name, kept with the overrides.
        on_finish: called once the summary is written, before the loggers close.

    Raises:
        RunDirInUse: another process trains in the directory, or it holds a run and `resume` is not given.
        ValueError: a setting cannot work; nothing was trained then, and the directory is no run.
        FloatingPointError: a loss or penalty became infinite or NaN.
        Interrupted: a signal asked the run to stop; it is saved.
    """
    silence_library_warnings()
    run_dir = RunDir(Path(config["run_dir"]))
    with run_dir.lock(resume):
        existing = {*run_dir.path.iterdir()}
        if overrides is not None:
            run_dir.write_command(overrides, presets)
        try:
            return _fit(config, run_dir, run_dir.last_checkpoint if resume else None, on_finish, is_new=not resume)
        except Exception:
            if not run_dir.is_run:
                run_dir.discard(existing)
            raise


def _fit(config: dict, run_dir: RunDir, checkpoint: Path | None, on_finish: OnFinish | None, is_new: bool) -> Result:
    started = time.perf_counter()
    set_threads(config)
    images_seen = 0 if checkpoint is None else read_checkpoint(checkpoint)["state_dict"]["_extra_state"]["images_seen"]
    datamodule = build(config["data"])
    gan = build_gan(config, datamodule, resumed=checkpoint is not None)
    callbacks = build_callbacks(config)
    require_evaluation(config, callbacks)
    loggers: list = [ExtraLogger(build(part), f"logger.{key}", gan) for key, part in config["logger"].items() if part]
    has_checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    trainer: Trainer = instantiate(config["trainer"], _partial_=True, _convert_="all")(
        callbacks=callbacks,
        logger=loggers,
        enable_checkpointing=has_checkpoints or config["trainer"]["enable_checkpointing"],
        plugins=[AtomicCheckpointIO(), *slurm.lightning_plugins()],
    )
    if trainer.num_devices > 1:  # for the processes that Lightning starts
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    try:
        if trainer.is_global_zero:
            run_dir.write_config(config)  # before W&B, which may take its time
            run_dir.summary_file.unlink(missing_ok=True)
        for logger in loggers:
            if trainer.is_global_zero and hasattr(logger, "drop_rows_after"):
                logger.drop_rows_after(images_seen)
            logger.log_hyperparams(config)
        if trainer.is_global_zero:
            log.info(_first_line(config, gan, run_dir, images_seen))
            if warning := idle_generator(config, gan, trainer.world_size):
                log.warning(warning)
        trainer.fit(gan, datamodule, ckpt_path=checkpoint, weights_only=True)
        summary = summarize(config, gan, trainer, seconds=time.perf_counter() - started)
        if trainer.is_global_zero:
            run_dir.write_summary(summary)
            if on_finish is not None:
                attempt("the report for the loggers", on_finish, run_dir, loggers)
    except Interrupted:
        if trainer.is_global_zero:
            run_dir.write_summary({"name": config["name"], "status": "interrupted"})
        raise
    except SystemExit as end:  # how Lightning ends on Ctrl-C
        raise end.__context__ if isinstance(end.__context__, KeyboardInterrupt) else end
    except Exception as error:
        if trainer.is_global_zero and has_trained(gan, error):
            with suppress(OSError):  # a full disk may be why
                run_dir.write_summary(summarize_failure(config, trainer, error))
        elif is_new and trainer.is_global_zero:
            run_dir.config_file.unlink(missing_ok=True)  # so that it is no run
        raise
    finally:
        finish_wandb()
    if trainer.is_global_zero:
        attempt("the summary in the terminal", print_summary, summary, run_dir)
    checkpoints = find_callback(trainer, Checkpoints)
    return Result(summary, checkpoints and checkpoints.pending_signal)


def build_callbacks(config: dict) -> list:
    """The callbacks, those that the run can do without as `Extra`."""
    built = {f"callbacks.{key}": build(part) for key, part in config["callbacks"].items() if part}
    callbacks = [Extra(callback, key) if getattr(callback, "extra", False) else callback for key, callback in built.items()]
    return sorted(callbacks, key=lambda c: isinstance(c, Checkpoints))  # last: a checkpoint holds what the others did


def require_evaluation(config: dict, callbacks: list) -> None:
    """
    Raises:
        ValueError: something waits for the values of an evaluation, and the run has none.
    """
    waiting = [type(callback).__name__ for callback in monitoring_callbacks(callbacks)]
    schedulers = {key: str(config["gan"].get(key)) for key in ("generator_scheduler", "discriminator_scheduler")}
    waiting += [f"gan.{key}=ReduceLROnPlateau" for key, part in schedulers.items() if "ReduceLROnPlateau" in part]
    if waiting and not any(isinstance(callback, Evaluation) for callback in callbacks):
        raise ValueError(f"{waiting[0]} acts on evaluations, and metrics=none evaluates nothing; choose a metric with metrics=")


def build(config: dict):
    """Instantiate a part of the configuration with Hydra."""
    return instantiate(config, _convert_="all")


def build_gan(config: dict, datamodule: LightningDataModule, resumed: bool) -> AdversarialModule:
    """The untrained GAN, or with `seeds` an ensemble of so many, whose seeds count up from `seed`.

    Raises:
        ValueError: the memory does not hold the ensemble.
    """
    seed, count = config["seed"], config["seeds"]
    if count is None:
        gan = seeded_gan(config, seed)
    else:
        validate_int("seeds", count)
        if not resumed:  # however little is free now, it began with all of them
            require_memory(config, count, datamodule)
        seeds = list(range(seed, seed + count))
        datamodule.seeds = seeds
        gan = Ensemble([seeded_gan(config, seed) for seed in seeds], seeds)
        seed_everything(seed, workers=True, verbose=False)
    gan.run_config = config
    return gan


def seeded_gan(config: dict, seed: int) -> GAN:
    """The GAN as a run of this seed starts with it."""
    seed_everything(seed, workers=True, verbose=False)
    return build(config["gan"])


def require_memory(config: dict, count: int, datamodule: LightningDataModule) -> None:
    """
    Raises:
        ValueError: the device's free memory does not hold so many members; says which sweep of ensembles it holds.
    """
    trainer = instantiate(config["trainer"], _convert_="all", logger=False)
    free = available_memory(trainer.strategy.root_device)
    try:
        each = memory_per_member(seeded_gan(config, config["seed"]), datamodule)
    except Exception:  # a step of the user's loss that fails: training raises it again, and says where
        return
    if free is not None and (fit := max(1, int(0.8 * free / each))) < count:
        first = config["seed"]
        starts = ",".join(str(seed) for seed in range(first, first + count - fit + 1, fit))
        raise ValueError(
            f"{count} seeds of about {each / 2**20:,.1f} MiB each do not fit into {free / 2**20:,.0f} MiB of free memory; "
            f"train them as a sweep of ensembles: -m seeds={fit} seed={starts}, and the rest likewise"
        )


def idle_generator(config: dict, gan: AdversarialModule, processes: int) -> str | None:
    """A warning if the run ends before the generator's first update."""
    batch, first = config["data"].get("batch_size"), gan.template.current_n_critic()
    if not isinstance(batch, int) or config["max_images"] > (first - 1) * batch * processes:
        return None
    setting = "leave gan.critic_warmup out" if gan.template.critic_warmup else f"lower gan.n_critic={first}"
    return (
        f"the generator will not be trained: its first update comes with update {first} of the discriminator, after "
        f"{first * batch * processes:,} images, and max_images={config['max_images']:,}; raise max_images, or {setting}"
    )


def has_trained(gan: AdversarialModule, error: Exception) -> bool:
    """Whether a run that failed says something about its loss: it took a step, or crashed in its first one.

    What ganlab itself refuses there in a sentence (a pack larger than the batch …) is a setting, not a failure.
    """
    if gan.d_updates > 0 or isinstance(error, FloatingPointError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    is_refusal = isinstance(error, ValueError) and Path(frames[-1].filename).is_relative_to(Path(ganlab.__file__).parent)
    return not is_refusal and any(frame.name in ("training_step", "discriminator_step", "generator_step") for frame in frames)


def _first_line(config: dict, gan: AdversarialModule, run_dir: RunDir, images_seen: int) -> str:
    count = len(gan.seeds or [gan])
    g, d = (sum(p.numel() for p in network.parameters()) // count for network in (gan.generator, gan.discriminator))
    members = f", {count} seeds at once" if gan.seeds else ""
    resumed = f", from {images_seen:,} images on" if images_seen else ""
    return f"{config['name']}: {gan.family}, {g:,} weights in G and {d:,} in D{members}, in {run_dir.path}{resumed}"
