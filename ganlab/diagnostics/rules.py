"""The rules: which numbers must be on which side of their thresholds for a verdict."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

WINDOW = 5  # checks whose median is compared
WARM_UP = 8  # the first check with verdicts: before, every GAN looks like a failing one
PATIENCE = 2  # consecutive checks before a verdict is given or withdrawn
MAX_ROWS = 2 * WINDOW  # rows that `evidence` uses
BELOW, ABOVE = "below", "above"

# verdict -> alternatives, each a conjunction of (number, side of its threshold)
RULES = {
    "VANISHING_GRADIENT": ((("loss_slope", BELOW), ("auc", ABOVE)), (("gradient_ratio", BELOW), ("auc", ABOVE))),
    "MODE_COLLAPSE": ((("effective_modes", BELOW),), (("spacing", BELOW),)),
    "MODE_DROPPING": ((("rarest_mode", BELOW),),),
    "OSCILLATION": ((("mode_turnover", ABOVE),),),
    "DISCRIMINATOR_WON": ((("auc", ABOVE), ("energy_distance", ABOVE), ("distance_ratio", ABOVE)),),
    "GENERATOR_WON": ((("auc", BELOW), ("energy_distance", ABOVE)),),
    "CRITIC_NOT_LIPSCHITZ": ((("d_slope", ABOVE),),),
    "EXPLODING": ((("logit_max", ABOVE),), (("sample_max", ABOVE),)),
    "MEMORIZING": ((("memorization", ABOVE),),),
}
FAILURES = (*RULES, "NON_FINITE")
VERDICTS = (*FAILURES, "HEALTHY")
FIRST_CHECK = {"NON_FINITE": 0, "EXPLODING": 2}  # for the verdicts that do not wait for WARM_UP
RARE_NUMBERS = ("memorization",)  # computed at long intervals; in between the last value counts
NO_PATIENCE = (*FIRST_CHECK, "MEMORIZING")  # verdicts that cannot wait, or whose next check repeats the same value


def load_thresholds() -> dict[str, dict[str, float]]:
    """verdict -> number -> threshold, as chosen by `python tests/benchmarks/calibration`."""
    return json.loads((Path(__file__).parent / "thresholds.json").read_text())["thresholds"]


def evidence(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Summarize the probes' numbers [K] over the last checks: medians of the last five, nan where there are none.

    Adds `gradient_ratio`, G's gradient norm over D's, and `distance_ratio`, the energy distance over that of five checks
    before (1: no progress).
    """
    names = dict.fromkeys(name for row in rows for name in row)
    numbers = {name: median([row[name] for row in rows[-WINDOW:] if name in row]) for name in names}
    numbers["gradient_ratio"] = median([row["g_grad_norm"] / row["d_grad_norm"].clamp_min(1e-300) for row in rows[-WINDOW:]])
    before = [row["energy_distance"] for row in rows[-2 * WINDOW : -WINDOW]]
    numbers["distance_ratio"] = numbers["energy_distance"] / median(before).clamp_min(1e-30)
    for name in RARE_NUMBERS:
        if values := [row[name] for row in rows if name in row]:
            numbers[name] = values[-1]
    return numbers


def median(values: Sequence[Tensor]) -> Tensor:
    """Median [K] over checks [K], without nans; nan of no checks."""
    return torch.stack([*values]).nanmedian(0).values if values else torch.tensor(torch.nan)


def rule_holds(numbers: Mapping[str, Tensor], verdict: str, limits: Mapping[str, float]) -> Tensor:
    """Whether one of the verdict's alternatives holds, bool [K]; one with an absent number, or nan, does not."""
    absent = torch.full_like(numbers["auc"], torch.nan)

    def is_met(number: str, side: str) -> Tensor:
        values = numbers.get(number, absent)
        return values <= limits[number] if side == BELOW else values >= limits[number]

    alternatives = [torch.stack([is_met(*condition) for condition in conditions]).all(0) for conditions in RULES[verdict]]
    return torch.stack(alternatives).any(0)


def evaluate_rules(numbers: Mapping[str, Tensor], requires_lipschitz: bool, limits: Mapping) -> dict[str, Tensor]:
    """Evaluate every rule at one check, before patience: verdict -> bool [K].

    MODE_COLLAPSE hides MODE_DROPPING; CRITIC_NOT_LIPSCHITZ is False for losses that do not require a Lipschitz critic.
    """
    holds = {verdict: rule_holds(numbers, verdict, limits[verdict]) for verdict in RULES}
    if not requires_lipschitz:
        holds["CRITIC_NOT_LIPSCHITZ"] = torch.zeros_like(holds["CRITIC_NOT_LIPSCHITZ"])
    holds["MODE_DROPPING"] = holds["MODE_DROPPING"] & ~holds["MODE_COLLAPSE"]
    return holds
