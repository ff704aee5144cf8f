"""Where a run's numbers go: `metrics.csv` always, Weights & Biases by default (offline where no key is configured)."""

from __future__ import annotations

import csv
import logging
import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class CSV(Logger):
    """`metrics.csv` in the run's folder: one row per logged step, x-axis `images_seen`, empty where a row has no value.

    Lightning's CSVLogger deletes a file it finds and rewrites the header in place; here a new column
    replaces the file in one move, so that a kill leaves a whole table.
    """

    def __init__(self, folder: str):
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []

    name, version = "csv", None

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        row = {"images_seen": step} | {
            name: f"{value:.6g}" if isinstance(value, float) else value for name, value in metrics.items()
        }
        if new := [name for name in row if name not in self._columns]:
            self._columns += new
            rows = []
            if self.path.exists():
                with self.path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
            partial = self.path.with_suffix(".partial")
            with partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(rows)
            os.replace(partial, self.path)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def log_hyperparams(self, params, *args, **kwargs):
        pass  # config.yaml holds them


class Wandb(WandbLogger):
    """Weights & Biases with `images_seen` as the x-axis; never asks a question and never stops a run.

    Online where a key is configured (WANDB_API_KEY, `wandb login`), else offline; WANDB_MODE overrides.
    """

    @property
    @rank_zero_experiment
    def experiment(self):
        if self._experiment is None:
            import wandb

            settings = wandb.Settings(silent=True, init_timeout=30)
            mode = os.environ.get("WANDB_MODE") or ("online" if key_is_configured(settings.base_url) else "offline")
            self._wandb_init.pop("anonymous", None)  # Lightning passes it, and W&B complains of it
            try:
                run = wandb.init(**self._wandb_init, mode=mode, settings=settings)
            except Exception as error:  # whatever W&B's service says, the run goes on without it
                log.warning(f"W&B cannot be reached ({str(error).partition(chr(10))[0]}); this run is logged offline")
                run = wandb.init(**self._wandb_init, mode="offline", settings=settings)
            run.define_metric("images_seen")
            run.define_metric("*", step_metric="images_seen")
            self._experiment = run
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        self.experiment.log({**metrics, "images_seen": step})


def key_is_configured(base_url: str) -> bool:
    """Whether W&B would find a key without asking: in WANDB_API_KEY or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False
