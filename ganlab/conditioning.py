"""Which label a sample wears. Losses, penalties and the step only pass labels on; networks decide what to do with them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Conditioning(Protocol):
    num_classes: int

    def labels(self, y: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
        """Labels of the real batch and of n fakes, from the data's labels y [n]."""

    def checked(self, y: Tensor | int | None, n: int, random: torch.Generator | None = None) -> Tensor | None:
        """Labels for n samples that somebody asked for, drawn from the prior where y is None."""


class Unconditional:
    """No labels: the data's are ignored."""

    num_classes = 0

    def labels(self, y, n):
        return None, None

    def checked(self, y, n, random=None):
        if y is not None:
            raise ValueError("this GAN is unconditional and takes no labels; leave y out")


class ClassLabels:
    """Real samples wear the data's label, fakes one drawn uniformly from the classes.

    Raises:
        ValueError: the batch has no labels, or a label is outside 0 … num_classes - 1.
    """

    def __init__(self, num_classes: int):
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"labels need at least 2 classes, got num_classes={num_classes!r}; use conditioning=none")
        self.num_classes = num_classes

    def labels(self, y, n):
        if y is None:
            raise ValueError("the batch has no labels; use conditioning=none or labelled data")
        if y.device.type == "cpu" and not (0 <= y.min() and y.max() < self.num_classes):  # a look at a GPU would wait
            raise ValueError(
                f"labels must lie in 0 … {self.num_classes - 1}, got {y.min()} … {y.max()}; set data.num_classes"
            )
        return y, torch.randint(self.num_classes, (n,), device=y.device)

    def checked(self, y, n, random=None):
        if y is None:
            return torch.randint(self.num_classes, (n,), generator=random)
        y = torch.as_tensor(y).expand(n) if torch.as_tensor(y).ndim == 0 else torch.as_tensor(y)
        if y.shape != (n,):
            raise ValueError(f"{n} samples need {n} labels, got {list(y.shape)}")
        if y.is_floating_point() or y.min() < 0 or y.max() >= self.num_classes:
            raise ValueError(f"labels must be integers in 0 … {self.num_classes - 1}, got {y.unique().tolist()}")
        return y.long()


class BatchLabels(ClassLabels):
    """Fakes wear the real batch's own labels, so that real and fake are compared class by class."""

    def labels(self, y, n):
        return super().labels(y, n)[0], y
