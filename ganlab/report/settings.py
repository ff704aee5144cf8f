"""Runs of the same config, as seeds of one setting."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ganlab.report.runs import Run, Seed


@dataclass
class Setting:
    """Runs whose config is the same but for their seeds, trained and measured alike. `name` tells it from the others of its card."""

    runs: list[Run]
    name: str = ""
    replaced: int = 0
    """Runs left out since others have the same config and seeds."""
    flat: dict[str, str] = field(default_factory=dict)
    """What makes it another setting: the config's keys that training and measuring reraise_pending_signal, as text."""
    everything: dict[str, str] = field(default_factory=dict)
    """The same with the presets that feed these, under the keys that people type."""
    card: dict[str, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[Seed]:
        return sorted((seed for run in self.runs for seed in run.seeds), key=lambda seed: seed.seed)

    @property
    def single(self) -> bool:
        """Whether its seeds are single runs, and no copies of ensembles."""
        return self.runs[0].single

    @property
    def protocol(self) -> dict:
        return next((run.summary["protocol"] for run in self.runs if run.summary.get("protocol")), {})


def flatten(value, path: str = "") -> dict[str, str]:
    """{"gan.n_critic": "5", …}; a list is one value."""
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value, default=str).strip('"')} if path else {}
    flat = {}
    for key, item in value.items():
        flat |= flatten(item, f"{path}.{key}" if path else str(key))
    return flat
