"""What every probe of a run looks at: the same held-out samples, latents and labels from the first look to the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganlab.diagnostics.sample_statistics import mean_of_pairs, pairwise, to_nearest, to_nearest_other

TURN, MANY, FEW = 64, 512, 128  # samples of a turn; of what is said of the samples as a whole; of what is slow to say
REFERENCE = 4000  # training samples from which prototypes are made
LARGEST_SIDE = 16  # pixels: larger images are averaged down before distances are taken
FEW_CLASSES = 32  # with more classes, MANY samples say nothing of each of them
KNOWN = 12  # held-out samples of a mode: of one with fewer, a perfect sampler's own draw may hold none
PROTOTYPES, CLUSTERS, ROUNDS = 8, 16, 8  # of a class of images; of unlabeled data; k-means rounds


@dataclass(frozen=True)
class HeldOut:
    """Held-out samples and fixed draws, on the game's device.

    real [n, ...], y int64 [n] or None, z [n, latent]: one turn of the game.
    many_z [m, latent], many_y int64 [m] or None: the samples that are compared with `many_real` [m, d], flat.
    prototypes [p, d], of which number i stands for mode `mode_of`[i]; `share` [modes] of the held-out data in each, and
    whether it is `known` well enough [modes] to say of one mode that it is missing.
    train() [N, d]: the whole training set, flat, on the CPU, images in float16; far() [m]: from each of `many_real` to its
    nearest training sample.
    `real_nearest` [m]: from each of `many_real` to the nearest other; with the mean distance of two, the median to the
    nearest, and the largest value.
    """

    real: Tensor
    y: Tensor | None
    z: Tensor
    many_real: Tensor
    many_z: Tensor
    many_y: Tensor | None
    prototypes: Tensor
    mode_of: Tensor
    share: Tensor
    known: Tensor
    real_nearest: Tensor
    real_spread: float
    real_spacing: float
    real_size: float
    train: Callable[[], Tensor]
    far: Callable[[], Tensor]

    @property
    def few(self) -> tuple[Tensor, Tensor | None]:
        """The first latents, and their labels."""
        return self.many_z[:FEW], None if self.many_y is None else self.many_y[:FEW]

    def modes(self, x: Tensor) -> Tensor:
        """Which mode's prototype is nearest to each of x [..., m, d]: int64 [..., m]."""
        return self.mode_of[pairwise(x, self.prototypes).argmin(-1)]


def flat(x: Tensor) -> Tensor:
    """Samples [..., m, *shape] as vectors float32 [..., m, d]; images of at most 16 pixels a side."""
    x = x.float()
    if x.ndim < 4:
        return x
    if max(x.shape[-2:]) > LARGEST_SIDE:
        x = adaptive_avg_pool2d(x.flatten(0, -4), LARGEST_SIDE).unflatten(0, x.shape[:-3])
    return x.flatten(-3)


def held_out(game, datamodule, seed: int = 0) -> HeldOut:
    """The held-out batch of a run, from the test split (and prototypes of the modes from the train split)."""
    random = torch.Generator().manual_seed(seed)

    def ready(x: Tensor) -> Tensor:
        return datamodule.on_after_batch_transfer((x.to(game.device), None), 0)[0]

    @cache
    def train() -> Tensor:
        kept = torch.float32 if real.shape[1] <= 8 else torch.float16  # 60,000 images in 31 MB, ready for the next look
        return torch.cat([flat(ready(part)).to(kept).cpu() for part in datamodule.train.x.split(1000)])

    (x, y), n = datamodule.test, len(datamodule.test.x)
    order = torch.randperm(n, generator=random)
    turn, many = order[:TURN], order[: min(MANY, n)]
    labeled = game.conditioning.num_classes > 0
    latents = torch.randn(len(turn) + len(many), game.generator.latent_dim, generator=random).to(game.device, game.dtype)
    asked = y[many].to(game.device) if labeled else None
    prototypes, mode_of = prototypes_of(datamodule, ready, random)
    real = flat(ready(x[many]))
    distances = pairwise(real, real)
    nearest = to_nearest_other(distances)
    found = mode_of[pairwise(real, prototypes).argmin(-1)]
    counts = torch.bincount(found, minlength=int(mode_of.max()) + 1)
    return HeldOut(
        real=ready(x[turn]).to(game.dtype),
        y=y[turn].to(game.device) if labeled else None,
        z=latents[: len(turn)],
        many_real=real,
        many_z=latents[len(turn) :],
        many_y=asked,
        prototypes=prototypes,
        mode_of=mode_of,
        share=(counts / counts.sum()).clamp_min(0.5 / len(many)),
        known=counts >= KNOWN,
        real_nearest=nearest,
        real_spread=float(mean_of_pairs(distances)),
        real_spacing=float(nearest.median()),
        real_size=float(real.abs().max()),
        train=train,
        far=cache(lambda: to_nearest(real, train())),
    )


def prototypes_of(datamodule, ready, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points [p, d] that stand for the data's modes, and the number of the mode [p] of each.

    Modes are a mixture's exact centers where the data has them, else classes where they are few, else clusters.
    """
    if (centers := getattr(datamodule, "centers", None)) is not None:
        device = ready(datamodule.test.x[:1]).device
        return centers.to(device), torch.arange(len(centers), device=device)
    x, y = datamodule.train
    chosen = torch.randperm(len(x), generator=random)[:REFERENCE]
    points, y = flat(ready(x[chosen])), y[chosen].to(ready(x[:1]).device)
    if not 2 <= datamodule.num_classes <= FEW_CLASSES:
        centers = k_means(points, CLUSTERS)
        return centers, torch.arange(len(centers), device=points.device)
    each = PROTOTYPES if points.shape[1] > 2 else 1
    parts = {k: k_means(points[y == k], each) for k in y.unique().tolist()}  # a rare class may be absent here
    mode_of = torch.cat([torch.full((len(part),), k, device=points.device) for k, part in parts.items()])
    return torch.cat([*parts.values()]), mode_of


def k_means(x: Tensor, k: int) -> Tensor:
    """At most k centers [k, d] of x [n, d], from its first points; a center that nothing is nearest to stays."""
    centers = x[:k].clone()
    for _ in range(ROUNDS):
        nearest = pairwise(x, centers).argmin(1)
        for index in range(len(centers)):
            if (members := x[nearest == index]).numel():
                centers[index] = members.mean(0)
    return centers
