"""Searches: failed trials are told to the sampler as failed, and a search that was killed comes to the same end."""

import csv
import errno
import math
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from ganlab.cli.main import main
from ganlab.cli.sweep import SearchLauncher, prepare_search
from ganlab.runs.run_dir import RunDir, RunDirInUse

optuna = pytest.importorskip("optuna", reason="needs pip install -e .[sweep]")
PLANTED = """
import os
import signal

from ganlab import NonSaturatingGAN
from ganlab.metrics.base import QualityMetric

class Searched(NonSaturatingGAN):
    def __init__(self, *networks, where, **settings):
        super().__init__(*networks, **settings)
        self.where = where
        if where < 1:
            raise ValueError(f"where must be at least 1, got {where}")

    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        if self.d_updates == 2 and self.where < 2:
            terms["d/loss"] = terms["d/loss"] * float("nan")
        if self.d_updates == 2 and 2 <= self.where < 3:
            raise RuntimeError("planted")
        if self.d_updates == 3 and self.where > float(os.environ.get("KILL_ABOVE", "inf")):
            os.kill(os.getpid(), signal.SIGKILL)
        return terms

class Parabola(QualityMetric):
    extractor, ranked_by, real_scores, protocol = "none", "parabola", {}, {}

    def __init__(self, samples, where, **others):
        super().__init__(samples)
        self.where = where

    def setup(self, *about):
        pass

    def update(self, samples, y):
        pass

    def compute(self):
        return self.append_count({"parabola": float("nan") if 3 <= self.where < 4 else (self.where - 7) ** 2})
"""
TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=64", "data.test_size=20", "data.batch_size=16"]
TINY += [
    "networks.hidden=[8]",
    "monitor=[]",
    "callbacks.sample_grid=null",
    "max_images=64",
    "eval_every=32",
    "metrics.samples=20",
]
OPTUNA = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweep.subdir=${gan.where}"]
OWN = ["gan._target_=my_gan.Searched", "metrics._target_=my_gan.Parabola", "+metrics.where=${gan.where}"]


def search(folder, *words, low=0.0):
    where = f"+gan.where=interval({low},12.0)"
    return [*OPTUNA, f"hydra.sweep.dir={folder}", *TINY, *OWN, where, *words]


@pytest.fixture
def planted(cli, tmp_path, monkeypatch, capfd):
    """Runs ganlab as `cli` does, with what it prints at the end of its process."""
    (tmp_path / "my_gan.py").write_text(PLANTED)
    optuna.logging.disable_default_handler()  # it would write to the output of the test that loaded Optuna
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    monkeypatch.setattr("atexit.unregister", lambda function: at_exit.clear())

    def run(*words):
        code, out = cli(*words)
        while at_exit:
            function, *arguments = at_exit.pop()
            function(*arguments)
        return code, out + capfd.readouterr().out

    return run


def values(folder):
    """The objective of each trial, None for one without."""
    summaries = {path.parent.name: RunDir(path.parent).read_summary() for path in Path(folder).glob("*/summary.json")}
    return {float(name): (summary.get("objective") or {}).get("value") for name, summary in summaries.items()}


