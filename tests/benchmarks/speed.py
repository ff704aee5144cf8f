"""Is ganlab as quick as a loop written by hand?

    python tests/benchmarks/speed.py loops      # by hand, by an expert, ganlab, ganlab trainer=fast: alternately, in one process
    python tests/benchmarks/speed.py levers     # what each of the expert's additions brings, alone
    python tests/benchmarks/speed.py memory     # the most that each loop takes, a process each
    python tests/benchmarks/speed.py runs       # whole commands: time to the first step, and where the time goes

prints Markdown. A ratio is one round's; beside the median stand the least and the greatest of the rounds, which hold the
true median with a confidence of 1 - 2^(1-rounds): 98 % for seven. The CPU's tables of 2 cores are in RESULTS.md.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning import seed_everything
from loops import DEVICE, NETWORKS, ByHand, Ganlab, Levers
from omegaconf import OmegaConf

from ganlab.config.resolvers import fast_precision
from ganlab.utils.library_warnings import silence_library_warnings

FAST = fast_precision(DEVICE.type)  # for images


def fast_on(data) -> str:
    """What trainer=fast computes in on this data."""
    return fast_precision(DEVICE.type, dim=data.shape[0] if len(data.shape) == 1 else None)


EXPERT = Levers(no_graph=True, one_pass=DEVICE.type == "cuda", fused=True, channels_last=True, bf16=FAST == "bf16-mixed")
LOOPS = {
    "by hand": lambda *networks: ByHand(*networks, Levers()),
    "expert": lambda *networks: ByHand(*networks, EXPERT),
    "ganlab": lambda *networks: Ganlab(*networks, "32-true"),
    "ganlab fast": lambda g, d, data: Ganlab(g, d, data, fast_on(data)),
}
if DEVICE.type == "cuda":
    LOOPS["ganlab fast, graphs"] = lambda g, d, data: Ganlab(g, d, data, fast_on(data), cuda_graphs=True)
RUNS = ("", "+experiment=ring", "+experiment=cgan_fashion")


def built(network: str, batch_size: int, loops: dict) -> dict:
    """The loops over networks of equal weights."""
    seed_everything(0, verbose=False)
    g, d, data = NETWORKS[network](batch_size)
    return {name: make(copy.deepcopy(g), copy.deepcopy(d), data) for name, make in loops.items()}


def in_turn(loops: dict, rounds: int, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Seconds per step of each loop in each round, and the steps of a round: about `seconds` of the first loop."""
    for loop in loops.values():
        loop.seconds(3)  # caches, threads, compilers
    first = next(iter(loops.values()))
    steps = max(3, round(seconds / (first.seconds(5) / 5)))
    taken = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            taken[name].append(loop.seconds(steps) / steps)
    return taken, steps


def ratio(base: list[float], other: list[float]) -> str:
    found = sorted(a / b for a, b in zip(base, other))
    return f"{statistics.median(found):.2f} [{found[0]:.2f}, {found[-1]:.2f}]"


def loops(options) -> None:
    print("| network | batch | by hand | " + " | ".join(f"{name} / by hand" for name in list(LOOPS)[1:]) + " |")
    print("|---|" + "---:|" * (1 + len(LOOPS)))
    for network in NETWORKS:
        for batch_size in options.batch:
            taken, _ = in_turn(built(network, batch_size, LOOPS), options.rounds, options.seconds)
            speed = batch_size / statistics.median(taken["by hand"])
            ratios = " | ".join(ratio(taken["by hand"], taken[name]) for name in list(LOOPS)[1:])
            print(f"| {network} | {batch_size} | {speed:,.0f} images/s | {ratios} |", flush=True)


def levers(options) -> None:
    alone = {field.name: Levers(**{field.name: True}) for field in dataclasses.fields(Levers)}
    makers = {"by hand": LOOPS["by hand"]} | {
        name: lambda *networks, lever=lever: ByHand(*networks, lever) for name, lever in alone.items()
    }
    makers |= {"ganlab": LOOPS["ganlab"], "ganlab, no table, no bar": lambda *p: Ganlab(*p, "32-true", silent=True)}
    if DEVICE.type == "cuda":
        makers["ganlab, graphs"] = lambda *networks: Ganlab(*networks, "32-true", cuda_graphs=True)
    networks = [name for name in NETWORKS if "DCGAN-28" in name or "ResNet" in name]
    found = {}
    for network in networks:
        taken, _ = in_turn(built(network, 64, makers), options.rounds, options.seconds)
        found[network] = {name: ratio(taken["by hand"], taken[name]) for name in makers}
    print("| speed beside by hand, batch 64 | " + " | ".join(networks) + " |")
    print("|---|" + "---:|" * len(networks))
    for name in list(makers)[1:]:
        print(f"| {name} | " + " | ".join(found[network][name] for network in networks) + " |")


def memory(options) -> None:
    print("| network, batch 64 | " + " | ".join(LOOPS) + " |")
    print("|---|" + "---:|" * len(LOOPS))
    for network in NETWORKS:
        peaks = [subprocess.check_output([sys.executable, __file__, "peak", network, name], text=True) for name in LOOPS]
        print(f"| {network} | " + " | ".join(f"{int(peak.split()[-1]) / 2**20:,.0f} MiB" for peak in peaks) + " |", flush=True)


def peak(options) -> None:
    """Bytes: on a GPU the most that tensors took, on a CPU what the process grew by over five steps."""
    loop = built(options.network, 64, {options.loop: LOOPS[options.loop]})[options.loop]
    before = resident()
    loop.seconds(5)
    print(torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else resident() - before)


def resident() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def runs(options) -> None:
    here = Path(__file__).parent.resolve()
    print(
        "| command | first step | in all | training | evaluation | its preparation | monitor | sample grids | a checkpoint | a step |"
    )
    print("|---|" + "---:|" * 9)
    for words in RUNS:
        folder = Path(tempfile.mkdtemp()) / "run"
        stopwatch = f"+callbacks.first={{_target_: loops.FirstStep, folder: '{folder}'}}"
        command = [sys.executable, "-m", "ganlab", *words.split(), "logger=csv", f"hydra.run.dir={folder}", stopwatch]
        began = time.time()
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(here)}, check=True, stdout=subprocess.DEVNULL)
        summary = json.loads((folder / "summary.json").read_text())
        spent, counters = summary["seconds"], summary["counters"]
        shares = " | ".join(
            f"{spent[part] / spent['total']:.1%}"
            for part in ("training", "evaluation", "evaluation_setup", "monitor", "sample_grid")
        )
        evaluations = math.ceil(counters["images_seen"] / OmegaConf.load(folder / "config.yaml").eval_every)
        first = float((folder / "first_step").read_text()) - began
        print(
            f"| `{' '.join(['python -m ganlab', *words.split()])}` | {first:.1f} s | {spent['total']:.0f} s | {shares} | "
            f"{1e3 * spent['checkpoints'] / evaluations:.0f} ms | {1e3 * spent['training'] / counters['d_updates']:.1f} ms |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = {function.__name__: function for function in (loops, levers, memory, runs, peak)}
    parser.add_argument("what", choices=verbs)
    parser.add_argument("network", nargs="?", help="for peak")
    parser.add_argument("loop", nargs="?", help="for peak")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each loop in each round, roughly")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    options = parser.parse_args()
    silence_library_warnings()
    if options.what != "peak":
        device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} threads"
        print(f"{platform.machine()}, {device}, torch {torch.__version__}, fast = {FAST}, {time.strftime('%Y-%m-%d')}\n")
    verbs[options.what](options)


if __name__ == "__main__":
    main()
