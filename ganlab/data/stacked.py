"""Many modes whose number is known: gray images stacked as channels (Metz et al. 2017; VEEGAN, Srivastava et al. 2017)."""

import hashlib
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from ganlab.data.base import Images, require_whole
from ganlab.data.batches import Split
from ganlab.data.digits import Digits
from ganlab.data.mnist import MNIST, FashionMNIST


def mode_number(classes: Tensor, num_classes: int) -> Tensor:
    """The modes [n] of stacks whose channels have `classes` [n, C]: their digits to the base `num_classes`."""
    number = torch.zeros_like(classes[:, 0])
    for digit in classes.unbind(1):
        number = number * num_classes + digit
    return number


class LazyStacks:
    """What a `Split` needs of a tensor x uint8 [N, C, S, S], put together only where it is looked at.

    images: uint8 [M, 1, S, S]. indices: int64 [N, C], the image in each channel. 128,000 stacks of three 28x28 images
    would take 300 MB; these are the 3 MB of their indices beside the images that the base set holds anyway.
    """

    def __init__(self, images: Tensor, indices: Tensor):
        self.images, self.indices = images, indices
        self.shape, self.dtype = torch.Size([*indices.shape, *images.shape[2:]]), images.dtype
        self.device, self.nbytes = images.device, images.nbytes + indices.nbytes

    def to(self, device: torch.device) -> "LazyStacks":
        return LazyStacks(self.images.to(device), self.indices.to(device))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index) -> Tensor:
        """By a number, a slice or a tensor of indices of any shape, as of a tensor's rows."""
        indices = self.indices[index]
        return self.images.index_select(0, indices.flatten()).view(*indices.shape, *self.shape[2:])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return self[index]

    def split(self, size: int) -> list[Tensor]:
        return [self[i : i + size] for i in range(0, len(self), size)]


class Stacked(Images):
    """LazyStacks x uint8 [N, channels, size, size] of independent gray images; a subclass says `of` which set.

    Each channel holds an image drawn uniformly from the base set's split of the same name. The label is the number
    whose digits are the channels' classes, the first channel's first, so K classes make `num_classes` = K^channels
    modes: 1000 of ten classes in three channels, 10^4 in four.

    Args:
        train_size, test_size: number of stacks in the splits.
        data_seed: seed of the draw. Part of the protocol, independent of the run's seed.

    `base` is the base set, loaded with this one.
    """

    of: type[Images]

    def __init__(self, *, channels: int, train_size: int, test_size: int, data_seed: int, **images):
        super().__init__(channels=channels, **images)
        require_whole(1, train_size=train_size, test_size=test_size)
        require_whole(0, data_seed=data_seed)
        self.train_size, self.test_size, self.data_seed = train_size, test_size, data_seed
        self.base = self.of(**images | {"channels": 1, "num_classes": len(self.of.classes)})

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map("-".join, product(self.base.classes, repeat=self.channels)))

    def prepare_data(self) -> None:
        self.base.prepare_data()

    def load(self) -> tuple[Split, Split]:
        # Not base.setup(), which would advise settings for a set of one channel; this set's own checks the sizes.
        self.base.train, self.base.test = self.base.load()
        generator = torch.Generator().manual_seed(self.data_seed)
        return (
            self._stack(self.base.train, self.train_size, generator),
            self._stack(self.base.test, self.test_size, generator),
        )

    def _stack(self, split: Split, n: int, generator: torch.Generator) -> Split:
        indices = torch.randint(len(split.x), (n, self.channels), generator=generator)
        return Split(LazyStacks(split.x, indices), mode_number(split.y[indices], self.base.num_classes))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the base set's train split and of the train stacks' indices."""
        indices = self.train.x.indices
        digest = hashlib.sha256(f"stacked {self.base.fingerprint} {tuple(indices.shape)}".encode())
        digest.update(indices.numpy())
        return digest.hexdigest()


class StackedMNIST(Stacked):
    """Stacked MNIST: 1000 modes in 3x28x28."""

    of = MNIST


class StackedFashionMNIST(Stacked):
    """The same of Fashion-MNIST."""

    of = FashionMNIST


class StackedDigits(Stacked):
    """The same of scikit-learn's digits, in 3x8x8: quick on a CPU, and nothing to download."""

    of = Digits
