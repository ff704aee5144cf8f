"""Gray images stacked as channels: many modes of known number (Metz et al. 2017; VEEGAN, Srivastava et al. 2017)."""

from itertools import product

import torch
from torch import Tensor

from ganlab.data.base import Images
from ganlab.data.batches import Split
from ganlab.data.digits import Digits
from ganlab.data.mnist import MNIST, FashionMNIST
from ganlab.utils.validation import validate_int


def mode_number(classes: Tensor, num_classes: int) -> Tensor:
    """The mode [n] of each stack, the number whose digits to base `num_classes` are its channels' classes [n, C]."""
    place_values = num_classes ** torch.arange(classes.shape[1] - 1, -1, -1, device=classes.device)
    return (classes * place_values).sum(1)


class LazyStacks:
    """Acts as a tensor uint8 [N, C, S, S] of stacks that are assembled when they are indexed.

    128,000 stacks of three 28x28 images would take 300 MB; their indices take 3 MB, and the images are the base set's.

    Args:
        images: uint8 [M, 1, S, S].
        indices: int64 [N, C], the image in each channel.
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
        """Rows by a number, a slice, a mask or an index tensor of any shape."""
        indices = self.indices[index]
        return self.images.index_select(0, indices.flatten()).view(*indices.shape, *self.shape[2:])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        return self[index]

    def split(self, size: int) -> list[Tensor]:
        return [self[i : i + size] for i in range(0, len(self), size)]


class Stacked(Images):
    """Stacks x uint8 [N, channels, size, size] of independent gray images of a base set.

    Each channel holds an image drawn uniformly from the base set's split of the same name. The label is the stack's
    `mode_number`, so K classes make `num_classes` = K^channels modes: 1000 for ten classes in three channels.

    Args:
        train_size, val_size, test_size: number of stacks in the splits; `val_size` None: as many as `test_size`.
        data_seed: seed of the stacks, independent of the run's seed.

    Attributes:
        base_class: the base set's class, defined by subclasses.
        base: the base set, loaded with this one.
    """

    base_class: type[Images]
    may_miss_classes = True

    def __init__(
        self, *, channels: int, train_size: int, test_size: int, data_seed: int, val_size: int | None = None, **images
    ):
        super().__init__(channels=channels, val_size=val_size, **images)
        self.train_size = validate_int("data.train_size", train_size)
        self.test_size = validate_int("data.test_size", test_size)
        self.data_seed = validate_int("data.data_seed", data_seed, 0)
        self.base = self.base_class(**images | {"channels": 1, "num_classes": len(self.base_class.classes)})
        self.classes = tuple(map("-".join, product(self.base.classes, repeat=channels)))

    def prepare_data(self) -> None:
        self.base.prepare_data()

    def load(self) -> tuple[Split, Split, Split]:
        # Not base.setup(), whose messages would suggest settings for one channel; the stacks' own checks find a wrong size.
        self.base.load_splits()
        generator = torch.Generator().manual_seed(self.data_seed)
        train = self._stack(self.base.train, self.train_size, generator)
        test = self._stack(self.base.test, self.test_size, generator)
        return train, self._stack(self.base.val, self.val_size or self.test_size, generator), test

    def _stack(self, split: Split, n: int, generator: torch.Generator) -> Split:
        indices = torch.randint(len(split.x), (n, self.channels), generator=generator)
        return Split(LazyStacks(split.x, indices), mode_number(split.y[indices], self.base.num_classes))


class StackedMNIST(Stacked):
    """Stacked MNIST: 1000 modes in 3x28x28."""

    base_class = MNIST


class StackedFashionMNIST(Stacked):
    """Stacked Fashion-MNIST: 1000 modes in 3x28x28."""

    base_class = FashionMNIST


class StackedDigits(Stacked):
    """Stacked digits of scikit-learn: 1000 modes in 3x8x8, without a download."""

    base_class = Digits
