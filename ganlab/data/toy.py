"""2-D Gaussian mixtures with known centers and density, on which mode collapse can be counted."""

import math

import torch
from torch import Tensor

from ganlab.data.base import TensorData
from ganlab.data.batches import Split
from ganlab.utils.validation import validate_int, validate_number


class GaussianMixture(TensorData):
    """Equally likely isotropic Gaussians in the plane; the label of a point is the mode it was drawn from.

    Args:
        centers: [K, 2].
        dim: 2; a fact of the data, written in conf/data/*.yaml for the networks to read.
        std: standard deviation of each mode along each axis.
        train_size, val_size, test_size: number of points in the splits; `val_size` None: as many as `test_size`.
        data_seed: seed of the points, independent of the run's seed.
        data: `batch_size` and `val_size`, as of `TensorData`.
    """

    may_miss_classes = True

    def __init__(self, centers: Tensor, *, dim: int, std: float, train_size: int, test_size: int, data_seed: int, **data):
        super().__init__(shape=(2,), num_classes=len(centers), **data)
        if dim != 2:
            raise ValueError(f"data.dim must be 2 for a mixture in the plane, got {dim!r}")
        self.centers, self.dim = centers.float(), dim
        self.std = validate_number("data.std", std, above=0)
        self.train_size = validate_int("data.train_size", train_size)
        self.test_size = validate_int("data.test_size", test_size)
        self.data_seed = validate_int("data.data_seed", data_seed, 0)

    def load(self) -> tuple[Split, Split, Split]:
        generator = torch.Generator().manual_seed(self.data_seed)
        sizes = self.train_size, self.test_size, self.val_size or self.test_size
        train, test, val = (self._draw(n, generator) for n in sizes)
        return train, val, test

    def _draw(self, n: int, generator: torch.Generator) -> Split:
        y = torch.randint(self.num_classes, (n,), generator=generator)
        return Split(self.centers[y] + self.std * torch.randn(n, 2, generator=generator), y)

    def log_density(self, x: Tensor) -> Tensor:
        """Exact log density [n] at points x [n, 2], differentiable, in x's dtype.

        log p(x) = logsumexp_k(-|x - c_k|² / 2σ²) - log K - log 2πσ², in float64: the exponents reach 10⁵.
        """
        squares = (x.double()[:, None] - self.centers.to(x.device).double()).square().sum(-1)
        log_p = torch.logsumexp(squares / (-2 * self.std**2), dim=1)
        return (log_p - math.log(2 * math.pi * self.std**2 * self.num_classes)).to(x.dtype)


class Ring(GaussianMixture):
    """`num_classes` modes on the unit circle, centers (cos, sin)(2πi / num_classes).

    With 8 modes and std 0.01 the ring of PacGAN (Lin et al. 2018) and of (αD,αG)-GANs (Welfert et al. 2023).
    """

    def __init__(self, *, num_classes: int, **mixture):
        validate_int("data.num_classes", num_classes)
        # 2πi/K, not linspace(0, 2π, K), whose last center is its first: that would leave K - 1 modes.
        angle = torch.arange(num_classes, dtype=torch.float64) * (2 * math.pi / num_classes)
        super().__init__(torch.stack([angle.cos(), angle.sin()], dim=1), **mixture)


class Grid(GaussianMixture):
    """A square lattice of `num_classes` = k² modes, 2 apart and centered on 0; 25 modes are {-4, -2, 0, 2, 4}².

    With std 0.05 the grid of PacGAN (Lin et al. 2018).
    """

    def __init__(self, *, num_classes: int, **mixture):
        validate_int("data.num_classes", num_classes)
        side = math.isqrt(num_classes)
        if side**2 != num_classes:
            raise ValueError(f"data.num_classes must be a square number on the grid (16, 25, 36 …), got {num_classes}")
        axis = 2.0 * torch.arange(side) - (side - 1)
        super().__init__(torch.cartesian_prod(axis, axis).reshape(-1, 2), **mixture)
