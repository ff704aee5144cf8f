"""A split's samples as endless whole batches, in orders that can be kept and gone on with."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Split(NamedTuple):
    """Samples x [N, ...] (uint8 images or float32 points) and their labels y int64 [N]."""

    x: Tensor
    y: Tensor


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def to_device_if_fits(split: Split, device: torch.device) -> Split:
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
        return self.iter_batches(self.start_epoch(None))

    def start_epoch(self, last: int | None) -> int:
        seed = [int(torch.randint(2**62, ()))]
        if self.world_size > 1 and is_distributed():
            dist.broadcast_object_list(seed, src=0)
        return seed[0]

    def iter_batches(self, name: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
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
        self.template, self.seeds = Batches(split, batch_size), seeds

    def __len__(self) -> int:
        return len(self.template)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.iter_batches(self.start_epoch(None))

    def start_epoch(self, last: int | None) -> int:
        return 0 if last is None else last + 1

    def iter_batches(self, name: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the pass of this number, from the `start`-th on."""
        (x, y), n = self.template.split, self.template.batch_size
        with ThreadPoolExecutor() as threads:  # hundreds of them would keep a GPU waiting
            orders = threads.map(lambda seed: self._order(len(x), seed, name)[start * n : len(self) * n], self.seeds)
        orders = torch.stack([*orders])
        for part in orders.to(x.device).split(n, 1):
            index = part.flatten()
            yield x.index_select(0, index).unflatten(0, part.shape), y.index_select(0, index).unflatten(0, part.shape)

    @staticmethod
    def _order(n: int, seed: int, number: int) -> Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))


class InfiniteBatches:
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
            self.place = (self.batches.start_epoch(None), 0)
        return self._onwards(*self.place)

    def _onwards(self, name: int, taken: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            if taken >= len(self.batches):  # beyond it where a resumed run was given larger batches
                name, taken = self.batches.start_epoch(name), 0
            for batch in self.batches.iter_batches(name, taken):
                taken += 1
                self.place = (name, taken)
                yield batch
