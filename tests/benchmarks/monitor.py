"""The cost of the monitor.

`python tests/benchmarks/monitor.py [rounds] [steps]` trains the default run (a conditional GAN on the digits) and the ring
alternately with and without it, in one process, and prints the ratio of the times with its range (processor time on a CPU).
Neither run evaluates, draws sample grids or saves checkpoints.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.callbacks import MaxImages, TrainMetrics
from ganlab.callbacks.loggers import CSV
from ganlab.config.paths import conf_folder
from ganlab.runs.train import seeded_gan
from ganlab.utils.library_warnings import silence_library_warnings


def config_of(*overrides: str) -> dict:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", ["name=benchmark", f"run_dir={tempfile.mkdtemp()}", *overrides])
    return OmegaConf.to_container(config, resolve=True)


CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time  # independent of other processes


def seconds(config: dict, steps: int, monitored: bool) -> float:
    """Seconds of `steps` steps, the monitor's checks included, setup excluded."""
    data = instantiate(config["data"], _convert_="all")
    budget, monitor = MaxImages(steps * data.batch_size), instantiate(config["callbacks"]["verdicts"], _convert_="all")
    started = []

    class Start(TrainMetrics):
        def on_train_start(self, *run):
            super().on_train_start(*run)
            started.append(CLOCK())

    trainer = Trainer(
        accelerator="auto", devices=1, max_epochs=-1, logger=CSV(tempfile.mkdtemp()), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[*[monitor] * monitored, Start(), budget],
    )  # fmt: skip
    trainer.fit(seeded_gan(config, 1), data)
    return CLOCK() - started[0]


def main(rounds: int = 5, steps: int = 600) -> None:
    silence_library_warnings()
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds of {steps} steps")
    for name, overrides in (("digits, DCGAN, batch 64", ()), ("ring, 3 x 128, batch 128", ("+experiment=ring",))):
        config = config_of(*overrides)
        for monitored in (True, False):
            seconds(config, 100, monitored)
        ratios = []
        for _ in range(rounds):
            plain = seconds(config, steps, monitored=False)
            ratios.append(seconds(config, steps, monitored=True) / plain)
        print(f"{name:26} time with / without {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
