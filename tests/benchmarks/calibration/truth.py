"""What really happened in a run, by construction or by exact counts on fresh samples; never by the probes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from ganlab.diagnostics.rules import FORMS

GOOD_FRECHET, GOOD_TOY = 10.0, 0.3  # times that of real images; share of the last samples within 3 sigma of a center


@dataclass
class Outcome:
    """One run. `rows`: number -> [looks] (None: not measured). `truth`: verdict -> True, False, or None where it is open.

    A truth is open where the run lies between the two definitions below, or where a failure brings others with it.
    """

    setting: str
    half: str
    seed: int
    planted: str | None
    lipschitz: bool
    failed: bool
    rows: list[dict[str, float | None]]
    truth: dict[str, bool | None] = field(default_factory=dict)


def outcomes(found: dict) -> list[Outcome]:
    """The runs of a setting's file, each with its truth."""
    runs = []
    for k, seed in enumerate(found["seeds"]):
        rows = [{name: values[k] for name, values in row.items()} for row in found["rows"]]
        run = Outcome(found["setting"], found["half"], seed, found["planted"], found["lipschitz"], found["failed"][k], rows)
        run.truth = truth(found, k)
        runs.append(run)
    return runs


def truth(found: dict, k: int) -> dict[str, bool | None]:
    """Verdict -> whether it is true of copy k.

    - MODE_COLLAPSE: fewer than half of the modes have a fifth of their share of the samples; MODE_DROPPING: at least
      half do, and the rarest has less than a tenth of its share (not: all have at least 0.3). Exact modes on toys, an
      independent classifier's classes on digits; the averaged generator's samples, pooled over the last part of the run.
    - OSCILLATION: the shares of the modes of fresh samples, 100 updates of D apart, differ by at least 0.3 in total
      variation on average (not: at most 0.15). Open with labels, which hold the shares.
    - EXPLODING: logits of 1000 or samples ten times as large as the data (not: below 100 and 3).
    - VANISHING_GRADIENT: planted, or dL_G/df of 0.001 on average (not: above 0.05; open where G has won).
    - NON_FINITE: a loss was not a number. CRITIC_NOT_LIPSCHITZ, MEMORIZING, DISCRIMINATOR_WON, GENERATOR_WON: planted.
    - HEALTHY: nothing planted, every mode with at least 0.3 of its share, good samples, no oscillation; not: any of the
      others.
    """
    planted = found["planted"]
    if found["failed"][k] or not found["truth"]:
        return dict.fromkeys(FORMS) | {"NON_FINITE": True, "HEALTHY": False}
    last = found["truth"]
    ratios, good = shares(found, k)
    kept = sum(ratio >= 0.2 for ratio in ratios) / len(ratios)
    turning = turnover([row["current"][k][:-1] for row in last])
    logits, size = (max(number(row[name][k]) for row in last) for name in ("logits", "size"))
    signal = sum(number(row["signal"][k]) for row in last) / len(last)
    found_true: dict[str, bool | None] = {"NON_FINITE": False}
    found_true["EXPLODING"] = between(max(logits / 1000, size / 10), 1, max(logits / 100, size / 3) < 1)
    ill = found_true["EXPLODING"] is not False
    found_true["MODE_COLLAPSE"] = planted == "MODE_COLLAPSE" or kept < 0.5
    dropped = planted == "MODE_DROPPING" or (min(ratios) < 0.1)
    found_true["MODE_DROPPING"] = (
        None if found_true["MODE_COLLAPSE"] else True if dropped else between(0, 1, min(ratios) >= 0.3)
    )
    found_true["OSCILLATION"] = None if found["labels"] else between(turning, 0.3, turning <= 0.15)
    vanished = between(-signal, -1e-3, signal >= 0.05 and not ill)  # a loss is also flat where G has won
    found_true["VANISHING_GRADIENT"] = planted == "VANISHING_GRADIENT" or (None if planted == "GENERATOR_WON" else vanished)
    for name, beside in (("DISCRIMINATOR_WON", ("VANISHING_GRADIENT", "CRITIC_NOT_LIPSCHITZ")), ("GENERATOR_WON", ())):
        settled = (good or planted is not None) and planted not in beside and not ill
        found_true[name] = planted == name or (False if settled else None)
    constrained = found["lipschitz"] and found["constrained"]
    found_true["CRITIC_NOT_LIPSCHITZ"] = planted == "CRITIC_NOT_LIPSCHITZ" or (False if constrained else None)
    found_true["MEMORIZING"] = planted == "MEMORIZING"
    failing = any(found_true[name] for name in FORMS)
    whole = min(ratios) >= 0.3 and good and planted is None and found_true["OSCILLATION"] is not True and not ill
    found_true["HEALTHY"] = False if failing else True if whole and (found["labels"] or turning <= 0.15) else None
    return found_true


def between(value: float, high: float, clearly_not: bool) -> bool | None:
    """True from `high` on; False if it is clearly not so; else open."""
    return True if value >= high else False if clearly_not else None


def number(value: float | None) -> float:
    """JSON has no infinities: what was not finite is endless."""
    return math.inf if value is None else value


def shares(found: dict, k: int) -> tuple[list[float], bool]:
    """Each mode's share over an even one, pooled over the last part of the run; whether the samples are good."""
    counts = [row["averaged"][k] for row in found["truth"]]
    pooled = [sum(column) for column in zip(*counts)]
    modes, total = len(pooled) - 1, sum(pooled[:-1])
    if found["images"]:
        *distances, real = found["frechet"]
        good = distances[k] is not None and distances[k] <= GOOD_FRECHET * real
    else:
        good = counts[-1][-1] / sum(counts[-1][:-1]) >= GOOD_TOY
    return [count * modes / total for count in pooled[:-1]], good


def turnover(counts: list[list[float]]) -> float:
    """Mean total variation between neighboring histograms."""
    steps = [
        sum(abs(a / sum(first) - b / sum(second)) for a, b in zip(first, second)) / 2 for first, second in pairwise(counts)
    ]
    return sum(steps) / len(steps) if steps else 0.0
