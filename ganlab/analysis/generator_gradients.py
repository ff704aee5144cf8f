"""The gradient that each family's loss would give the generator of a run: same weights, same batch, same latents."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ganlab.analysis.minimal import Family, minimal_gan
from ganlab.models.gan import GAN, StepOutputs


def generator_gradient_norms(
    gan: GAN, families: Mapping[str, Family | GAN], real: Tensor, y: Tensor | None, z: Tensor
) -> dict[str, Tensor]:
    """||dL_G/dtheta_G||_2 of every family at the weights of this GAN's players (Arjovsky & Bottou 2017).

    All families share one forward pass, as in G's step (labels, augmentation, packing, train or eval mode; without
    autocast): each family's loss gives dL_G/d(fake logits), which is backpropagated through it. Regularizers act on D
    alone and an auxiliary classifier's term is the same for all: neither is counted.

    The GAN is left unchanged: `.grad`, random state, running statistics and counters.

    Args:
        gan: the generator and discriminator, the conditioning and the augmentation.
        families: families by name, with their settings; of a GAN, its losses are used.
        real: samples [n, ...] as in training, on the GAN's device; y: their labels int64 [n], or None.
        z: latents [n, latent_dim].

    Returns:
        name -> float64 scalar. Losses are evaluated in float64 and their gradients scaled before they are backpropagated,
        so that a vanished gradient of 1e-100 is not rounded to 0.

    Raises:
        ValueError: real and z differ in length.
    """
    if len(real) != len(z):
        raise ValueError(
            f"real and z must hold as many samples, got {len(real)} and {len(z)}; draw z with gan.sample_latents(n)"
        )
    devices = [gan.device] if gan.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.autocast(gan.device.type, enabled=False), torch.enable_grad():
        gans = {name: as_gan(family) for name, family in families.items()}
        clone = copy.copy(gan)
        clone._modules = copy.deepcopy(gan._modules)  # running statistics change, and the run's may be part of a graph
        with_real = any(family.generator_sees_real for family in gans.values())
        outputs = clone.forward_pass(real, y, z=z, with_real=with_real, grad_to_generator=True)
        return {name: _norm(family, outputs, clone.generator) for name, family in gans.items()}


def as_gan(family: Family | GAN) -> GAN:
    """A GAN with the losses of a family: the GAN itself, or the family with the smallest players."""
    return family if isinstance(family, GAN) else minimal_gan(family)


def _norm(family: GAN, outputs: StepOutputs, generator: torch.nn.Module) -> Tensor:
    fake_logits = outputs.fake_logits.detach().double().requires_grad_()
    real_logits = outputs.real_logits if family.generator_sees_real else None
    real_logits = None if real_logits is None else real_logits.detach().double()
    (slope,) = torch.autograd.grad(family.generator_loss(fake_logits, real_logits), fake_logits)
    # backpropagation is linear: with the largest slope scaled to 1, nothing underflows in float32 layers
    largest = slope.abs().max()
    scaled = (slope / largest.clamp_min(torch.finfo(slope.dtype).tiny)).to(outputs.fake_logits.dtype)
    weights = [p for p in generator.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(outputs.fake_logits, weights, scaled, retain_graph=True, allow_unused=True)
    return largest * torch.stack([g.double().norm() for g in gradients if g is not None]).norm()
