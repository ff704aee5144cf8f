"""The loops that `speed.py` compares: the same training, by hand and by ganlab.

All of them: new latents in each step, the non-saturating loss, Adam at 2e-4, a moving average of G, losses read every
50 steps, batches cut on the device from uint8 tensors of noise.
"""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass
from functools import partial

import torch
from lightning import Callback, Trainer
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from ganlab import NonSaturatingGAN
from ganlab.callbacks import MaxImages, ProgressBar, TrainMetrics
from ganlab.callbacks.loggers import CSV
from ganlab.data import Ring, TensorData
from ganlab.data.batches import Batches, InfiniteBatches, Split, to_device_if_fits
from ganlab.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
RESNET_WIDTH = 64 if DEVICE.type == "cuda" else 16  # SNGAN's own width takes a CPU minutes per round


class Noise(TensorData):
    """20,000 images of noise."""

    def __init__(self, channels: int, size: int, batch_size: int):
        super().__init__(shape=(channels, size, size), num_classes=0, batch_size=batch_size)

    def load(self):
        x = torch.randint(0, 256, (20_000, *self.shape), dtype=torch.uint8)
        return Split(x, torch.zeros(len(x), dtype=torch.long)), Split(x[:1], torch.zeros(1, dtype=torch.long))


def ring(batch_size: int):
    data = Ring(dim=2, num_classes=8, std=0.01, batch_size=batch_size, train_size=50_000, test_size=100, data_seed=0)
    return MLPGenerator(2, [2], [128] * 3, bounded=False), MLPDiscriminator([2], [128] * 3), data


def dcgan(batch_size: int, *, channels: int, size: int, width: int):
    g, d = DCGANGenerator(64, channels, size, width), DCGANDiscriminator(channels, size, width)
    return g, d, Noise(channels, size, batch_size)


def resnet(batch_size: int):
    g, d = ResNetGenerator(128, 3, 32, RESNET_WIDTH), ResNetDiscriminator(3, 32, RESNET_WIDTH)
    return g, d, Noise(3, 32, batch_size)


NETWORKS = {
    "MLP ring, 3 x 128": ring,
    "DCGAN-28, width 32": partial(dcgan, channels=1, size=28, width=32),
    "DCGAN-28, width 64": partial(dcgan, channels=1, size=28, width=64),
    "DCGAN-32 RGB, width 64": partial(dcgan, channels=3, size=32, width=64),
    f"ResNet-32 RGB, width {RESNET_WIDTH}": resnet,
}


@dataclass(frozen=True)
class Levers:
    """What an expert adds to a loop, one by one; all false is what one writes first."""

    no_graph: bool = False  # D's step: fakes without a graph; G's step: no gradients of D's weights
    one_pass: bool = False  # D sees real and fake in one batch
    fused: bool = False  # Adam's fused implementation
    channels_last: bool = False
    bf16: bool = False  # autocast
    compiled: bool = False  # torch.compile of both forward passes
    float_data: bool = False  # the data kept as float32 in [-1, 1] rather than as uint8
    read_each_step: bool = False  # both losses' values asked for at every step, which waits for a GPU


class ByHand:
    def __init__(self, g, d, data, levers: Levers):
        layout = torch.channels_last if levers.channels_last else torch.contiguous_format
        self.g, self.d = (net.to(DEVICE, memory_format=layout) for net in (g, d))
        self.levers, self.latent_dim = levers, g.latent_dim
        self.average = copy.deepcopy(self.g)
        self.opt_g, self.opt_d = (ADAM(net.parameters(), fused=levers.fused or None) for net in (self.g, self.d))
        if levers.compiled:
            self.g, self.d = torch.compile(self.g), torch.compile(self.d)
        data.setup()
        x, y = data.train
        if levers.float_data and x.dtype == torch.uint8:
            x = x.float() / 127.5 - 1
        self.batches = Batches(to_device_if_fits(Split(x, y), DEVICE), data.batch_size)

    def seconds(self, steps: int) -> float:
        stream = iter(InfiniteBatches(self.batches))
        synchronize()
        start = time.perf_counter()
        for done in range(1, steps + 1):
            x = next(stream)[0]
            losses = self.step(x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x)
            if done % 50 == 0 or self.levers.read_each_step:
                [loss.item() for loss in losses]
        synchronize()
        return time.perf_counter() - start

    def step(self, real):
        levers, n = self.levers, len(real)
        ones, zeros = torch.ones(n, device=DEVICE), torch.zeros(n, device=DEVICE)
        self.opt_d.zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=levers.bf16):
            with torch.set_grad_enabled(not levers.no_graph):
                fake = self.g(torch.randn(n, self.latent_dim, device=DEVICE))
            if levers.one_pass:
                on_real, on_fake = self.d(torch.cat([real, fake.detach().to(real.dtype)])).float().chunk(2)
            else:
                on_real, on_fake = self.d(real).float(), self.d(fake.detach()).float()
        loss_d = bce(on_real, ones) + bce(on_fake, zeros)
        loss_d.backward()
        self.opt_d.step()

        self.opt_g.zero_grad()
        self.d.requires_grad_(not levers.no_graph)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=levers.bf16):
            on_fake = self.d(self.g(torch.randn(n, self.latent_dim, device=DEVICE))).float()
        loss_g = bce(on_fake, ones)
        loss_g.backward()
        self.d.requires_grad_(True)
        self.opt_g.step()
        with torch.no_grad():
            for average, p in zip(self.average.parameters(), self.g.parameters()):
                average.lerp_(p, 1e-3)
        return loss_d, loss_g


FIRST = 8  # steps before the stopwatch starts: CUDA graphs are recorded in them


class Stopwatch(Callback):
    """From batch number FIRST to the end of the last; stands behind all other callbacks."""

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        if batch_idx == FIRST:
            synchronize()
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, gan, *batch):
        if trainer.should_stop:
            synchronize()
            self.seconds = time.perf_counter() - self.start


class Ganlab:
    """What `python -m ganlab` trains, with metrics.csv and the progress bar, but without evaluation, monitor, sample grids
    and checkpoints, whose cost depends on how often they run. `silent`: no table, no bar.
    """

    def __init__(self, g, d, data, precision: str, silent: bool = False, cuda_graphs: bool = False):
        fused = partial(ADAM, fused=True)
        self.gan = NonSaturatingGAN(g, d, generator_optimizer=fused, discriminator_optimizer=fused, cuda_graphs=cuda_graphs)
        self.data, self.precision, self.silent, self.folder = data, precision, silent, tempfile.mkdtemp()

    def seconds(self, steps: int) -> float:
        budget, stopwatch = self.gan.images_seen + (FIRST + steps) * self.data.batch_size, Stopwatch()
        trainer = Trainer(
            accelerator=DEVICE.type,
            devices=1,
            precision=self.precision,
            max_epochs=-1,
            logger=False if self.silent else CSV(self.folder),
            callbacks=[*([] if self.silent else [TrainMetrics(), ProgressBar(budget)]), MaxImages(budget), stopwatch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.gan, self.data)
        return stopwatch.seconds


class FirstStep(Callback):
    """Writes the time at which the first training step ended into the run's directory."""

    def __init__(self, folder: str):
        self.folder = folder

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        if batch_idx == 0:
            with open(f"{self.folder}/first_step", "w") as file:
                file.write(str(time.time()))


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
