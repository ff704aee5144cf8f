"""Choose thresholds on the runs of one half, and apply the rules to recorded runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from calibration.truth import Outcome
from ganlab.diagnostics.history import VerdictHistory
from ganlab.diagnostics.rules import ABOVE, BELOW, FIRST_CHECK, NO_PATIENCE, PATIENCE, RULES, WARM_UP, evaluate_rules, evidence

CANDIDATES = 24  # thresholds tried for each number
COST_AT_END, COST_EVER = 2.0, 0.5  # of a false alarm that is active at the end, or at any time; a detection gains 1
# Ranges in which thresholds are searched: outside them the number means something else.
RANGES = {
    "loss_slope": (0.0, 0.2),
    "gradient_ratio": (0.0, 0.05),
    "effective_modes": (0.0, 0.7),
    "spacing": (0.0, 0.3),
    "rarest_mode": (0.0, 0.3),
    "mode_turnover": (0.05, 1.0),
    "distance_ratio": (0.9, 1.5),  # G has stopped, and is not merely slow
    "energy_distance": (0.005, 1.0),
    "d_slope": (2.0, 1e9),
    "logit_max": (100.0, 1000.0),
    "sample_max": (3.0, 10.0),
    "memorization": (0.6, 1.0),
}
AUC_RANGES = {BELOW: (0.4, 0.7), ABOVE: (0.8, 1.0)}


def rows_at_each_check(run: Outcome) -> Iterator[list[dict[str, Tensor]]]:
    """Yield the rows up to each check, numbers as float64 [1], as the monitor has them."""
    rows = [{n: torch.tensor([torch.nan if v is None else v]).double() for n, v in row.items()} for row in run.rows]
    return (rows[:check] for check in range(1, len(rows) + 1))


def evidence_series(run: Outcome) -> dict[str, Tensor]:
    """Every number of `evidence` at each check, [checks]; nan where there is none."""
    series = [evidence(rows) for rows in rows_at_each_check(run)]
    names = dict.fromkeys(itertools.chain.from_iterable(series))
    missing = torch.tensor([torch.nan]).double()
    return {name: torch.cat([numbers.get(name, missing).view(1) for numbers in series]) for name in names}


def choose_thresholds(runs: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """verdict -> number -> threshold, which maximize the detection rate minus the weighted rates of false alarms.

    Detections are counted at the end of a run, where the truth was measured. False alarms that are withdrawn before the
    end cost a quarter, since a young GAN does lack modes. Of equally good thresholds the middle one is chosen.
    """
    return {verdict: best_thresholds(verdict, runs) for verdict in RULES}


def best_thresholds(verdict: str, runs: Sequence[Outcome]) -> dict[str, float]:
    """The thresholds of one verdict.

    Raises:
        ValueError: the verdict is true, or false, in all runs in which the truth is known.
    """
    known = [run for run in runs if run.truth.get(verdict) is not None and run.rows]
    true = torch.tensor([bool(run.truth[verdict]) for run in known])
    if not true.any() or true.all():
        raise ValueError(f"{verdict} must be true in some runs and false in others, got {int(true.sum())} of {len(true)}")
    series = [evidence_series(run) for run in known]
    sides = {number: side for conditions in RULES[verdict] for number, side in conditions}
    values = {number: stack_series([part.get(number) for part in series], known) for number in sides}
    grid = {number: candidates(number, side, values[number]) for number, side in sides.items()}
    met = {n: [v <= limit if sides[n] == BELOW else v >= limit for limit in grid[n]] for n, v in values.items()}
    warming_up = torch.arange(next(iter(values.values())).shape[1]) + 1 < FIRST_CHECK.get(verdict, WARM_UP)
    scores = {}
    for chosen in itertools.product(*(range(len(grid[n])) for n in sides)):
        at = dict(zip(sides, chosen))
        holds = torch.stack([torch.stack([met[n][at[n]] for n, _ in part]).all(0) for part in RULES[verdict]]).any(0)
        scores[chosen] = score(holds, true, known, warming_up, 1 if verdict in NO_PATIENCE else PATIENCE)
    top = max(scores.values())
    ties = [chosen for chosen, value in scores.items() if value >= top - 1e-9]
    middle = tuple(sorted(column)[len(ties) // 2] for column in zip(*ties))
    chosen = min(ties, key=lambda tie: sum(abs(a - b) for a, b in zip(tie, middle)))
    return {number: float(f"{grid[number][index]:.3g}") for number, index in zip(sides, chosen)}


def stack_series(series: Sequence[Tensor | None], runs: Sequence[Outcome]) -> Tensor:
    """Stack series [checks] of runs into [runs, most checks], with nan after the end of a run."""
    stacked = torch.full((len(runs), max(len(run.rows) for run in runs)), torch.nan, dtype=torch.float64)
    for row, values, run in zip(stacked, series, runs):
        if values is not None:
            row[: len(run.rows)] = values
    return stacked


def candidates(number: str, side: str, values: Tensor) -> list[float]:
    """Up to CANDIDATES of the values that lie in the number's range, evenly spaced by rank."""
    low, high = AUC_RANGES[side] if number == "auc" else RANGES[number]
    in_range = values[values.isfinite() & (values >= low) & (values <= high)].unique()
    if len(in_range) < 2:
        return [low if side == BELOW else high]
    ranks = torch.linspace(0, len(in_range) - 1, min(CANDIDATES, len(in_range))).long()
    return in_range[ranks].tolist()


def score(holds: Tensor, true: Tensor, runs: Sequence[Outcome], warming_up: Tensor, patience: int) -> float:
    """Detection rate minus weighted false alarm rates; `holds` bool [runs, checks], `warming_up` bool [checks]."""
    active = holds
    for back in range(1, patience):
        active = active & torch.cat([torch.zeros_like(holds[:, :back]), holds[:, :-back]], 1)
    active = active & ~warming_up
    last = torch.tensor([len(run.rows) - 1 for run in runs])
    at_end = active.gather(1, last[:, None]).squeeze(1)
    cost = COST_AT_END * at_end[~true].float().mean() + COST_EVER * active.any(1)[~true].float().mean()
    return float(at_end[true].float().mean() - cost)


def verdicts(run: Outcome, thresholds: Mapping) -> tuple[set[str], set[str]]:
    """The verdicts that the monitor would have given: those active at the end, and those ever active."""
    history, ever = VerdictHistory(), set()
    for check, rows in enumerate(rows_at_each_check(run), 1):
        holds = evaluate_rules(evidence(rows), run.lipschitz, thresholds)
        history.update(holds, torch.tensor([False]), check, check)
        ever |= set(history.current())
    if run.failed:
        history.update({}, torch.tensor([True]), len(run.rows), len(run.rows))
    return set(history.current()), ever | set(history.current())
