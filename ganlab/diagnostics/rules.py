"""From numbers to verdicts: which numbers must lie beyond which thresholds, for how long."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

WINDOW = 5  # looks whose median counts
WARM_UP = 8  # the first look at which anything but EXPLODING and NON_FINITE is said: before, every game looks ill
PATIENCE = 2  # looks in a row before a verdict is given, and before it is taken back
KEPT_ROWS = 2 * WINDOW  # what `evidence` can need
BELOW, ABOVE = "below", "above"

# Each verdict: alternatives, each a conjunction of (number, side of its threshold).
FORMS = {
    "VANISHING_GRADIENT": ((("signal", BELOW), ("pairs", ABOVE)), (("reach", BELOW), ("pairs", ABOVE))),
    "MODE_COLLAPSE": ((("effective", BELOW),), (("spacing", BELOW),)),
    "MODE_DROPPING": ((("rarest", BELOW),),),
    "OSCILLATION": ((("turnover", ABOVE),),),
    "DISCRIMINATOR_WON": ((("pairs", ABOVE), ("distance", ABOVE), ("progress", ABOVE)),),
    "GENERATOR_WON": ((("pairs", BELOW), ("distance", ABOVE)),),
    "CRITIC_NOT_LIPSCHITZ": ((("slope", ABOVE),),),
    "EXPLODING": ((("logit_size", ABOVE),), (("size", ABOVE),)),
    "MEMORIZING": ((("nearer", ABOVE),),),
}
FAILURES = (*FORMS, "NON_FINITE")
VERDICTS = (*FAILURES, "HEALTHY")
EARLIEST = {"NON_FINITE": 0, "EXPLODING": 2}  # looks before these are said, which do not wait for the warm-up
SELDOM = ("nearer",)  # numbers that are measured at long intervals, and stand until they are again
AT_ONCE = (*EARLIEST, "MEMORIZING")  # no patience: they cannot wait, or a second look repeats what the first found


def thresholds() -> dict[str, dict[str, float]]:
    """What `python tests/benchmarks/calibration` chose: verdict -> number's name -> threshold."""
    return json.loads((Path(__file__).parent / "thresholds.json").read_text())["thresholds"]


def evidence(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The probes' numbers [K] over the last looks: medians of the last five, nan where a look had none.

    - `reach`: G's gradient over D's;
    - `progress`: the distance to real samples over what it was five looks before: 1 where nothing moves.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: median([row[name] for row in rows[-WINDOW:] if name in row]) for name in names}
    found["reach"] = median([row["g_gradient"] / row["d_gradient"].clamp_min(1e-300) for row in rows[-WINDOW:]])
    before = [row["distance"] for row in rows[-2 * WINDOW : -WINDOW]]
    found["progress"] = (
        found["distance"] / median(before).clamp_min(1e-30) if before else torch.full_like(found["reach"], torch.nan)
    )
    for name in SELDOM:
        if any(name in row for row in rows):
            found[name] = [row[name] for row in rows if name in row][-1]
    return found


def median(values: Sequence[Tensor]) -> Tensor:
    """Over the looks, of [K] each; those that are not numbers are left out."""
    return torch.stack(list(values)).nanmedian(0).values if values else torch.tensor(torch.nan)


def beyond(numbers: Mapping[str, Tensor], name: str, limits: Mapping[str, float]) -> Tensor:
    """Whether a verdict's conditions hold, bool [K]."""
    met = [
        torch.stack([compared(numbers[number], side, limits[number]) for number, side in conditions]).all(0)
        for conditions in FORMS[name]
        if all(number in numbers for number, _ in conditions)
    ]
    return torch.stack(met).any(0) if met else torch.zeros_like(numbers["pairs"], dtype=torch.bool)


def compared(values: Tensor, side: str, limit: float) -> Tensor:
    """Infinities count as what they are, nan as nothing."""
    return values <= limit if side == BELOW else values >= limit


def evaluate_rules(numbers: Mapping[str, Tensor], lipschitz_wanted: bool, limits: Mapping) -> dict[str, Tensor]:
    """What holds at a look, verdict -> bool [K], before patience. The broader verdict hides the narrower one."""
    found = {name: beyond(numbers, name, limits[name]) for name in FORMS}
    if not lipschitz_wanted:
        found["CRITIC_NOT_LIPSCHITZ"] = torch.zeros_like(found["CRITIC_NOT_LIPSCHITZ"])
    found["MODE_DROPPING"] = found["MODE_DROPPING"] & ~found["MODE_COLLAPSE"]
    return found
