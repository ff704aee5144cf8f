"""Digits and CIFAR-10."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from ganlab.data import CIFAR10, Digits

LABELS = [9, 0, 3, 1, 2, 4, 5, 8, 7, 6]


def digits(tmp_path, **changes):
    return Digits(
        **{"channels": 1, "size": 8, "num_classes": 10, "batch_size": 64, "val_size": 360, "data_dir": str(tmp_path), **changes}
    )


def test_digits_match_scikit_learn(tmp_path):
    data = digits(tmp_path)
    data.prepare_data()
    data.setup()
    assert (
        data.train.x.shape == (1077, 1, 8, 8)
        and data.val.x.shape == data.test.x.shape == (360, 1, 8, 8)
        and data.shape == (1, 8, 8)
    )
    assert data.train.x.dtype == torch.uint8 and data.train.y.dtype == torch.int64
    gray = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255])  # 255·v/16, rounded
    source = load_digits()
    expected = sorted((tuple(gray[row.astype(int)]), int(y)) for row, y in zip(source.data, source.target, strict=True))
    rows = [(x, y) for split in (data.train, data.val, data.test) for x, y in zip(split.x.flatten(1), split.y, strict=True)]
    assert sorted((tuple(x.tolist()), int(y)) for x, y in rows) == expected


def test_digits_split_is_stratified_and_fixed(tmp_path):
    first, second = digits(tmp_path), digits(tmp_path)
    first.setup()
    torch.manual_seed(1)
    np.random.seed(1)
    second.setup()
    assert first.fingerprint == second.fingerprint and torch.equal(first.test.x, second.test.x)
    total = np.bincount(load_digits().target)
    for split in (first.train, first.val, first.test):
        assert np.abs(np.bincount(split.y) - total * len(split.y) / 1797).max() < 1.5  # split off twice


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": 28}, "1x8x8, not 1x28x28: type data.channels=1 data.size=8"),
        ({"channels": 3}, "1x8x8, not 3x8x8: type data.channels=1 data.size=8"),
        ({"num_classes": 9}, "data.num_classes is 9 but the data has 10 classes: type data.num_classes=10"),
        ({"num_classes": 0}, "type data.num_classes=10"),
    ],
)
def test_configured_shape_and_classes_must_match_the_data(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        digits(tmp_path, **change).setup()


@pytest.mark.parametrize("change", [{"size": 0}, {"channels": -1}, {"channels": "gray"}, {"num_classes": -1}])
def test_shape_and_classes_are_validated(tmp_path, change):
    with pytest.raises(ValueError, match=f"data.{next(iter(change))} must be an integer of at least"):
        digits(tmp_path, **change)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small CIFAR-10 in the original's layout: planes of red, green and blue, rows of 3072 bytes."""
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name):
        rows = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        return rows, write(name, {"data": rows, "labels": LABELS})

    names = [f"data_batch_{i}" for i in range(1, 6)]
    rows, sums = zip(*map(batch, names), strict=True)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [*zip(names, sums, strict=True)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("test_batch", batch("test_batch")[1])])
    md5 = write("batches.meta", {"label_names": list(CIFAR10.classes)})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": md5})
    return CIFAR10(channels=3, size=32, num_classes=10, batch_size=2, data_dir=str(tmp_path)), np.concatenate(rows)


def test_cifar10_has_channels_first(cifar, monkeypatch):
    data, rows = cifar
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the files are there"))
    data.prepare_data()
    data.setup()
    assert [len(part.x) for part in (data.train, data.val, data.test)] == [40, 10, 10] and data.train.x.is_contiguous()
    images = torch.cat([data.train.x, data.val.x]).flatten(1).tolist()
    assert sorted(images) == sorted(rows.tolist())
    assert data.test.x.shape == (10, 3, 32, 32) and data.test.y.tolist() == LABELS
    assert data.train.y.dtype == torch.int64


@pytest.mark.parametrize("harm", ["truncate", "remove"])
def test_damaged_cifar10_file_is_named(cifar, monkeypatch, harm, capfd):
    def no_network(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    data, _ = cifar
    victim = data.data_dir / "cifar-10-batches-py" / "data_batch_3"
    victim.unlink() if harm == "remove" else victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(FileNotFoundError) as caught:
        data.prepare_data()
    message = str(caught.value)
    assert "(data_batch_3)" in message and "no network here" in message and "connect to the network" in message
    assert len(message.splitlines()) <= 5 and capfd.readouterr() == ("", "")
