"""Watches a run: probes at regular looks, verdicts in words when they change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

import torch
from lightning.pytorch.loggers import WandbLogger

from ganlab.callbacks.periodic import MaxImages, Periodic, find_callback
from ganlab.callbacks.train_metrics import median_and_quartiles
from ganlab.diagnostics.held_out import held_out
from ganlab.diagnostics.history import VerdictHistory
from ganlab.diagnostics.messages import WORDS
from ganlab.diagnostics.probes import of_the_memory, of_the_movement, probe
from ganlab.diagnostics.rules import FAILURES, KEPT_ROWS, SELDOM, evaluate_rules, evidence, thresholds
from ganlab.diagnostics.suggestions import news
from ganlab.utils.validation import validate_int

log = logging.getLogger(__name__)

KEPT = ("rows", "looks", "remembered_at", "moving")  # in a checkpoint, beside the history
ACTIONS = ("log", "warn", "stop")
ACTING = tuple(name for name in FAILURES if name != "NON_FINITE")  # that one stops a run by itself


def actions(on_verdict: str | Mapping[str, str | None]) -> dict[str, str]:
    """What to do at each failure, from one word for all, or a `default` and words for some.

    Raises:
        ValueError: a word other than log, warn or stop, or a verdict that does not exist.
    """
    chosen = {"default": on_verdict} if isinstance(on_verdict, str) else dict(on_verdict)
    names = [name.lower() for name in ACTING]
    for name, action in chosen.items():
        if name != "default" and name not in names:
            raise ValueError(f"monitor.on_verdict knows no {name}; choose from {', '.join(names)}, or default for all")
        if action is not None and action not in ACTIONS:
            raise ValueError(f"monitor.on_verdict.{name} must be log, warn or stop, got {action!r}")
    return {name: chosen.get(name.lower()) or chosen.get("default") or "warn" for name in ACTING}


class Monitor(Periodic):
    """Every `every` updates of D: the probes of `ganlab.diagnostics`, logged as `probe/<name>`, and what follows from them.

    Verdicts are logged as `verdict/<name>` (0 or 1; of an ensemble, the share of its copies), told in the log when they
    change, sent to W&B as an alert, and kept for summary.json. `on_verdict`: "log" tells, "warn" tells as a warning and
    alerts, "stop" also ends the run at the end of this batch (an ensemble when no copy is left without such a verdict).
    Memorizing is looked for every `memory_every` images and at the end, since it reads the whole training set.

    Looking does not change training. Every process looks, so that they agree; the first one speaks.

    `verdicts` is what summary.json holds.
    """

    def __init__(self, every: int, memory_every: int, on_verdict: str | Mapping[str, str | None] = "warn", seed: int = 0):
        super().__init__(validate_int("monitor.every", every))
        self.memory_every, self.seed = validate_int("monitor.memory_every", memory_every), seed
        self.actions = actions(on_verdict)
        self.limits = thresholds()
        self.rows: list[dict] = []
        self.looks, self.remembered_at = 0, 0
        self.moving: torch.Tensor | None = None
        self.history: VerdictHistory | None = None
        self._resumed_ledger: dict | None = None
        self.stopped_by: str | None = None

    def count(self, gan) -> int:
        return gan.d_updates

    @property
    def verdicts(self) -> dict | None:
        return self.history and self.history.summary(self.seeds)

    def state_dict(self):
        kept = {name: getattr(self, name) for name in KEPT}
        return super().state_dict() | kept | {"history": self.history.state_dict(), "stopped_by": self.stopped_by}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        for name in KEPT:
            setattr(self, name, state[name])
        self._resumed_ledger = state["history"]
        self.stopped_by = state.get("stopped_by")  # absent from checkpoints of older versions

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        self.seeds = gan.seeds
        self.lipschitz = gan.template.requires_lipschitz
        self.held = held_out(gan, trainer.datamodule, self.seed)
        self.history = VerdictHistory(len(gan.seeds or [gan]))
        if self._resumed_ledger is not None:
            self.history.load_state_dict(self._resumed_ledger)
            self._resumed_ledger = None
        if self.moving is not None:
            self.moving = self.moving.to(gan.device)
        if self.stopped_by:  # and killed before its summary
            trainer.should_stop = True

    def on_train_end(self, trainer, gan):
        if self.last_run_at < self.count(gan):
            self._timed_run(trainer, gan, last=True)

    def on_exception(self, trainer, gan, exception):
        if isinstance(exception, FloatingPointError) and self.history is not None:
            self._judge(trainer, gan, torch.ones(self.history.copies, dtype=torch.bool))
            exception.verdicts = self.verdicts  # for the summary of a failed run

    def _timed_run(self, trainer, gan, last: bool = False):
        budget = find_callback(trainer, MaxImages)
        self.last = last or (budget is not None and gan.images_seen >= budget.images)
        super()._timed_run(trainer, gan)

    def run(self, trainer, gan):
        numbers, moving = probe(gan, self.held, self.seed)
        if self.moving is not None:
            numbers |= of_the_movement(self.held, self.moving, moving)
        self.moving = moving
        if self.last or gan.images_seen - self.remembered_at >= self.memory_every:
            numbers["nearer"] = of_the_memory(self.held, gan, self.seed)
            self.remembered_at = gan.images_seen
        before = self.rows[-1] if self.rows else {}
        kept = {name: before[name] for name in SELDOM if name in before}
        self.rows = [*self.rows, kept | numbers][-KEPT_ROWS:]
        self.looks += 1
        failed = gan.failed.cpu() if gan.seeds is not None else torch.zeros(1, dtype=torch.bool)
        self._judge(trainer, gan, failed)
        row = {}
        for name, values in numbers.items():
            row |= median_and_quartiles(f"probe/{name}", values if gan.seeds is not None else values[0])
        for logger in trainer.loggers:
            logger.log_metrics(row | self.history.numbers(), step=gan.images_seen)
        self._stop_if_asked(trainer, gan, failed)

    def _judge(self, trainer, gan, failed):
        """Asks the rules, and tells what changed."""
        numbers = evidence(self.rows) if self.rows else {}
        found = evaluate_rules(numbers, self.lipschitz, self.limits) if numbers else {}
        for name in self.history.update(found, failed, self.looks, gan.images_seen):
            entry = self.history.note(name, gan.images_seen, numbers, gan.seeds)
            entry["tries"] = news(name, gan.template, trainer.optimizers, images=self.held.real.ndim == 4)
            if trainer.is_global_zero:
                self._tell(trainer, name, entry)

    def _tell(self, trainer, name: str, entry: dict) -> None:
        """In full the first time, later in a line."""
        first = sum(other["verdict"] == name for other in self.history.history) == 1
        if name == "HEALTHY" and (not entry["active"] or not first):
            return  # whatever took its place is told
        text = told(name, entry, self.history.copies)
        if not first:
            text = text.partition("\n")[0]
        loud = entry["active"] and name != "HEALTHY" and self.actions.get(name, "warn") != "log"
        log.log(logging.WARNING if loud else logging.INFO, f"{entry['images_seen']:>11,} images   {text}")
        if loud and first:
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    with suppress(Exception):  # the next row says what is the matter with W&B
                        logger.experiment.alert(title=f"{name} ({logger.experiment.name})", text=text)

    def _stop_if_asked(self, trainer, gan, failed) -> None:
        asked = {name: self.history.active[name] for name, action in self.actions.items() if action == "stop"}
        done = torch.stack([*asked.values(), failed]).any(0)
        stop = bool(asked) and bool(done.all()) and not bool(failed.all())
        if trainer.strategy.broadcast(stop) and not self.last:
            self.stopped_by = max(asked, key=lambda name: int(asked[name].sum()))
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.warning(f"{gan.images_seen:>11,} images   stopped by monitor.on_verdict: {self.stopped_by}")


def told(name: str, entry: dict, copies: int = 1) -> str:
    """A verdict in words: what, since when, the evidence, the meaning, and what to try."""
    if not entry["active"] or name == "HEALTHY":
        return in_a_line(name, entry, copies)
    words = WORDS[name]
    lines = [
        in_a_line(name, entry, copies),
        words.meaning,
        *(f"try {override}   {what}" for what, override in words.tries if override in entry["tries"]),
    ]
    return "\n                     ".join(lines)


def in_a_line(name: str, entry: dict, copies: int = 1) -> str:
    seeds = entry.get("seeds")
    of = f" in {len(seeds)} of {copies} seeds ({listed(seeds)})" if seeds else ""
    if not entry["active"]:
        return f"no longer {name}"
    since = "" if name == "HEALTHY" else f", since {entry['since']:,} images"
    values = ", ".join(f"{number} {value:.3g}" for number, value in entry["evidence"].items())
    return f"{name}{of}{since}: {values}"


def listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
