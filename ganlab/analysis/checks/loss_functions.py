"""The two losses of a family as functions of logits, with their exact values and gradients."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlab.analysis.checks.base import CheckFailed, NotApplicable
from ganlab.analysis.minimal import derivative
from ganlab.models.gan import GAN

# Unsymmetric, and within the hinge loss's margin
_HIGH, _LOW = torch.tensor([[0.8, 1.5, 0.3, 1.1], [-1.2, -0.4, -0.9, -1.7]], dtype=torch.float64)


@dataclass(frozen=True)
class Loss:
    """A loss of a family as a function of real and fake logits.

    Attributes:
        player: "discriminator" or "generator".
        on_sigmoids: whether it gets the logits' sigmoids instead.
    """

    gan: GAN
    player: str
    on_sigmoids: bool = False

    @property
    def name(self) -> str:
        return f"{self.player}_loss"

    @property
    def sides(self) -> tuple[str, ...]:
        """The logits whose gradients reach the player."""
        return ("real", "fake") if self.player == "discriminator" else ("fake",)

    @property
    def typical_logits(self) -> tuple[Tensor, Tensor]:
        """Real and fake, where D is wrong, so that any D still has a gradient; for G where D is right."""
        return (_LOW, _HIGH) if self.player == "discriminator" else (_HIGH, _LOW)

    def value_and_gradient(
        self, real: Tensor, fake: Tensor, dtype: torch.dtype = torch.float64, seed: int = 0, gan: GAN | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss [] of logits [n] and its gradient [sides, n], computed in `dtype` from a fixed random state, in float64.

        `gan`: whose losses are called, and may change it; by default a clone.

        Raises:
            CheckFailed: the loss is not a scalar tensor of floats.
        """
        leaves = [x.detach().to(dtype).requires_grad_() for x in (real, fake)]
        real, fake = (x.sigmoid() if self.on_sigmoids else x.clone() for x in leaves)
        gan = gan or clone_for_eval(self.gan)
        torch.default_generator.manual_seed(seed)
        if self.player == "discriminator":
            value = gan.discriminator_loss(real, fake)
        else:
            value = gan.generator_loss(fake, real if gan.generator_sees_real else None)
        if not isinstance(value, Tensor):
            raise CheckFailed(f"returns {value!r}, a {type(value).__name__}; a loss must be a tensor to carry a gradient")
        if value.shape != ():
            raise CheckFailed(f"returns a tensor of shape {list(value.shape)}, not a scalar; take the mean over the samples")
        if not value.is_floating_point():
            raise CheckFailed(f"returns a tensor of {value.dtype}, which carries no gradient")
        gradient = torch.stack(derivative(value, *leaves)).double()
        return value.detach().double(), gradient[-len(self.sides) :]

    def require_deterministic(self) -> None:
        state = torch.default_generator.manual_seed(0).get_state()
        values = [self.value_and_gradient(*self.typical_logits, seed=seed)[0] for seed in (1, 0)]
        if not torch.equal(*values) or not torch.equal(torch.default_generator.get_state(), state):
            raise NotApplicable("the loss draws random numbers")

    @property
    def is_symmetric(self) -> bool:
        """Whether D's loss compares real and fake logits, and is the same with the two exchanged: a distance, as MMD."""
        return self._is_unchanged(lambda real, fake: (fake, real))

    @property
    def is_even(self) -> bool:
        """Whether D's loss compares logits, and is the same for minus all of them: one of distances between logits."""
        return self._is_unchanged(lambda real, fake: (-real, -fake))

    def _is_unchanged(self, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> bool:
        loss, (real, fake) = Loss(self.gan, "discriminator"), self.typical_logits
        try:
            answers = [
                loss.value_and_gradient(*batch) for batch in ((real, fake), change(real, fake), (real, real.roll(1) + 0.1))
            ]
        except Exception:  # noqa: BLE001 - the checks of D's loss say so
            return False
        (value, gradient), (changed, _), (_, elsewhere) = answers
        compares = not torch.allclose(gradient[0], elsewhere[0], rtol=1e-3)  # the gradient by real logits depends on the fakes
        return compares and torch.allclose(value, changed, rtol=1e-9, atol=1e-9)


def clone_for_eval(gan: GAN, kind: type[GAN] | None = None) -> GAN:
    """A clone whose losses can be called without changing the GAN's buffers and attributes (moving averages).

    `kind`: an ancestor class whose methods the clone uses, since a loss may call other methods that were overridden.
    """
    kind = kind or type(gan)
    clone = kind.__new__(kind)
    buffers = {name: None if buffer is None else buffer.clone() for name, buffer in gan._buffers.items()}
    attributes = {name: copy.deepcopy(x) for name, x in vars(gan).items() if isinstance(x, (list, dict)) and name[0] != "_"}
    clone.__dict__.update(vars(gan) | attributes, _buffers=buffers)
    return clone


def format_numbers(x: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in x.flatten().tolist()) + "]"


def format_logits(real: Tensor, fake: Tensor) -> str:
    return f"real {format_numbers(real)}, fake {format_numbers(fake)}"
