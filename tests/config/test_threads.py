"""How many threads a run computes with: chosen by the size of its work, saved with the config, and said when they wait."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.callbacks import TrainMetrics
from ganlab.config.paths import conf_folder
from ganlab.config.schema import validate_types
from ganlab.runs.open_run import open_run
from ganlab.runs.run_dir import RunDir


@pytest.fixture
def cores(monkeypatch):
    """A machine with 8 cores; a call changes their number."""
    monkeypatch.delenv("OMP_NUM_THREADS")

    def set_cores(n):
        monkeypatch.setattr("joblib.cpu_count", lambda **options: n)

    set_cores(8)
    return set_cores


def threads(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", ["run_dir=here", *overrides]).threads


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 1),  # 8 x 8 digits
        (["data=ring", "loss=ns"], 1),
        (["data=grid", "loss=ns"], 1),
        (["data=stacked_digits", "loss=ns"], 1),
        (["data=fashion_mnist"], 8),
        (["data=cifar10"], 8),
        (["data=folder", "data.size=16", "data.num_classes=2"], 8),
        (["data=ring", "loss=ns", "seeds=15"], 1),
        (["data=ring", "loss=ns", "seeds=16"], 8),
        (["seeds=16"], 8),
        (["data=fashion_mnist", "trainer.devices=2"], 4),
        (["data=fashion_mnist", "trainer.devices=16"], 1),
        (["data=fashion_mnist", "trainer=ddp"], 8),
        (["data=fashion_mnist", "threads=3"], 3),
        (["threads=3"], 3),
    ],
)
def test_threads_follow_from_the_size_of_the_work(cores, overrides, expected):
    assert threads(*overrides) == expected


@pytest.mark.parametrize(("variable", "expected"), [("3", 3), ("99", 8), ("5,2", 5), ("", 8), ("x", 8)])
def test_openmp_limits_them(cores, monkeypatch, variable, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads("data=fashion_mnist") == expected and threads() == 1


@pytest.mark.parametrize("value", ["0", "-1", "null", "1.5", "all"])
def test_wrong_number_is_refused(value):
    with initialize_config_dir(conf_folder(), version_base="1.3"), pytest.raises(ValueError, match="^threads must be an int"):
        validate_types(compose("config", ["run_dir=here", "name=x", f"threads={value}"]), [f"threads={value}"])


TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=64", "data.test_size=20", "data.batch_size=16"]
TINY += ["networks.hidden=[8]", "monitor=[]", "metrics=none", "max_images=32", "callbacks.sample_grid=null"]


def used(run):
    """How many threads a run has computed with."""
    return int(re.search(r"(\d+) threads?", RunDir(Path(run)).read_summary()["device"])[1])


def test_resumed_run_and_verbs_keep_the_number(cli):
    assert cli(*TINY, "threads=2", "hydra.run.dir=run")[0] == 0
    run = RunDir(Path("run"))
    assert run.read_config()["threads"] == used("run") == 2
    run.summary_file.unlink()
    torch.set_num_threads(1)
    assert cli("resume=run")[0] == 0 and used("run") == 2
    torch.set_num_threads(1)
    open_run("run")
    assert torch.get_num_threads() == 2


def test_each_job_of_a_sweep_has_its_own(cli):
    assert cli("-m", *TINY, "threads=2,1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${threads}")[0] == 0
    assert (used("sweep/2"), used("sweep/1")) == (2, 1)


def test_sweep_goes_on_where_a_machine_has_other_cores(cli, cores):
    command = ["-m", *TINY, "seeds=16", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=job"]
    cores(2)
    assert cli(*command)[0] == 0
    cores(1)
    code, out = cli(*command)
    assert code == 0 and "is finished already" in out, out
    RunDir(Path("sweep/job")).summary_file.unlink()
    assert cli(*command)[0] == 0 and used("sweep/job") == 2
    code, out = cli(*command, "threads=1")
    assert code == 1 and "holds a run already" in out


def test_waiting_threads_spin_briefly():
    """OpenMP reads the variable when torch loads it."""
    code = "import os, sys, ganlab.__main__; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    for before, expected in ((None, "10000 False"), ("7", "7 False")):
        environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | (
            {"GOMP_SPINCOUNT": before} if before else {}
        )
        printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == expected


class Trainer:
    callbacks = ()


class Module:
    seeds, images_seen = None, 0


def slowed_down(caplog, metrics, *speeds, threads=2):
    caplog.clear()
    for speed in speeds:
        metrics._check_speed(speed, threads)
    return [record.getMessage() for record in caplog.records]


def test_slowing_down_is_said_once(caplog):
    metrics = TrainMetrics()
    metrics.on_train_start(Trainer(), Module())
    assert not slowed_down(caplog, metrics, 1.0, *[3000.0] * 9)  # the first row is slow: it warms up
    assert not slowed_down(caplog, metrics, *[1001.0] * 20, 10.0, 10.0)  # a third is not enough, nor are two rows
    (message,) = slowed_down(caplog, metrics, *[100.0] * 30)
    assert message == (
        "training has slowed down from 3,000 to 100 images/s; other processes seem to use this machine: 2 threads wait for "
        "each other then, and threads=1 does not"
    )
    metrics.load_state_dict(metrics.state_dict())
    metrics.on_train_start(Trainer(), Module())  # resumed, elsewhere: a slower machine is no news
    assert not slowed_down(caplog, metrics, *[50.0] * 30)
    (message,) = slowed_down(caplog, metrics, *[10.0] * 30, threads=1)
    assert message.endswith("from 50 to 10 images/s; other processes seem to use this machine: stop or move them")
