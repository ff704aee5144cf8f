"""Numbers that a run is evaluate_rules by: pure functions of a game and a held-out batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

from ganlab.callbacks.counterfactual import isolated_rng
from ganlab.diagnostics.held_out import HeldOut, flat
from ganlab.diagnostics.players import Players
from ganlab.diagnostics.sample_statistics import (
    effective_number,
    energy,
    lower_median,
    mean_of_pairs,
    ordered_pairs,
    pairwise,
    share_in,
    to_nearest,
    to_nearest_other,
    told_apart,
)

AT_ONCE = 16  # copies whose samples' distances are in memory together, 5 MiB each
SATURATED = 0.01  # a sample's slope dL_G/df below this teaches G next to nothing


def probe(game, held: HeldOut, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The numbers by name, each float64 [K] on the CPU (K copies; 1 for a single GAN), and G's samples
    [K, few, d], flat, for `of_the_movement` at the next look.

    The game is left as it was: weights, running statistics, gradients, clocks and random numbers.
    """
    with isolated_rng(seed, game.device), torch.autocast(game.device.type, enabled=False), torch.enable_grad():
        players = Players(game)
        numbers = of_the_turn(players, held)
        with torch.no_grad():
            numbers |= of_the_weights(players)
            fakes = flat(players.generate(held.many_z, held.many_y, average=True))
            parts = [of_the_samples(held, some) for some in fakes.split(AT_ONCE)]
            numbers |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            moving = flat(players.generate(*held.few, average=False))
    return {name: value.detach().double().cpu() for name, value in numbers.items()}, moving


