"""What conf/ asks Python for: `${ganlab.…:}`. Importing this module registers the answers with OmegaConf."""

from __future__ import annotations

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
    """What a run's family is called: by the loss preset, or by the class if that is the user's own, or not the preset's."""
    loss, target = str(loss), str(target)
    preset = Path(conf_folder()) / "loss" / f"{loss}.yaml"
    fits = not preset.is_file() or OmegaConf.load(preset)._target_ == target
    return loss if fits and target.startswith("ganlab.") else target.rpartition(".")[2]


def one_name(text: str) -> str:
    """The text as one short name of a file: no folders, nothing unprintable."""
    name = "".join(c if c.isprintable() and c != "/" else "_" for c in text).lstrip(".") or "run"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name.encode()) <= 150 else f"{name.encode()[:140].decode(errors='ignore')}_{digest}"


def _folder(overrides: str) -> str:
    """A sweep job's folder: its overrides, safe as one name, short enough for any file system."""
    return one_name(overrides or "job")


def _accelerator() -> str:
    return "cpu" if sys.platform == "darwin" else "auto"


def fast_precision(accelerator: str, dim: int | None = None) -> str:
    """bf16 for images where this machine's device has units for it; a CPU without them emulates it, up to 8 times slower.

    `dim` is that of points, whose coordinates want all of float32.
    """
    if dim is not None:
        return "32-true"
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


OmegaConf.register_new_resolver("ganlab.accelerator", _accelerator, replace=True)
OmegaConf.register_new_resolver("ganlab.family", family, replace=True)
OmegaConf.register_new_resolver("ganlab.fast_precision", fast_precision, replace=True)
OmegaConf.register_new_resolver("ganlab.folder", _folder, replace=True)
OmegaConf.register_new_resolver("ganlab.folder_classes", count_classes, replace=True)
OmegaConf.register_new_resolver("ganlab.product", lambda *factors: math.prod(factors), replace=True)
OmegaConf.register_new_resolver(
    "ganlab.when", slurm.run_dir_suffix, replace=True, use_cache=True
)  # a sweep's jobs keep its folder
OmegaConf.register_new_resolver("oc.env", secrets.env, replace=True)
