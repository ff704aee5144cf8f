"""MNIST and Fashion-MNIST, each in four IDX files."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from ganlab.data.base import Images
from ganlab.data.batches import Split


def read_idx(path: Path, dims: int) -> Tensor:
    """Read a `dims`-dimensional IDX file of bytes, gzipped or plain, as uint8 (format: yann.lecun.com/exdb/mnist).

    Raises:
        OSError: the file is truncated, corrupt or of another kind.
    """
    remedy = "delete it, or replace it with an intact copy"
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = bytearray(file.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} is truncated or corrupt ({error}): {remedy}") from None
    header, magic = 4 * (dims + 1), 0x0800 + dims  # 08 = bytes
    start, *shape = (int.from_bytes(content[i : i + 4], "big") for i in range(0, header, 4))
    if start != magic:
        raise OSError(f"{path} is no IDX file of {dims}-d bytes (it starts with {start:#x}, not {magic:#x}): {remedy}")
    size, expected = len(content) - header, math.prod(shape)
    if size != expected or not expected:
        raise OSError(f"{path} is truncated or corrupt ({size} bytes, its header says {expected}): {remedy}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).view(shape)


class MNIST(Images):
    """MNIST (LeCun 1998), 1x28x28: 60,000 for training and validation, 10,000 test, in torchvision's `data_dir`/MNIST/raw."""

    classes = tuple("0123456789")
    source = datasets.MNIST
    remedies: tuple[str, ...] = ()  # besides putting the files there and connecting to the network

    def directories(self) -> list[Path]:
        """Where to look for the files, in this order. Not `data_dir` itself: Fashion-MNIST's files have the same names."""
        return [self.data_dir / "MNIST" / "raw"]

    def files(self) -> list[Path]:
        """Train images and labels, test images and labels, of the first directory with all four; [] if there is none."""
        for directory in self.directories():
            pairs = [(directory / name.removesuffix(".gz"), directory / name) for name, _ in self.source.resources]
            files = [next(filter(Path.is_file, pair)) for pair in pairs if any(map(Path.is_file, pair))]
            if len(files) == len(pairs):
                return files
        return []

    def prepare_data(self) -> None:
        """Download unless the files are there."""
        if not self.files():
            directories, names = self.directories(), ", ".join(name for name, _ in self.source.resources)
            problem = f"no complete {self.source.__name__} in {', '.join(map(str, directories))}"
            remedies = [*self.remedies, f"put {names} (gzipped or not) into {directories[0]}"]
            self.download(self.source, problem, remedies)

    def load(self) -> tuple[Split, Split]:
        files = self.files()
        if not files:
            raise FileNotFoundError(f"{self.source.__name__} is not in {self.data_dir}: call prepare_data() first")
        return self._read(*files[:2]), self._read(*files[2:])

    def _read(self, images: Path, labels: Path) -> Split:
        x, y = read_idx(images, 3).unsqueeze(1), read_idx(labels, 1).long()
        if len(x) != len(y):
            raise OSError(f"{images} holds {len(x)} images but {labels} {len(y)} labels: use files of the same data set")
        if y.max() >= len(self.classes):
            raise OSError(f"{labels} holds the label {y.max()} of 0..{len(self.classes) - 1}: replace it with an intact copy")
        return Split(x, y)


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao 2017), 1x28x28: 60,000 for training and validation, 10,000 test.

    Looked for in torchvision's directory `data_dir`/FashionMNIST/raw, in `data_dir`, and where Debian's package
    dataset-fashion-mnist installs it; else downloaded.
    """

    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    source = datasets.FashionMNIST
    remedies = ("apt-get install dataset-fashion-mnist (Debian, Ubuntu)",)
    debian = Path("/usr/share/datasets/fashion-mnist")

    def directories(self) -> list[Path]:
        return [self.data_dir / "FashionMNIST" / "raw", self.data_dir, self.debian]
