"""How the cost of a step grows: with the batch, with the seeds of an ensemble, and with processes (DDP over gloo on a CPU).

    python tests/benchmarks/scale.py [rounds] [seconds]

A step is one update of D and one of G; MLPs of 3 x 128 on the ring, and DCGAN of width 16 on the digits. Sizes are measured
alternately, round after round. time = a + b·n is fitted to the medians by least squares of relative errors.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.callbacks import MaxImages, TrainMetrics
from ganlab.config.paths import conf_folder
from ganlab.models.ensemble import Ensemble
from ganlab.runs.train import seeded_gan
from ganlab.utils.library_warnings import silence_library_warnings

MLP = ("data=ring", "loss=ns")
DCGAN = ("data=digits", "loss=ns", "networks.width=16")
BATCHES, SEEDS, STEPS = (64, 128, 256, 512, 1024), (1, 2, 4, 8, 16, 32), 40
DDP = ["trainer=cpu", "logger=csv", "metrics=none", "monitor=[]", "callbacks.sample_grid=null"]
WORKLOADS = {  # of several processes: overrides, and roughly the images/s of one
    "MLP": ([*MLP, "data.train_size=8192"], 20_000),
    "DCGAN of width 64": (["data=digits", "loss=ns", "networks.width=64"], 2_000),
}


def milliseconds(overrides, batch: int, seeds: int | None = None) -> float:
    """Milliseconds per step; the first fifth of the steps warms up."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose(
            "config", ["name=benchmark", f"run_dir={tempfile.gettempdir()}", f"data.batch_size={batch}", *overrides]
        )
    config = OmegaConf.to_container(config, resolve=True)
    data, marks = instantiate(config["data"], _convert_="all"), []
    gan = seeded_gan(config, 1)
    if seeds:
        numbers = list(range(1, seeds + 1))
        gan, data.seeds = Ensemble([seeded_gan(config, seed) for seed in numbers], numbers), numbers

    class Clock(MaxImages):
        def on_train_batch_end(self, *run):
            marks.append(time.perf_counter())
            super().on_train_batch_end(*run)

    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[TrainMetrics(), Clock(STEPS * batch)],
    )  # fmt: skip
    trainer.fit(gan, data)
    warm = STEPS // 5
    return 1000 * (marks[-1] - marks[warm]) / (len(marks) - 1 - warm)


def linearity(title: str, sizes, measure, rounds: int) -> None:
    found = {n: [] for n in sizes}
    for _ in range(rounds):
        for n in sizes:
            found[n].append(measure(n))
    times = np.array([statistics.median(found[n]) for n in sizes])
    design = np.stack([np.ones(len(sizes)), np.array(sizes)], 1)
    (a, b), *_ = np.linalg.lstsq(design / times[:, None], np.ones(len(sizes)), rcond=None)  # least squares of relative errors
    print(f"\n{title}: {a:.2f} ms + {b:.4f} ms·n")
    print(f"{'n':>6} {'ms':>8} {'fit':>8} {'ms of each':>11}   of {rounds} rounds")
    for n, t in zip(sizes, times):
        print(f"{n:>6} {t:>8.2f} {a + b * n:>8.2f} {t / n:>11.4f}   {min(found[n]):.2f} … {max(found[n]):.2f}")


def images_per_second(workload: str, processes: int, batch: int, seconds: float) -> float:
    """The speed in the summary of a run with so many processes; `batch` is per process."""
    overrides, speed = WORKLOADS[workload]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"trainer.devices={processes}", f"data.batch_size={batch}", f"hydra.run.dir={folder}/run"]
        if processes > 1:
            words.append("trainer.strategy=ddp_find_unused_parameters_true")
        images = int(speed * seconds)
        command = [sys.executable, "-m", "ganlab", *DDP, *overrides, *words, f"max_images={images}", f"eval_every={images}"]
        subprocess.run(command, check=True, cwd=folder, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return json.loads(Path(folder, "run", "summary.json").read_text())["images_per_second"]


def processes(rounds: int, seconds: float) -> None:
    """Print the speed of several processes relative to one."""
    cases = {"the whole batch is 512": {1: 512, 2: 256, 4: 128}, "each process has 256": {1: 256, 2: 256, 4: 256}}
    cores = len(os.sched_getaffinity(0))
    for workload, (title, batches) in product(WORKLOADS, cases.items()):
        found = {n: [] for n in batches}
        for _ in range(rounds):
            for n, batch in batches.items():
                found[n].append(images_per_second(workload, n, batch, seconds))
        one = statistics.median(found[1])
        print(
            f"\n{workload}, {title}, one thread a process, {cores} cores\n{'processes':>9} {'images/s':>9} {'of one':>7} {'a core':>7}"
        )
        for n in batches:
            speed = statistics.median(found[n])
            print(f"{n:>9} {speed:>9,.0f} {speed / one:>7.2f} {speed / one / min(n, cores):>7.2f}   "
                  f"{min(found[n]):,.0f} … {max(found[n]):,.0f}")  # fmt: skip


def main(rounds: int = 3, seconds: float = 3) -> None:
    silence_library_warnings()
    warnings.simplefilter("ignore")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
    )
    linearity("MLP, batch n", BATCHES, lambda n: milliseconds(MLP, n), rounds)
    linearity("DCGAN, batch n", BATCHES, lambda n: milliseconds(DCGAN, n), rounds)
    linearity("MLP, n seeds at once, batch 64", SEEDS, lambda n: milliseconds(MLP, 64, n), rounds)
    processes(rounds, seconds)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:])))
