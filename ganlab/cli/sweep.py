"""Hydra's parts of a sweep: callbacks at its start and its end, and what makes a search outlive a trial that fails."""

import atexit
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ganlab.cli.handler import errors_as_sentences
from ganlab.runs.run_dir import RunDirInUse
from ganlab.utils.files import atomic_write


class SweepTable(Callback):
    """Print the table of jobs, write `sweep.csv` (one row per job), and end with exit code 1 if a job failed.

    A sweep that ends early (it was interrupted, or a launcher's process died) prints the jobs that there are. Where Weights &
    Biases is on, the tables are logged there, as a run of the sweep's name.

    A search (hydra/sweeper=optuna) reports a failed trial to its sampler and goes on, and ends with exit code 0 if any
    trial has a value. `resume=` asks for the same trials again, since a sampler without a seed gets the run's; those that are
    done or failed are not trained again. To try a failed one again, remove its directory.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        folder = Path(config.hydra.sweep.dir)
        if is_search(config.hydra):  # Hydra would make a warning of another exception than SystemExit
            with errors_as_sentences("the search", show_traceback=False), read_write(config), open_dict(config):
                prepare_search(config, is_resumed=(folder / "multirun.yaml").exists())
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
        failed = sum(job.status != "finished" for job in jobs)
        if failed and is_search(config.hydra) and failed < len(jobs):
            print(f"{failed} of {len(jobs)} trials failed; the search went on without them")
        elif failed:
            raise SystemExit(f"ganlab: {failed} of {len(jobs)} jobs failed; see the table above")


def end_early(folder: Path) -> None:
    """What an interrupted sweep prints at the end of the process."""
    from ganlab.report.sweep import write_sweep_table

    jobs = write_sweep_table(folder)
    if not jobs or {job.status for job in jobs} - {"failed", "refused"}:  # else a search of which no trial has a value
        print(f"the sweep was interrupted; python -m ganlab resume={folder} continues it")


# Searches


def is_search(hydra: DictConfig) -> bool:
    """Whether the sweeper chooses its jobs by what earlier ones returned, as Optuna's does."""
    return "max_failure_rate" in (hydra.get("sweeper") or {})


def require_objective(config: DictConfig | dict) -> None:
    """
    Raises:
        ValueError: a search's run has no number to minimize.
    """
    if not any(callback and callback.get("metric") for callback in (config.get("callbacks") or {}).values()):
        raise ValueError(
            "a search needs an objective: the metric's, which is lower for better samples; leave metrics=none out, or train "
            "every setting with a plain sweep (leave hydra/sweeper out)"
        )


def prepare_search(config: DictConfig, is_resumed: bool) -> None:
    """Let a search outlive failed trials, by changes in `config.hydra`.

    Raises:
        ValueError: there is nothing to minimize, or something else is asked for.
    """
    sweeper = config.hydra.sweeper
    directions = sweeper.get("direction", "minimize")
    if str(getattr(directions, "name", directions)) != "minimize":
        raise ValueError(
            f"a search minimizes the metric's objective, which is lower for better samples, got "
            f"hydra.sweeper.direction={directions}; leave it out"
        )
    require_objective(config)
    typed = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    if not any(word.startswith("hydra.sweeper.max_failure_rate=") for word in typed):
        sweeper.max_failure_rate = 1.0
    sampler = OmegaConf.select(config, "hydra.sweeper.sampler")
    if sampler and "seed" in sampler and sampler.seed is None:
        sampler.seed = config.seed
    if is_resumed and sweeper.get("storage"):  # it holds the first trials already, which would be counted twice
        sweeper.storage = sweeper.study_name = None
        print("the search is repeated from the sweep's directory; hydra.sweeper.storage gets no more trials")
    name = "hydra_plugins.ganlab.SearchLauncher"  # Hydra takes launchers of hydra_plugins only
    Plugins.instance().class_name_to_class[name] = SearchLauncher
    is_grid = "GridSampler" in str(sampler and sampler.get("_target_"))
    config.hydra.launcher = {"_target_": name, "_recursive_": False, "launcher": config.hydra.launcher, "is_grid": is_grid}


class SearchLauncher(Launcher):
    """Launch a search's trials with another launcher. A trial that cannot be composed, or whose process dies, is a failed one.

    Of trials with the same settings that run at the same time, the second waits for the first and returns its value.

    Args:
        launcher: the configuration of the other one.
        is_grid: failed trials return infinity, since Optuna's grid sampler cannot end with a failed trial.
    """

    def __init__(self, launcher: DictConfig, is_grid: bool):
        self.configured, self.is_grid = launcher, is_grid

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        with read_write(config), open_dict(config):
            config.hydra.launcher = self.configured
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        results = self._launch(job_overrides, initial_job_idx)
        for i, result in enumerate(results):
            if result.status == JobStatus.FAILED and isinstance(result._return_value, RunDirInUse):
                results[i] = self._launch(job_overrides[i : i + 1], initial_job_idx + i)[0]
                if isinstance(results[i]._return_value, RunDirInUse):  # by a process outside this search
                    raise results[i]._return_value
            if results[i].status == JobStatus.FAILED and self.is_grid:
                results[i].return_value, results[i].status = math.inf, JobStatus.COMPLETED
        return results

    def _launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        try:
            return list(self.launcher.launch(job_overrides, initial_job_idx))
        except Exception as error:
            if len(job_overrides) > 1:  # which of them it was; those that are done stay as they are
                return [self._launch([words], initial_job_idx + i)[0] for i, words in enumerate(job_overrides)]
            from ganlab.cli.errors import explain  # start-up time: it is rarely needed

            failed = JobReturn(overrides=job_overrides[0], status=JobStatus.FAILED)
            failed.return_value = RuntimeError(explain(error))
            return [failed]
