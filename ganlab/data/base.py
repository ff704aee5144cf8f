"""What every data set of ganlab shares: whole tensors in memory, cut into whole batches."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor


class Split(NamedTuple):
    """Samples x [N, ...] (uint8 images or float32 points) and their labels y int64 [N]."""

    x: Tensor
    y: Tensor


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


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def near(split: Split, device: torch.device) -> Split:
    """The split on the device that trains, if it takes a quarter of the memory that is free there or less: then no batch
    has to wait for the way to a GPU."""
    if device.type == "cuda" and sum(part.nbytes for part in split) > torch.cuda.mem_get_info(device)[0] / 4:
        return split
    return Split(*(part.to(device) for part in split))


class Batches:
    """One process's share of a split as whole shuffled batches (x [batch_size, ...], y [batch_size]).

    Each pass is one permutation, named by a number drawn from torch's global generator when the pass begins (so
    `seed_everything` decides it) and agreed on by all ranks. Rank r takes every `world_size`-th index from the r-th on:
    batch k of all ranks together is batch k of one process with `batch_size * world_size`. The remainder is dropped, so
    every rank has `len(self)` batches.

    Raises ValueError if a rank's share does not fill one batch.
    """

    def __init__(self, split: Split, batch_size: int, rank: int = 0, world_size: int = 1):
        share = len(split.x) // world_size
        if batch_size > share:
            raise ValueError(
                f"data.batch_size is {batch_size} but each of {world_size} process(es) has only {share} training "
                f"samples: choose data.batch_size={share} or less"
            )
        self.split, self.batch_size, self.rank, self.world_size = split, batch_size, rank, world_size
        self.batches = share // batch_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.cut(self.next_pass(None))

    def next_pass(self, last: int | None) -> int:
        seed = [int(torch.randint(2**62, ()))]
        if self.world_size > 1 and _distributed():
            dist.broadcast_object_list(seed, src=0)
        return seed[0]

    def cut(self, name: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the pass of this name, from the `start`-th on."""
        order = torch.randperm(len(self.split.x), generator=torch.Generator().manual_seed(name))
        mine = order[self.rank :: self.world_size][start * self.batch_size : self.batches * self.batch_size]
        x, y = self.split
        # index_select copies whole rows: four times as fast as x[index] on uint8 images
        return ((x.index_select(0, i), y.index_select(0, i)) for i in mine.to(x.device).split(self.batch_size))


class EnsembleBatches:
    """Batches for an ensemble (x [K, batch_size, ...], y [K, batch_size]): each copy in an order of its own.

    The order of copy k in pass p (0, 1, 2 …) follows from `seeds[k]` and p alone: ensembles of other families with the
    same seeds see the same batches. The remainder is dropped.

    Raises ValueError if the split does not fill one batch.
    """

    def __init__(self, split: Split, batch_size: int, seeds: Sequence[int]):
        self.one, self.seeds = Batches(split, batch_size), seeds

    def __len__(self) -> int:
        return len(self.one)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.cut(self.next_pass(None))

    def next_pass(self, last: int | None) -> int:
        return 0 if last is None else last + 1

    def cut(self, name: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the pass of this number, from the `start`-th on."""
        (x, y), n = self.one.split, self.one.batch_size
        with ThreadPoolExecutor() as threads:  # hundreds of them would keep a GPU waiting
            orders = threads.map(lambda seed: self._order(len(x), seed, name)[start * n : len(self) * n], self.seeds)
        orders = torch.stack([*orders])
        for part in orders.to(x.device).split(n, 1):
            index = part.flatten()
            yield x.index_select(0, index).unflatten(0, part.shape), y.index_select(0, index).unflatten(0, part.shape)

    @staticmethod
    def _order(n: int, seed: int, number: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))


class Stream:
    """Pass after pass without an end, from a place that can be kept: training then goes on with the very next batch.

    For Lightning one endless epoch: ganlab counts images, and a run stops by its budget. `place`: the pass's name and
    how many of its batches were handed out; None before the first.
    """

    def __init__(self, batches: Batches | EnsembleBatches, place: tuple[int, int] | None = None):
        self.batches, self.place = batches, place

    def __len__(self) -> int:
        return 10**12  # without a length Lightning would fetch a batch ahead, and the place would be wrong by one

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.place is None or self.place[1] == 0:
            self.place = (self.batches.next_pass(None), 0)
        return self._onwards(*self.place)

    def _onwards(self, name: int, taken: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            if taken >= len(self.batches):  # beyond it where a resumed run was given larger batches
                name, taken = self.batches.next_pass(name), 0
            for batch in self.batches.cut(name, taken):
                taken += 1
                self.place = (name, taken)
                yield batch


class TensorData(L.LightningDataModule, ABC):
    """A data set that fits into memory. A subclass writes `load()`, and `prepare_data()` if it has files to fetch.

    Args:
        shape: one sample's shape, (C, H, W) or (2,).
        num_classes: labels are 0..num_classes-1; 0 = unlabelled, all labels are 0.
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
        self._stream: Stream | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split]:
        """The train and the test split."""

    def setup(self, stage: str | None = None) -> None:
        if self.train is None:
            self.train, self.test = self.load()

    def batches(self) -> Batches | EnsembleBatches:
        """The train split's passes."""
        split = near(self.train, self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))
        if self.seeds:
            return EnsembleBatches(split, self.batch_size, self.seeds)
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        return Batches(split, self.batch_size, rank, world_size)

    def train_dataloader(self) -> Stream:
        self._stream = Stream(self.batches(), self._place)
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
