"""The callback that probes a run and reports its verdicts."""

import logging
from collections.abc import Mapping

import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from ganlab.callbacks.extras import attempt
from ganlab.callbacks.periodic import MaxImages, Periodic, find_callback
from ganlab.callbacks.train_metrics import median_and_quartiles
from ganlab.diagnostics.held_out import HeldOut
from ganlab.diagnostics.history import VerdictHistory
from ganlab.diagnostics.messages import new_suggestions, verdict_line, verdict_text
from ganlab.diagnostics.probes import probe, probe_memorization, probe_movement
from ganlab.diagnostics.rules import MAX_ROWS, RARE_NUMBERS, RULES, evaluate_rules, evidence, load_thresholds
from ganlab.utils.validation import validate_int

log = logging.getLogger(__name__)

ACTIONS = ("log", "warn", "stop")


def parse_actions(on_verdict: str | Mapping[str, str | None]) -> dict[str, str]:
    """Return verdict -> action, from one action for all, or actions by verdict (lower case, None: the default) and `default`.

    NON_FINITE is not among them: it ends a run anyway.

    Raises:
        ValueError: an action other than log, warn or stop, or an unknown verdict.
    """
    chosen = {"default": on_verdict} if isinstance(on_verdict, str) else dict(on_verdict)
    names = [name.lower() for name in RULES]
    for name, action in chosen.items():
        if name != "default" and name not in names:
            raise ValueError(f"monitor.on_verdict has no verdict {name}; choose from {', '.join(names)}, or default for all")
        if action is not None and action not in ACTIONS:
            raise ValueError(f"monitor.on_verdict.{name} must be log, warn or stop, got {action!r}")
    return {name: chosen.get(name.lower()) or chosen.get("default") or "warn" for name in RULES}


