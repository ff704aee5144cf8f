"""Keys and tokens of the environment stay there: what a run is told, it writes into its folder."""

from __future__ import annotations

import os
import re
import sys

from omegaconf.resolvers import oc

SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)  # in the name of an environment variable


def env(name: str, *default):
    """OmegaConf's `oc.env`, which refuses to read a secret into the configuration."""
    if SECRET.search(name):
        raise ValueError(
            f"${{oc.env:{name}}} would write a secret into the run's folder; leave it out, the library that needs {name} "
            "reads it from the environment itself"
        )
    return oc.env(name, *default)


def refuse_typed() -> None:
    """Raises ValueError if a secret of the environment stands on the command line, as `$WANDB_API_KEY` in a shell puts it."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= 8 and any(value in word for word in sys.argv[1:]):
            raise ValueError(
                f"the value of {name} is on the command line, which is written into the run's folder; leave it out, the "
                f"library that needs {name} reads it from the environment itself"
            )


def refuse_copied(env_set) -> None:
    """Raises ValueError if Hydra was told to keep a secret (hydra.job.env_copy, hydra.job.env_set)."""
    for name in env_set or ():
        if SECRET.search(str(name)):
            raise ValueError(
                f"hydra.job.env_copy or env_set would write {name} into the run's folder; leave it out, processes of this "
                "machine have it anyway, and a cluster's launcher can hand on the environment"
            )
