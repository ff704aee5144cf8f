"""MNIST and its look-alikes: four idx files, found or downloaded."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from ganlab.data.base import Images
from ganlab.data.batches import Split
from ganlab.data.download import download


def read_idx(path: Path, dims: int) -> Tensor:
    """A `dims`-dimensional idx file of bytes, gzipped or plain, as uint8 (format: yann.lecun.com/exdb/mnist).

    Raises OSError naming the file if it is truncated, corrupt or of another kind.
    """
    way_out = "delete it, or put a sound copy there"
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = bytearray(file.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} is truncated or corrupt ({error}): {way_out}") from None
    header, magic = 4 * (dims + 1), 0x0800 + dims  # 08 = bytes
    found, *shape = (int.from_bytes(content[i : i + 4], "big") for i in range(0, header, 4))
    if found != magic:
        raise OSError(f"{path} is no idx file of {dims}-d bytes (it starts {found:#x}, not {magic:#x}): {way_out}")
    size, expected = len(content) - header, math.prod(shape)
    if size != expected or not expected:
        raise OSError(f"{path} is truncated or corrupt ({size} bytes, its header says {expected}): {way_out}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).view(shape)


class MNIST(Images):
    """MNIST (LeCun 1998), 1x28x28: 60,000 train, 10,000 test, in torchvision's place `data_dir`/MNIST/raw."""

    classes = tuple("0123456789")
    source = datasets.MNIST
    ways_out = ()  # besides the files and the network

    def places(self) -> list[Path]:
        """Folders to look in, best first. Not `data_dir` itself: the names of the files do not tell MNIST apart."""
        return [self.data_dir / "MNIST" / "raw"]

    def files(self) -> list[Path]:
        """Train images and labels, test images and labels: from the first place with all four, [] if there is none."""
        for place in self.places():
            pairs = [(place / name.removesuffix(".gz"), place / name) for name, _ in self.source.resources]
            files = [next(filter(Path.is_file, pair), None) for pair in pairs]
            if all(files):
                return files
        return []

    def prepare_data(self) -> None:
        """Download unless the files are there; FileNotFoundError with what was tried and the ways out if that fails."""
        if not self.files():
            places, names = self.places(), ", ".join(name for name, _ in self.source.resources)
            download(
                self.source,
                self.data_dir,
                tried=f"no complete {self.source.__name__} in {', '.join(map(str, places))}",
                ways_out=[*self.ways_out, f"put {names} (packed or not) into {places[0]}"],
            )

    def load(self) -> tuple[Split, Split]:
        files = self.files()
        if not files:
            raise FileNotFoundError(f"{self.source.__name__} is not in {self.data_dir}: call prepare_data() first")
        return self._read(*files[:2]), self._read(*files[2:])

    def _read(self, images: Path, labels: Path) -> Split:
        x, y = read_idx(images, 3).unsqueeze(1), read_idx(labels, 1).long()
        if len(x) != len(y):
            raise OSError(f"{images} holds {len(x)} images but {labels} {len(y)} labels: put files of one set there")
        if y.max() >= len(self.classes):
            raise OSError(f"{labels} holds the label {y.max()} of 0..{len(self.classes) - 1}: put a sound copy there")
        return Split(x, y)


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao 2017), 1x28x28: 60,000 train, 10,000 test.

    Looked for in torchvision's place `data_dir`/FashionMNIST/raw, in `data_dir` itself, where Debian's package
    dataset-fashion-mnist puts it, and then downloaded.
    """

    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    source = datasets.FashionMNIST
    ways_out = ("apt-get install dataset-fashion-mnist (Debian, Ubuntu)",)
    debian = Path("/usr/share/datasets/fashion-mnist")

    def places(self) -> list[Path]:
        return [self.data_dir / "FashionMNIST" / "raw", self.data_dir, self.debian]
