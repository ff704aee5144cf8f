"""Base classes of data sets that fit into memory."""

import hashlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from http.client import HTTPException
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torchvision.datasets import VisionDataset

from ganlab.data import validation
from ganlab.data.batches import Batches, EnsembleBatches, InfiniteBatches, Split, is_distributed, to_device_if_fits
from ganlab.data.splits import stratified_split
from ganlab.utils.validation import validate_int

DOWNLOAD_TIMEOUT = 20  # seconds without an answer; torchvision would wait for ever


def to_float(x: Tensor) -> Tensor:
    """Map uint8 images of any shape to float32 in [-1, 1]: x / 127.5 - 1."""
    return x.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`, rounded; values outside [-1, 1] are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def split_fingerprint(split: Split) -> str:
    """sha256 (hex) of a split's type, shape, samples and labels."""
    x, y = split
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    for part in (x.images, x.indices, y) if hasattr(x, "images") else (x, y):  # `LazyStacks`
        digest.update(part.contiguous().numpy())
    return digest.hexdigest()


class TensorData(L.LightningDataModule, ABC):
    """A data set in memory, trained on in endless shuffled batches. Subclasses define `load`, and `prepare_data` to download.

    D sees `train`. What a run chooses by (best.ckpt, a search's objective, verdicts) is measured on `val`; `test` is for
    `evaluate`. The position in the stream of batches is saved in checkpoints, with a fingerprint of the data.

    Args:
        shape: shape of a sample: (C, H, W) of images, (2,) of points in the plane, or another of float32 samples.
        num_classes: labels are 0 … num_classes - 1; 0 for unlabeled data, whose labels are all 0.
        batch_size: samples per batch and per process.
        val_size: samples of the training data that become the validation split, stratified and always the same ones;
            None: as many as the test split has, but at most a fifth. Unused where `load` returns a validation split.
        value_range: (low, high), the values of black and white in the images that `load` returns, such as (-1, 1). They are
            rounded to 256 gray levels. None: images are uint8 in 0 … 255.

    Attributes:
        train, val, test: the splits, after `setup`.
        classes: names of the labels in order, if there are any.
        seeds: the seeds of an ensemble's K members, whose batches are then [K, batch_size, ...]; empty for a single GAN.

    Raises:
        ValueError: in `setup`, `load` returned something else than splits of this shape and these classes, a class is
            missing in a split, values are not finite or not those of images, or `batch_size` exceeds the training data;
            in `load_state_dict`, the training data has changed.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...] = ()
    may_miss_classes = False  # True for toys and stacks: their modes are known, drawn at random, and too many for small splits
    rare_class_remedy = "add samples of it, or leave the class out"

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        num_classes: int,
        batch_size: int,
        val_size: int | None = None,
        value_range: Sequence[float] | None = None,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.num_classes = validate_int("data.num_classes", num_classes, 0)
        self.batch_size = validate_int("data.batch_size", batch_size)
        self.val_size = None if val_size is None else validate_int("data.val_size", val_size)
        self.value_range = validation.validate_value_range(value_range, self.shape)
        self.seeds: Sequence[int] = ()
        self.train = self.val = self.test = None  # type: ignore[assignment]
        self._position: tuple[int, int] | None = None
        self._stream: InfiniteBatches | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split] | tuple[Split, Split, Split]:
        """The training and the test data; or train, val and test."""

    def load_splits(self) -> None:
        """Set `train`, `val` and `test` to what `load` returns."""
        loaded, source = self.load(), f"{type(self).__name__}.load()"
        if not isinstance(loaded, tuple) or len(loaded) not in (2, 3) or isinstance(loaded, Split):
            raise ValueError(f"{source} must return (train, test) or (train, val, test), got {type(loaded).__name__}")
        train, *val, test = (validation.validate_split(source, part, self.shape, self.value_range) for part in loaded)
        self.train, self.val = (train, *val) if val else self._split_off_validation(train, n_test=len(test.x))
        self.test = test

    def validate(self) -> None:
        """Raise ValueError if the splits do not have the configured shape and classes; warn of values that are unusual."""
        splits = self.train, self.val, self.test
        labels = [split.y for split in splits]
        validation.validate_shape(f"{type(self).__name__}.load()", splits, self.shape)
        validation.validate_labels(torch.cat(labels), self.num_classes)
        if not self.may_miss_classes:
            validation.validate_classes(labels, self.num_classes, self.classes, self.rare_class_remedy)
        if isinstance(self.train.x, Tensor):  # not stacks, whose images are the base set's
            validation.validate_values(*(split.x for split in splits))

    def _split_off_validation(self, data: Split, n_test: int) -> tuple[Split, Split]:
        n = len(data.x)
        size = self.val_size or max(1, min(n_test, n // 5))
        if size >= n:
            raise ValueError(f"data.val_size is {size} of {n} training samples, which leaves none to train on: lower it")
        train, val = (Split(data.x[part], data.y[part]) for part in stratified_split(data.y, size))
        return train, val

    def setup(self, stage: str | None = None) -> None:
        if self.train is None:
            self.load_splits()
            self.validate()
        if stage == "fit":
            self._batches(self.train)  # refuses a batch_size that is too large, before callbacks train an extractor

    def _batches(self, split: Split) -> Batches:
        if self.seeds:
            return EnsembleBatches(split, self.batch_size, self.seeds)
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)
        return Batches(split, self.batch_size, rank, world_size)

    def batches(self) -> Batches:
        """The epochs of the train split, on the training device if it fits there."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return self._batches(to_device_if_fits(self.train, device))

    def train_dataloader(self) -> InfiniteBatches:
        self._stream = InfiniteBatches(self.batches(), self._position)
        return self._stream

    def state_dict(self) -> dict:
        return {"position": self._stream and self._stream.position, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict) -> None:
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"the training data ({len(self.train.x):,} samples) has changed since this run was saved, so the run cannot be "
                "resumed; restore the data, or start a new run"
            )
        self._position = state["position"] and tuple(state["position"])

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Convert uint8 images to floats in [-1, 1] on the device; points stay as they are."""
        x, y = batch
        return (to_float(x) if x.dtype == torch.uint8 else x), y

    @cached_property
    def fingerprint(self) -> str:
        """`split_fingerprint` of the train split; identifies the data in caches and protocols."""
        return split_fingerprint(self.train)


class Images(TensorData):
    """Square images x uint8 [N, channels, size, size].

    Args:
        channels, size, num_classes: facts of the data, written in conf/data/*.yaml for the networks to read.
        data_dir: where files are looked for, downloaded to and cached.
        data: the other arguments of `TensorData`.

    Raises:
        ValueError: in `setup`, the loaded images do not have the configured channels or size, or `classes` names another
            number of classes.
    """

    def __init__(self, *, channels: int, size: int, data_dir: str | Path, **data):
        self.channels, self.size = validate_int("data.channels", channels), validate_int("data.size", size)
        super().__init__(shape=(channels, size, size), **data)
        self.data_dir = Path(data_dir).expanduser()

    def download(self, source: type[VisionDataset], problem: str, remedies: list[str]) -> None:
        """Download a torchvision data set into `data_dir`, with a timeout.

        Raises:
            FileNotFoundError: the download failed. The message consists of `problem` (why the files at hand do not
                suffice), the reason, and `remedies` (what the user can do).
        """
        default_timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
        try:
            source(self.data_dir, train=False, download=True)  # fetches both splits, reads the small one
        except (OSError, RuntimeError, HTTPException) as error:
            reason = " ".join(str(error).split())
            choices = "".join(f"\n  - {remedy}" for remedy in [*remedies, "connect to the network and run again"])
            raise FileNotFoundError(f"{problem}, and the download failed ({reason}). Either:{choices}") from None
        finally:
            socket.setdefaulttimeout(default_timeout)

    def validate(self) -> None:
        shape = tuple(self.train.x.shape[1:])
        if shape != self.shape and len(shape) == 3 and shape[1] == shape[2]:
            got, expected = ("x".join(map(str, numbers)) for numbers in (shape, self.shape))
            raise ValueError(f"the images are {got}, not {expected}: type data.channels={shape[0]} data.size={shape[1]}")
        if self.classes and self.num_classes != len(self.classes):
            raise ValueError(
                f"data.num_classes is {self.num_classes} but the data has {len(self.classes)} classes: "
                f"type data.num_classes={len(self.classes)}"
            )
        super().validate()