class Monitor(Periodic):
    """Check a run for failures every `every` updates of D.

    Each check logs the probes as `probe/<name>` and the verdicts as `verdict/<name>` (0 or 1; of an ensemble the share of
    its members). A verdict that changes is logged with its evidence and what to try, and kept for summary.json. Training is
    not affected. All processes run the checks, so that they agree on stopping; the first one logs.

    Args:
        memorization_every: images between two checks for memorization, which read the whole training set; the last check
            is always one.
        on_verdict: what a failure does: "log"; "warn": log a warning and send a W&B alert; "stop": also end the run after
            this batch (an ensemble once every member has failed or has such a verdict). Or actions by verdict, see
            `parse_actions`.
        seed: of the held-out samples, the latents and the probes' random numbers.

    Attributes:
        verdicts: what summary.json holds: `current`, `history`, and of an ensemble `seeds`.
        stopped_by: the verdict that ended the run, or None.
    """

    extra = collective = True  # collective: its processes agree on stopping
    saved = (*Periodic.saved, "rows", "checks", "memorization_checked_at", "previous_samples", "stopped_by")

    def __init__(self, every: int, memorization_every: int, on_verdict: str | Mapping[str, str | None] = "warn", seed: int = 0):
        super().__init__(validate_int("monitor.every", every))
        self.memorization_every = validate_int("memorization_every", memorization_every)
        self.actions, self.seed = parse_actions(on_verdict), seed
        self.thresholds = load_thresholds()
        self.rows: list[dict[str, Tensor]] = []
        self.checks, self.memorization_checked_at = 0, 0
        self.previous_samples: Tensor | None = None
        self.history: VerdictHistory | None = None
        self.stopped_by: str | None = None

    def count(self, gan) -> int:
        return gan.d_updates

    @property
    def verdicts(self) -> dict | None:
        return None if self.history is None else self.history.summary()

    def state_dict(self):
        return super().state_dict() | {"history": vars(self.history)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.history = VerdictHistory()
        vars(self.history).update(state["history"])

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        self.held_out = HeldOut(gan, trainer.datamodule, self.seed)
        if self.history is None:
            self.history = VerdictHistory(gan.seeds)
        self._at_end = False
        if self.stopped_by is not None and self.actions[self.stopped_by] != "stop":
            self.stopped_by = None  # resumed to go on
        trainer.should_stop |= self.stopped_by is not None  # resumed after a kill between stopping and writing its summary

    def on_train_end(self, trainer, gan):
        self._at_end = True
        super().on_train_end(trainer, gan)

    def on_exception(self, trainer, gan, exception):
        if isinstance(exception, FloatingPointError) and self.history is not None:
            self._update_verdicts(trainer, gan, torch.ones(self.history.members, dtype=torch.bool))

    def run(self, trainer, gan):
        budget = find_callback(trainer, MaxImages)
        is_last = self._at_end or (budget is not None and gan.images_seen >= budget.images)
        numbers = self._probe(gan, with_memorization=is_last)
        last_row = self.rows[-1] if self.rows else {}
        carried = {name: last_row[name] for name in RARE_NUMBERS if name in last_row}
        self.rows = [*self.rows, carried | numbers][-MAX_ROWS:]
        self.checks += 1
        failed = gan.failed.cpu() if gan.seeds is not None else torch.zeros(1, dtype=torch.bool)
        self._update_verdicts(trainer, gan, failed)
        row = {}
        for name, values in numbers.items():
            row |= median_and_quartiles(f"probe/{name}", values if gan.seeds is not None else values[0])
        for logger in trainer.loggers:
            logger.log_metrics(row | self.history.numbers(), step=gan.images_seen)
        if not is_last:
            self._stop_if_requested(trainer, gan, failed)

    def _probe(self, gan, with_memorization: bool) -> dict[str, Tensor]:
        numbers, samples = probe(gan, self.held_out, self.seed)
        if self.previous_samples is not None:
            numbers |= probe_movement(self.held_out, self.previous_samples.to(samples.device), samples)
        self.previous_samples = samples
        if with_memorization or gan.images_seen - self.memorization_checked_at >= self.memorization_every:
            numbers["memorization"] = probe_memorization(self.held_out, gan, self.seed)
            self.memorization_checked_at = gan.images_seen
        return numbers

    def _update_verdicts(self, trainer, gan, failed):
        """Evaluate the rules, and record and log the verdicts that changed."""
        numbers = evidence(self.rows) if self.rows else {}
        holds = evaluate_rules(numbers, gan.template.requires_lipschitz, self.thresholds) if numbers else {}
        for name in self.history.update(holds, failed, self.checks, gan.images_seen):
            entry = self.history.record(name, gan.images_seen, numbers)
            is_image = self.held_out.step_real.ndim == 4
            entry["suggestions"] = new_suggestions(name, gan.template, trainer.optimizers, images=is_image)
            if trainer.is_global_zero:
                self._report(trainer, name, entry)

    def _report(self, trainer, name, entry):
        """Log a change: in full the first time, later in one line."""
        is_first = sum(other["verdict"] == name for other in self.history.entries) == 1
        if name == "HEALTHY" and (not entry["active"] or not is_first):
            return  # the failure that ended it is logged
        text = (verdict_text if is_first else verdict_line)(name, entry, self.history.members)
        is_warning = entry["active"] and name != "HEALTHY" and self.actions.get(name, "warn") != "log"
        log.log(logging.WARNING if is_warning else logging.INFO, f"{entry['images_seen']:>11,} images   {text}")
        if is_warning and is_first:
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    attempt("W&B's alert", lambda run: run.alert(title=f"{name} ({run.name})", text=text), logger.experiment)

    def _stop_if_requested(self, trainer, gan, failed):
        stopping = {name: self.history.active[name] for name, action in self.actions.items() if action == "stop"}
        is_done = torch.stack([*stopping.values(), failed]).any(0).all()
        if trainer.strategy.broadcast(bool(is_done)):
            self.stopped_by = max(stopping, key=lambda name: int(stopping[name].sum()))
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.warning(f"{gan.images_seen:>11,} images   stopped by monitor.on_verdict: {self.stopped_by}")
