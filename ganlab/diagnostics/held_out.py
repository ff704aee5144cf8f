"""The fixed held-out samples, latents and labels on which a run is probed from its first check to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganlab.diagnostics.sample_statistics import mean_pairwise, nearest_distance, nearest_other_distance, pairwise

STEP_SAMPLES = 64  # the batch of a probed training step
SAMPLES = 512  # compared with as many real ones
FEW_SAMPLES = 128  # for the probes that are slow
PROTOTYPE_SAMPLES = 4000  # training samples from which prototypes are computed
MAX_SIDE = 16  # pixels: larger images are averaged down before distances are computed
MAX_CLASSES = 32  # with more classes, SAMPLES are too few for statements about each class
MIN_MODE_SAMPLES = 12  # held-out samples of a mode; with fewer, SAMPLES of a perfect generator may miss it
CLASS_PROTOTYPES, CLUSTERS, K_MEANS_ROUNDS = 8, 16, 8  # of each class of images; of unlabeled data; iterations


@dataclass(frozen=True)
class HeldOut:
    """Held-out samples and fixed draws, on the GAN's device.

    step_real [n, ...], step_y int64 [n] or None, step_z [n, latent]: the batch of a training step.
    z [m, latent], y int64 [m] or None: for generated samples, which are compared with `real` [m, d], flat.
    real_nearest [m]: from each of `real` to the nearest other one, real_spacing their median; real_diversity: the mean
    distance of two of them; real_max: their largest absolute value.
    prototypes [p, d], mode_of_prototype int64 [p]; mode_share [modes]: share of the held-out data in each mode;
    mode_is_common bool [modes]: whether a mode has enough held-out samples to be called missing.
    train() [N, d]: the training set, flat, on the CPU (images in float16); real_to_train() [m]: from each of `real` to the
    nearest training sample.
    """

    step_real: Tensor
    step_y: Tensor | None
    step_z: Tensor
    real: Tensor
    z: Tensor
    y: Tensor | None
    real_nearest: Tensor
    real_spacing: float
    real_diversity: float
    real_max: float
    prototypes: Tensor
    mode_of_prototype: Tensor
    mode_share: Tensor
    mode_is_common: Tensor
    train: Callable[[], Tensor]
    real_to_train: Callable[[], Tensor]

    @property
    def few(self) -> tuple[Tensor, Tensor | None]:
        """The first FEW_SAMPLES latents and labels."""
        return self.z[:FEW_SAMPLES], None if self.y is None else self.y[:FEW_SAMPLES]

    def modes(self, x: Tensor) -> Tensor:
        """The mode int64 [..., m] of each of x [..., m, d]: that of the nearest prototype."""
        return self.mode_of_prototype[pairwise(x, self.prototypes).argmin(-1)]


def flatten_samples(x: Tensor) -> Tensor:
    """Flatten samples [..., m, *shape] to float32 [..., m, d], after averaging images down to at most 16 pixels a side."""
    x = x.float()
    if x.ndim < 4:
        return x
    if max(x.shape[-2:]) > MAX_SIDE:
        x = adaptive_avg_pool2d(x.flatten(0, -4), MAX_SIDE).unflatten(0, x.shape[:-3])
    return x.flatten(-3)


def draw_held_out(gan, datamodule, seed: int = 0) -> HeldOut:
    """Draw the held-out samples of a run from the test split, and compute prototypes of the modes from the train split."""
    random = torch.Generator().manual_seed(seed)

    def prepare(x: Tensor) -> Tensor:
        return datamodule.on_after_batch_transfer((x.to(gan.device), None), 0)[0]

    @cache
    def train() -> Tensor:
        dtype = torch.float32 if real.shape[1] <= 8 else torch.float16  # 60,000 images of 16 x 16 pixels take 31 MB
        return torch.cat([flatten_samples(prepare(part)).to(dtype).cpu() for part in datamodule.train.x.split(1000)])

    (x, y), n = datamodule.test, len(datamodule.test.x)
    order = torch.randperm(n, generator=random)
    step, many = order[:STEP_SAMPLES], order[: min(SAMPLES, n)]
    labeled = gan.conditioning.num_classes > 0
    z = torch.randn(len(step) + len(many), gan.generator.latent_dim, generator=random).to(gan.device, gan.dtype)
    prototypes, mode_of_prototype = mode_prototypes(datamodule, prepare, random)
    real = flatten_samples(prepare(x[many]))
    distances = pairwise(real, real)
    nearest = nearest_other_distance(distances)
    modes = mode_of_prototype[pairwise(real, prototypes).argmin(-1)]
    counts = torch.bincount(modes, minlength=int(mode_of_prototype.max()) + 1)
    return HeldOut(
        step_real=prepare(x[step]).to(gan.dtype),
        step_y=y[step].to(gan.device) if labeled else None,
        step_z=z[: len(step)],
        real=real,
        z=z[len(step) :],
        y=y[many].to(gan.device) if labeled else None,
        real_nearest=nearest,
        real_spacing=float(nearest.median()),
        real_diversity=float(mean_pairwise(distances)),
        real_max=float(real.abs().max()),
        prototypes=prototypes,
        mode_of_prototype=mode_of_prototype,
        mode_share=(counts / counts.sum()).clamp_min(0.5 / len(many)),
        mode_is_common=counts >= MIN_MODE_SAMPLES,
        train=train,
        real_to_train=cache(lambda: nearest_distance(real, train())),
    )


def mode_prototypes(datamodule, prepare, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points [p, d] that stand for the data's modes, and the index int64 [p] of the mode of each.

    Modes are a mixture's exact centers where the data has them, else the classes if they are few, else clusters.
    """
    if (centers := getattr(datamodule, "centers", None)) is not None:
        device = prepare(datamodule.test.x[:1]).device
        return centers.to(device), torch.arange(len(centers), device=device)
    x, y = datamodule.train
    chosen = torch.randperm(len(x), generator=random)[:PROTOTYPE_SAMPLES]
    points, y = flatten_samples(prepare(x[chosen])), y[chosen].to(prepare(x[:1]).device)
    if not 2 <= datamodule.num_classes <= MAX_CLASSES:
        centers = k_means(points, CLUSTERS)
        return centers, torch.arange(len(centers), device=points.device)
    k = CLASS_PROTOTYPES if points.shape[1] > 2 else 1
    per_class = {label: k_means(points[y == label], k) for label in y.unique().tolist()}  # a rare class may be absent
    mode_of = torch.cat([torch.full((len(part),), label, device=points.device) for label, part in per_class.items()])
    return torch.cat([*per_class.values()]), mode_of


def k_means(x: Tensor, k: int) -> Tensor:
    """Return at most k centers [k, d] of x [n, d], starting at its first points; a center without points stays."""
    centers = x[:k].clone()
    for _ in range(K_MEANS_ROUNDS):
        nearest = pairwise(x, centers).argmin(1)
        for index in range(len(centers)):
            if (assigned := x[nearest == index]).numel():
                centers[index] = assigned.mean(0)
    return centers
