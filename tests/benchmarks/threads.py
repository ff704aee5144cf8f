"""Measure what threads cost and gain: whole commands alone, beside two busy processes, and two copies at once.

    python tests/benchmarks/threads.py            # everything, with 1 and 2 threads: about an hour on two idle cores
    python tests/benchmarks/threads.py 5 ring     # five rounds of one run
    GOMP_SPINCOUNT=300000 python tests/benchmarks/threads.py     # with threads that spin longer while they wait

Prints the median seconds of each command over the rounds, the images/s of its training, and each median relative to the
same command alone with the threads that `ganlab.config.resolvers.threads` chooses. With `two copies`, the slower of both counts.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = {
    "default": [],
    "ring": ["+experiment=ring"],
    "fashion": ["+experiment=cgan_fashion", "max_images=60_000", "eval_every=30_000"],
    "ensemble": ["+experiment=ring", "seeds=10", "max_images=120_000", "eval_every=60_000"],
}
THREADS = (1, 2)
BUSY = "while True: pass"


def main(rounds: int = 3, *names: str) -> None:
    where = Path(tempfile.mkdtemp(prefix="threads_"))
    results: dict[tuple[str, str, int | None], list[tuple[float, float]]] = {}
    try:
        for number in range(rounds + 1):
            for name in names or RUNS:
                for threads in (None, *THREADS):
                    for situation in ("alone", "two busy processes", "two copies"):
                        if number == 0 and (situation, threads) != ("alone", None):
                            continue  # round 0 warms caches up: data, extractors
                        measured = measure(where, RUNS[name], threads, situation)
                        if number:
                            results.setdefault((name, situation, threads), []).append(measured)
    finally:
        shutil.rmtree(where, ignore_errors=True)
    print(f"{os.cpu_count()} cores, GOMP_SPINCOUNT={os.environ.get('GOMP_SPINCOUNT', 10000)}, {rounds} rounds, "
          f"{time.strftime('%Y-%m-%d')}\n\n| run | situation | threads | seconds | images/s | of alone |\n|---|---|---|---|---|---|")  # fmt: skip
    for (name, situation, threads), values in results.items():
        seconds, speed = (statistics.median(column) for column in zip(*values))
        alone = statistics.median(value for value, _ in results[name, "alone", None])
        print(f"| {name} | {situation} | {threads or 'chosen'} | {seconds:.1f} | {speed:,.0f} | {seconds / alone:.2f} |")


def measure(where: Path, words: list[str], threads: int | None, situation: str) -> tuple[float, float]:
    """Seconds of the whole command, and images/s of its training; of two copies, those of the slower one."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * (situation == "two busy processes"))]
    copies = [where / f"run{i}" for i in range(1 + (situation == "two copies"))]
    common = [*words, *([f"threads={threads}"] if threads else []), "logger=csv", f"data_dir={Path('data').resolve()}"]
    started = time.perf_counter()
    try:
        running = {
            folder: subprocess.Popen(
                [sys.executable, "-m", "ganlab", *common, f"hydra.run.dir={folder}"], stdout=subprocess.DEVNULL
            )
            for folder in copies
        }
        if any(process.wait() for process in running.values()):
            sys.exit(f"failed: {' '.join(common)}")
        seconds = time.perf_counter() - started
    finally:
        for process in busy:
            process.kill()
    speeds = [json.loads((folder / "summary.json").read_text())["images_per_second"] for folder in copies]
    for folder in copies:
        shutil.rmtree(folder)
    return seconds, min(speeds)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]), *sys.argv[2:])