def test_killed_search_with_failing_trials_comes_to_the_same_end(planted, tmp_path):
    """12 trials, of which one is refused, one becomes NaN and one crashes; the search is killed once, within a trial."""
    command = search("killed", "hydra.sweeper.n_trials=12", "seed=196")
    if (child := os.fork()) == 0:
        os.environ["KILL_ABOVE"] = "11.5"
        sys.argv, sys.stdout = ["ganlab", *command], open(os.devnull, "w")
        try:
            main()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    done = values("killed")
    assert len(done) == 8 and not Path("killed/optimization_results.yaml").exists()
    for folder in ("killed", "whole"):
        code, out = planted(*search(folder, "hydra.sweeper.n_trials=12", "seed=196"))
        assert code == 0 and "3 of 12 trials failed; the search went on without them" in out, out
    assert out.count("Failed experiment") == 3 and "interrupted" not in out
    found = values("killed")
    assert found == values("whole") and done.items() <= found.items()
    assert {math.floor(where) for where, value in found.items() if value is None} == {0, 1, 2}
    succeeded = {where: value for where, value in found.items() if value is not None}
    assert len(succeeded) == 9 and all(value == pytest.approx((where - 7) ** 2) for where, value in succeeded.items())
    best = min(succeeded, key=succeeded.get)
    expected = {"name": "optuna", "best_params": {"+gan.where": best}, "best_value": succeeded[best]}
    for folder in ("killed", "whole"):
        assert yaml.safe_load(Path(folder, "optimization_results.yaml").read_text()) == expected
    with Path("killed/sweep.csv").open() as file:
        rows = {math.floor(float(row["folder"])): row for row in csv.DictReader(file)}
    assert [rows[k]["status"] for k in range(3)] == ["refused", "failed", "failed"]
    assert [word in rows[k]["error"] for k, word in enumerate(("where must be", "became nan", "planted"))] == [True] * 3
    before = {path: path.stat().st_mtime_ns for path in Path("killed").glob("*/checkpoints/last.ckpt")}
    assert planted(*command)[0] == 0  # nothing is trained again, failed trials neither
    assert before == {path: path.stat().st_mtime_ns for path in Path("killed").glob("*/checkpoints/last.ckpt")}
    assert values("killed") == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metrics=none"], "ganlab: a search needs an objective: the metric's"),
        (["hydra.sweeper.direction=maximize"], "got hydra.sweeper.direction=maximize; leave it out"),
        (["hydra.sweeper.direction=[minimize,minimize]"], "a search minimizes the metric's objective"),
    ],
)
def test_search_for_nothing_is_refused_at_its_start(cli, words, message):
    code, out = cli(*OPTUNA, "hydra.sweep.dir=search", *TINY[:-1], "optimizer.generator.lr=interval(0.1,0.2)", *words)
    assert code == 1 and message in out and not Path("search").exists(), out


def test_search_without_any_value_says_so(planted):
    """The first kind is refused, the second ends with NaN in its metric."""
    command = search("search", "hydra.sweeper.n_trials=2")
    for where in ("0.5", "3.5"):
        code, out = planted(*[f"+gan.where=choice({where})" if "interval" in word else word for word in command])
        assert code == 1 and "ganlab: no trial of the search has a value" in out, out
        assert where == "3.5" or "was interrupted" not in out
        assert f"search/{where} has no value and counts as failed" in out


def test_settings_that_cannot_be_composed_are_failed_trials(planted):
    """Drawn from a list in which one preset does not exist."""
    words = ["regularizer=choice([],[nowhere])", "hydra.sweep.subdir=${gan.where}${gan.regularizers}", "seed=3"]
    code, out = planted(*search("search", "hydra.sweeper.n_trials=6", *words, low=4.0))
    assert code == 0 and "Best value" in out and "there is no regularizer=nowhere" in out, out


class Launcher:
    """Returns what was planned for each job, in turn."""

    def __init__(self, **plans):
        self.plans, self.launched = plans, []

    def launch(self, job_overrides, initial_job_idx):
        results = []
        for i, (name,) in enumerate(job_overrides):
            self.launched.append((name, initial_job_idx + i))
            plan = self.plans[name].pop(0) if len(self.plans[name]) > 1 else self.plans[name][0]
            if plan == "dies":
                raise RuntimeError("A worker process managed by the executor was unexpectedly terminated")
            failed = isinstance(plan, Exception)
            results.append(JobReturn(status=JobStatus.FAILED if failed else JobStatus.COMPLETED))
            results[-1].return_value = plan
        return results


def launch(is_grid=False, **plans):
    launcher = SearchLauncher(None, is_grid)
    launcher.launcher = Launcher(**plans)
    results = launcher.launch([(name,) for name in plans], 5)
    return [r._return_value if r.status == JobStatus.COMPLETED else str(r._return_value) for r in results], launcher.launcher


