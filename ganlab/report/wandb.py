"""Log the report's tables to Weights & Biases."""

from pathlib import Path

from lightning.pytorch.loggers import Logger

from ganlab.callbacks.extras import attempt
from ganlab.callbacks.loggers import Wandb, finish_wandb
from ganlab.runs.run_dir import RunDir


def log_report_tables(run, path: Path) -> None:
    """Log the tables on the runs at or below `path` to a W&B run as `report/…`, and their numbers to its summary."""
    import wandb

    from ganlab.report.formatting import cell_text
    from ganlab.report.page import ranking_tables
    from ganlab.report.ranking import rank_runs

    logged = {}
    for ranking in rank_runs([path]):
        prefix = f"report/{ranking.label}/" if ranking.label else "report/"
        for table in ranking_tables(ranking):
            columns: list[str | int] = [heading or f"column {place}" for place, heading in enumerate(table.header, 1)]
            rows = [[cell_text(cell) for cell in row] for row in table.rows]
            logged[prefix + table.title] = wandb.Table(columns=columns, data=rows)
        run.summary.update({f"{prefix}{name}": value for name, value in ranking.finite_numbers().items()})
    run.log(logged)


def log_run_report(run: RunDir, loggers: list[Logger]) -> None:
    """Log the tables of one run to each of its W&B loggers."""
    for logger in loggers:
        if isinstance(logger, Wandb):
            log_report_tables(logger.experiment, run.path)


def log_sweep_report(sweep_dir: Path, loggers: dict) -> None:
    """Log the tables of a sweep to a W&B run of the sweep's name, if one of the config's `loggers` is W&B.

    An error is logged and not raised.
    """
    for settings in loggers.values():
        if settings and settings["_target_"] == f"{Wandb.__module__}.{Wandb.__qualname__}":
            logger = Wandb(project=settings["project"], name=sweep_dir.name, save_dir=str(sweep_dir), job_type="report",
                           group=sweep_dir.name)  # fmt: skip
            attempt("the sweep's report for W&B", lambda: log_report_tables(logger.experiment, sweep_dir))
            finish_wandb()
