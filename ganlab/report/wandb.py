"""The report's tables in Weights & Biases."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch.loggers.logger import DummyExperiment

from ganlab.callbacks.loggers import Wandb, finish_wandb

log = logging.getLogger(__name__)


def log_report(run, folder: Path) -> None:
    """The report's tables on what a folder holds, to a W&B run: `report/…`, and the numbers by name in its summary.

    Whatever goes wrong here is said and stops nothing.
    """
    if isinstance(run, DummyExperiment):  # of a run that W&B has left
        return
    try:
        import wandb

        from ganlab.report import compare, letters, titled_tables
        from ganlab.report.texts import plain

        rankings, found = compare([folder]).rankings, {}
        for name, table in titled_tables(rankings):
            columns = [heading or f"column {place}" for place, heading in enumerate(table.header, 1)]
            rows = [[plain(cell) for cell in row] for row in table.rows]
            found[f"report/{name}"] = wandb.Table(columns=columns, data=rows)
        run.log(found)
        for ranking, before in zip(rankings, letters(rankings), strict=True):
            run.summary.update({f"report/{before}{name}": value for name, value in ranking.headline().items()})
    except Exception as error:  # the numbers are in the folder all the same
        log.warning(f"the report's tables did not go to W&B ({type(error).__name__}: {str(error).partition(chr(10))[0]})")


def report_beside(folder: Path, loggers: dict) -> None:
    """Log the tables of a sweep to a W&B run of the sweep's name.

    `loggers`: as in the config. Nothing where none of them is W&B.
    """
    for settings in loggers.values():
        if settings and settings["_target_"] == f"{Wandb.__module__}.{Wandb.__qualname__}":
            logger = Wandb(project=settings["project"], name=folder.name, save_dir=str(folder), job_type="report",
                           group=folder.name)  # fmt: skip
            log_report(logger.experiment, folder)
            finish_wandb()
