"""MNIST and Fashion-MNIST: where files are looked for, and how broken ones are reported."""

import gzip
import socket
import struct
import time

import numpy as np
import pytest
import torch

from ganlab.data import MNIST, FashionMNIST, Split
from ganlab.data.mnist import read_idx

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    """The bytes of an IDX file: 0 0 8 dims, big-endian sizes, data."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def write_set(folder, suffix="", seed=0):
    rng = np.random.default_rng(seed)
    arrays = [
        rng.integers(0, 256, (32, 28, 28), dtype=np.uint8),
        np.arange(32, dtype=np.uint8) % 10,
        rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        np.arange(10, dtype=np.uint8)[::-1],
    ]
    for name, array in zip(NAMES, arrays, strict=True):
        write(folder / (name + suffix), idx(array))
    return arrays


def make(cls, data_dir):
    return cls(channels=1, size=28, num_classes=10, batch_size=4, data_dir=str(data_dir))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No Debian package, no network."""
    monkeypatch.setattr(FashionMNIST, "debian", tmp_path / "debian")

    def no_network(*_, **__):
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", no_network)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "cls, place",
    [
        (FashionMNIST, "data/FashionMNIST/raw"),
        (FashionMNIST, "data"),
        (FashionMNIST, "debian"),
        (MNIST, "data/MNIST/raw"),
    ],
)
def test_files_are_found_and_read(tmp_path, cls, place, suffix):
    arrays = write_set(tmp_path / place, suffix)
    data = make(cls, tmp_path / "data")
    data.prepare_data()
    data.setup()
    own = Split(torch.cat([data.train.x, data.val.x]), torch.cat([data.train.y, data.val.y]))
    for split, images, labels in [(own, *arrays[:2]), (data.test, *arrays[2:])]:
        assert split.x.dtype == torch.uint8 and split.y.dtype == torch.int64
        pairs = ((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))
        assert sorted((x.numpy().tobytes(), int(y)) for x, y in zip(*split, strict=True)) == sorted(pairs)
    assert len(data.train.x) == 22 and data.train.y.unique().tolist() == [*range(10)]
    data.train.x[0] = 0  # the memory is writable


def test_data_dir_has_precedence_and_incomplete_directories_are_skipped(tmp_path):
    debian = write_set(tmp_path / "debian", ".gz", seed=1)
    data_dir = write_set(tmp_path / "data" / "FashionMNIST" / "raw", seed=2)

    def first_image():
        data = make(FashionMNIST, tmp_path / "data")
        data.setup()
        return data.test.x[0, 0].numpy()

    np.testing.assert_array_equal(first_image(), data_dir[2][0])
    (tmp_path / "data" / "FashionMNIST" / "raw" / NAMES[3]).unlink()
    np.testing.assert_array_equal(first_image(), debian[2][0])


def test_fashion_mnist_in_data_dir_is_not_taken_for_mnist(tmp_path):
    write_set(tmp_path / "data")
    with pytest.raises(FileNotFoundError, match="no complete MNIST"):
        make(MNIST, tmp_path / "data").prepare_data()


@pytest.mark.parametrize("cls, remedies", [(FashionMNIST, 3), (MNIST, 2)])
def test_failed_download_names_the_remedies(tmp_path, cls, remedies, capfd):
    data, start = make(cls, tmp_path / "data"), time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        data.prepare_data()
    message = str(caught.value)
    assert all(str(directory) in message for directory in data.directories()) and "no network here" in message
    assert message.count("\n  - ") == remedies and len(message.splitlines()) == 1 + remedies
    assert ("apt-get install dataset-fashion-mnist" in message) == (cls is FashionMNIST)
    assert "connect to the network" in message and all(name in message for name in NAMES)
    assert capfd.readouterr() == ("", "") and time.monotonic() - start < 5
    with pytest.raises(FileNotFoundError, match="prepare_data"):
        data.setup()


def test_download_has_a_timeout_and_restores_the_default(tmp_path, monkeypatch):
    waits = []

    def silent(*_, **__):
        waits.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", silent)
    socket.setdefaulttimeout(None)
    with pytest.raises(FileNotFoundError, match="timed out"):
        make(FashionMNIST, tmp_path / "data").prepare_data()
    assert waits and all(0 < wait <= 30 for wait in waits) and socket.getdefaulttimeout() is None


def test_unwritable_data_dir_is_reported(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="FashionMNIST/raw.*download failed"):
        make(FashionMNIST, tmp_path / "data").prepare_data()


IMAGES = idx(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("short-ubyte", IMAGES[:-1], "truncated or corrupt .23 bytes, its header says 24"),
        ("long-ubyte", IMAGES + b"x", "truncated or corrupt .25 bytes, its header says 24"),
        ("short-ubyte.gz", gzip.compress(IMAGES, mtime=0)[:-12], "truncated or corrupt"),
        ("flipped-ubyte.gz", gzip.compress(IMAGES, mtime=0)[:-6] + b"\0\0\0\0\0\0", "truncated or corrupt"),
        ("plain-ubyte.gz", IMAGES, "truncated or corrupt"),
        ("page-ubyte", b"<html>not found</html>", "no IDX file of 3-d bytes .it starts with 0x3c68746d, not 0x803"),
        ("labels-ubyte", idx(np.arange(24, dtype=np.uint8)), "it starts with 0x801, not 0x803"),
        ("empty-ubyte", b"", "no IDX file"),
        ("header-ubyte", IMAGES[:9], "truncated or corrupt"),
        ("nothing-ubyte", idx(np.zeros((0, 3, 4), np.uint8)), "truncated or corrupt"),
    ],
)
def test_broken_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OSError, match=f"{name} .*{message}.*: delete it, or replace it with an intact copy"):
        read_idx(tmp_path / name, 3)


def test_read_idx_keeps_order_and_shape(tmp_path):
    write(tmp_path / "a-ubyte.gz", IMAGES)
    assert read_idx(tmp_path / "a-ubyte.gz", 3).tolist() == np.arange(24).reshape(2, 3, 4).tolist()


@pytest.mark.parametrize(
    "labels, message",
    [(np.arange(7, dtype=np.uint8), "32 images but .* 7 labels"), (np.full(32, 10, np.uint8), "label 10")],
)
def test_labels_that_do_not_match_the_images_are_rejected(tmp_path, labels, message):
    write_set(tmp_path / "data")
    write(tmp_path / "data" / NAMES[1], idx(labels))
    with pytest.raises(OSError, match=f"{NAMES[1]}.*{message}|{message}"):
        make(FashionMNIST, tmp_path / "data").setup()


def test_real_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.undo()  # Debian's directory again
    if not FashionMNIST.debian.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    data = make(FashionMNIST, tmp_path)
    data.prepare_data()
    data.setup()
    given, _ = data.load()
    assert given.x.shape == (60_000, 1, 28, 28) and data.test.x.shape == data.val.x.shape == (10_000, 1, 28, 28)
    for split, count in ((given, 6000), (data.train, 5000), (data.val, 1000), (data.test, 1000)):
        assert np.bincount(split.y).tolist() == [count] * 10
    assert given.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # from the data set's own page
    assert given.x.double().mean() / 255 == pytest.approx(0.2860, abs=1e-4)  # the mean everyone normalizes by
    assert sum(len(x) for x, _ in data.batches()) == len(data.batches()) * data.batch_size
