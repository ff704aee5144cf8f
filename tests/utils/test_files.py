"""What a run writes is whole or not there, also after a power cut and on a full disk."""

import os
import resource
import signal

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ganlab.utils.files import atomic_torch_save, atomic_write, save_figure, write_csv, write_json

WRITERS = {
    "text": lambda path: atomic_write(path, "x" * 9000),
    "bytes": lambda path: atomic_write(path, b"x" * 9000),
    "table": lambda path: write_csv(path, [{"a": 1}] * 4000),
    "json": lambda path: write_json(path, {"a": [0.5] * 4000}),
    "tensors": lambda path: atomic_torch_save(path, torch.zeros(9000)),
    "tensors, one of several processes": lambda path: atomic_torch_save(path, torch.zeros(9000), suffix=".1"),
    "figure": lambda path: save_figure(path, Figure()),
}


@pytest.fixture
def renamed(monkeypatch):
    """For each file that took its name: the name, and of every file its size on the disk and as programs see it."""
    on_disk, found = {}, []
    fsync, replace = os.fsync, os.replace

    def synced(number):
        fsync(number)
        path = os.readlink(f"/proc/self/fd/{number}")
        on_disk[path] = os.path.getsize(path)

    def taken(source, path):
        found.append(
            (str(path), str(source), dict(on_disk), {name: os.path.getsize(name) for name in on_disk if os.path.exists(name)})
        )
        replace(source, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", taken)
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, renamed, name):
    WRITERS[name](tmp_path / "file")
    ((path, source, on_disk, seen),) = renamed
    assert path == str(tmp_path / "file") and on_disk == seen == {source: os.path.getsize(path)}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_s_rows_are_on_the_disk_before_it(cli, tmp_path, renamed):
    words = ["data=ring", "data.train_size=256", "data.test_size=64", "networks.hidden=[4]", "metrics.samples=16"]
    words += ["max_images=512", "eval_every=128", "trainer=cpu", "trainer.log_every_n_steps=1", "logger=csv"]
    assert cli(*words, "hydra.run.dir=run")[0] == 0
    rows = str(tmp_path / "run" / "metrics.csv")
    sizes = [(on_disk[rows], seen[rows]) for path, _, on_disk, seen in renamed if path.endswith("last.ckpt")]
    assert len(sizes) == 4 and all(on_disk == seen for on_disk, seen in sizes)
    assert sizes == sorted(set(sizes))  # each has more of them


@pytest.mark.parametrize("name", ["tensors", "tensors, one of several processes"])
def test_what_does_not_fit_leaves_what_was_there(tmp_path, name):
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


def test_what_nobody_could_read_again_is_refused_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    for value, named in ((np.float64(1), r"numpy\.\S+scalar"), (tmp_path, r"pathlib\.PosixPath")):
        with pytest.raises(ValueError, match=rf"file would hold {named}, which nobody could read"):
            atomic_torch_save(path, {"callbacks": {"Mine": {"best": value}}})
        assert path.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["file"]
