"""The fixed held-out samples, latents and labels on which a run is probed from its first check to its last."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganlab.diagnostics.sample_statistics import mean_pairwise, nearest_distance, nearest_other_distance, pairwise
from ganlab.metrics.features import validate_features

STEP_SAMPLES = 64  # the batch of a probed training step
SAMPLES = 512  # compared with as many real ones
FEW_SAMPLES = 128  # for the probes that are slow
PROTOTYPE_SAMPLES = 4000  # training samples from which prototypes are computed
MAX_SIDE = 16  # pixels: larger images are averaged down before distances are computed
MAX_CLASSES = 32  # with more classes, SAMPLES are too few for statements about each class
MIN_MODE_SAMPLES = 12  # held-out samples of a mode; with fewer, SAMPLES of a perfect generator may miss it
CLASS_PROTOTYPES, CLUSTERS, K_MEANS_ROUNDS = 8, 16, 8  # of each class of images; of unlabeled data; iterations


class HeldOut:
    """Held-out samples of a run's validation split, fixed draws, and prototypes of the modes of its train split.

    Attributes, on the GAN's device:
        step_real [n, ...], step_y int64 [n] or None, step_z [n, latent]: the batch of a training step.
        z [m, latent], y int64 [m] or None: for generated samples, which are compared with `real` [m, d], flat.
        real_nearest [m]: from each of `real` to the nearest other one; real_spacing: their median.
        real_diversity: the mean distance of two of `real`; real_max: their largest absolute value.
        prototypes [p, d], mode_of_prototype int64 [p].
        mode_share [modes]: share of the held-out data in each mode; mode_is_common bool [modes]: whether a mode has enough
            held-out samples to be called missing.
    """

    def __init__(self, gan, datamodule, seed: int = 0):
        self._device, self._datamodule = gan.device, datamodule
        random = torch.Generator().manual_seed(seed)
        x, y = datamodule.val
        order = torch.randperm(len(x), generator=random)
        step, many = order[:STEP_SAMPLES], order[:SAMPLES]
        labeled = gan.conditioning.num_classes > 0
        z = torch.randn(len(step) + len(many), gan.generator.latent_dim, generator=random).to(gan.device, gan.dtype)
        self.step_real, self.step_z, self.z = self._prepare(x[step]).to(gan.dtype), z[: len(step)], z[len(step) :]
        self.step_y, self.y = (y[part].to(gan.device) if labeled else None for part in (step, many))
        self.real = self.flatten(self._prepare(x[many]))
        distances = pairwise(self.real, self.real)
        self.real_nearest = nearest_other_distance(distances)
        self.real_spacing = float(self.real_nearest.median())
        self.real_diversity = float(mean_pairwise(distances))
        self.real_max = float(self.real.abs().max())
        self.prototypes, self.mode_of_prototype = self._find_prototypes(random)
        counts = torch.bincount(self.modes(self.real), minlength=int(self.mode_of_prototype.max()) + 1)
        self.mode_share = (counts / counts.sum()).clamp_min(0.5 / len(many))
        self.mode_is_common = counts >= MIN_MODE_SAMPLES

    @property
    def few(self) -> tuple[Tensor, Tensor | None]:
        """The first FEW_SAMPLES latents and labels."""
        return self.z[:FEW_SAMPLES], None if self.y is None else self.y[:FEW_SAMPLES]

    @cached_property
    def train(self) -> Tensor:
        """The training set [N, d], flat, on the CPU; images in float16: 50,000 of 16 x 16 pixels take 26 MB."""
        dtype = torch.float32 if self.real.shape[1] <= 8 else torch.float16
        blocks = self._datamodule.train.x.split(1000)
        return torch.cat([self.flatten(self._prepare(block)).to(dtype).cpu() for block in blocks])

    @cached_property
    def real_to_train(self) -> Tensor:
        """Distance [m] from each of `real` to the nearest training sample."""
        return nearest_distance(self.real, self.train)

    def flatten(self, x: Tensor) -> Tensor:
        """Flatten samples [..., m, *shape] of this data to float32 [..., m, d] (`flatten_samples`)."""
        return flatten_samples(x, len(self._datamodule.shape))

    def modes(self, x: Tensor) -> Tensor:
        """The mode int64 [..., m] of each of x [..., m, d]: that of the nearest prototype."""
        return self.mode_of_prototype[pairwise(x, self.prototypes).argmin(-1)]

    def _prepare(self, x: Tensor) -> Tensor:
        return self._datamodule.on_after_batch_transfer((x.to(self._device), None), 0)[0]

    def _find_prototypes(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points [p, d] that stand for the data's modes, and the index int64 [p] of the mode of each.

        Modes are a mixture's exact centers where the data has them, else the classes if they are few, else clusters.
        """
        centers = getattr(self._datamodule, "centers", None)
        if centers is not None:
            return centers.to(self._device), torch.arange(len(centers), device=self._device)
        x, y = self._datamodule.train
        chosen = torch.randperm(len(x), generator=random)[:PROTOTYPE_SAMPLES]
        points, y = self.flatten(self._prepare(x[chosen])), y[chosen].to(self._device)
        if not 2 <= self._datamodule.num_classes <= MAX_CLASSES:
            centers = k_means(points, CLUSTERS)
            return centers, torch.arange(len(centers), device=self._device)
        k = CLASS_PROTOTYPES if points.shape[1] > 2 else 1
        per_class = {label: k_means(points[y == label], k) for label in y.unique().tolist()}  # a rare class may be absent
        modes = torch.tensor([label for label, part in per_class.items() for _ in part], device=self._device)
        return torch.cat([*per_class.values()]), modes


def flatten_samples(x: Tensor, dims: int) -> Tensor:
    """Flatten samples [..., m, *shape] to float32 [..., m, d], after averaging images down to at most 16 pixels a side.

    `dims`: of the shape: 1 for points, 3 for images.
    """
    x = x.float()
    if dims == 3 and max(x.shape[-2:]) > MAX_SIDE:
        x = adaptive_avg_pool2d(x.flatten(0, -4), MAX_SIDE).unflatten(0, x.shape[:-3])
    return x.flatten(-dims)


def k_means(x: Tensor, k: int) -> Tensor:
    """k-means: at most k centers [k, d] of x [n, d], initialized with its first points; an empty cluster keeps its center.

    Raises:
        ValueError: no points, or some that are not finite.
    """
    validate_features("k-means", x)
    centers = x[:k].clone()
    for _ in range(K_MEANS_ROUNDS):
        nearest = pairwise(x, centers).argmin(1)
        for index in range(len(centers)):
            if (assigned := x[nearest == index]).numel():
                centers[index] = assigned.mean(0)
    return centers
