"""Loggers: a resumable `metrics.csv`, TensorBoard, and Weights & Biases (offline where no key is configured)."""

import csv
import logging
import netrc
import os
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from ganlab.utils.errors import describe_error
from ganlab.utils.files import atomic_write, write_csv

log = logging.getLogger(__name__)

# Seconds to wait for W&B's server (its own defaults: 90, and without end); `wandb sync` uploads later what was not sent.
INIT_TIMEOUT, FINISH_TIMEOUT = 30, 120


class CSV(Logger):
    """Write `metrics.csv` in the run directory: a row per logged step, `images_seen` first, empty where a row has no value.

    Unlike Lightning's CSVLogger it appends to an existing file when a run is resumed, and a new column replaces the file
    atomically.
    """

    name = version = ""  # Lightning's ModelCheckpoint writes to save_dir/name/version/checkpoints
    required = True  # a run without its numbers is none

    def __init__(self, run_dir: str):
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"
        self._columns: list[str] = []
        self._rows_at_resume: list[dict] = []

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        values = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in metrics.items()}
        row = {"images_seen": step} | values
        if {name: str(value) for name, value in row.items()} in self._rows_at_resume:
            return
        if row.keys() - self._columns:
            rows = [*self._read(), row]
            write_csv(self.path, rows)
            self._columns = list(rows[0] | row)
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    @rank_zero_only
    def save(self):
        if self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def drop_rows_after(self, images_seen: int) -> None:
        """Remove damaged rows and those after `images_seen`, which a run resumed from there logs again.

        Rows at `images_seen` are kept and not logged twice: the last evaluation comes after the last checkpoint.
        """
        complete = [row for row in self._read() if None not in row.values() and row["images_seen"].isdecimal()]
        kept = [row for row in complete if int(row["images_seen"]) <= images_seen]
        if kept:
            write_csv(self.path, kept)
            self._columns = list(kept[0])
        else:
            self.path.unlink(missing_ok=True)
        self._rows_at_resume = [{k: v for k, v in row.items() if v} for row in kept if int(row["images_seen"]) == images_seen]

    def _read(self) -> list[dict]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def log_hyperparams(self, params, *args, **kwargs):
        pass  # config.yaml holds them


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoard logger; what a resumed run logs again is shown once."""

    def drop_rows_after(self, images_seen: int) -> None:
        """Hide what was logged after `images_seen`; called before the first entry."""
        self._kwargs["purge_step"] = images_seen + 1


class Wandb(WandbLogger):
    """Weights & Biases with `images_seen` as the x-axis; never asks a question.

    Online where a key is configured (WANDB_API_KEY, `wandb login`), else offline; WANDB_MODE overrides this. Where the server
    does not answer within WANDB_INIT_TIMEOUT seconds (default 30), the run is logged offline. A resumed run continues its
    W&B run, whose id is kept in the run directory.
    """

    @property
    @rank_zero_experiment
    def experiment(self):
        if self._experiment is None:
            import wandb

            os.environ.setdefault("WANDB_FINISH_TIMEOUT", str(FINISH_TIMEOUT))
            timeout = float(os.environ.get("WANDB_INIT_TIMEOUT", INIT_TIMEOUT))
            settings = wandb.Settings(silent=True, init_timeout=timeout)
            mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key(settings.base_url) else "offline")
            self._wandb_init.pop("anonymous", None)  # set by Lightning; W&B warns about it
            id_file = Path(self.save_dir) / "wandb" / "id.txt"
            if id_file.exists():
                self._wandb_init |= {"id": id_file.read_text(), "resume": "allow"}
            try:
                run = wandb.init(**self._wandb_init, mode=mode, settings=settings)
            except Exception as error:  # of any kind: a run must not fail because of its logger
                reason = str(error).partition("\n")[0]
                log.warning(
                    f"W&B cannot be reached ({reason}); this run is logged offline, and `wandb sync` uploads it "
                    "later. WANDB_MODE=offline does not wait for W&B, and logger=csv does without it"
                )
                run = wandb.init(**self._wandb_init, mode="offline", settings=settings)
            id_file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(id_file, run.id)
            run.define_metric("images_seen")
            run.define_metric("*", step_metric="images_seen")
            self._experiment = run
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        self.experiment.log({**metrics, "images_seen": step}, step=step)  # W&B ignores what a resumed run logs again


def has_api_key(base_url: str) -> bool:
    """Whether W&B finds a key without asking: in WANDB_API_KEY, or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def finish_wandb() -> None:
    """End the current W&B run, if there is one: otherwise it would collect the numbers of the next job."""
    if (wandb := sys.modules.get("wandb")) is None:
        return
    try:
        wandb.finish()
    except Exception as error:  # its service process crashed; the next run starts a new one
        log.warning(
            f"W&B failed ({describe_error(error)}). All numbers are in metrics.csv, and `wandb sync` "
            "uploads what W&B wrote before"
        )
        wandb.run = None  # type: ignore[attr-defined]
        with suppress(Exception):
            wandb.teardown()
