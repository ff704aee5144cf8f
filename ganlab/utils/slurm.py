"""Slurm jobs: their id, and requeueing when their time is over.

A job submitted with `--signal=USR1@90` gets SIGUSR1 90 seconds before its time limit. Training then finishes its batch,
saves ganlab's checkpoint in the run directory and calls `scontrol requeue`. When Slurm starts the command again, it
resumes from that directory, which is named after the job id and not after the time of day.
"""

import hashlib
import os
import signal
import subprocess
import sys
from types import FrameType


def job_id() -> str | None:
    """The id that `scontrol` takes (`7`, or `7_2` in an array); None outside Slurm and in an interactive shell."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def is_restart() -> bool:
    """Whether Slurm has started this job before."""
    return job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def run_dir_suffix(now: str) -> str:
    """The end of a run directory's name: the time `now`; under Slurm the job id and a hash of the command line instead.

    All processes that `srun` starts for a job, and all restarts of the job, thus use the same directory.
    """
    if job_id() is None:
        return now
    return f"slurm-{job_id()}-{hashlib.sha256(repr(sys.argv[1:]).encode()).hexdigest()[:6]}"


def requeue() -> str:
    """Ask Slurm to run this job again and return a message that says whether it will."""
    command = ["scontrol", "requeue", str(job_id())]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)} failed ({error})"
    if result.returncode:
        return f"{' '.join(command)} failed ({result.stderr.strip() or result.returncode})"
    return f"Slurm runs job {job_id()} again"


def requeue_on_signal() -> None:
    """In a Slurm job, requeue and exit on SIGUSR1 outside training; during training the checkpoint callback handles it."""
    if job_id() is not None:
        signal.signal(signal.SIGUSR1, _requeue_and_exit)


def _requeue_and_exit(number: int, frame: FrameType | None) -> None:
    if os.environ.get("SLURM_PROCID", "0") == "0":  # when this process ends, Slurm ends the job's others
        print(f"ganlab: {signal.Signals(number).name} came while nothing was training; {requeue()}", file=sys.stderr)
        sys.exit(128 + number)


def lightning_plugins() -> list:
    """Trainer plugins for a job started with `srun`: Lightning's environment without its own requeueing, which would
    save in the middle of a batch. Empty elsewhere."""
    from lightning.pytorch.plugins.environments import SLURMEnvironment  # here for start-up time

    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
