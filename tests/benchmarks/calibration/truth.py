"""The true state of a run, by construction or by exact counts on independent samples; never from the probes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from ganlab.diagnostics.rules import RULES

GOOD_FRECHET = 10.0  # times the Fréchet distance of real images
GOOD_TOY = 0.3  # share of the last samples within 3 standard deviations of a center


@dataclass
class Outcome:
    """One run. `rows`: the numbers of each check (None: not finite). `truth`: verdict -> True, False, or None: undecided.

    A verdict is undecided where the run lies between the two definitions of `truth`, or where another failure implies it.
    """

    setting: str
    half: str
    seed: int
    planted: str | None
    lipschitz: bool
    failed: bool
    rows: list[dict[str, float | None]]
    truth: dict[str, bool | None] = field(default_factory=dict)


def outcomes(result: dict) -> list[Outcome]:
    """The runs in a result file, each with its truth."""
    runs = []
    for k, seed in enumerate(result["seeds"]):
        rows = [{name: values[k] for name, values in row.items()} for row in result["rows"]]
        run = Outcome(
            result["setting"], result["half"], seed, result["planted"], result["lipschitz"], result["failed"][k], rows
        )
        run.truth = truth(result, k)
        runs.append(run)
    return runs


def truth(result: dict, k: int) -> dict[str, bool | None]:
    """Verdict -> whether it is true of member k; None where undecided.

    - MODE_COLLAPSE: fewer than half of the modes have a fifth of their share of the samples; MODE_DROPPING: at least
      half do, and the rarest has less than a tenth of its share (not: all have at least 0.3). Exact modes on toys, an
      independent classifier's classes on digits; of the averaged generator, pooled over the last part of the run.
    - OSCILLATION: the mode shares of new samples, 100 updates of D apart, differ by at least 0.3 in total
      variation on average (not: at most 0.15). Undecided with labels, which fix the shares.
    - EXPLODING: logits of 1000 or samples ten times as large as the data (not: below 100 and 3).
    - VANISHING_GRADIENT: planted, or dL_G/df of 0.001 on average (not: above 0.05; undecided where G has won).
    - NON_FINITE: a loss was not finite. CRITIC_NOT_LIPSCHITZ, MEMORIZING, DISCRIMINATOR_WON, GENERATOR_WON: planted.
    - HEALTHY: nothing planted, every mode with at least 0.3 of its share, good samples, no oscillation; not: any of the
      others.
    """
    planted = result["planted"]
    if result["failed"][k] or not result["truth"]:
        return dict.fromkeys(RULES) | {"NON_FINITE": True, "HEALTHY": False}
    last = result["truth"]
    ratios, good = shares(result, k)
    modes_kept = sum(ratio >= 0.2 for ratio in ratios) / len(ratios)
    mode_turnover = turnover([row["current"][k][:-1] for row in last])
    logit_max, sample_max = (max(number(row[name][k]) for row in last) for name in ("logit_max", "sample_max"))
    loss_slope = sum(number(row["loss_slope"][k]) for row in last) / len(last)
    truths: dict[str, bool | None] = {"NON_FINITE": False}
    truths["EXPLODING"] = decide(max(logit_max / 1000, sample_max / 10), 1, max(logit_max / 100, sample_max / 3) < 1)
    exploding = truths["EXPLODING"] is not False
    truths["MODE_COLLAPSE"] = planted == "MODE_COLLAPSE" or modes_kept < 0.5
    is_dropping = planted == "MODE_DROPPING" or (min(ratios) < 0.1)
    truths["MODE_DROPPING"] = None if truths["MODE_COLLAPSE"] else True if is_dropping else decide(0, 1, min(ratios) >= 0.3)
    truths["OSCILLATION"] = None if result["labels"] else decide(mode_turnover, 0.3, mode_turnover <= 0.15)
    vanishing = decide(-loss_slope, -1e-3, loss_slope >= 0.05 and not exploding)  # a loss is also flat where G has won
    truths["VANISHING_GRADIENT"] = planted == "VANISHING_GRADIENT" or (None if planted == "GENERATOR_WON" else vanishing)
    for name, implied_by in (("DISCRIMINATOR_WON", ("VANISHING_GRADIENT", "CRITIC_NOT_LIPSCHITZ")), ("GENERATOR_WON", ())):
        is_clear = (good or planted is not None) and planted not in implied_by and not exploding
        truths[name] = planted == name or (False if is_clear else None)
    constrained = result["lipschitz"] and result["constrained"]
    truths["CRITIC_NOT_LIPSCHITZ"] = planted == "CRITIC_NOT_LIPSCHITZ" or (False if constrained else None)
    truths["MEMORIZING"] = planted == "MEMORIZING"
    has_failure = any(truths[name] for name in RULES)
    healthy = min(ratios) >= 0.3 and good and planted is None and truths["OSCILLATION"] is not True and not exploding
    truths["HEALTHY"] = False if has_failure else True if healthy and (result["labels"] or mode_turnover <= 0.15) else None
    return truths


def decide(value: float, high: float, is_false: bool) -> bool | None:
    """True if value >= high, else False if `is_false`, else None."""
    return True if value >= high else False if is_false else None


def number(value: float | None) -> float:
    """The value, or inf for None, which JSON holds in place of non-finite numbers."""
    return math.inf if value is None else value


def shares(result: dict, k: int) -> tuple[list[float], bool]:
    """Each mode's share over a uniform one, pooled over the last part of the run; and whether the samples are good."""
    counts = [row["averaged"][k] for row in result["truth"]]
    pooled = [sum(column) for column in zip(*counts)]
    modes, total = len(pooled) - 1, sum(pooled[:-1])
    if result["images"]:
        *distances, real = result["frechet"]
        good = distances[k] is not None and distances[k] <= GOOD_FRECHET * real
    else:
        good = counts[-1][-1] / sum(counts[-1][:-1]) >= GOOD_TOY
    return [count * modes / total for count in pooled[:-1]], good


def turnover(counts: list[list[float]]) -> float:
    """Mean total variation distance of consecutive histograms."""
    steps = [
        sum(abs(a / sum(first) - b / sum(second)) for a, b in zip(first, second)) / 2 for first, second in pairwise(counts)
    ]
    return sum(steps) / len(steps) if steps else 0.0
