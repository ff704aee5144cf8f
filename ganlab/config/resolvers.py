"""Resolvers for the interpolations `${ganlab.…:}` in conf/, registered with OmegaConf when this module is imported."""

import hashlib
import math
import sys
from pathlib import Path

from omegaconf import OmegaConf

from ganlab.config import secrets
from ganlab.config.paths import conf_folder
from ganlab.utils import slurm
from ganlab.utils.image_folders import count_classes


def family(loss: str, target: str) -> str:
    """The family's name in a run's name: the loss preset as it was typed, or the class if it is not that of the preset."""
    loss, target = str(loss), str(target)
    preset = Path(conf_folder()) / "loss" / f"{loss}.yaml"
    fits = not preset.is_file() or OmegaConf.load(preset)._target_ == target
    return loss if fits else target.rpartition(".")[2]


def file_name(text: object) -> str:
    """The text as a file name of at most 150 bytes, without slashes and unprintable characters."""
    name = "".join(c if c.isprintable() and c != "/" else "_" for c in str(text)).lstrip(".") or "run"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name.encode()) <= 150 else f"{name.encode()[:140].decode(errors='ignore')}_{digest}"


def _accelerator() -> str:
    return "cpu" if sys.platform == "darwin" else "auto"


def fast_precision(accelerator: str, dim: int | None = None) -> str:
    """trainer.precision for images: bf16 where the device has hardware for it (a CPU without is up to 8 times slower).

    `dim`: that of points, which need float32.
    """
    if dim is not None:
        return "32-true"
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


RESOLVERS = {
    "ganlab.accelerator": _accelerator,
    "ganlab.family": family,
    "ganlab.fast_precision": fast_precision,
    "ganlab.file_name": file_name,
    "ganlab.folder_classes": count_classes,
    "ganlab.product": lambda *factors: math.prod(factors),
    "oc.env": secrets.env,
}
for _name, _function in RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _function, replace=True)
# Cached: all jobs of a sweep share its directory.
OmegaConf.register_new_resolver("ganlab.run_dir_suffix", slurm.run_dir_suffix, replace=True, use_cache=True)
