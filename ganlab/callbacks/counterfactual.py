"""The gradient that G would get from every other family, in the middle of any run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ganlab.analysis.generator_gradients import as_gan, generator_gradient_norms
from ganlab.analysis.minimal import shipped_families
from ganlab.callbacks.periodic import Periodic
from ganlab.models.gan import GAN


class Counterfactual(Periodic):
    """Logs `theory/generator_gradient_<family>`: ||dL_G/dtheta_G||_2 at this run's weights, every `every` images.

    Of every shipped family with its defaults (`shipped_families`) and of the run's own with its settings, always on
    the same real batch and latents, which `seed` draws: the numbers differ only by what was learned. Looking does not
    change training.
    """

    def __init__(self, every: int, seed: int = 0):
        super().__init__(every)
        self.seed = seed

    def setup(self, trainer, gan, stage):
        require_one_gan(gan)

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        with own_randomness(self.seed, gan.device):
            self._real, self._y = next(training_batches(trainer, gan))
            self._z = gan.sample_latents(len(self._real))
        self._families = families_beside(gan)

    def run(self, trainer, gan):
        with own_randomness(self.seed, gan.device):
            norms = generator_gradient_norms(gan, self._families, self._real, self._y, self._z)
        row = {f"theory/generator_gradient_{name}": float(norm) for name, norm in norms.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)


def require_one_gan(gan) -> None:
    if not isinstance(gan, GAN):
        raise ValueError(
            f"monitor=counterfactual and vanishing look at one GAN, got {len(gan.seeds)} at once; use -m seed=1,2,3"
        )


def families_beside(gan) -> dict:
    """Every shipped family, and the run's own under its class's name with its settings."""
    return {name: as_gan(family) for name, family in shipped_families().items()} | {type(gan).__name__: gan}


@contextmanager
def own_randomness(seed: int, device: torch.device):
    """Random numbers from `seed`; afterwards training goes on with those that it would have had."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        (torch if on_gpu else torch.default_generator).manual_seed(seed)  # the former takes half a millisecond on a CPU
        yield


def training_batches(trainer, gan) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The training data once more, without end, as `training_step` gets it, in an order of its own."""
    data = trainer.datamodule
    while True:
        for batch in data.batches():
            batch = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, gan.device, 0), 0)
            real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
            yield real.to(gan.dtype), y
