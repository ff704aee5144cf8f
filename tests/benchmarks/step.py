"""What does ganlab's step cost beside a hand-written PyTorch loop over the same networks?

`python tests/benchmarks/step.py` runs both in turn, in one process, on the MLP ring and on a DCGAN of Fashion-MNIST's
shape (noise images: speed does not depend on what they show), and prints images/s and the ratio with its range.
ganlab's side includes Lightning, logging to CSV every 50 steps and the progress bar.

The loops play the same game: fresh latents in each turn, non-saturating loss, Adam, a moving average of G.
`by hand` is what one writes first (a pass for real, a pass for fake, `detach`). `tutorial` is PyTorch's DCGAN tutorial,
which reuses D's fakes in G's turn and so runs G forward once instead of twice, and keeps no average.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from functools import partial

import torch
from lightning import Callback, Trainer, seed_everything
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from ganlab import NonSaturatingGAN
from ganlab.callbacks import Budget, ProgressBar, Record
from ganlab.data import Ring
from ganlab.data.base import Split, TensorData
from ganlab.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from ganlab.tracking import CSV
from ganlab.train import quieten_libraries

PLAIN_ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
FUSED_ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), fused=True)


class FashionShaped(TensorData):
    """20,000 images of noise, 1 x 28 x 28."""

    def __init__(self, batch_size: int):
        super().__init__(shape=(1, 28, 28), num_classes=0, batch_size=batch_size)

    def load(self):
        x = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8)
        return Split(x, torch.zeros(len(x), dtype=torch.long)), Split(x[:1], torch.zeros(1, dtype=torch.long))


def ring(batch_size: int):
    data = Ring(dim=2, num_classes=8, std=0.01, batch_size=batch_size, train_size=50_000, test_size=100, data_seed=0)
    return MLPGenerator(2, [2], [128] * 3, bounded=False), MLPDiscriminator([2], [128] * 3), data


def fashion(batch_size: int, width: int = 32):
    return DCGANGenerator(64, 1, 28, width), DCGANDiscriminator(1, 28, width), FashionShaped(batch_size)


class Stopwatch(Callback):
    def on_train_start(self, trainer, gan):
        self.start = time.perf_counter()

    def on_train_end(self, trainer, gan):
        self.seconds = time.perf_counter() - self.start


class Ganlab:
    def __init__(self, g, d, data, precision: str):
        self.gan = NonSaturatingGAN(g, d, generator_optimizer=FUSED_ADAM, discriminator_optimizer=FUSED_ADAM)
        self.data, self.precision, self.folder = data, precision, tempfile.mkdtemp()

    def seconds(self, steps: int) -> float:
        budget = self.gan.images_seen + steps * self.data.batch_size
        stopwatch = Stopwatch()
        trainer = Trainer(
            accelerator="cpu",
            precision=self.precision,
            max_epochs=-1,
            logger=CSV(self.folder),
            callbacks=[stopwatch, Record(), ProgressBar(budget), Budget(budget)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.gan, self.data)
        return stopwatch.seconds


class ByHand:
    def __init__(self, g, d, data, precision: str, reuse_fakes: bool):
        self.g, self.d, self.data, self.reuse_fakes = g, d, data, reuse_fakes
        self.bf16 = precision == "bf16-mixed"
        self.ema = copy.deepcopy(g)
        self.opt_g, self.opt_d = PLAIN_ADAM(g.parameters()), PLAIN_ADAM(d.parameters())

    def seconds(self, steps: int) -> float:
        self.data.setup()
        done, start = 0, time.perf_counter()
        while True:
            for x, _ in self.data.train_dataloader():
                if done == steps:
                    return time.perf_counter() - start
                real = x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x
                loss_d, loss_g = self.step(real)
                done += 1
                if done % 50 == 0:
                    loss_d.item(), loss_g.item()

    def step(self, real):
        g, d, n = self.g, self.d, len(real)
        ones, zeros = torch.ones(n), torch.zeros(n)
        self.opt_d.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            fake = g(torch.randn(n, g.latent_dim))
            loss_d = bce(d(real).float(), ones) + bce(d(fake.detach()).float(), zeros)
        loss_d.backward()
        self.opt_d.step()
        self.opt_g.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            if not self.reuse_fakes:
                fake = g(torch.randn(n, g.latent_dim))
            loss_g = bce(d(fake).float(), ones)
        loss_g.backward()
        self.opt_g.step()
        if not self.reuse_fakes:
            with torch.no_grad():
                for average, p in zip(self.ema.parameters(), self.g.parameters()):
                    average.lerp_(p, 1e-3)
        return loss_d, loss_g


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each loop in each round, roughly")
    arguments = parser.parse_args()
    quieten_libraries()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds in turn; median [range]"
    )
    cases = [
        ("MLP ring, batch 256", partial(ring, 256), "32-true"),
        ("DCGAN-28, width 32, batch 64", partial(fashion, 64), "32-true"),
        ("DCGAN-28, width 32, batch 64", partial(fashion, 64), "bf16-mixed"),
    ]
    for name, make, precision in cases:
        seed_everything(0, verbose=False)
        g, d, data = make()
        loops = {
            "ganlab": Ganlab(copy.deepcopy(g), copy.deepcopy(d), data, precision),
            "by hand": ByHand(copy.deepcopy(g), copy.deepcopy(d), data, precision, reuse_fakes=False),
            "tutorial": ByHand(g, d, data, precision, reuse_fakes=True),
        }
        steps = max(50, int(arguments.seconds / (loops["by hand"].seconds(30) / 30)))
        for loop in loops.values():
            loop.seconds(30)
        speed = {name: [] for name in loops}
        for _ in range(arguments.rounds):
            for key, loop in loops.items():
                speed[key].append(steps * data.batch_size / loop.seconds(steps))
        print(f"\n{name}, {precision}, {steps} steps a round")
        for key, values in speed.items():
            ratios = [a / b for a, b in zip(speed["ganlab"], values)]
            print(
                f"  {key:9} {statistics.median(values):9,.0f} images/s    ganlab/this "
                f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            )


if __name__ == "__main__":
    main()
