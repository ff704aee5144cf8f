"""Silence the warnings and hints of libraries that do not apply to ganlab."""

import logging
import warnings

from ganlab.utils import slurm


def silence_library_warnings() -> None:
    """Hide Lightning's hints and inapplicable warnings, and print the remaining warnings on one line each."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the data module is
    warnings.filterwarnings("ignore", message=r".*add the following callbacks: \['Timer'\]")  # a run goes on without its limit
    if slurm.job_id() is None:
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # on a cluster's login node
