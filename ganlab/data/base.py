"""What every data set of ganlab shares: whole tensors in memory."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from ganlab.data.batches import Batches, EnsembleBatches, InfiniteBatches, Split, is_distributed, to_device_if_fits


def to_float(x: Tensor) -> Tensor:
    """Images uint8 0..255 of any shape as float32 in [-1, 1]: x / 127.5 - 1."""
    return x.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`: rounded, and values beyond [-1, 1] clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def require_whole(minimum: int, **values) -> None:
    """Raise ValueError for the first of `values` that is not an int >= `minimum` (True and False are none)."""
    for name, value in values.items():
        if type(value) is not int or value < minimum:
            raise ValueError(f"data.{name} must be a whole number of at least {minimum}, got {value!r}")


def require_split(whose: str, split) -> None:
    """Raise ValueError unless it is a `Split` of the types that training takes (x a tensor, or what stands for one)."""
    told = type(split).__name__
    if isinstance(split, Split):
        x, y = split
        typed = getattr(x, "dtype", None) in (torch.uint8, torch.float32) and getattr(y, "dtype", None) == torch.int64
        if typed and y.shape == x.shape[:1]:
            return
        told = " and ".join(f"{part.dtype} {list(part.shape)}" if hasattr(part, "dtype") else str(part) for part in split)
    raise ValueError(
        f"{whose} must return two ganlab.data.Split(x, y) of samples x (uint8 images or float32 points) and labels y "
        f"(int64 [N], zeros where there are none), got {told}"
    )


class TensorData(L.LightningDataModule, ABC):
    """A data set that fits into memory. A subclass writes `load()`, and `prepare_data()` if it has files to fetch.

    Args:
        shape: one sample's shape, (C, H, W) or (2,).
        num_classes: labels are 0..num_classes-1; 0 = unlabeled, all labels are 0.
        batch_size: samples per batch and per process.

    After `setup()`, `train` and `test` are `Split`s. `seeds`: those of an ensemble's copies, whose batches are then
    [K, batch_size, ...]; empty for a single run. The place in the stream of batches is in every checkpoint, and what the
    data was: a run goes on with the same, or not at all.
    """

    def __init__(self, *, shape: tuple[int, ...], num_classes: int, batch_size: int):
        super().__init__()
        require_whole(1, batch_size=batch_size)
        require_whole(0, num_classes=num_classes)
        self.shape, self.num_classes, self.batch_size = shape, num_classes, batch_size
        self.seeds: Sequence[int] = ()
        self.train: Split | None = None
        self.test: Split | None = None
        self._place: tuple[int, int] | None = None
        self._stream: InfiniteBatches | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split]:
        """The train and the test split: x uint8 images or float32 points, y int64 (zeros where there are no labels)."""

    def setup(self, stage: str | None = None) -> None:
        """
        Raises:
            ValueError: `load` returned something else.
        """
        if self.train is None:
            splits = self.load()
            for split in splits:
                require_split(f"{type(self).__name__}.load()", split)
            self.train, self.test = splits

    def batches(self) -> Batches | EnsembleBatches:
        """The train split's passes."""
        split = to_device_if_fits(self.train, self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))
        if self.seeds:
            return EnsembleBatches(split, self.batch_size, self.seeds)
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)
        return Batches(split, self.batch_size, rank, world_size)

    def train_dataloader(self) -> InfiniteBatches:
        self._stream = InfiniteBatches(self.batches(), self._place)
        return self._stream

    def state_dict(self) -> dict:
        return {"place": self._stream and self._stream.place, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict) -> None:
        if state.get("fingerprint", self.fingerprint) != self.fingerprint:  # absent from checkpoints of older versions
            raise ValueError(
                f"the training data ({len(self.train.x):,} samples) is not what this run was saved with, so that it cannot go "
                "on as if nothing had been; put the data back as it was, or start a new run"
            )
        self._place = state["place"] and tuple(state["place"])

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """uint8 travels to the device, floats in [-1, 1] arrive; points pass as they are."""
        x, y = batch
        return (to_float(x) if x.dtype == torch.uint8 else x), y

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the train split: type, shape, samples, labels. Names the data in caches and protocols."""
        x, y = self.train
        digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.contiguous().numpy())
        digest.update(y.contiguous().numpy())
        return digest.hexdigest()


class Images(TensorData):
    """Square images x uint8 [N, channels, size, size].

    `channels`, `size` and `num_classes` are facts of the data, written in conf/data/*.yaml for the networks to read;
    `setup()` holds them to the images. `classes` names the labels in order. `data_dir` is where files are looked for,
    downloaded to and cached.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, *, channels: int, size: int, num_classes: int, batch_size: int, data_dir: str | Path):
        require_whole(1, channels=channels, size=size)
        super().__init__(shape=(channels, size, size), num_classes=num_classes, batch_size=batch_size)
        self.channels, self.size, self.data_dir = channels, size, Path(data_dir).expanduser()

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        channels, height, width = found = tuple(self.train.x.shape[1:])
        if found != self.shape:
            raise ValueError(
                f"the images are {channels}x{height}x{width}, not {self.channels}x{self.size}x{self.size}: "
                f"type data.channels={channels} data.size={height}"
            )
        if self.num_classes != len(self.classes):
            raise ValueError(
                f"data.num_classes is {self.num_classes} but the data has {len(self.classes)} classes: "
                f"type data.num_classes={len(self.classes)}"
            )
