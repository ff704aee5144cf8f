"""Kill a sweep of 38 jobs, three of which fail, and resume it until it is complete.

    python tests/benchmarks/sweep.py [hydra/launcher=joblib hydra.launcher.n_jobs=2 …]

The jobs are small (a ring, width 8, 50 steps). Planted: a class that raises, one whose loss is not finite, and an invalid
setting. Checks that every job is there, that no complete one ran again, that the last table names each failed one and why, and
that sweep.csv has 38 rows. Exit code 1 if one check fails.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = """
from ganlab.losses import NonSaturatingGAN

class Raises(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        raise RuntimeError("planted")

class NotFinite(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (real_logits * float("nan")).mean()
"""
JOBS = [*(f"ganlab.NonSaturatingGAN seed={seed}" for seed in range(1, 36)),
        "planted.Raises", "planted.NotFinite", "ganlab.NonSaturatingGAN gan.n_critic=0"]  # fmt: skip
WHY = {"Raises": "planted", "NotFinite": "d/loss is nan", "n_critic=0": "gan.n_critic must be"}  # fmt: skip
TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=400", "data.test_size=50", "data.batch_size=16",
        "networks.hidden=[8,8]", "metrics.samples=50", "monitor=[]", "max_images=800", "eval_every=400"]  # fmt: skip


def main(launcher: list[str]) -> None:
    where = Path(tempfile.mkdtemp(prefix="sweep_"))
    (where / "planted.py").write_text(CLASSES)
    (where / "conf" / "job").mkdir(parents=True)
    order = [JOBS[i * 7 % 38] for i in range(38)]  # the failing ones among the others
    for number, words in enumerate(order):
        target, *rest = words.split()
        settings = {"gan": {"_target_": target}}
        for word in rest:
            key, _, value = word.partition("=")
            part, _, name = key.rpartition(".")
            (settings.setdefault(part, {}) if part else settings)[name] = int(value)
        (where / "conf" / "job" / f"{number:02d}.yaml").write_text("# @package _global_\n" + json.dumps(settings))
    numbers = ",".join(f"'{number:02d}'" for number in range(38))
    sweep = where / "sweep"
    command = ["-m", f"--config-dir={where / 'conf'}", *launcher, *TINY, f"+job={numbers}", f"hydra.sweep.dir={sweep}"]
    command += ["hydra.sweep.subdir=${hydra:runtime.choices.job}"]

    runs = [run_sweep(command, where, kill_at=8)]
    while len(runs) < 9:
        before = complete(sweep)
        runs.append(run_sweep([f"resume={sweep}", f"trust=planted,{where / 'conf'}"], where))
        if again := [job for job, at in before.items() if complete(sweep)[job] != at]:
            sys.exit(f"these were complete and ran again: {again}")
        if "jobs failed; see the table above" in runs[-1][1]:
            break
    code, text = runs[-1]
    rows = {row["folder"]: row for row in csv.DictReader((sweep / "sweep.csv").open())}
    print(f"\n{'run':>4} {'code':>5} {'complete':>9}")
    print("\n".join(f"{n:>4} {code:>5} {text.count(' is finished already'):>5}" for n, (code, text) in enumerate(runs, 1)))
    wrong = []
    if len(rows) != 38 or sorted(rows) != [f"{n:02d}" for n in range(38)]:
        wrong.append(f"sweep.csv has {len(rows)} rows")
    finished = [folder for folder, row in rows.items() if row["status"] == "finished"]
    if len(finished) != 35:
        wrong.append(f"{len(finished)} jobs finished, not 35")
    if code != 1 or "3 of 38 jobs failed" not in text:
        wrong.append(f"the last exit code is {code}, and the end does not say that 3 of 38 jobs failed")
    for name, why in WHY.items():
        place = next(n for n, words in enumerate(order) if name in words)
        status = "refused" if name == "n_critic=0" else "failed"
        told = [line for line in text.splitlines() if line.startswith(f"{status} {place:02d}: ")]
        print(*told, sep="\n")
        if len(told) != 1 or why not in told[0]:
            wrong.append(f"the table does not say why {name} failed")
    print(*wrong or ["35 of 38 jobs finished, three failed and say why; no complete job ran again"], sep="\n")
    sys.exit(1 if wrong else 0)


def run_sweep(words: list[str], where: Path, kill_at: int | None = None) -> tuple[int, str]:
    """Run the sweep in its own process, killed once `kill_at` jobs are complete; its exit code and what it printed."""
    began = time.perf_counter()
    log = where / "log"
    path = os.pathsep.join([str(where), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "ganlab", *words], cwd=where, stdout=file, stderr=subprocess.STDOUT,
                                   env=os.environ | {"PYTHONPATH": path}, start_new_session=True)  # fmt: skip
        while process.poll() is None and (kill_at is None or len(complete(where / "sweep")) < kill_at):
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    print(f"{' '.join(words[:2])} … ended with {code} after {time.perf_counter() - began:.0f} s")
    return code, log.read_text()


def complete(sweep: Path) -> dict[str, int]:
    """The jobs that finished or became non-finite, with the times of their summaries."""
    found = {}
    for path in sweep.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        if summary["status"] == "finished" or summary.get("error_type") == "FloatingPointError":
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
