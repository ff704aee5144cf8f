"""Seed-steps per second: an ensemble beside single runs one after another, alternately in one process.

python tests/benchmarks/ensemble.py [seeds] [rounds]    (a step = one update of D and one of G at batch 256, MLPs of 3 x 128)

On a GPU the ensemble uses CUDA graphs, and single runs are measured without graphs (the default) and with them.
"""

import statistics
import sys
import time
import warnings

import torch
from lightning import Trainer
from loops import synchronize

from ganlab.callbacks import MaxImages, TrainMetrics
from ganlab.data import Ring
from ganlab.losses import WGAN, NonSaturatingGAN
from ganlab.models.ensemble import Ensemble
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import R1, GradientPenalty
from ganlab.utils.library_warnings import silence_library_warnings

GPU = torch.cuda.is_available()
BATCH, STEPS = 256, {"single": 150, "ensemble": 150 if GPU else 15}
SETTINGS = {
    "non-saturating": (NonSaturatingGAN, dict),
    "non-saturating + R1": (NonSaturatingGAN, lambda: {"r1": R1(1.0)}),
    "WGAN-GP": (WGAN, lambda: {"gp": GradientPenalty(0.1)}),
}


def make_gan(name, seed, graphs=GPU):
    torch.manual_seed(seed)
    family, regularizers = SETTINGS[name]

    def adam(parameters):
        return torch.optim.Adam(parameters, 1e-3, (0.5, 0.999), fused=True)

    networks = MLPGenerator(2, (2,), [128] * 3, bounded=False), MLPDiscriminator((2,), [128] * 3)
    return family(
        *networks, generator_optimizer=adam, discriminator_optimizer=adam, regularizers=regularizers(), cuda_graphs=graphs
    )


def seed_steps_per_second(gan, seeds, steps):
    """Training alone, as `images_per_second` of a run counts it; the first fifth of the steps warms up."""
    data = Ring(dim=2, num_classes=8, std=0.01, batch_size=BATCH, train_size=50_000, test_size=2_500, data_seed=0)
    data.seeds = seeds
    warm, marks = steps // 5, []

    class Clock(MaxImages):
        def on_train_batch_end(self, trainer, gan, *rest):
            if gan.d_updates in (warm, steps):
                synchronize()
                marks.append(time.perf_counter())
            super().on_train_batch_end(trainer, gan, *rest)

    trainer = Trainer(
        accelerator="auto", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[TrainMetrics(), Clock(steps * BATCH)],
    )  # fmt: skip
    trainer.fit(gan, data)
    return (steps - warm) * max(len(seeds), 1) / (marks[1] - marks[0])


def main(count=100, rounds=5):
    silence_library_warnings()
    warnings.simplefilter("ignore")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {count} seeds at once, {rounds} rounds")
    for name in SETTINGS:
        single, ensemble = {"single": []} | ({"single, graphs": []} if GPU else {}), []
        for index in range(rounds):
            for kind, found in single.items():
                found.append(seed_steps_per_second(make_gan(name, index, kind != "single"), [], STEPS["single"]))
            seeds = list(range(count))
            stack = Ensemble([make_gan(name, seed) for seed in seeds], seeds)
            ensemble.append(seed_steps_per_second(stack, seeds, STEPS["ensemble"]))
        for kind, found in single.items():
            ratios = sorted(e / s for e, s in zip(ensemble, found))
            print(
                f"{name:22} {kind} {statistics.median(found):7.0f}/s   ensemble {statistics.median(ensemble):7.0f}/s   "
                f"ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
