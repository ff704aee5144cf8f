"""Which labels real samples and fakes get. The step passes them on; the networks decide how a label enters."""

from typing import TypeAlias

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganlab.utils.statistics import percent
from ganlab.utils.validation import validate_number

IMBALANCE = 3  # times as many samples in the largest class as in the smallest: a uniform prior is then far from the data

Labels: TypeAlias = Tensor | int | None  # int64 [n], one for all samples, or none


class Unconditional(nn.Module):
    """No labels: the data's are ignored. The base class of every conditioning.

    num_classes: 0 without labels. auxiliary: whether D must have `forward_with_classes(x, y) -> logits, class logits [n, K]`.
    """

    num_classes = 0
    auxiliary = False

    def validate_labels(self, y: Tensor | None) -> None:
        """Raise ValueError where a batch's labels y are missing or out of range."""

    def step_labels(self, y: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
        """Labels of the real batch and of n fakes, given the data's labels y [n]."""
        return None, None

    def sample_labels(self, y: Labels, n: int, random: torch.Generator | None = None) -> Tensor | None:
        """Labels of n samples after training: y [n] or one for all; None draws them from the prior."""
        if y is not None:
            raise ValueError("this GAN is unconditional and takes no labels; leave y out")
        return None

    def fit_prior(self, y: Tensor) -> None:
        """Learn the label prior from the training set's labels y [N]."""

    def discriminator_term(self, outputs) -> Tensor | None:
        """Scalar to add to D's loss, or None."""

    def generator_term(self, outputs) -> Tensor | None:
        """Scalar to add to G's loss, or None."""


class Uniform(nn.Module):
    """Uniform labels for fakes; warns where the data's classes are far from equal. The base class of every label prior."""

    imbalance = "label_prior=uniform gives every class the same number of generated samples"
    remedy = "use label_prior=marginal or label_prior=batch"

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def draw(self, n: int, *, like: Tensor | None = None, random: torch.Generator | None = None) -> Tensor:
        """Draw n labels, in training on the device of the real batch's labels `like` [n]."""
        return torch.randint(self.num_classes, (n,), generator=random, device=None if like is None else like.device)

    def fit_prior(self, y: Tensor) -> None:
        """Learn from the training set's labels y [N]."""
        counts = torch.bincount(y, minlength=self.num_classes)
        largest, smallest = int(counts.argmax()), int(counts.argmin())
        if counts[largest] > IMBALANCE * counts[smallest]:
            shares = [f"{percent(int(counts[k]) / len(y))} % in class {k}" for k in (largest, smallest)]
            rank_zero_warn(f"{self.imbalance}, but the training set has {' and '.join(shares)}; {self.remedy}")


class Batch(Uniform):
    """The real batch's labels for fakes, too, so that D compares both class by class; uniform after training."""

    imbalance = "after training with label_prior=batch, samples without given labels have uniform ones"
    remedy = "give labels, or use label_prior=marginal"

    def draw(self, n, *, like=None, random=None):
        return super().draw(n, random=random) if like is None else like


class Marginal(Uniform):
    """Labels as frequent as in the training set; uniform until `fit_prior`. The frequencies are saved with checkpoints."""

    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.register_buffer("frequencies", torch.ones(num_classes) / num_classes)

    def draw(self, n, *, like=None, random=None):
        frequencies = self.frequencies.cpu() if like is None else self.frequencies
        # the smallest of K exponential draws; torch.multinomial is not deterministic on GPUs
        uniform = torch.rand(n, self.num_classes, generator=random, device=frequencies.device)
        return (-uniform.log() / frequencies).argmin(1)

    def fit_prior(self, y):
        self.frequencies.copy_(torch.bincount(y, minlength=self.num_classes) / len(y))


class ClassLabels(Unconditional):
    """Real samples have the data's labels, fakes labels from the prior (default: uniform).

    Raises:
        ValueError: the batch has no labels, or a label is outside 0 … num_classes - 1.
    """

    def __init__(self, num_classes: int, prior: Uniform | None = None):
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                f"labels need at least 2 classes, got num_classes={num_classes!r}; name the data's classes, or use "
                "conditioning=none with a loss that needs no labels, as loss=ns"
            )
        self.num_classes, self.prior = num_classes, prior or Uniform(num_classes)

    def validate_labels(self, y):
        if y is None:
            raise ValueError("the batch has no labels; use conditioning=none or labeled data")
        # on a GPU this would wait for the device
        if y.device.type == "cpu" and not (0 <= y.min() and y.max() < self.num_classes):
            raise ValueError(f"labels must lie in 0 … {self.num_classes - 1}, got {y.min()} … {y.max()}; set data.num_classes")

    def step_labels(self, y, n):
        return y, self.prior.draw(n, like=y)

    def sample_labels(self, y, n, random=None):
        if y is None:
            return self.prior.draw(n, random=random)
        try:
            y = torch.as_tensor(y)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"labels must be integers in 0 … {self.num_classes - 1}, got {y!r}") from error
        y = y.expand(n) if y.ndim == 0 else y
        if y.shape != (n,):
            raise ValueError(f"{n} samples need {n} labels, got {list(y.shape)}")
        if y.is_floating_point() or y.min() < 0 or y.max() >= self.num_classes:
            raise ValueError(f"labels must be integers in 0 … {self.num_classes - 1}, got {y.unique().tolist()}")
        return y.long()

    def fit_prior(self, y):
        self.prior.fit_prior(y)


class AuxiliaryClassifier(ClassLabels):
    """AC-GAN (Odena et al. 2017, eq. 2-3): D also classifies; both networks add weight * cross-entropy to their losses.

    D's is the mean over real samples plus the mean over fakes, G's the mean over fakes. D's logit sees no label. It fails
    by low diversity within a class: samples that are easy to classify cost least.
    """

    auxiliary = True

    def __init__(self, num_classes: int, weight: float, prior: Uniform | None = None):
        super().__init__(num_classes, prior)
        self.weight = validate_number("conditioning.weight", weight, above=0)

    def discriminator_term(self, outputs):
        real = cross_entropy(outputs.real_class_logits, outputs.real_y)
        return self.weight * (real + cross_entropy(outputs.fake_class_logits, outputs.fake_y))

    def generator_term(self, outputs):
        return self.weight * cross_entropy(outputs.fake_class_logits, outputs.fake_y)
