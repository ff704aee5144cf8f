"""Resolvers for the interpolations `${ganlab.…:}` in conf/, registered with OmegaConf when this module is imported."""

import hashlib
import math
import os
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


MANY_MEMBERS = 16  # of an ensemble on small data, whose step is then as much work as one GAN's on images of 28 pixels


def threads(dim: int | None, size: int | None, seeds: int | None, devices: int | str | list) -> int:
    """CPU threads of a process, by the size of its work: 1 for points (dim) and images of 8 pixels (size), else all cores.

    Two threads gain 3 to 11 % on such small networks, 26 % for convolutions on 28 pixels, and wait for each other where the
    machine has other work: small networks then run 14 to 70 times slower than with one. Ensembles of 16 members or more get
    all cores. Several processes share them. OMP_NUM_THREADS is the upper limit.
    """
    if (dim is not None or size is not None and size <= 8) and (seeds or 1) < MANY_MEMBERS:
        return 1
    from joblib import cpu_count  # start-up time; respects affinity and containers' limits

    cores = cpu_count(only_physical_cores=True) // (devices if isinstance(devices, int) and devices > 0 else 1)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, min(cores, int(limit)) if limit.isdigit() else cores)


RESOLVERS = {
    "ganlab.accelerator": _accelerator,
    "ganlab.family": family,
    "ganlab.fast_precision": fast_precision,
    "ganlab.file_name": file_name,
    "ganlab.folder_classes": count_classes,
    "ganlab.threads": threads,
    "ganlab.product": lambda *factors: math.prod(factors),
    "oc.env": secrets.env,
}
for _name, _function in RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _function, replace=True)
# Cached: all jobs of a sweep share its directory.
OmegaConf.register_new_resolver("ganlab.run_dir_suffix", slurm.run_dir_suffix, replace=True, use_cache=True)
