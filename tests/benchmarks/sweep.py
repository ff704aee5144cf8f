"""Kills a sweep of 40 jobs in its middle, among them five that crash, and lets it go on until it is complete.

    python tests/benchmarks/sweep.py [hydra/launcher=joblib hydra.launcher.n_jobs=2 …]

The jobs are small (a ring, width 8, 50 steps). Planted: a class that raises, one whose loss is not finite, one whose process ends
with os._exit, one that SIGKILL ends, and a setting that cannot be. Checked: every job is there, none that was over ran again, the
last table names each that failed and why, sweep.csv has 40 rows. Exit code 1 if something is not so.
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
import os
import signal
from ganlab.losses import NonSaturatingGAN

class Raises(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        raise RuntimeError("planted")

class NotFinite(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (real_logits * float("nan")).mean()

class Exits(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        os._exit(9)

class Killed(NonSaturatingGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        os.kill(os.getpid(), signal.SIGKILL)
"""
JOBS = [*(f"ganlab.NonSaturatingGAN seed={seed}" for seed in range(1, 36)),
        "planted.Raises", "planted.NotFinite", "planted.Exits", "planted.Killed", "ganlab.NonSaturatingGAN gan.n_critic=0"]  # fmt: skip
WHY = {"Raises": "planted", "NotFinite": "d/loss is nan", "Exits": "ended twice without a word", "Killed": "ended twice without a word",
       "n_critic=0": "gan.n_critic must be"}  # fmt: skip
TINY = ["logger=csv", "trainer=cpu", "data=ring", "loss=ns", "data.train_size=400", "data.test_size=50", "data.batch_size=16",
        "networks.hidden=[8,8]", "metrics.samples=50", "monitor=[]", "max_images=800", "eval_every=400"]  # fmt: skip


def main(launcher: list[str]) -> None:
    where = Path(tempfile.mkdtemp(prefix="sweep_"))
    (where / "planted.py").write_text(CLASSES)
    (where / "conf" / "job").mkdir(parents=True)
    order = [JOBS[i * 7 % 40] for i in range(40)]  # the planted ones lie among the others
    for number, words in enumerate(order):
        target, *rest = words.split()
        settings = {"gan": {"_target_": target}}
        for word in rest:
            key, _, value = word.partition("=")
            part, _, name = key.rpartition(".")
            (settings.setdefault(part, {}) if part else settings)[name] = int(value)
        (where / "conf" / "job" / f"{number:02d}.yaml").write_text("# @package _global_\n" + json.dumps(settings))
    numbers = ",".join(f"'{number:02d}'" for number in range(40))
    sweep = where / "sweep"
    command = ["-m", f"--config-dir={where / 'conf'}", *launcher, *TINY, f"+job={numbers}", f"hydra.sweep.dir={sweep}"]
    command += ["hydra.sweep.subdir=${hydra:runtime.choices.job}"]

    lives = [life(command, where, kill_at=8)]
    while len(lives) < 9:
        before = over(sweep)
        lives.append(life([f"resume={sweep}", f"trust=planted,{where / 'conf'}"], where))
        if again := [job for job, at in before.items() if over(sweep)[job] != at]:
            sys.exit(f"these were over and ran again: {again}")
        if "jobs failed; see the table above" in lives[-1][1]:
            break
    code, text = lives[-1]
    rows = {row["folder"]: row for row in csv.DictReader((sweep / "sweep.csv").open())}
    print(f"\n{'life':>4} {'code':>5} {'over':>5}")
    print("\n".join(f"{n:>4} {code:>5} {text.count(' is finished already'):>5}" for n, (code, text) in enumerate(lives, 1)))
    wrong = []
    if len(rows) != 40 or sorted(rows) != [f"{n:02d}" for n in range(40)]:
        wrong.append(f"sweep.csv has {len(rows)} rows")
    finished = [folder for folder, row in rows.items() if row["status"] == "finished"]
    if len(finished) != 35:
        wrong.append(f"{len(finished)} jobs finished, not 35")
    if code != 1 or "5 of 40 jobs failed" not in text:
        wrong.append(f"the last exit code is {code}, and the end does not say that 5 of 40 jobs failed")
    for name, why in WHY.items():
        place = next(n for n, words in enumerate(order) if name in words)
        status = "refused" if name == "n_critic=0" else "failed"
        told = [line for line in text.splitlines() if line.startswith(f"{status} {place:02d}: ")]
        print(*told, sep="\n")
        if len(told) != 1 or why not in told[0]:
            wrong.append(f"the table does not say why {name} failed")
    print(*wrong or ["35 of 40 jobs finished, five failed and say why; nothing that was over ran again"], sep="\n")
    sys.exit(1 if wrong else 0)


def life(words: list[str], where: Path, kill_at: int | None = None) -> tuple[int, str]:
    """Runs the sweep in a process of its own, killed once so many jobs are over; exit code and what it printed."""
    began = time.perf_counter()
    log = where / "log"
    path = os.pathsep.join([str(where), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "ganlab", *words], cwd=where, stdout=file, stderr=subprocess.STDOUT,
                                   env=os.environ | {"PYTHONPATH": path}, start_new_session=True)  # fmt: skip
        while process.poll() is None and (kill_at is None or len(over(where / "sweep")) < kill_at):
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    print(f"{' '.join(words[:2])} … ended with {code} after {time.perf_counter() - began:.0f} s")
    return code, log.read_text()


def over(sweep: Path) -> dict[str, int]:
    """The jobs that finished or became infinite, with the times of their summaries."""
    found = {}
    for path in sweep.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        if summary["status"] == "finished" or summary.get("error_type") == "FloatingPointError":
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
