"""A run's summary: what `summary.json` holds, and the table at the end of the terminal's output."""

import math
import platform
import re
import resource
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from rich.console import Console
from rich.table import Table

from ganlab.callbacks import Evaluation, Periodic, TrainMetrics
from ganlab.callbacks.extras import failed_extras
from ganlab.callbacks.periodic import find_callback
from ganlab.diagnostics import Monitor
from ganlab.diagnostics.messages import verdict_line
from ganlab.models.adversarial import AdversarialModule
from ganlab.runs.resume import TRAINER_LIMITS
from ganlab.runs.run_dir import RunDir
from ganlab.utils.errors import describe_error
from ganlab.utils.statistics import percent

PACKAGES = ("ganlab", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")


def summarize(config: dict, gan: AdversarialModule, trainer: Trainer, seconds: float) -> dict:
    """What a finished run reports: quality beside what real data scores, protocol, verdicts, counters, times, versions.

    Args:
        seconds: of this process, from its start; those of the processes before a resume are added.

    Returns:
        plain values for JSON; what does not exist is None.
    """
    quality, record = find_callback(trainer, Evaluation), find_callback(trainer, TrainMetrics)
    monitor = find_callback(trainer, Monitor)
    periodic = {snake_case(c.__class__.__name__): c.seconds for c in trainer.callbacks if isinstance(c, Periodic)}
    return {
        "name": config["name"],
        "status": "finished",
        "family": gan.family,
        "seed": config["seed"],
        "seeds": gan.seeds,
        "ended_by": ended_by(config, gan, trainer.callbacks),
        "failed_seeds": [s for s, failed in zip(gan.seeds, gan.failed.tolist()) if failed] if gan.seeds else [],
        "quality": quality and quality.latest,
        "real": quality and {f"quality/{name}": value for name, value in quality.metric.real_scores.items()},
        "objective": quality and {"name": quality.objective, "value": quality.latest[quality.objective], "best": quality.best},
        "protocol": quality and quality.metric.protocol,
        "verdicts": monitor and monitor.verdicts,
        "switched_off": failed_extras([*trainer.callbacks, *trainer.loggers]),
        "counters": gan.get_extra_state(),
        "seconds": {
            "total": seconds + (record.seconds_before_resume if record else 0),
            "training": record and record.training_seconds,
            **periodic,
        }
        | ({"evaluation_setup": quality.setup_seconds} if quality else {}),
        "images_per_second": record and record.images / record.training_seconds,
        "memory_bytes": peak_memory(trainer),
        "ema_decay": gan.ema_decay,
        "precision": str(trainer.precision),
        "device": device_name(trainer),
        "processes": trainer.world_size,
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        "command": ["ganlab", *sys.argv[1:]],
    }


def summarize_failure(config: dict, trainer: Trainer, error: Exception) -> dict:
    """What a run reports that ended with an error after it had trained."""
    monitor = find_callback(trainer, Monitor)
    return {
        "name": config["name"],
        "status": "failed",
        "error": describe_error(error),
        "error_type": type(error).__name__,
        "verdicts": monitor and monitor.verdicts,
    }


def ended_by(config: dict, gan, callbacks: Sequence[Callback]) -> str | None:
    """What ended the run short of max_images: a verdict, the trainer's limits, or another callback; None if nothing did."""
    if gan.images_seen >= config["max_images"]:
        return None
    for callback in callbacks:
        if isinstance(callback, Monitor) and callback.stopped_by:
            return callback.stopped_by
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return f"EarlyStopping on {callback.monitor}"
    limits = {key: config["trainer"].get(key) for key in TRAINER_LIMITS}
    typed = [f"trainer.{key}={limit}" for key, limit in limits.items() if limit not in (None, False, -1)]
    return " or ".join(typed) or "a callback"


def device_name(trainer) -> str:
    """The accelerator's own name, or the processor's with its threads."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    threads = torch.get_num_threads()
    return f"{model}, {threads} thread{'s' * (threads > 1)}"


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def peak_memory(trainer: Trainer) -> int:
    """Bytes: the most that tensors took on a GPU; on a CPU, the most that this process took."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def print_summary(summary: dict, run_dir: RunDir) -> None:
    """Print the table of a run's quality, its verdicts, and what it took."""
    console = Console(highlight=False, markup=False)  # a name may hold square brackets
    if summary["quality"]:
        console.print(_quality_table(summary))
    for line in active_verdicts(summary):
        console.print(line, soft_wrap=True)
    seeds, seconds, counters = summary["seeds"], summary["seconds"], summary["counters"]
    early = f" (ended by {summary['ended_by']})" if summary["ended_by"] else ""
    share = {part: percent(seconds.get(part, 0) / seconds["total"]) for part in ("evaluation", "evaluation_setup")}
    console.print(
        f"{counters['images_seen']:,} images{early}, {counters['d_updates']:,} D and {counters['g_updates']:,} G updates "
        f"{'of each seed ' if seeds else ''}in {seconds['total']:.0f} s; "
        f"{summary['images_per_second'] or math.nan:,.0f} images/s while training{' over all seeds' if seeds else ''}\n"
        f"evaluation took {share['evaluation']} % of the time, its preparation {share['evaluation_setup']} %\n"
        + (f"samples      {run_dir.samples_file}\n" if run_dir.samples_file.is_file() else "")
        + f"everything   {run_dir.path}",
        soft_wrap=True,
    )


def _quality_table(summary: dict) -> Table:
    seeds = summary["seeds"]
    table = Table(title=f"{summary['name']} ({summary['family']})", title_justify="left")
    generator = "averaged generator" if summary["ema_decay"] else "generator"
    reference = (summary["protocol"] or {}).get("reference")
    table.add_column(f"quality of the {generator}" + (f" on the {reference}" if reference else ""))
    table.add_column(f"median of {len(seeds) - len(summary['failed_seeds'])} seeds" if seeds else "value", justify="right")
    table.add_column("real data", justify="right", style="dim")
    for name, value in summary["quality"].items():
        real = summary["real"].get(name)
        table.add_row(name.removeprefix("quality/"), f"{value:.4g}", "" if real is None else f"{real:.4g}")
    return table


def active_verdicts(summary: dict) -> list[str]:
    """A line for each verdict that holds at the end, with its evidence and what to try."""
    verdicts = summary.get("verdicts")
    if not verdicts:
        return []
    latest = {entry["verdict"]: entry for entry in verdicts["history"] if entry["active"]}
    lines = []
    for name in verdicts["current"]:
        suggestions = " or ".join(latest[name]["suggestions"])
        lines.append(
            verdict_line(name, latest[name], len(summary["seeds"] or [1])) + (f"; try {suggestions}" if suggestions else "")
        )
    return lines or ["no verdict: the run was too short to judge, or was changing at its end"]
