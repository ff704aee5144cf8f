"""A game's players as functions without side effects, with an axis for the copies in front (1 for a single GAN)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ganlab.models.ensemble import STEP_MODULES


class Players:
    """Calls leave running statistics, clocks and `.grad` as they were; random numbers are the caller's to guard.

    Gradients flow to the game's own parameters.
    """

    def __init__(self, game):
        self.game, self.template, self.ensemble = game, game.template, game.seeds is not None

    @property
    def members(self) -> int:
        return len(self.game.seeds) if self.ensemble else 1

    def forward_pass(self, real: Tensor, y: Tensor | None, z: Tensor) -> dict[str, Tensor]:
        """What D sees in a turn and says of it: real, fake [K, n, ...], real_logits, fake_logits [K, n]; real_y if any."""

        def shown(one):
            outputs = one.forward_pass(real, y, z=z, with_real=True, grad_to_generator=True)
            seen = {name: getattr(outputs, name) for name in ("real", "fake", "real_logits", "fake_logits", "real_y")}
            return {name: tensor for name, tensor in seen.items() if tensor is not None}

        return self._call(STEP_MODULES, shown)

    def generate(self, z: Tensor, y: Tensor | None, *, average: bool) -> Tensor:
        """Samples [K, m, ...] of G as it trains, or of its moving average as it is used."""
        if not average:
            return self._call(("generator",), lambda one: one.generator(z, y))
        self.template.generator_ema.eval()
        return self._call(("generator_ema",), lambda one: one.generator_ema(z, y))

    def forward_with_classes(self, x: Tensor, y: Tensor | None) -> Tensor:
        """D's logits [K, n] of x [K, n, ...]; labels [K, n] or None."""
        if y is None:
            return self._call(("discriminator",), lambda one, x: one.discriminator(x), x)
        return self._call(("discriminator",), lambda one, x, y: one.discriminator(x, y), x, y)

    def losses(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The family's two losses [K] of logits [K, n]: D's and G's."""
        pairs = list(zip(real_logits, fake_logits))
        d = torch.stack([self.template.discriminator_loss(r, f) for r, f in pairs])
        g = torch.stack([self.template.generator_loss(f, r if self.template.generator_sees_real else None) for r, f in pairs])
        return d, g

    def gradient_norm(self, loss: Tensor, player: nn.Module) -> Tensor:
        """||dloss/dweights||_2 of each copy's player, [K]."""
        weights = [p for p in player.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss.sum(), weights, retain_graph=True, allow_unused=True)
        return self.norm([g for g in gradients if g is not None])

    def norm(self, tensors: list[Tensor]) -> Tensor:
        """The length [K] of a player's tensors, taken together."""
        rows = [t.detach().flatten(1) if self.ensemble else t.detach().flatten()[None] for t in tensors]
        return torch.stack([row.double().square().sum(1) for row in rows]).sum(0).sqrt()

    def _call(self, parts: tuple[str, ...], function: Callable, *inputs: Tensor):
        """The function of one GAN and of each copy's own inputs [K, ...], for every copy."""
        state = {}
        for part in parts:
            module = getattr(self.game, part)
            state |= {f"gan.{part}.{name}": buffer.clone() for name, buffer in module.named_buffers()}
            if self.ensemble:
                state |= {f"gan.{part}.{name}": parameter for name, parameter in module.named_parameters()}
        called = _Called(self.template, function)
        if self.ensemble:
            many = vmap(
                lambda state, *inputs: functional_call(called, state, inputs, tie_weights=False), randomness="different"
            )
            return many(state, *inputs)
        found = functional_call(called, state, tuple(tensor[0] for tensor in inputs), tie_weights=False)
        if isinstance(found, dict):
            return {name: tensor[None] for name, tensor in found.items()}
        return found[None]


class _Called(nn.Module):
    """A function of a GAN as a module's forward, which is what `functional_call` calls."""

    def __init__(self, gan, function: Callable):
        super().__init__()
        self.gan, self.function = gan, function

    def forward(self, *inputs):
        return self.function(self.gan, *inputs)
