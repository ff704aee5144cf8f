"""Writes run directories as ganlab leaves them, without training, with results that a test chooses."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from PIL import Image, ImageDraw

from ganlab.runs.run_dir import RunDir

K, N, OFF_MODE = 8, 2500, 0.011108996538242306
NAMES = ("modes_2500", "high_quality_2500", "reverse_kl_2500", "kl_with_off_mode_2500")
FAMILY = {"minimax": "MinimaxGAN", "ns": "NonSaturatingGAN", "ls": "LSGAN", "wgan": "WGAN"}


def make_protocol(**changes) -> dict:
    return {
        "metric": "modes",
        "data": "Ring",
        "fingerprint": "ab" * 32,
        "samples": N,
        "modes": K,
        "std": 0.01,
        "high_quality": "within 3 std of the nearest center",
        "off_mode_mass": OFF_MODE,
    } | changes


def make_config(loss="ns", seed=1, seeds=None, ema=0.999, budget=60_000, folder="", **gan) -> dict:
    return {
        "name": f"ring-{loss}-seed{seed}",
        "seed": seed,
        "seeds": seeds,
        "data_dir": "data",
        "run_dir": str(folder),
        "max_images": budget,
        "eval_every": 20_000,
        "gan": {"_target_": f"ganlab.{FAMILY.get(loss, loss)}", "ema_decay": ema, "n_critic": 1, "pack": 1, **gan},
        "metrics": {"_target_": "ganlab.metrics.ToyQuality", "samples": N},
        "callbacks": {"sample_grid": {"run_dir": str(folder)}},
        "trainer": {"precision": "32-true", "accelerator": "cpu"},
        "logger": {"csv": {"run_dir": str(folder)}},
        "data": {"_target_": "ganlab.data.Ring", "num_classes": K, "std": 0.01, "dim": 2, "batch_size": 128,
                 "train_size": 100, "test_size": 100, "data_seed": 0},
    }  # fmt: skip


def scores(modes: float, kl: float) -> dict[str, float]:
    return dict(zip(NAMES, (modes, modes / 10, kl if modes else float("inf"), kl), strict=True))


def real_scores() -> dict[str, float]:
    return {f"quality/{k}": v for k, v in zip(NAMES, (8.0, 0.9889, 0.0014, 0.0016), strict=True)}


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_picture(path: Path, color: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (60, 60), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 40, 40), fill=color)
    image.save(path)


def write_config(folder: Path, config: dict, overrides: tuple[str, ...] = ()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    RunDir(folder).write_config(config)
    RunDir(folder).write_command(overrides)


def write_table(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(file.getvalue())


def write_run(folder: Path, evaluations: list[dict[str, float]] | None, *, loss="ns", seed=1, error: str | None = None,
              finished: bool = True, overrides: tuple[str, ...] = (), card: dict | None = None, pictures: bool = False,
              measured: dict | None = None, images_seen: int | None = None, **settings) -> Path:  # fmt: skip
    """Write a single run.

    Args:
        evaluations: its metrics at 20,000, 40,000 … images.
        error: what it failed of; None: it did not fail.
        images_seen: at its end; None: max_images, rounded up to whole batches.
    """
    config = make_config(loss, seed, folder=folder, **settings)
    write_config(folder, config, (f"loss={loss}", f"seed={seed}", *overrides))
    rows = [{"images_seen": 128, "d/loss": 1.4, "seconds": 0.01}]
    for i, values in enumerate(evaluations or [], 1):
        rows.append({"images_seen": 20_000 * i, **{f"quality/{k}": v for k, v in values.items()},
                     **{f"{k}_real": v for k, v in real_scores().items()}})  # fmt: skip
        rows.append({"images_seen": 20_000 * i + 128, "d/loss": 1.2, "seconds": 2.0 * i})
        if pictures:
            write_picture(folder / "samples" / f"{20_000 * i:010d}.png", ("red", "blue", "green")[i % 3])
    write_table(folder / "metrics.csv", rows)
    if pictures and evaluations:
        write_picture(folder / "samples.png")
    if error:
        summary = {"name": config["name"], "status": "failed", "error": error}
    else:
        last = {f"quality/{k}": finite(v) for k, v in evaluations[-1].items()} if evaluations else {}
        objective = "quality/kl_with_off_mode_2500"
        summary = {
            "name": config["name"], "status": "finished", "family": FAMILY.get(loss, loss), "seed": seed, "quality": last,
            "real": real_scores(), "objective": {"name": objective, "value": last.get(objective), "best": 0.0},
            "protocol": card or make_protocol(), "seconds": {"total": 6.5, "training": 5.5}, "images_per_second": 12_000.0,
            "counters": {"images_seen": images_seen or -(-config["max_images"] // 128) * 128},
            "ema_decay": config["gan"]["ema_decay"],
            "precision": "32-true", "device": "A processor, 2 threads", "versions": {"ganlab": "0.1.0", "torch": "2.11.0"},
            "command": ["ganlab", f"loss={loss}"],
        } | (measured or {})  # fmt: skip
    if finished or error:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_ensemble(folder: Path, finals: dict[int, dict[str, float] | None], *, loss="ns", finished: bool = True,
                   images_seen: int = 60_032, **settings) -> Path:  # fmt: skip
    """Write an ensemble: `finals` are its seeds' last metrics, at `images_seen` images; None: a seed whose loss was not finite."""
    config = make_config(loss, seeds=len(finals), folder=folder, **settings)
    write_config(folder, config, (f"loss={loss}", f"seeds={len(finals)}"))
    rows = []
    for at in (20_000, images_seen):
        for seed, final in finals.items():
            state = "failed" if final is None else "finished" if finished and at == images_seen else "training"
            values = {f"quality/{name}": "" if final is None else final[name] for name in NAMES}
            rows.append({"images_seen": at, "seconds": at / 1000, "seed": seed, "status": state, **values})
    write_table(folder / "seeds.csv", rows)
    write_table(folder / "metrics.csv", [{"images_seen": images_seen, "quality/modes_2500": 8, "quality/modes_2500_q1": 7}])
    if finished:
        good = next(final for final in finals.values() if final)
        summary = {
            "name": config["name"], "status": "finished", "seeds": list(finals), "real": real_scores(), "protocol": make_protocol(),
            "quality": {f"quality/{k}": finite(v) for k, v in good.items()}, "memory_bytes": 3 * 2**20,
            "objective": {"name": "quality/kl_with_off_mode_2500", "value": 0.1, "best": 0.1},
            "seconds": {"total": 45.0}, "images_per_second": 1000.0, "ema_decay": config["gan"]["ema_decay"],
            "precision": "32-true", "device": "A processor, 2 threads", "counters": {"images_seen": images_seen},
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder
