"""Which verdicts are active, for which ensemble members, and since when."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganlab.diagnostics.messages import MESSAGES
from ganlab.diagnostics.rules import FAILURES, FIRST_CHECK, NO_PATIENCE, PATIENCE, VERDICTS, WARM_UP


class VerdictHistory:
    """The verdicts on K members, of these seeds, or on a single GAN (K = 1).

    A verdict becomes active after PATIENCE consecutive checks in which its rule holds, and inactive after as many in which it
    does not; a verdict in NO_PATIENCE after one.

    HEALTHY is active after the warm-up while no failure is active or about to be.

    Attributes:
        active: verdict -> bool [K].
        streak: verdict -> number [K] of consecutive checks that contradict `active`.
        first_seen: verdict -> images seen [K] at the check that first saw it.
        entries: the changes so far, as `record` returns them.
    """

    def __init__(self, seeds: Sequence[int] | None = None):
        self.seeds = seeds
        self.members = len(seeds or [None])
        self.active = {name: torch.zeros(self.members, dtype=torch.bool) for name in VERDICTS}
        self.streak = {name: torch.zeros(self.members, dtype=torch.long) for name in VERDICTS}
        self.first_seen = {name: torch.zeros(self.members, dtype=torch.long) for name in VERDICTS}
        self.entries: list[dict] = []

    def update(self, holds: Mapping[str, Tensor], failed: Tensor, checks: int, images: int) -> list[str]:
        """Take in the result of a check and return the verdicts that changed.

        Args:
            holds: verdict -> bool [K], from `evaluate_rules`.
            failed: members with a non-finite loss, bool [K].
            checks: number of checks so far.
            images: images seen.
        """
        holds = {name: held & ~failed for name, held in holds.items()} | {"NON_FINITE": failed}
        holds["HEALTHY"] = ~torch.stack(list(holds.values())).any(0)
        changed = []
        for name, now in holds.items():
            active = self.active[name]
            differs = now != active
            self.first_seen[name] = torch.where(differs & ~active & (self.streak[name] == 0), images, self.first_seen[name])
            self.streak[name] = torch.where(differs, self.streak[name] + 1, 0)
            patience = 1 if name in NO_PATIENCE else PATIENCE
            flips = (self.streak[name] >= patience) & (checks >= FIRST_CHECK.get(name, WARM_UP))
            if name == "HEALTHY":  # comes last: an active failure ends it at once
                flips |= active & torch.stack([self.active[failure] for failure in FAILURES]).any(0)
            if flips.any():
                self.active[name] = active ^ flips
                self.streak[name] = torch.where(flips, 0, self.streak[name])
                changed.append(name)
        return changed

    def current(self) -> list[str]:
        """The verdicts that are active for any member: failures first, those of most members before the others."""
        active = [name for name in VERDICTS if self.active[name].any()]
        return sorted(active, key=lambda name: (name == "HEALTHY", -int(self.active[name].sum())))

    def numbers(self) -> dict[str, float]:
        """`verdict/<name>`: 0 or 1, or the share of the members for which it is active."""
        return {f"verdict/{name.lower()}": float(active.float().mean()) for name, active in self.active.items()}

    def record(self, name: str, images: int, numbers: Mapping[str, Tensor]) -> dict:
        """Append and return an entry for a verdict that changed, with its evidence (medians over the members concerned)."""
        active = self.active[name]
        concerned = active if active.any() else torch.ones_like(active)
        shown = [number for number in MESSAGES[name].evidence if number in numbers]
        entry = {
            "verdict": name,
            "active": bool(active.any()),
            "images_seen": images,
            "since": int(self.first_seen[name][concerned].min()),
            "evidence": {number: float(numbers[number][concerned].nanmedian()) for number in shown},
        }
        self.entries.append(entry if self.seeds is None else entry | {"seeds": self.active_seeds(name)})
        return self.entries[-1]

    def active_seeds(self, name: str) -> list[int]:
        """The seeds of an ensemble for which a verdict is active."""
        return [seed for seed, held in zip(self.seeds or [], self.active[name].tolist()) if held]

    def summary(self) -> dict:
        """For summary.json: `current`, `history`, and of an ensemble `seeds`: verdict -> seeds for which it is active."""
        summary = {"current": self.current(), "history": self.entries}
        return (
            summary if self.seeds is None else summary | {"seeds": {name: self.active_seeds(name) for name in self.current()}}
        )
