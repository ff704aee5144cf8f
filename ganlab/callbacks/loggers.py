"""Where a run's numbers go: by default `metrics.csv` and Weights & Biases (offline where no key is configured)."""

from __future__ import annotations

import csv
import logging
import netrc
import os
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from ganlab.utils.files import atomic_replace, atomic_write

log = logging.getLogger(__name__)


# Seconds that a run waits for W&B when it begins and when it ends (W&B's own: 90, and without end); what did not
# get through lies in the run's folder, for `wandb sync`.
UNTIL_THE_BEGINNING, UNTIL_THE_END = 30, 120


class CSV(Logger):
    """`metrics.csv` in the run's folder: one row per logged step, x-axis `images_seen`, empty where a row has no value.

    Lightning's CSVLogger deletes a file it finds and rewrites the header in place; here a new column
    replaces the file in one move, so that a kill leaves a whole table.
    """

    def __init__(self, folder: str):
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = []
        self._there: list[dict] = []

    name, version = "csv", None

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        row = {"images_seen": step} | {
            name: f"{value:.6g}" if isinstance(value, float) else value for name, value in metrics.items()
        }
        if {name: str(value) for name, value in row.items()} in self._there:
            return
        if new := [name for name in row if name not in self._columns]:
            self._columns += new
            self._replace(self._rows())
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def save(self):
        if self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def rewind(self, images_seen: int) -> None:
        """Forgets the rows after `images_seen`, which a run that goes on from there writes again.

        Those at `images_seen` stay, and are not written twice: the last look comes after the last checkpoint.
        """
        rows = self._rows()
        if not rows:
            return
        whole = [row for row in rows if None not in row.values() and row["images_seen"].isdecimal()]
        kept = [row for row in whole if int(row["images_seen"]) <= images_seen]
        self._columns = list(rows[0])
        self._there = [{k: v for k, v in row.items() if v} for row in kept if int(row["images_seen"]) == images_seen]
        self._replace(kept)

    def _rows(self) -> list[dict]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _replace(self, rows: list[dict]) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        atomic_replace(partial, self.path)

    def log_hyperparams(self, params, *args, **kwargs):
        pass  # config.yaml holds them


class Wandb(WandbLogger):
    """Weights & Biases with `images_seen` as the x-axis; never asks a question and never stops a run.

    Where W&B does not answer in time (WANDB_INIT_TIMEOUT=30), the run is logged offline.
    Online where a key is configured (WANDB_API_KEY, `wandb login`), else offline; WANDB_MODE overrides. A run that was
    stopped and goes on is the same run in W&B: its id is kept in the run's folder.
    """

    @property
    @rank_zero_experiment
    def experiment(self):
        if self._experiment is None:
            import wandb

            os.environ.setdefault("WANDB_FINISH_TIMEOUT", str(UNTIL_THE_END))
            patience = float(os.environ.get("WANDB_INIT_TIMEOUT", UNTIL_THE_BEGINNING))
            settings = wandb.Settings(silent=True, init_timeout=patience)
            mode = os.environ.get("WANDB_MODE") or ("online" if key_is_configured(settings.base_url) else "offline")
            self._wandb_init.pop("anonymous", None)  # Lightning passes it, and W&B complains of it
            known = Path(self.save_dir) / "wandb" / "id.txt"
            if known.exists():
                self._wandb_init |= {"id": known.read_text(), "resume": "allow"}
            try:
                run = wandb.init(**self._wandb_init, mode=mode, settings=settings)
            except Exception as error:  # whatever W&B's service says, the run goes on without it
                log.warning(
                    f"W&B cannot be reached ({str(error).partition(chr(10))[0]}); this run is logged offline, and `wandb sync` "
                    "uploads it later. WANDB_MODE=offline does not wait for W&B, and logger=csv does without"
                )
                run = wandb.init(**self._wandb_init, mode="offline", settings=settings)
            known.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(known, run.id)
            run.define_metric("images_seen")
            run.define_metric("*", step_metric="images_seen")
            self._experiment = run
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        try:
            self.experiment.log({**metrics, "images_seen": step}, step=step)  # W&B drops what it was told before a kill
        except Exception as error:
            give_up(error)
            self._experiment = DummyExperiment()


def key_is_configured(base_url: str) -> bool:
    """Whether W&B would find a key without asking: in WANDB_API_KEY or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def give_up(error: Exception) -> None:
    """What a run does where W&B's own process has ended (a crash, no memory left): it goes on, and the next one has a new one."""
    import wandb

    log.warning(
        f"W&B has failed ({type(error).__name__}: {str(error).partition(chr(10))[0]}); the run goes on without it. All numbers "
        "are in metrics.csv, and `wandb sync` uploads what W&B wrote before"
    )
    wandb.run = None
    with suppress(Exception):
        wandb.teardown()


def finish() -> None:
    """Ends W&B's run, which would swallow the next job's numbers; nothing where there is none."""
    if "wandb" in sys.modules:
        try:
            sys.modules["wandb"].finish()
        except Exception as error:
            give_up(error)
