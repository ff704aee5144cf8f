"""Which verdicts stand, for which copies, since when: patience, and what is told when something changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganlab.diagnostics.messages import WORDS
from ganlab.diagnostics.rules import AT_ONCE, EARLIEST, FAILURES, PATIENCE, VERDICTS, WARM_UP


class VerdictHistory:
    """The verdicts on K copies. A verdict is given after two looks in a row that find it, and taken back likewise; one
    whose number is measured at long intervals after one.

    `standing`: verdict -> bool [K]. `since`: verdict -> images seen [K] at the look that first found it, as it stands.
    HEALTHY: old enough, and none of the failures stands or is about to; the first that is given takes it back.
    """

    def __init__(self, copies: int):
        self.copies = copies
        self.active = {name: torch.zeros(copies, dtype=torch.bool) for name in VERDICTS}
        self.streak = {name: torch.zeros(copies, dtype=torch.long) for name in VERDICTS}  # of looks that disagree
        self.first = {name: torch.zeros(copies, dtype=torch.long) for name in VERDICTS}
        self.history: list[dict] = []

    def state_dict(self) -> dict:
        return {
            "standing": self.active,
            "streak": self.streak,
            "first": self.first,
            "history": self.history,
        }

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def update(self, found: Mapping[str, Tensor], failed: Tensor, looks: int, images: int) -> list[str]:
        """Takes in what a look found, verdict -> bool [K], and which copies `failed` [K]; returns what changed."""
        found = {name: held & ~failed for name, held in found.items()} | {"NON_FINITE": failed}
        ill = torch.stack(list(found.values())).any(0)
        found["HEALTHY"] = ~ill
        changed = []
        for name, now in found.items():
            stands = self.active[name]
            differs = now != stands
            self.first[name] = torch.where(differs & ~stands & (self.streak[name] == 0), images, self.first[name])
            self.streak[name] = torch.where(differs, self.streak[name] + 1, 0)
            patience = 1 if name in AT_ONCE else PATIENCE
            turns = (self.streak[name] >= patience) & (looks >= EARLIEST.get(name, WARM_UP))
            if name == "HEALTHY":  # the last of all
                turns |= stands & torch.stack([self.active[failure] for failure in FAILURES]).any(0)
            if turns.any():
                self.active[name] = stands ^ turns
                self.streak[name] = torch.where(turns, 0, self.streak[name])
                changed.append(name)
        return changed

    def current(self) -> list[str]:
        """The verdicts that stand for any copy; the failures first, those of most copies before the others."""
        standing = [name for name in VERDICTS if self.active[name].any()]
        return sorted(standing, key=lambda name: (name == "HEALTHY", -int(self.active[name].sum())))

    def numbers(self) -> dict[str, float]:
        """`verdict/<name>`: 0 or 1, of many copies the share of those for which it stands."""
        return {f"verdict/{name.lower()}": float(held.float().mean()) for name, held in self.active.items()}

    def note(self, name: str, images: int, numbers: Mapping[str, Tensor], seeds: Sequence[int] | None) -> dict:
        """An entry for the history: what changed, with its evidence (of many copies, their median where it stands)."""
        stands = self.active[name]
        concerned = stands if stands.any() else torch.ones_like(stands)
        shown = [number for number in WORDS[name].shows if number in numbers]
        entry = {
            "verdict": name,
            "active": bool(stands.any()),
            "images_seen": images,
            "since": int(self.first[name][concerned].min()),
            "evidence": {number: float(numbers[number][concerned].nanmedian()) for number in shown},
        }
        if seeds is not None:
            entry["seeds"] = [seed for seed, held in zip(seeds, stands.tolist()) if held]
        self.history.append(entry)
        return entry

    def summary(self, seeds: Sequence[int] | None) -> dict:
        """For summary.json: `current`, `history`, and of an ensemble the `seeds` of each verdict that stands."""
        current = self.current()
        found = {"current": current, "history": self.history}
        if seeds is not None:
            found["seeds"] = {n: [s for s, held in zip(seeds, self.active[n].tolist()) if held] for n in current}
        return found


def merged(parts: Sequence[dict | None]) -> dict | None:
    """The summaries of an ensemble's parts as one."""
    parts = [part for part in parts if part]
    if not parts:
        return None
    seeds: dict[str, list[int]] = {}
    for part in parts:
        for name, some in part["seeds"].items():
            seeds.setdefault(name, []).extend(some)
    current = sorted(seeds, key=lambda name: (name not in FAILURES, -len(seeds[name])))
    history = sorted((entry for part in parts for entry in part["history"]), key=lambda entry: entry["images_seen"])
    return {"current": current, "history": history, "seeds": seeds}
