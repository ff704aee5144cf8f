"""Runs are found by directory, file or `latest`, and opened with their data."""

import json
import os
import re

import pytest
import torch

import ganlab
from ganlab.runs.open_run import load_data, open_run
from ganlab.runs.run_dir import find_checkpoint as find


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run_dir(folder, names=("last.ckpt",), age=0):
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        file = folder / "checkpoints" / name
        file.touch()
        os.utime(file, (1e9 - age, 1e9 - age))
    return folder


def test_find_checkpoint_by_directory_and_file(cwd, monkeypatch):
    run = make_run_dir(cwd / "run", ("last.ckpt", "best.ckpt"))
    monkeypatch.setenv("HOME", str(cwd))
    assert find("~/run") == find(run)
    assert find(run) == find("run/checkpoints/best.ckpt").resolve() == run / "checkpoints" / "best.ckpt"
    assert find(run / "checkpoints" / "last.ckpt").name == "last.ckpt"


def test_latest_is_the_newest_checkpoint_also_in_sweeps(cwd):
    make_run_dir(cwd / "outputs" / "old", age=100)
    make_run_dir(cwd / "outputs" / "sweep" / "seed=2", age=10)
    make_run_dir(cwd / "outputs" / "sweep" / "seed=1", age=20)
    (cwd / "outputs" / "newest_without").mkdir()
    make_run_dir(cwd / "elsewhere")
    assert find("latest").parents[1].name == "seed=2"


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "no checkpoint at run; give a run's directory"),
        ({"config.yaml": "a: 1"}, "the run is unfinished: killed, or not yet at its first evaluation; give"),
        ({"summary.json": json.dumps({"status": "failed", "error": "d/loss is nan\n  in x"})}, r"the run failed \(d/loss is nan\); give"),
        ({"summary.json": json.dumps({"status": "finished"})}, r"the run finished \(it kept none\); give"),
        ({"summary.json": "{"}, r"the run failed \(its summary.json cannot be read .*\); give"),
    ],
)  # fmt: skip
def test_missing_checkpoint_is_explained_by_the_run_s_status(cwd, files, message):
    (cwd / "run").mkdir()
    for name, text in files.items():
        (cwd / "run" / name).write_text(text)
    with pytest.raises(FileNotFoundError, match=message):
        open_run("run")


def test_no_run_is_explained(cwd):
    with pytest.raises(FileNotFoundError, match=r"run=latest found no checkpoint below ./outputs; train first"):
        open_run("latest")
    make_run_dir(cwd / "sweep" / "seed=1")
    with pytest.raises(FileNotFoundError, match=re.escape("such as sweep/seed=1")):
        open_run("sweep")


def test_opened_run_has_its_gan_and_data(cwd, make_run):
    gan = make_run(cwd / "outputs" / "a")
    trained = open_run("latest")
    assert not trained.gan.training and trained.name == "digits-test" and trained.seed == 3 and trained.member is None
    assert trained.run_dir.path.name == "a" and trained.checkpoint.name == "last.ckpt"
    y = torch.tensor([4, 0, 9])
    assert torch.equal(trained.gan.sample(3, y, seed=1).cpu(), gan.sample(3, y, seed=1))
    assert torch.equal(ganlab.load("latest").sample(3, y, seed=1), gan.sample(3, y, seed=1))
    data = load_data(trained, data_dir=str(cwd / "moved"))
    assert data.train.x.shape == (1077, 1, 8, 8) and data.data_dir == cwd / "moved"
    with pytest.raises(ValueError, match="has no root, got 'x'; leave it out"):
        load_data(trained, root="x")
    trained.config["data"] = {"root": str(cwd / "moved away")}
    with pytest.raises(FileNotFoundError, match=r"moved away, the images of .*, does not exist; give root=DIR"):
        load_data(trained)


def test_changed_data_are_told(cwd, make_run, caplog):
    make_run(cwd / "outputs" / "r")
    path = cwd / "outputs" / "r" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["Digits"] = {"position": None, "fingerprint": load_data(open_run(str(path))).fingerprint}
    torch.save(content, path)
    load_data(open_run(str(path)))
    assert "has changed" not in caplog.text
    torch.save(content | {"Digits": {"position": None, "fingerprint": "another"}}, path)
    load_data(open_run(str(path)))
    assert "has changed since it was trained (1,077 training samples now)" in caplog.text


def test_diverged_generator_is_refused(cwd, make_run):
    make_run(cwd / "outputs" / "r")
    path = cwd / "outputs" / "r" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    next(v for k, v in content["state_dict"].items() if k.startswith("generator_ema."))[0] = torch.nan
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"generator in .*last.ckpt has weights that are not finite, its training diverged"):
        open_run(str(cwd / "outputs" / "r"))


def test_member_of_an_ensemble_is_opened_by_seed(cwd, make_run):
    ensemble = make_run(cwd / "run", seeds=[4, 5, 6])
    y = torch.tensor([4, 0, 9])
    for index, seed in enumerate([4, 5, 6]):
        trained = open_run("run", seed)
        assert trained.member == trained.seed == seed
        assert torch.equal(trained.gan.sample(3, y, seed=1).cpu(), ensemble.member(index).sample(3, y, seed=1))
    assert open_run("run").member == 4
    with pytest.raises(ValueError, match="has the seeds 4 … 6, got 7"):
        open_run("run", 7)


def test_untrusted_data_is_not_built(cwd, make_run):
    make_run(cwd / "run")
    path = cwd / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["ganlab"]["config"]["data"] = {"_target_": "os.system", "_args_": ["touch victim"]}
    torch.save(content, path)
    trained = open_run("run")
    with pytest.raises(ValueError, match="the run names os.system, which is not ganlab's"):
        load_data(trained)
    assert not (cwd / "victim").exists()
