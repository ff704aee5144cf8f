"""The probes: numbers of a GAN on its held-out batch, which the rules compare with thresholds."""

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

from ganlab.callbacks.counterfactual import isolated_rng
from ganlab.diagnostics.functional import FunctionalGAN
from ganlab.diagnostics.held_out import HeldOut
from ganlab.diagnostics.sample_statistics import (
    auc,
    effective_number,
    mean_pairwise,
    mode_shares,
    nearest_distance,
    nearest_other_distance,
    nn_accuracy,
    normalized_energy_distance,
    pairwise,
)

MEMBERS_AT_ONCE = 16  # ensemble members whose sample distances are in memory together, 5 MiB each
SATURATED_SLOPE = 0.01  # |dL_G/df| of a sample below which G learns next to nothing from it


def probe(gan, held: HeldOut, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the numbers of `probe_step`, `probe_weights` and `probe_samples`, without changing anything in the GAN.

    Returns:
        The numbers by name, each float64 [K] on the CPU (K members, 1 for a single GAN), and samples [K, few, d] of G, flat,
        for `probe_movement` at the next check.
    """
    with isolated_rng(seed, gan.device), torch.autocast(gan.device.type, enabled=False), torch.enable_grad():
        functional = FunctionalGAN(gan)
        numbers = probe_step(functional, held)
        with torch.no_grad():
            numbers |= probe_weights(functional)
            fakes = held.flatten(functional.generate(held.z, held.y, average=True))
            parts = [probe_samples(held, part) for part in fakes.split(MEMBERS_AT_ONCE)]
            numbers |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            samples = held.flatten(functional.generate(*held.few, average=False))
    return {name: value.detach().double().cpu() for name, value in numbers.items()}, samples


def probe_step(functional: FunctionalGAN, held: HeldOut) -> dict[str, Tensor]:
    """Losses, logits and gradients of a training step on the held-out batch.

    - `d_loss`, `g_loss`: of the family, without penalties;
    - `g_grad_norm`, `d_grad_norm`: ||dL/dweights||_2, without penalties;
    - `loss_slope`: mean |dL_G/df| over the fakes; 1 for WGAN, near 0 where a loss saturates;
    - `saturated`: share of fakes with |dL_G/df| below 0.01;
    - `auc`: share of (real, fake) pairs in which the real sample has the higher logit: 0.5 guessing, 1 perfect;
    - `accuracy_real`, `accuracy_fake`: share of real logits above 0, of fake ones below;
    - `logit_gap`: mean real logit minus mean fake one; `logit_max`: the largest absolute logit;
    - `d_slope`: root mean square of ||grad_x D|| at random points between pairs of real and fake; `d_slope_max`: the largest.
    """
    seen = functional.forward_pass(held.step_real, held.step_y, held.step_z)
    real_logits, fake_logits = seen["real_logits"], seen["fake_logits"]
    d_loss, g_loss = functional.losses(real_logits, fake_logits)
    (loss_slope,) = torch.autograd.grad(g_loss.sum(), fake_logits, retain_graph=True)
    loss_slope = loss_slope.abs() * fake_logits.shape[1]
    numbers = {
        "d_loss": d_loss,
        "g_loss": g_loss,
        "g_grad_norm": functional.gradient_norm(g_loss, functional.gan.generator),
        "d_grad_norm": functional.gradient_norm(d_loss, functional.gan.discriminator),
        "loss_slope": loss_slope.mean(1),
        "saturated": (loss_slope < SATURATED_SLOPE).float().mean(1),
        "auc": auc(real_logits, fake_logits),
        "accuracy_real": (real_logits > 0).float().mean(1),
        "accuracy_fake": (fake_logits < 0).float().mean(1),
        "logit_gap": real_logits.mean(1) - fake_logits.mean(1),
        "logit_max": torch.maximum(real_logits.abs().amax(1), fake_logits.abs().amax(1)),
    }
    real, fake = seen["real"].detach(), seen["fake"].detach()
    weight = torch.rand(real.shape[1], *[1] * (real.ndim - 2), device=real.device, dtype=real.dtype)
    points = (weight * real + (1 - weight) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(functional.discriminate(points, seen.get("real_y")).sum(), points)
    slopes = gradient.flatten(2).norm(dim=2)
    return numbers | {"d_slope": slopes.square().mean(1).sqrt(), "d_slope_max": slopes.amax(1)}


def probe_weights(functional: FunctionalGAN) -> dict[str, Tensor]:
    """Sizes of the weights.

    - `d_weight_norm`, `g_weight_norm`: l2 norm of all weights;
    - `d_singular_value`: a lower bound of the largest singular value of D's weight matrices; matrices under spectral norm
      are left out, and so is the number if there are no others.
    """
    d, g = functional.gan.discriminator, functional.gan.generator
    normalized = {id(p) for m in d.modules() if is_parametrized(m) for p in m.parametrizations.parameters()}
    matrices = [p if functional.is_ensemble else p[None] for p in d.parameters() if id(p) not in normalized]
    largest = [largest_singular_value(p.flatten(2)) for p in matrices if p.ndim > 2]
    norms = {f"{name}_weight_norm": functional.norm(list(network.parameters())) for name, network in (("d", d), ("g", g))}
    return norms | ({"d_singular_value": torch.stack(largest).amax(0)} if largest else {})


def largest_singular_value(matrices: Tensor, rounds: int = 4) -> Tensor:
    """A lower bound [K] of the largest singular values of matrices [K, a, b], by power iteration from the vector of ones."""
    v = torch.ones_like(matrices[:, 0]).unsqueeze(-1)
    for _ in range(rounds):
        v = matrices.mT @ (matrices @ v)
        v = v / v.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return (matrices @ v).flatten(1).norm(dim=1)


def probe_samples(held: HeldOut, fakes: Tensor) -> dict[str, Tensor]:
    """Compare the averaged generator's samples [K, m, d] with as many held-out ones.

    - `energy_distance`: 0 to 1; `nn_accuracy`: of the leave-one-out 1-nearest-neighbor test, 0.5 to 1;
    - `diversity`: mean distance of two samples; `spacing`: median distance to the nearest other sample; each divided by
      that of real samples;
    - `effective_modes`: exp(entropy) over the modes, divided by that of real samples;
    - `rarest_mode`: the smallest ratio of a mode's share to its share of the real samples; `modes_kept`: share of the modes
      with a ratio of at least 0.2; both of modes with enough held-out samples, and absent where there are none;
    - `sample_max`: the largest absolute value, divided by that of real samples.
    """
    real = held.real.expand(len(fakes), -1, -1)
    cross, within = pairwise(real, fakes), pairwise(fakes, fakes)
    diversity, nearest = mean_pairwise(within), nearest_other_distance(within)
    middle = (nearest.shape[-1] - 1) // 2  # of its lower median; torch.median has no deterministic form on GPUs
    share = mode_shares(held.modes(fakes), len(held.mode_share))
    numbers = {}
    if held.mode_is_common.any():
        ratio = (share / held.mode_share)[:, held.mode_is_common]
        numbers = {"rarest_mode": ratio.amin(-1), "modes_kept": (ratio >= 0.2).float().mean(-1)}
    real_modes = effective_number(held.mode_share / held.mode_share.sum())
    return numbers | {
        "energy_distance": normalized_energy_distance(cross.mean((-1, -2)), diversity, torch.tensor(held.real_diversity)),
        "nn_accuracy": nn_accuracy(held.real_nearest, cross, nearest),
        "diversity": diversity / held.real_diversity,
        "spacing": nearest.sort(-1).values[..., middle] / held.real_spacing,
        "effective_modes": effective_number(share) / real_modes,
        "sample_max": fakes.abs().amax((-1, -2)) / held.real_max,
    }


def probe_movement(held: HeldOut, before: Tensor, now: Tensor) -> dict[str, Tensor]:
    """Compare G's samples [K, m, d] of the same latents at two consecutive checks.

    - `drift`: energy distance of the two sets, 0 to 1;
    - `mode_turnover`: total variation distance of their mode shares, 0 to 1;
    - `displacement`: mean distance that a sample moved, divided by the mean distance of two real ones.
    """
    within = [mean_pairwise(pairwise(x, x)) for x in (before, now)]
    shares = [mode_shares(held.modes(x), len(held.mode_share)) for x in (before, now)]
    numbers = {
        "drift": normalized_energy_distance(pairwise(before, now).mean((-1, -2)), *within),
        "mode_turnover": (shares[0] - shares[1]).abs().sum(-1) / 2,
        "displacement": (before - now).norm(dim=-1).mean(-1) / held.real_diversity,
    }
    return {name: value.double().cpu() for name, value in numbers.items()}


def probe_memorization(held: HeldOut, gan, seed: int = 0) -> Tensor:
    """`memorization`, float64 [K]: how much nearer the averaged generator's samples are to the training set than real ones.

    The share of pairs (generated, held-out) in which the generated sample is nearer to its nearest training sample than
    the held-out one is to its own: 0.5 for new real data, 1 for copies of training samples.
    """
    with isolated_rng(seed, gan.device), torch.no_grad(), torch.autocast(gan.device.type, enabled=False):
        fakes = held.flatten(FunctionalGAN(gan).generate(*held.few, average=True))
        return auc(held.real_to_train.expand(len(fakes), -1), nearest_distance(fakes, held.train)).double().cpu()
