"""What Hydra calls for each job, a function per verb; and what went wrong, in one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from ganlab import advice

log = logging.getLogger(__name__)

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"  # read before ganlab sets it for its own use

LEFT_BY_TRAINING = ("metrics.csv", "seeds.csv", "samples")
verb = "train"  # what this process was asked to do


def _family(loss: str, target: str) -> str:
    """How a run's folder calls its family: by the loss preset, or by the class if that is the user's own."""
    return loss if target.startswith("ganlab.") else target.rpartition(".")[2]


def _stem(run: str) -> str:
    """How a job's folder begins: with the run's name, after a verb that is not to train."""
    return run if verb == "train" else f"{verb}-{run}"


def _folder(overrides: str) -> str:
    """A sweep job's folder: its overrides, safe as one name, short enough for any file system."""
    name = overrides.replace("/", "_") or "job"
    return name if len(name) <= 150 else f"{name[:140]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _fast_precision(accelerator: str) -> str:
    """bf16 where this machine's device has units for it; a CPU without them would emulate it, up to 8 times slower."""
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


OmegaConf.register_new_resolver("ganlab.family", _family, replace=True)
OmegaConf.register_new_resolver("ganlab.fast_precision", _fast_precision, replace=True)
OmegaConf.register_new_resolver("ganlab.folder", _folder, replace=True)
OmegaConf.register_new_resolver("ganlab.product", lambda *factors: math.prod(factors), replace=True)
OmegaConf.register_new_resolver("ganlab.stem", _stem, replace=True)


def train(cfg: DictConfig) -> float:
    """One run. In a sweep a failure is recorded in its folder and the next job goes on."""
    from ganlab.train import train  # torch and lightning load here, after Hydra has accepted the command line

    folder = Path(HydraConfig.get().runtime.output_dir)
    trust = os.environ.get("GANLAB_RESUME")
    again = trust and (folder / "config.yaml").exists()
    return guarded(
        lambda: resumed(folder, trust.split(",")) if again else train(cfg),
        folder,
        cfg.name,
        go_on=HydraConfig.get().mode == RunMode.MULTIRUN,
    )


def guarded(run: Callable[[], float], folder: Path, name: str, *, go_on: bool) -> float:
    """The run's result. A failure is recorded in its folder and told in a sentence; it ends the program or is nan."""
    from ganlab.callbacks.checkpoints import Interrupted
    from ganlab.files import write_json
    from ganlab.folders import Occupied

    try:
        return run()
    except Interrupted as stop:
        print(f"ganlab: {stop}; python -m ganlab resume={folder} goes on", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except Exception as error:
        sentence = explain(error)
        began = isinstance(error, FloatingPointError) or any((folder / left).exists() for left in LEFT_BY_TRAINING)
        status = "failed" if began else "refused"  # a run that never began says nothing about its loss
        summary = {"name": name, "status": status, "error": sentence, "error_type": type(error).__name__}
        if verdicts := getattr(error, "verdicts", None):
            summary["verdicts"] = verdicts
        if not isinstance(error, Occupied):
            with suppress(OSError):  # a full disk may be why
                write_json(folder / "summary.json", summary)
        if go_on:
            log.error(f"ganlab: {sentence}")
            return math.nan
        if WANTS_TRACEBACK:
            raise
        sys.exit(f"ganlab: {sentence}")


def resumed(folder: Path, trust: list[str]) -> float:
    """A sweep's job once more: what it brought, or what it brings when it goes on."""
    from ganlab import resuming
    from ganlab.train import objective

    if resuming.over(folder):
        return objective(json.loads((folder / "summary.json").read_text()))
    return resuming.go_on(resuming.prepared(folder, trust))


def inspect(cfg: DictConfig) -> None:
    from ganlab.inspection import run

    run(cfg)


def explain(error: Exception) -> str:
    """The error in one sentence; where it arose in the user's own code, if it did; how to see everything."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    from ganlab.__main__ import conf_folder

    sentence = str(error).strip()
    if isinstance(error, MissingConfigException):  # it goes on with where it looked
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        options = sorted(path.stem for path in (Path(conf_folder()) / group).glob("*.yaml"))
        sentence = f"there is no {group}={name}; choose one of {', '.join(options)}"
    if key := re.match(r"Could not override '(.+)'\.", sentence):
        sentence = advice.unknown_key(key[1], Path(conf_folder()))
    if isinstance(error, InterpolationKeyError) and (needs := re.match(r"Interpolation key '(.+)' not found", sentence)):
        sentence = advice.unresolved(error.full_key, needs[1])
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        sentence = f"the disk is full ({sentence}); free some space and go on with python -m ganlab resume=latest"
    if type(error).__name__ == "OutOfMemoryError":
        return f"the device's memory is full ({sentence.splitlines()[0]}); halve data.batch_size, or seeds_at_once"
    if not isinstance(error, (ValueError, OSError, ArithmeticError)) and not type(error).__module__.startswith("hydra"):
        sentence = f"{type(error).__name__}: {sentence}"
    installed = (str(Path(__file__).parent), *sysconfig.get_paths().values())
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<", *installed))]
    if own:
        sentence += f"\n  in {own[-1].filename}, line {own[-1].lineno}: {own[-1].line}"
    return f"{sentence}\n  (HYDRA_FULL_ERROR=1 shows the whole traceback)"
