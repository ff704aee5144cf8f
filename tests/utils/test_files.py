"""Files are written atomically and flushed before they are renamed, also on a full disk."""

import json
import math
import os
import resource
import signal

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ganlab.utils.files import atomic_path, atomic_torch_save, atomic_write, save_figure, write_csv, write_json

WRITERS = {
    "text": lambda path: atomic_write(path, "x" * 9000),
    "bytes": lambda path: atomic_write(path, b"x" * 9000),
    "csv": lambda path: write_csv(path, [{"a": 1}] * 4000),
    "json": lambda path: write_json(path, {"a": [0.5] * 4000}),
    "tensors": lambda path: atomic_torch_save(path, torch.zeros(9000)),
    "tensors, with a suffix": lambda path: atomic_torch_save(path, torch.zeros(9000), suffix=".1"),
    "figure": lambda path: save_figure(path, Figure()),
}


@pytest.fixture
def renames(monkeypatch):
    """Each os.replace as (target, source, size at the last fsync of each file, its size now)."""
    synced_sizes, calls = {}, []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor):
        fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced_sizes[path] = os.path.getsize(path)

    def recording_replace(source, target):
        sizes = {name: os.path.getsize(name) for name in synced_sizes if os.path.exists(name)}
        calls.append((str(target), str(source), dict(synced_sizes), sizes))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    return calls


@pytest.mark.parametrize("name", WRITERS)
def test_file_is_flushed_before_it_is_renamed(tmp_path, renames, name):
    WRITERS[name](tmp_path / "file")
    ((target, source, synced, sizes),) = renames
    assert target == str(tmp_path / "file") and synced == sizes == {source: os.path.getsize(target)}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_metric_rows_are_flushed_before_the_checkpoint(cli, tmp_path, renames):
    words = ["data=ring", "data.train_size=256", "data.test_size=64", "networks.hidden=[4]", "metrics.samples=16"]
    words += ["max_images=512", "eval_every=128", "trainer=cpu", "trainer.log_every_n_steps=1", "logger=csv"]
    assert cli(*words, "hydra.run.dir=run")[0] == 0
    rows = str(tmp_path / "run" / "metrics.csv")
    sizes = [(synced[rows], sizes[rows]) for target, _, synced, sizes in renames if target.endswith("last.ckpt")]
    assert len(sizes) == 4 and all(synced == size for synced, size in sizes)
    assert sizes == sorted(set(sizes))  # the table grows from one checkpoint to the next


@pytest.mark.parametrize("name", ["tensors", "tensors, with a suffix"])
def test_failed_write_leaves_the_old_file(tmp_path, name):
    path = tmp_path / "file"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(OSError, match="the disk may be full|File too large"):
            WRITERS[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_objects_that_safe_loading_refuses_are_not_saved(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    for value, named in ((np.float64(1), r"numpy\.\S+scalar"), (tmp_path, r"pathlib\.PosixPath")):
        with pytest.raises(ValueError, match=rf"file would contain {named}, which cannot be loaded"):
            atomic_torch_save(path, {"callbacks": {"Mine": {"best": value}}})
        assert path.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_atomic_path_removes_the_partial_file_on_failure(tmp_path):
    with pytest.raises(ValueError, match="file cannot be written .full.; choose another place with out="):
        with atomic_path(tmp_path / "file") as partial:
            partial.write_text("half")
            raise OSError("full")
    assert not list(tmp_path.iterdir())


def test_json_has_null_for_non_finite_numbers(tmp_path):
    write_json(tmp_path / "file", {"a": [1.5, math.nan, (math.inf, "x")], "b": {"c": -math.inf}})
    assert json.loads((tmp_path / "file").read_text()) == {"a": [1.5, None, [None, "x"]], "b": {"c": None}}
