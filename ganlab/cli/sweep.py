"""Hydra callbacks at the start and at the end of a sweep."""

import atexit
from contextlib import suppress
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from ganlab.utils.files import atomic_write


class SweepTable(Callback):
    """Print the table of jobs, write `sweep.csv` (one row per job), and end with exit code 1 if a job failed.

    A sweep that ends early (it was interrupted, or a launcher's process died) prints the jobs that there are. Where Weights &
    Biases is on, the tables are logged there, as a run of the sweep's name. A search whose sampler has no seed gets the
    run's, so that `resume=` asks for the same trials again.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        sampler = OmegaConf.select(config, "hydra.sweeper.sampler")
        if sampler and "seed" in sampler and sampler.seed is None:
            with read_write(config):
                sampler.seed = config.seed
        with suppress(OSError):  # the first job says so
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / "multirun.yaml", OmegaConf.to_yaml(config))  # Hydra's own sweeper does; Optuna's does not
        atexit.register(end_early, folder)  # Hydra does not call on_multirun_end after an exception

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        from ganlab.report.sweep import write_sweep_table  # loads matplotlib

        atexit.unregister(end_early)
        folder = Path(config.hydra.sweep.dir)
        jobs = write_sweep_table(folder)
        if any(job.seeds and job.status == "finished" for job in jobs):
            from ganlab.report.wandb import log_sweep_report

            log_sweep_report(folder, OmegaConf.to_container(config, resolve=False).get("logger") or {})
        if failed := sum(job.status != "finished" for job in jobs):
            raise SystemExit(f"ganlab: {failed} of {len(jobs)} jobs failed; see the table above")


def end_early(folder: Path) -> None:
    """What an interrupted sweep prints at the end of the process."""
    from ganlab.report.sweep import write_sweep_table

    write_sweep_table(folder)
    print(f"the sweep was interrupted; python -m ganlab resume={folder} continues it")
