"""Under Slurm: this job's name, and the request to be run again.

A job that is submitted with `--signal=USR1@90` hears SIGUSR1 90 seconds before its time is over. It then finishes its
batch, saves, and asks for `scontrol requeue`, as Lightning would, with ganlab's own checkpoint in the run's own folder.
The command that Slurm starts again finds this folder, since it is named by the job and not by the clock, and goes on.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys


def job() -> str | None:
    """What `scontrol` calls this job; None outside Slurm, and in a shell that Slurm opened for a person."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def restarted() -> bool:
    """Whether Slurm starts this job for the second time, or later."""
    return job() is not None and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def when(now: str) -> str:
    """How a folder's name ends: with the time, or with what a job and its command have in common each time they begin.

    All processes of a job that `srun` starts have the same folder by it, too.
    """
    if job() is None:
        return now
    return f"slurm-{job()}-{hashlib.sha256(repr(sys.argv[1:]).encode()).hexdigest()[:6]}"


def requeue() -> str:
    """Asks Slurm to run this job again; what came of it, in words."""
    command = ["scontrol", "requeue", job()]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)} failed ({error})"
    if asked.returncode:
        return f"{' '.join(command)} failed ({asked.stderr.strip() or asked.returncode})"
    return f"Slurm runs job {job()} again"


def listen() -> None:
    """From here on SIGUSR1 ends this job for a while only, also before training, which has its own way, and after it."""
    if job() is not None:
        signal.signal(signal.SIGUSR1, leave)


def leave(number, frame) -> None:
    if os.environ.get("SLURM_PROCID", "0") == "0":  # with it Slurm ends the others
        print(f"ganlab: {signal.Signals(number).name} came while nothing was training; {requeue()}", file=sys.stderr)
        sys.exit(128 + number)


def environment() -> list:
    """Lightning's own, for processes that `srun` started; without its requeueing, which saves in the middle of a batch."""
    from lightning.pytorch.plugins.environments import SLURMEnvironment  # a folder's name must not wait for torch

    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
