"""Shuffled batches of a split in memory: by epoch, for ensembles, and as an endless stream that can be resumed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Split(NamedTuple):
    """Samples x [N, ...] (uint8 images or float32 points; a tensor or `LazyStacks`) and labels y int64 [N]."""

    x: Tensor
    y: Tensor


def is_distributed() -> bool:
    """Whether this process belongs to an initialized torch.distributed group."""
    return dist.is_available() and dist.is_initialized()


def is_first_process() -> bool:
    """Whether this process has rank 0, or is alone."""
    return not is_distributed() or dist.get_rank() == 0


def to_device_if_fits(split: Split, device: torch.device) -> Split:
    """The split on `device` if it takes at most a quarter of a GPU's free memory, else as it is.

    Batches then need no transfer during training.
    """
    if device.type == "cuda" and sum(part.nbytes for part in split) > torch.cuda.mem_get_info(device)[0] / 4:
        return split
    return Split(*(part.to(device) for part in split))


def permutation(n: int, seed: int) -> Tensor:
    """A random order of 0 … n - 1 that follows from the seed alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


class Batches:
    """One process's share of a split in shuffled batches (x [batch_size, ...], y [batch_size]).

    An epoch is a permutation that follows from its seed, which is drawn from torch's global generator when the epoch
    starts and shared by all ranks. Rank r takes every `world_size`-th index from the r-th on, so batch k of all ranks
    together is batch k of one process with `batch_size * world_size`. The remainder is dropped.

    Raises:
        ValueError: a rank's share does not fill one batch.
    """

    def __init__(self, split: Split, batch_size: int, rank: int = 0, world_size: int = 1):
        share = len(split.x) // world_size
        if batch_size > share:
            raise ValueError(
                f"data.batch_size is {batch_size} but each of {world_size} process(es) has only {share} training "
                f"samples: choose data.batch_size={share} or less"
            )
        self.split, self.batch_size, self.rank, self.world_size = split, batch_size, rank, world_size

    def __len__(self) -> int:
        return len(self.split.x) // self.world_size // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.iter_batches(self.start_epoch(None))

    def start_epoch(self, previous_seed: int | None) -> int:
        """The seed of the epoch after that of `previous_seed` (None: of the first)."""
        seed = [int(torch.randint(2**62, ()))]
        if self.world_size > 1 and is_distributed():
            dist.broadcast_object_list(seed, src=0)
        return seed[0]

    def iter_batches(self, epoch_seed: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches from number `start` on."""
        order = permutation(len(self.split.x), epoch_seed)
        indices = order[self.rank :: self.world_size][start * self.batch_size : len(self) * self.batch_size]
        x, y = self.split
        # index_select copies whole rows: four times as fast as x[index] on uint8 images
        return ((x.index_select(0, i), y.index_select(0, i)) for i in indices.to(x.device).split(self.batch_size))


class EnsembleBatches(Batches):
    """Batches for an ensemble (x [K, batch_size, ...], y [K, batch_size]), each member's in its own order.

    Epoch seeds count 0, 1, 2 …; member k's order follows from the epoch seed and `seeds[k]` alone, so ensembles of other
    losses with the same seeds see the same batches.
    """

    def __init__(self, split: Split, batch_size: int, seeds: Sequence[int]):
        super().__init__(split, batch_size)
        self.seeds = seeds

    def start_epoch(self, previous_seed: int | None) -> int:
        return 0 if previous_seed is None else previous_seed + 1

    def iter_batches(self, epoch_seed: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        (x, y), n = self.split, self.batch_size
        # no two members share an order before their epoch 1,000,003
        with ThreadPoolExecutor() as threads:  # hundreds of permutations would keep a GPU waiting
            orders = threads.map(lambda seed: permutation(len(x), seed * 1_000_003 + epoch_seed), self.seeds)
        for part in torch.stack([*orders])[:, start * n : len(self) * n].to(x.device).split(n, 1):
            index = part.flatten()
            yield x.index_select(0, index).unflatten(0, part.shape), y.index_select(0, index).unflatten(0, part.shape)


class InfiniteBatches:
    """Epoch after epoch without an end, from a position that is saved to resume with the very next batch.

    To Lightning this is a single endless epoch: ganlab counts images and stops at `max_images`. `position` is the epoch's
    seed and the number of its batches already yielded; None before the first.
    """

    def __init__(self, batches: Batches, position: tuple[int, int] | None = None):
        self.batches, self.position = batches, position

    def __len__(self) -> int:
        return 10**12  # without a length Lightning would prefetch a batch, and the position would be off by one

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.position is None or self.position[1] == 0:
            self.position = (self.batches.start_epoch(None), 0)
        return self._iter_from(*self.position)

    def _iter_from(self, epoch_seed: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            if count >= len(self.batches):  # greater if a resumed run was given larger batches
                epoch_seed, count = self.batches.start_epoch(epoch_seed), 0
            for batch in self.batches.iter_batches(epoch_seed, count):
                count += 1
                self.position = (epoch_seed, count)
                yield batch
