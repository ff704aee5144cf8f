"""Run directories: of refused runs, of `latest`, and of older versions."""

import json

import pytest
import torch

from ganlab.runs.run_dir import RunDir, find_run_dirs, latest_unfinished

TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=64", "data.test_size=20", "metrics=none"]
TINY += ["data.batch_size=16", "max_images=32", "networks.hidden=[8]", "monitor=[]", "callbacks.sample_grid=null"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["gan.n_critic=0"],
        ["data.batch_size=65"],
        ["optimizer.generator.lr=x"],
        ["trainer.devices=99"],
        ["gan._target_=nowhere.GAN"],
        ["gan.pack=2", "data.batch_size=1"],
    ],
)
def test_refused_run_is_not_a_run(cli, tmp_path, overrides):
    code, out = cli(*TINY, *overrides, "hydra.run.dir=outputs/a")
    assert code == 1 and out.count("ganlab: ") == 1, out
    assert not find_run_dirs(tmp_path) and not [path for path in tmp_path.rglob("*") if path.is_file()]
    for arguments in (["resume=latest"], ["report", "outputs"], ["sample"]):
        code, out = cli(*arguments)
        assert code == 1 and ("no run" in out or "no checkpoint" in out or "not there" in out), out


def test_refused_job_of_a_sweep_is_a_row_but_not_a_run(cli, tmp_path):
    code, out = cli("-m", *TINY, "gan.n_critic=0,1", "hydra.sweep.dir=outputs/sweep")
    assert code == 1 and "1 of 2 jobs failed" in out and "gan.n_critic must be an integer of at least 1, got 0" in out
    assert [RunDir(run.path).status for run in find_run_dirs(tmp_path)] == ["finished"]


def test_latest_unfinished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no run at or below ./outputs; train first"):
        latest_unfinished()
    done = RunDir(tmp_path / "outputs" / "sweep" / "done")
    done.path.mkdir(parents=True)
    done.write_config({})
    done.write_summary({"status": "finished"})
    with pytest.raises(ValueError, match="all 1 runs at or below ./outputs are finished"):
        latest_unfinished()
    stopped = RunDir(tmp_path / "outputs" / "stopped")
    stopped.path.mkdir()
    stopped.write_config({})
    for status in ("interrupted", "failed"):
        stopped.write_summary({"status": status})
        assert latest_unfinished().path.name == "stopped"


@pytest.mark.parametrize(
    "config",
    [{}, {"a": 1e-5, "b": "1e5", "c": [1, None, True, 0.1], "d": {"e": "ü: #x", "f": "null", "g": "", "h": float("inf")}}],
)
def test_config_round_trip(tmp_path, config):
    RunDir(tmp_path).write_config(config)
    assert RunDir(tmp_path).read_config() == config


def test_version_0_1_is_refused(cli, tmp_path):
    (run := tmp_path / "run" / "checkpoints").mkdir(parents=True)
    RunDir(tmp_path / "run").write_config({"look_every": 5, "name": "old"})
    about = {"version": "0.1.0", "config": {"gan": {}}}
    torch.save({"ganlab": about, "state_dict": {}}, run / "last.ckpt")
    code, out = cli("resume=run")
    assert code == 1 and "is of ganlab 0.1, whose runs this version does not continue; train again" in out
    code, out = cli("sample", "run=run")
    assert code == 1 and "is of ganlab 0.1.0, whose checkpoints ganlab 0.2.0 does not read" in out


def test_unreadable_summary_counts_as_failed(tmp_path):
    for text in ("{", "[]"):
        (tmp_path / "summary.json").write_text(text)
        assert RunDir(tmp_path).status == "failed" and not RunDir(tmp_path).is_complete
    (tmp_path / "summary.json").write_text(json.dumps({"status": "failed", "error_type": "FloatingPointError"}))
    assert RunDir(tmp_path).is_complete


def test_a_refused_run_removes_nothing_that_was_there_before(cli, tmp_path):
    (tmp_path / "mine" / "wandb").mkdir(parents=True)
    (tmp_path / "mine" / "wandb" / "other").write_text("of another project")
    for words in (["data.batch_size=65"], ["max_images=x"]):
        assert cli(*TINY, "logger=[csv,wandb]", *words, "hydra.run.dir=mine")[0] == 1
        assert (tmp_path / "mine" / "wandb" / "other").read_text() == "of another project"
    assert cli(*TINY, "logger=[csv,wandb]", "data.batch_size=65", "hydra.run.dir=new")[0] == 1
    assert not (tmp_path / "new" / "wandb").exists()


def test_a_refused_job_of_a_sweep_leaves_the_run_in_its_directory_alone(cli, tmp_path):
    words = ["-m", *TINY, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=a"]
    assert cli(*words)[0] == 0
    before = (tmp_path / "sweep" / "a" / "summary.json").read_bytes()
    cli(*words, "seed=x")
    assert (tmp_path / "sweep" / "a" / "summary.json").read_bytes() == before
