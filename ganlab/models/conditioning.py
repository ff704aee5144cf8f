"""Which label a sample wears. Losses, penalties and the step only pass labels on; networks decide what to do with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Unconditional(nn.Module):
    """No labels: the data's are ignored. What every conditioning offers, at its simplest.

    `num_classes`: 0 without labels. `auxiliary`: D must have a `forward_with_classes(x, y)` that also returns class logits [n, K].
    """

    num_classes = 0
    auxiliary = False

    def validate_labels(self, y: Tensor | None) -> None:
        """Raise ValueError where a batch's labels y do not do."""

    def step_labels(self, y: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
        """Labels of the real batch and of n fakes, from the data's labels y [n]."""
        return None, None

    def sample_labels(self, y: Tensor | int | None, n: int, random: torch.Generator | None = None) -> Tensor | None:
        """Labels for n samples that somebody asked for, drawn from the prior where y is None."""
        if y is not None:
            raise ValueError("this GAN is unconditional and takes no labels; leave y out")

    def fit_prior(self, y: Tensor) -> None:
        """The training set's labels [N], before training starts."""

    def discriminator_term(self, outputs) -> Tensor | None:
        """Scalar that D minimizes besides its family's loss, or None."""

    def generator_term(self, outputs) -> Tensor | None:
        """Scalar that G minimizes besides its family's loss, or None."""


class Uniform(nn.Module):
    """Fakes wear labels drawn uniformly from the classes. What every prior offers, at its simplest."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def draw(self, n: int, *, like: Tensor | None = None, random: torch.Generator | None = None) -> Tensor:
        """n labels; `like` = the real batch's [n], where there is one, on whose device they are drawn."""
        return torch.randint(self.num_classes, (n,), generator=random, device=None if like is None else like.device)

    def fit_prior(self, y: Tensor) -> None:
        """The training set's labels [N]."""


class Batch(Uniform):
    """Fakes wear the real batch's own labels, so that both are compared class by class; uniform after training."""

    def draw(self, n, *, like=None, random=None):
        return super().draw(n, random=random) if like is None else like


class Marginal(Uniform):
    """Fakes wear labels drawn as often as in the training set, uniform before it is seen; saved with the checkpoint."""

    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.register_buffer("frequencies", torch.ones(num_classes) / num_classes)

    def draw(self, n, *, like=None, random=None):
        frequencies = self.frequencies.cpu() if like is None else self.frequencies
        # The first of K exponential clocks to ring; torch.multinomial has no deterministic form on GPUs.
        uniform = torch.rand(n, self.num_classes, generator=random, device=frequencies.device)
        return (-uniform.log() / frequencies).argmin(1)

    def fit_prior(self, y):
        self.frequencies.copy_(torch.bincount(y, minlength=self.num_classes) / len(y))


class ClassLabels(Unconditional):
    """Real samples wear the data's label, fakes one from the prior (uniform where none is given).

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
        if y.device.type == "cpu" and not (0 <= y.min() and y.max() < self.num_classes):  # a look at a GPU would wait
            raise ValueError(f"labels must lie in 0 … {self.num_classes - 1}, got {y.min()} … {y.max()}; set data.num_classes")

    def step_labels(self, y, n):
        return y, self.prior.draw(n, like=y)

    def sample_labels(self, y, n, random=None):
        if y is None:
            return self.prior.draw(n, random=random)
        try:
            y = torch.as_tensor(y)
        except (TypeError, ValueError, RuntimeError) as error:  # a word, say
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
    """AC-GAN (Odena et al. 2017, eq. 2-3): D also names the class; both players minimize weight * cross-entropy.

    D's: of real and of fake samples, each a mean, added; G's: of fakes. D's own logit sees no label. It fails by
    drawing each class too alike: samples that are easy to classify cost least.
    """

    auxiliary = True

    def __init__(self, num_classes: int, weight: float, prior: Uniform | None = None):
        super().__init__(num_classes, prior)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight > 0:
            raise ValueError(f"conditioning.weight must be a number above 0, got {weight!r}")
        self.weight = weight

    def discriminator_term(self, outputs):
        real = cross_entropy(outputs.real_class_logits, outputs.real_y)
        return self.weight * (real + cross_entropy(outputs.fake_class_logits, outputs.fake_y))

    def generator_term(self, outputs):
        return self.weight * cross_entropy(outputs.fake_class_logits, outputs.fake_y)
