"""Continue a stopped run as if it had never stopped, or train what is missing in a sweep.

    python -m ganlab resume=latest                           # the unfinished run in outputs/ that started last
    python -m ganlab resume=outputs/ring-ns-seed1_…
    python -m ganlab resume=RUN max_images=2_000_000         # a longer run, also of a finished one
    python -m ganlab resume=outputs/sweep_… trust=my_gan     # the jobs that are missing or unfinished

A run continues in its directory, from its last checkpoint and with its saved config.yaml. A run that trainer.max_time,
trainer.max_steps, a verdict or a callback ended before max_images goes on to max_images: the limit is lifted, the verdict only
warns, and the callback decides again. A lengthened run ends with the weights of a run of that length; what the shorter one
measured at its end stays in metrics.csv, and settings that were computed from the shorter max_images keep their values.

Classes outside ganlab, torch.optim, lightning and torchmetrics are built only if their module is named: trust=my_gan. The same
holds for a sweep's `--config-dir` and for its overrides of Hydra, except those that choose launcher and sweeper; a refusal says
what to type.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ganlab.cli.handler import errors_as_sentences
from ganlab.cli.options import ResumeOptions, parse_options
from ganlab.runs.resume import config_to_resume, sweep_command
from ganlab.runs.run_dir import RunDir, latest_unfinished

log = logging.getLogger(__name__)


def main(words: list[str]) -> None:
    """
    Raises:
        ValueError: the directory holds no run, the run is finished, or it names a class that is not trusted; the run has seen
            max_images already, or is a sweep.
    """
    options = parse_options(ResumeOptions, words)
    path = latest_unfinished().path if options.resume == "latest" else Path(options.resume).expanduser()
    path = path.resolve()
    if (path / "multirun.yaml").is_file():
        if options.max_images is not None:
            raise ValueError(f"max_images= lengthens a run, and {path} is a sweep; resume its runs one by one")
        command, cwd = sweep_command(path, options.trust)
        sys.exit(run_ganlab(command, cwd, options.trust))
    run = RunDir(path)
    if not run.is_run:
        raise ValueError(f"{path} holds no run (no config.yaml) and no sweep; give a run's directory, or resume=latest")
    config = config_to_resume(run, options.trust, options.max_images)
    if ended_by := run.ended_early:
        log.info(f"{path} was ended by {ended_by}; now it goes on to max_images={config['max_images']:,}")
    cwd = run.read_command().cwd
    if cwd and Path(cwd).is_dir() and Path(cwd) != Path.cwd():  # relative paths and a user's own modules are found there
        trust = [f"trust={','.join(options.trust)}"] if options.trust else []
        length = [f"max_images={options.max_images}"] if options.max_images is not None else []
        sys.exit(run_ganlab([f"resume={path}", *length, *trust], cwd, options.trust))
    resume_run(run, config, options.max_images)


def resume_run(run: RunDir, config: dict, max_images: int | None = None) -> None:
    """Train on in this process; messages go to the run's ganlab.log, too, as Hydra writes them at the first start."""
    from ganlab.report.wandb import log_run_report  # start-up time: torch loads here, after refusals
    from ganlab.runs.train import train

    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    with errors_as_sentences("resume", show_traceback, run), append_to_log(run):
        command, overrides = run.read_command(), None
        if max_images is not None:
            others = (word for word in command.overrides if not word.startswith("max_images="))
            overrides = [*others, f"max_images={max_images}"]
        train(config, resume=True, overrides=overrides, presets=command.presets, on_finish=log_run_report)


@contextmanager
def append_to_log(run: RunDir) -> Iterator[None]:
    """Log messages are also written to the run's ganlab.log."""
    handler = logging.FileHandler(run.log_file, delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def run_ganlab(words: Sequence[str], cwd: str | None, trust: Sequence[str]) -> int:
    """`python -m ganlab` in a process of its own, from another directory. Signals are handed on; returns its exit code.

    The directory may be a stranger's: without `trust`, no module is imported from it.
    """
    where = cwd if cwd and Path(cwd).is_dir() else None
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, *([] if trust else ["-P"]), "-m", "ganlab", *words]
    with subprocess.Popen(command, cwd=where, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}) as child:
        handlers = {
            number: signal.signal(number, lambda number, frame: child.send_signal(number))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }
        try:
            return child.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
