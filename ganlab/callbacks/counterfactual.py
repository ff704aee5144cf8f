"""Log the gradient that every other loss family would give the generator at the run's current weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ganlab.analysis.generator_gradients import as_gan, generator_gradient_norms
from ganlab.analysis.minimal import shipped_families
from ganlab.callbacks.periodic import Periodic
from ganlab.models.gan import GAN


class Counterfactual(Periodic):
    """Log `generator_gradient/<family>`: ||dL_G/dtheta_G||_2 at the run's weights, every `every` images.

    The families are all shipped ones with their defaults (`shipped_families`) and the run's own with its settings, always
    on the same real batch and latents, drawn with `seed`. Training is not affected.

    Raises:
        ValueError: the run trains an ensemble.
    """

    extra = True

    def __init__(self, every: int, seed: int = 0):
        super().__init__(every)
        self.seed = seed

    def on_train_start(self, trainer, gan):
        require_single_gan(gan)
        super().on_train_start(trainer, gan)
        with isolated_rng(self.seed, gan.device):
            self._real, self._y = next(training_batches(trainer, gan))
            self._z = gan.sample_latents(len(self._real))
        self._families = shipped_and_own_families(gan)

    def run(self, trainer, gan):
        with isolated_rng(self.seed, gan.device):
            norms = generator_gradient_norms(gan, self._families, self._real, self._y, self._z)
        row = {f"generator_gradient/{name}": float(norm) for name, norm in norms.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.images_seen)


def require_single_gan(gan) -> None:
    if not isinstance(gan, GAN):
        raise ValueError(
            f"monitor=counterfactual and monitor=vanishing need a single GAN, got an ensemble of {len(gan.seeds)}; "
            "use -m seed=1,2,3 instead of seeds="
        )


def shipped_and_own_families(gan: GAN) -> dict:
    """Every shipped family with its defaults, and the run's own under its class name with its settings."""
    return {name: as_gan(family) for name, family in shipped_families().items()} | {type(gan).__name__: gan}


@contextmanager
def isolated_rng(seed: int, device: torch.device):
    """Seed torch's random generators inside the block, and restore their states after it."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        # torch.manual_seed seeds all devices, which takes half a millisecond on a CPU
        (torch if on_gpu else torch.default_generator).manual_seed(seed)
        yield


def training_batches(trainer, gan) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield (real, y) batches of the training data without end, as `training_step` gets them, in an independent order."""
    data = trainer.datamodule
    while True:
        for batch in data.batches():
            batch = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, gan.device, 0), 0)
            real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
            yield real.to(gan.dtype), y
