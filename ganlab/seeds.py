"""Many seeds of one run: how many fit into memory, and the summary of several ensembles."""

from __future__ import annotations

import csv
import io
import math
import statistics
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ganlab.files import write_json, write_whole
from ganlab.gan import GAN


def memory_per_copy(gan: GAN, datamodule) -> int:
    """Bytes that one copy takes while it trains, estimated: what grows with the number of copies.

    Weights, gradients, two moments and the moving average; twice what the dearer of the two turns keeps for its
    backward pass, for the gradients that flow there.
    """
    datamodule.prepare_data()
    datamodule.setup()
    real, y = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    weights = sum(p.nbytes for p in chain(gan.generator.parameters(), gan.discriminator.parameters()))
    average = sum(p.nbytes for p in gan.generator_ema.parameters())
    return 4 * weights + average + 2 * max(_kept(turn, real, y) for turn in (gan.discriminator_turn, gan.generator_turn))


def _kept(turn, real: Tensor, y: Tensor | None) -> int:
    """Bytes of the distinct tensors that autograd saves in a turn."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        kept_alive = turn(real, y)
    del kept_alive
    return sum(storages.values())


def available_memory(device: torch.device) -> int | None:
    """Bytes free on the device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def merge(folder: Path, parts: list[dict], failed: list[int]) -> dict:
    """One summary.json and one seeds.csv of the ensembles in the folders below; medians are taken over all seeds.

    `parts`: their summaries. `failed`: the seeds of ensembles of which no copy was left, and so no summary.
    """
    tables = [list(csv.DictReader(path.open())) for path in sorted(folder.glob("seeds_*/seeds.csv"))]
    rows = list(chain.from_iterable(tables))
    last = max(int(row["images_seen"]) for row in rows)
    rows += [{"images_seen": str(last), "seed": str(seed), "status": "failed"} for seed in failed]
    rows.sort(key=lambda row: (int(row["images_seen"]), int(row["seed"])))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(chain.from_iterable(rows))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "seeds.csv", table.getvalue())
    pictures = sorted(folder.glob("seeds_*/samples.png"))
    if pictures:
        (folder / "samples.png").write_bytes(pictures[0].read_bytes())

    final = {row["seed"]: row for row in rows}.values()
    names = [name for name in writer.fieldnames if name.startswith("quality/")]
    quality = {n: statistics.median(values) for n in names if (values := [float(r[n]) for r in final if r.get(n)])}
    objective = parts[0]["objective"]
    if objective:
        name = objective["name"]
        scores = [float(row[name]) if row.get(name) else math.inf for row in final]
        quality[name] = statistics.median(scores)  # a failed seed is no reason to prefer this setting
        objective = {"name": name, "value": quality[name], "best": min(p["objective"]["best"] for p in parts)}
    summary = parts[0] | {
        "seeds": sorted([*failed, *(seed for p in parts for seed in p["seeds"])]),
        "failed_seeds": sorted([*failed, *(seed for p in parts for seed in p["failed_seeds"])]),
        "quality": quality or None,
        "objective": objective,
        "seconds": {part: sum(p["seconds"].get(part) or 0 for p in parts) for part in parts[0]["seconds"]},
        "memory_bytes": max((p["memory_bytes"] for p in parts if p["memory_bytes"]), default=None),
        "parts": len(parts),
    }
    write_json(folder / "summary.json", summary)
    return summary
