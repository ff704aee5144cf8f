"""Continue a stopped run as if it had never stopped, or train what is missing in a sweep.

    python -m ganlab resume=latest                           # the unfinished run in outputs/ that started last
    python -m ganlab resume=outputs/ring-ns-seed1_…
    python -m ganlab resume=outputs/sweep_… trust=my_gan     # the jobs that are missing or unfinished

A run continues in its directory, from its last checkpoint and with its saved config.yaml. Classes outside ganlab, torch.optim,
lightning and torchmetrics are built only if their module is named: trust=my_gan. The same holds for a sweep's `--config-dir`
and for its overrides of Hydra, except those that choose launcher and sweeper; a refusal says what to type.
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


def main(words: list[str]) -> None:
    """
    Raises:
        ValueError: the directory holds no run, the run is finished, or it names a class that is not trusted.
    """
    options = parse_options(ResumeOptions, words)
    path = latest_unfinished().path if options.resume == "latest" else Path(options.resume).expanduser()
    path = path.resolve()
    if (path / "multirun.yaml").is_file():
        command, cwd = sweep_command(path, options.trust)
        sys.exit(run_ganlab(command, cwd, options.trust))
    run = RunDir(path)
    if not run.is_run:
        raise ValueError(f"{path} holds no run (no config.yaml) and no sweep; give a run's directory, or resume=latest")
    config = config_to_resume(run, options.trust)
    cwd = run.read_command().cwd
    if cwd and Path(cwd).is_dir() and Path(cwd) != Path.cwd():  # relative paths and a user's own modules are found there
        trust = [f"trust={','.join(options.trust)}"] if options.trust else []
        sys.exit(run_ganlab([f"resume={path}", *trust], cwd, options.trust))
    resume_run(run, config)


def resume_run(run: RunDir, config: dict) -> None:
    """Train on in this process; messages go to the run's ganlab.log, too, as Hydra writes them at the first start."""
    from ganlab.report.wandb import log_run_report  # start-up time: torch loads here, after refusals
    from ganlab.runs.train import train

    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    with errors_as_sentences("resume", show_traceback, run), append_to_log(run):
        train(config, resume=True, on_finish=log_run_report)


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
