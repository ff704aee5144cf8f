"""The terminal without what libraries say to others."""

from __future__ import annotations

import logging
import warnings

from ganlab.utils import slurm


def quieten_libraries() -> None:
    """Keep advice that does not apply to ganlab off the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, category, *place: f"{category.__name__}: {message}\n"
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the data module is
    if slurm.job() is None:
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # where one logs in, too
