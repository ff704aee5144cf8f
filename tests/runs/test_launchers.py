"""Sweeps and runs started by joblib, submitit, Ray and Slurm."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from submitit.core.utils import UncompletedJobError

from ganlab.cli.errors import explain
from ganlab.cli.main import main
from ganlab.utils import slurm
from ganlab.utils.library_warnings import silence_library_warnings

TINY = [
    "logger=csv",
    "trainer=cpu",
    "data=ring",
    "loss=ns",
    "data.train_size=200",
    "data.test_size=50",
    "data.batch_size=16",
    "networks.hidden=[8,8]",
    "metrics.samples=50",
    "monitor=[]",
    "callbacks.sample_grid=null",
    "max_images=640",
    "eval_every=320",
]
PLANTED = """
import os
import signal
from pathlib import Path
from ganlab.losses import NonSaturatingGAN

class Raises(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        raise RuntimeError("planted")

class Preempted(NonSaturatingGAN):
    def discriminator_step(self, real, y, z=None):
        if self.images_seen == 400 and not Path("preempted").exists():
            Path("preempted").touch()
            os.kill(os.getpid(), signal.SIGUSR2)
        return super().discriminator_step(real, y, z)
"""
TIMINGS = ("seconds", "training_seconds", "images_per_second", "seconds_before_resume")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # where the processes of a launcher find planted.py
    (tmp_path / "planted.py").write_text(PLANTED)


def state(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same(a, b):
    """Compare weights, optimizers, random states, the position in the data, and the rows of the table."""
    one, two = state(a), state(b)
    for part in ("state_dict", "optimizer_states", "random_states", "Ring"):
        assert str(one[part]) == str(two[part]), part
    for name, value in one["state_dict"].items():
        assert name == "_extra_state" or torch.equal(value, two["state_dict"][name]), name
    tables = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (a, b)]
    rows = [[{k: v for k, v in row.items() if k not in TIMINGS} for row in table] for table in tables]
    assert rows[0] == rows[1]


def test_joblib_reports_failures_and_resumes(cli, tmp_path):
    """A job that is set back to its first checkpoint resumes and ends with the same weights."""
    arguments = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *TINY, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    code, out = cli(*arguments, "gan._target_=ganlab.NonSaturatingGAN,planted.Raises", "seed=1,2")
    assert code == 1 and "sweep of 4 jobs" in out and "2 of 4 jobs failed" in out
    assert "RuntimeError: planted\n  in" in out and "resume=" not in out.partition("sweep of 4 jobs")[2]
    jobs = {path.parent: json.loads(path.read_text()) for path in (tmp_path / "sweep").rglob("summary.json")}
    finished = sorted((job for job, summary in jobs.items() if summary["status"] == "finished"), key=str)
    assert len(jobs) == 4 and len(finished) == 2
    ends = {job: (job / "checkpoints" / "last.ckpt").read_bytes() for job in finished}
    reset, unchanged = finished
    (reset / "summary.json").unlink()
    (reset / "checkpoints" / "last.ckpt").write_bytes((reset / "checkpoints" / "best.ckpt").read_bytes())
    expected = state_of(ends[reset], tmp_path)
    at = (unchanged / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    code, out = cli(f"resume={tmp_path / 'sweep'}", "trust=planted")
    assert code == 1 and "2 of 4 jobs failed" in out and "is finished already" in out
    assert (unchanged / "checkpoints" / "last.ckpt").stat().st_mtime_ns == at
    now = state(reset)["state_dict"]
    assert all(torch.equal(now[name], value) for name, value in expected.items() if name != "_extra_state")
    assert now["_extra_state"] == expected["_extra_state"]
    assert len(list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))) == 4


def state_of(checkpoint, folder):
    (folder / "before.ckpt").write_bytes(checkpoint)
    return torch.load(folder / "before.ckpt", weights_only=True)["state_dict"]


def test_submitit_requeues_a_preempted_job(cli, tmp_path):
    """One job raises; the other is preempted, resumes, and equals the uninterrupted run."""
    (tmp_path / "preempted").touch()  # so that the uninterrupted run is not preempted
    assert cli(*TINY, "gan._target_=planted.Preempted", f"hydra.run.dir={tmp_path / 'uninterrupted'}")[0] == 0
    (tmp_path / "preempted").unlink()
    arguments = ["-m", "hydra/launcher=submitit_local", *TINY, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    code, out = cli(*arguments, "gan._target_=planted.Preempted,planted.Raises")
    assert code == 1 and "sweep of 2 jobs" in out and "1 of 2 jobs failed" in out and "RuntimeError: planted" in out
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").open()))
    (finished,) = (row["folder"] for row in rows if row["status"] == "finished")
    assert (tmp_path / "preempted").exists()
    log = "".join(path.read_text() for path in (tmp_path / "sweep").glob(".submitit/*/*_log.*"))
    assert "Requeued job" in log and "from 416 images on" in log
    assert_same(tmp_path / "uninterrupted", tmp_path / "sweep" / finished)


def test_ray_reports_failures_and_resumes(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs pip install -e .[ray]")

    def ganlab(*arguments):
        command = [sys.executable, "-m", "ganlab", *arguments]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        return ran.returncode, ran.stdout + ran.stderr

    arguments = ["-m", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", *TINY, "hydra.sweep.dir=sweep"]
    code, out = ganlab(*arguments, "gan._target_=ganlab.NonSaturatingGAN,planted.Raises")
    assert "sweep of 2 jobs" in out and "1 of 2 jobs failed" in out and "RuntimeError: planted" in out and code == 1, out[
        -3000:
    ]
    (job,) = (path.parent for path in (tmp_path / "sweep").rglob("summary.json") if '"finished"' in path.read_text())
    end = state(job)["state_dict"]
    (job / "summary.json").unlink()
    (job / "checkpoints" / "last.ckpt").write_bytes((job / "checkpoints" / "best.ckpt").read_bytes())
    code, out = ganlab("resume=sweep", "trust=planted")
    assert "1 of 2 jobs failed" in out and "from 320 images on" in out and code == 1, out[-3000:]
    assert str(state(job)["state_dict"]) == str(end)


def test_slurm_requeues_and_resumes_a_job(tmp_path, monkeypatch):
    """On SIGUSR1 the run saves and calls `scontrol requeue`; the same command finishes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (stub := tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/requests\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=os.pathsep)
    overrides = [*TINY, "max_images=1920"]
    assert in_a_child([*overrides, "hydra.run.dir=uninterrupted"]) == 0
    task = {"JOB_ID": 4711, "JOB_NAME": "gan", "NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert in_a_child(overrides, signal.SIGUSR1) == 128 + signal.SIGUSR1
    assert (tmp_path / "requests").read_text() == "requeue 4711\n"
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name.startswith("ring-ns-seed1_slurm-4711-") and not list(tmp_path.rglob("hpc_ckpt*"))
    assert 0 < state(folder)["state_dict"]["_extra_state"]["images_seen"] < 1920
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert in_a_child(overrides) == 0
    assert_same(tmp_path / "uninterrupted", folder)
    at = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert in_a_child(overrides) == 0 and (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == at
    assert in_a_child([*overrides, "seed=2"], signal.SIGTERM) == 0, "Slurm ends a job by itself"
    (other,) = {*(tmp_path / "outputs").iterdir()} - {folder}
    assert "images on SIGTERM; training continues until Slurm ends the job" in (other / "ganlab.log").read_text()


def in_a_child(arguments, number=None):
    """Run ganlab in a child process and send it the signal after its first checkpoint; returns the exit code."""
    before = checkpoints()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        sys.argv[1:] = arguments
        for output in (1, 2):
            os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), output)
        try:
            main()
            os._exit(0)
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException:
            os._exit(99)
    if number is not None:
        deadline = time.monotonic() + 60
        while not checkpoints() - before and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def checkpoints():
    return set(Path("outputs").glob("*/checkpoints/last.ckpt"))


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_slurm_job_id(variables, name, monkeypatch):
    for key in [key for key in os.environ if key.startswith("SLURM_")]:
        monkeypatch.delenv(key)
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert slurm.job_id() == name
    assert slurm.run_dir_suffix("now") == "now" if name is None else slurm.run_dir_suffix("now").startswith(f"slurm-{name}-")


def test_death_of_a_cluster_job_is_explained():
    message = "Job 16_1 (task: 0) with path /o/16_1_0_result.pkl\nhas not produced any output (state: CANCELLED by 1001)\nError"
    assert explain(UncompletedJobError(message)).startswith(
        "a job's process ended without a message (killed, or out of memory)"
    )


@pytest.mark.parametrize("name", [None, "bash", "gan"])
def test_missing_srun_is_warned_of_only_in_a_job(name, tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("SLURM_")]:
        monkeypatch.delenv(key)
    if name:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_JOB_NAME", name)
    (stub := tmp_path / "srun").touch()
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence_library_warnings()
        slurm.lightning_plugins()
    assert len(caught) == (name == "gan")


@pytest.mark.parametrize("process", [0, 1])
def test_signal_before_training_requeues_once_for_all_processes(process, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_PROCID", str(process))
    monkeypatch.setattr(slurm, "requeue", lambda: "requeued")
    monkeypatch.setattr("ganlab.cli.hydra_app.run_hydra", lambda _: os.kill(os.getpid(), signal.SIGUSR1))
    monkeypatch.setattr(sys, "argv", ["ganlab"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, code = signal.getsignal(signal.SIGUSR1), 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    finally:
        signal.signal(signal.SIGUSR1, before)
    message = capsys.readouterr().err
    assert (code, message) == (
        (128 + signal.SIGUSR1, "ganlab: SIGUSR1 came while nothing was training; requeued\n") if process == 0 else (0, "")
    )


def test_refused_requeue_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.requeue().startswith("scontrol requeue 7 failed (")
    (stub := tmp_path / "scontrol").write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    stub.chmod(0o755)
    assert slurm.requeue() == "scontrol requeue 7 failed (Access denied)"