def test_death_of_a_worker_is_a_failed_trial():
    """The whole batch is lost with it, and is launched again one by one."""
    (a, b, c), inner = launch(a=[1.0], b=["dies"], c=[3.0])
    assert (a, c) == (1.0, 3.0) and b.startswith("a job's process ended without a message")
    assert inner.launched[-3:] == [("a", 5), ("b", 6), ("c", 7)]


def test_twin_of_a_running_trial_gets_its_value():
    assert launch(a=[1.0], b=[RunDirInUse("another process"), 1.0])[0] == [1.0, 1.0]
    with pytest.raises(RunDirInUse, match="another process"):
        launch(a=[1.0], b=[RunDirInUse("another process")])


def test_failed_trials_of_a_grid_count_as_infinite():
    """Optuna's grid sampler cannot end with a failed trial."""
    assert launch(a=[1.0], b=[ValueError("no")])[0] == [1.0, "no"]
    assert launch(True, a=[1.0], b=[ValueError("no")])[0] == [1.0, math.inf]


def test_grid_search_ends_with_a_failed_trial(planted):
    """Whichever comes last: both are failed."""
    command = search("search", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=9")
    code, out = planted(*["+gan.where=choice(0.25,0.5)" if "interval" in word else word for word in command])
    assert code == 1 and "2 of 2 jobs failed" in out and "Study.stop" not in out, out


def test_trial_that_is_killed_twice_at_the_same_place_has_failed(planted, tmp_path):
    """Else every resume would die there; after a new checkpoint the count begins anew."""
    command = [word.replace("interval(0.0,12.0)", "choice(5.0)") for word in search("search", "hydra.sweeper.n_trials=1")]
    assert planted(*command)[0] == 0
    run = RunDir(tmp_path / "search" / "5.0")
    run.summary_file.unlink()
    command_yaml = yaml.safe_load(run.command_file.read_text())
    assert command_yaml["starts"] == [0] and not run.was_killed_twice
    run.write_command(command_yaml["overrides"], command_yaml["presets"])
    assert not run.was_killed_twice
    run.write_command(command_yaml["overrides"], command_yaml["presets"])
    assert run.was_killed_twice
    code, out = planted(*command)
    assert code == 1 and "was killed twice without a new checkpoint" in out, out
    os.utime(run.last_checkpoint, ns=(1, 1))
    code, out = planted(*command)
    assert code == 0 and "Best value: 4.0" in out, out


def test_full_disk_ends_a_search(planted, monkeypatch, tmp_path):
    """The settings are not to blame: later trials would fail, too, and are not told to the sampler."""
    monkeypatch.setattr(RunDir, "write_config", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    code, out = planted(*search("search", "hydra.sweeper.n_trials=3", low=4.0))
    assert code == 1 and out.count("the disk is full") == 1 and "was interrupted" in out and "Failed experiment" not in out, out


def config_of_search(**sweeper):
    return OmegaConf.create(
        {
            "seed": 3,
            "callbacks": {"evaluation": {"metric": {"_target_": "x"}}},
            "hydra": {
                "launcher": {"_target_": "x"},
                "overrides": {"hydra": [f"hydra.sweeper.{k}={v}" for k, v in sweeper.items()]},
                "sweeper": {"max_failure_rate": 0.0, "direction": "minimize", "storage": None, "study_name": None} | sweeper,
            },
        }
    )


def test_failure_rate_and_storage_of_a_search(capsys):
    config = config_of_search()
    prepare_search(config, is_resumed=False)
    assert config.hydra.sweeper.max_failure_rate == 1
    config = config_of_search(max_failure_rate=0.3, storage="sqlite:///x.db", study_name="s")
    prepare_search(config, is_resumed=False)
    assert (config.hydra.sweeper.max_failure_rate, config.hydra.sweeper.storage) == (0.3, "sqlite:///x.db")
    prepare_search(config, is_resumed=True)
    assert config.hydra.sweeper.storage is None and "gets no more trials" in capsys.readouterr().out
