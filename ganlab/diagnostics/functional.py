"""Call the networks of a GAN or an ensemble without side effects."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ganlab.models.ensemble import STEP_MODULES


class FunctionalGAN:
    """The networks of a GAN or an ensemble as functions, with a leading member axis of size K (1 for a single GAN).

    Calls change no running statistics, counters or `.grad`; they do draw random numbers. Gradients flow to the parameters of
    the GAN itself.
    """

    def __init__(self, gan):
        self.gan, self.template, self.is_ensemble = gan, gan.template, gan.seeds is not None

    def forward_pass(self, real: Tensor, y: Tensor | None, z: Tensor) -> dict[str, Tensor]:
        """What D sees and outputs in a training step: real, fake [K, n, ...]; real_logits, fake_logits [K, n]; real_y."""

        def outputs_of(member):
            outputs = member.forward_pass(real, y, z=z, with_real=True, grad_to_generator=True)
            named = {name: getattr(outputs, name) for name in ("real", "fake", "real_logits", "fake_logits", "real_y")}
            return {name: tensor for name, tensor in named.items() if tensor is not None}

        return self._call(STEP_MODULES, outputs_of)

    def generate(self, z: Tensor, y: Tensor | None, *, average: bool) -> Tensor:
        """Samples [K, m, ...] of G in training mode, or of its moving average in evaluation mode."""
        if average:
            self.template.generator_ema.eval()
        name = "generator_ema" if average else "generator"
        return self._call((name,), lambda member: getattr(member, name)(z, y))

    def discriminate(self, x: Tensor, y: Tensor | None) -> Tensor:
        """D's logits [K, n] of x [K, n, ...] with labels y [K, n] or None."""
        inputs = (x,) if y is None else (x, y)
        return self._call(("discriminator",), lambda member, *inputs: member.discriminator(*inputs), *inputs)

    def losses(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of D and of G, each [K], of logits [K, n]."""
        pairs = list(zip(real_logits, fake_logits))
        d = torch.stack([self.template.discriminator_loss(r, f) for r, f in pairs])
        g = torch.stack([self.template.generator_loss(f, r if self.template.generator_sees_real else None) for r, f in pairs])
        return d, g

    def gradient_norm(self, loss: Tensor, network: nn.Module) -> Tensor:
        """||dloss/dweights||_2 of each member's network, [K]."""
        weights = [p for p in network.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss.sum(), weights, retain_graph=True, allow_unused=True)
        return self.norm([g for g in gradients if g is not None])

    def norm(self, tensors: list[Tensor]) -> Tensor:
        """The l2 norm [K] of all tensors of each member taken together."""
        rows = [t.detach().flatten(1) if self.is_ensemble else t.detach().flatten()[None] for t in tensors]
        return torch.stack([row.double().square().sum(1) for row in rows]).sum(0).sqrt()

    def _call(self, parts: tuple[str, ...], function: Callable, *inputs: Tensor):
        """Evaluate function(member, *inputs[k]) for every member k, with inputs [K, ...]."""
        state: dict[str, Tensor] = {}
        for part in parts:
            module = getattr(self.gan, part)
            state |= {f"gan.{part}.{name}": buffer.clone() for name, buffer in module.named_buffers()}
            if self.is_ensemble:
                state |= {f"gan.{part}.{name}": parameter for name, parameter in module.named_parameters()}
        module = _AsModule(self.template, function)
        if self.is_ensemble:
            batched = vmap(
                lambda state, *inputs: functional_call(module, state, inputs, tie_weights=False), randomness="different"
            )
            return batched(state, *inputs)
        output = functional_call(module, state, tuple(tensor[0] for tensor in inputs), tie_weights=False)
        if isinstance(output, dict):
            return {name: tensor[None] for name, tensor in output.items()}
        return output[None]


class _AsModule(nn.Module):
    """A function of a GAN as the forward method of a module, which `functional_call` needs."""

    def __init__(self, gan, function: Callable):
        super().__init__()
        self.gan, self.function = gan, function

    def forward(self, *inputs):
        return self.function(self.gan, *inputs)