def of_the_turn(players: Players, held: HeldOut) -> dict[str, Tensor]:
    """What both players would do on the held-out batch.

    - `d_loss`, `g_loss`: the family's own;
    - `g_gradient`, `d_gradient`: ||dL/dweights||_2, penalties left out;
    - `signal`: mean of |dL_G/df| over the fakes: what the loss lets through; 1 for WGAN, dies where a loss saturates;
    - `saturated`: share of fakes for which it is below 0.01;
    - `pairs`: share of (real, fake) pairs in which D gives the real one the higher logit: 0.5 guessing, 1 perfect;
    - `accuracy_real`, `accuracy_fake`: share of real logits above 0, of fake ones below;
    - `logit_gap`: mean real logit minus mean fake; `logit_size`: the largest absolute logit;
    - `slope`: root mean square of ||grad D|| at a point between each real and fake; `slope_max`: the largest.
    """
    seen = players.forward_pass(held.real, held.y, held.z)
    real_logits, fake_logits = seen["real_logits"], seen["fake_logits"]
    d_loss, g_loss = players.losses(real_logits, fake_logits)
    (pull,) = torch.autograd.grad(g_loss.sum(), fake_logits, retain_graph=True)
    pull = pull.abs() * fake_logits.shape[1]
    numbers = {
        "d_loss": d_loss,
        "g_loss": g_loss,
        "g_gradient": players.gradient_norm(g_loss, players.game.generator),
        "d_gradient": players.gradient_norm(d_loss, players.game.discriminator),
        "signal": pull.mean(1),
        "saturated": (pull < SATURATED).float().mean(1),
        "pairs": ordered_pairs(real_logits, fake_logits),
        "accuracy_real": (real_logits > 0).float().mean(1),
        "accuracy_fake": (fake_logits < 0).float().mean(1),
        "logit_gap": real_logits.mean(1) - fake_logits.mean(1),
        "logit_size": torch.maximum(real_logits.abs().amax(1), fake_logits.abs().amax(1)),
    }
    real, fake = seen["real"].detach(), seen["fake"].detach()
    between = torch.rand(real.shape[1], *[1] * (real.ndim - 2), device=real.device, dtype=real.dtype)
    points = (between * real + (1 - between) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(players.forward_with_classes(points, seen.get("real_y")).sum(), points)
    steepness = gradient.flatten(2).norm(dim=2)
    return numbers | {"slope": steepness.square().mean(1).sqrt(), "slope_max": steepness.amax(1)}


def of_the_weights(players: Players) -> dict[str, Tensor]:
    """`d_weights`, `g_weights`: length of all weights; `d_singular`: the largest singular value of D's matrices, by a
    few rounds of the power method (a lower bound); of those that spectral norm does not divide, or left out."""
    d, g = players.game.discriminator, players.game.generator
    divided = {id(p) for m in d.modules() if is_parametrized(m) for p in m.parametrizations.parameters()}
    matrices = [p if players.ensemble else p[None] for p in d.parameters() if id(p) not in divided]
    largest = [largest_singular_value(p.flatten(2)) for p in matrices if p.ndim > 2]
    return {
        "d_weights": players.norm(list(d.parameters())),
        "g_weights": players.norm(list(g.parameters())),
    } | ({"d_singular": torch.stack(largest).amax(0)} if largest else {})


def largest_singular_value(matrices: Tensor, rounds: int = 4) -> Tensor:
    """[K] of matrices [K, a, b], from below, by the power method from the vector of ones."""
    v = torch.ones_like(matrices[:, 0]).unsqueeze(-1)
    for _ in range(rounds):
        v = matrices.mT @ (matrices @ v)
        v = v / v.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return (matrices @ v).flatten(1).norm(dim=1)


def of_the_samples(held: HeldOut, fakes: Tensor) -> dict[str, Tensor]:
    """Of the averaged generator's samples [K, m, d], beside as many held-out ones.

    - `distance`: energy distance, 0 … 1; `told_apart`: leave-one-out accuracy of the nearest neighbor, 0.5 … 1;
    - `diversity`: mean distance of two samples; `spacing`: median distance to the nearest other sample; each over the
      real ones';
    - `effective`: exp(entropy) over the modes, over the real ones'; `rarest`: the smallest share of a mode over its
      share of the real ones; `kept`: share of the modes that have at least a fifth of theirs; both of modes with
      enough held-out samples, and left out where none has;
    - `size`: the largest absolute value, over the real ones'.
    """
    real = held.many_real.expand(len(fakes), -1, -1)
    cross, within = pairwise(real, fakes), pairwise(fakes, fakes)
    spread, nearest = mean_of_pairs(within), to_nearest_other(within)
    share = share_in(held.modes(fakes), len(held.share))
    numbers = {}
    if held.known.any():
        ratio = (share / held.share)[:, held.known]
        numbers = {"rarest": ratio.amin(-1), "kept": (ratio >= 0.2).float().mean(-1)}
    return numbers | {
        "distance": energy(cross.mean((-1, -2)), spread, torch.tensor(held.real_spread)),
        "told_apart": told_apart(held.real_nearest, cross, nearest),
        "diversity": spread / held.real_spread,
        "spacing": lower_median(nearest) / held.real_spacing,
        "effective": effective_number(share) / effective_number(held.share / held.share.sum()),
        "size": fakes.abs().amax((-1, -2)) / held.real_size,
    }


def of_the_movement(held: HeldOut, before: Tensor, now: Tensor) -> dict[str, Tensor]:
    """Of G's samples from the same few latents at two looks, [K, m, d].

    - `drift`: energy distance between the two sets, 0 … 1: has the distribution moved?
    - `turnover`: total variation between their shares of the modes, 0 … 1;
    - `stride`: mean distance that a sample moved, over the mean distance of two real ones.
    """
    within = [mean_of_pairs(pairwise(x, x)) for x in (before, now)]
    shares = [share_in(held.modes(x), len(held.share)) for x in (before, now)]
    numbers = {
        "drift": energy(pairwise(before, now).mean((-1, -2)), *within),
        "turnover": (shares[0] - shares[1]).abs().sum(-1) / 2,
        "stride": (before - now).norm(dim=-1).mean(-1) / held.real_spread,
    }
    return {name: value.double().cpu() for name, value in numbers.items()}


def of_the_memory(held: HeldOut, game, seed: int = 0) -> Tensor:
    """How much nearer the averaged generator's samples lie to the training set than held-out ones do, float64 [K].

    The share of (sample, held-out sample) pairs in which the generated one is the nearer to its nearest training
    sample: 0.5 for fresh real data, 1 for copies.
    """
    with isolated_rng(seed, game.device), torch.no_grad(), torch.autocast(game.device.type, enabled=False):
        fakes = flat(Players(game).generate(*held.few, average=True))
        return ordered_pairs(held.far().expand(len(fakes), -1), to_nearest(fakes, held.train())).double().cpu()
