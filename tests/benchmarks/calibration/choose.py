"""Thresholds from one half of the runs, and how often the verdicts are right on the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from calibration.truth import Outcome
from ganlab.diagnostics.history import VerdictHistory
from ganlab.diagnostics.rules import ABOVE, AT_ONCE, BELOW, EARLIEST, FORMS, PATIENCE, WARM_UP, evaluate_rules, evidence

CANDIDATES = 24  # of each number
COST, COST_EVER = 2.0, 0.5  # of a false alarm that stands at the end, of one at any time, in detections
# No threshold is looked for beyond these: on the other side the number means something else.
LIMITS = {
    "signal": (0.0, 0.2),
    "reach": (0.0, 0.05),
    "effective": (0.0, 0.7),
    "spacing": (0.0, 0.3),
    "rarest": (0.0, 0.3),
    "turnover": (0.05, 1.0),
    "progress": (0.9, 1.5),  # G has stopped, and is not merely slow
    "distance": (0.005, 1.0),
    "slope": (2.0, 1e9),
    "logit_size": (100.0, 1000.0),
    "size": (3.0, 10.0),
    "nearer": (0.6, 1.0),
}
PAIRS = {BELOW: (0.4, 0.7), ABOVE: (0.8, 1.0)}


def looks(run: Outcome) -> Iterator[list[dict[str, Tensor]]]:
    """At each look the rows up to it, as the monitor has them, [1] a number."""
    rows = [{n: torch.tensor([torch.nan if v is None else v]).double() for n, v in row.items()} for row in run.rows]
    return (rows[:look] for look in range(1, len(rows) + 1))


def traces(run: Outcome) -> dict[str, Tensor]:
    """Every number of `evidence` at each look, [looks]; nan where there is none. The rules' numbers of one run."""
    found = [evidence(rows) for rows in looks(run)]
    names = dict.fromkeys(itertools.chain.from_iterable(found))
    missing = torch.tensor([torch.nan]).double()
    return {name: torch.cat([numbers.get(name, missing).view(1) for numbers in found]) for name in names}


def choose(runs: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """verdict -> number -> threshold: those with the most detections less the cost of the false alarms, as rates.

    Both are counted at the end of the run, where the truth was measured; false alarms that had gone by then (a young game
    does lack modes) count a quarter. Of equally good thresholds the middle one.
    """
    return {verdict: best(verdict, runs) for verdict in FORMS}


def best(verdict: str, runs: Sequence[Outcome]) -> dict[str, float]:
    known = [run for run in runs if run.truth.get(verdict) is not None and run.rows]
    true = torch.tensor([bool(run.truth[verdict]) for run in known])
    if not true.any() or true.all():
        raise ValueError(f"{verdict} needs runs of both kinds to choose its thresholds, got {int(true.sum())} of {len(true)}")
    traced = [traces(run) for run in known]
    sides = {number: side for conditions in FORMS[verdict] for number, side in conditions}
    series = {number: together([trace.get(number) for trace in traced], known) for number in sides}
    grid = {number: candidates(number, side, series[number]) for number, side in sides.items()}
    met = {n: [values <= c if sides[n] == BELOW else values >= c for c in grid[n]] for n, values in series.items()}
    young = torch.arange(next(iter(series.values())).shape[1]) + 1 < EARLIEST.get(verdict, WARM_UP)
    scores = {}
    for chosen in itertools.product(*(range(len(grid[n])) for n in sides)):
        at = dict(zip(sides, chosen))
        held = torch.stack([torch.stack([met[n][at[n]] for n, _ in part]).all(0) for part in FORMS[verdict]]).any(0)
        scores[chosen] = score(held, true, known, young, 1 if verdict in AT_ONCE else PATIENCE)
    top = max(scores.values())
    ties = [chosen for chosen, value in scores.items() if value >= top - 1e-9]
    middle = tuple(sorted(column)[len(ties) // 2] for column in zip(*ties))
    chosen = min(ties, key=lambda tie: sum(abs(a - b) for a, b in zip(tie, middle)))
    return {number: float(f"{grid[number][index]:.3g}") for number, index in zip(sides, chosen)}


def together(traces: Sequence[Tensor | None], runs: Sequence[Outcome]) -> Tensor:
    """[runs, looks], the last look of each in the last column."""
    longest = max(len(run.rows) for run in runs)
    whole = torch.full((len(runs), longest), torch.nan, dtype=torch.float64)
    for row, trace, run in zip(whole, traces, runs):
        if trace is not None:
            row[: len(run.rows)] = trace
    return whole


def candidates(number: str, side: str, values: Tensor) -> list[float]:
    low, high = PAIRS[side] if number == "pairs" else LIMITS[number]
    known = values[values.isfinite() & (values >= low) & (values <= high)].unique()
    if len(known) < 2:
        return [low if side == BELOW else high]
    places = torch.linspace(0, len(known) - 1, min(CANDIDATES, len(known))).long()
    return known[places].tolist()


def score(held: Tensor, true: Tensor, runs: Sequence[Outcome], young: Tensor, patience: int) -> float:
    """Detections less the cost of false alarms; `held` bool [runs, looks], `young` bool [looks]."""
    stood = held
    for back in range(1, patience):
        stood = stood & torch.cat([torch.zeros_like(held[:, :back]), held[:, :-back]], 1)
    stood = stood & ~young
    ends = torch.tensor([len(run.rows) - 1 for run in runs])
    at_end = stood.gather(1, ends[:, None]).squeeze(1)
    false = COST * at_end[~true].float().mean() + COST_EVER * stood.any(1)[~true].float().mean()
    return float(at_end[true].float().mean() - false)


def verdicts(run: Outcome, limits: Mapping) -> tuple[set[str], set[str]]:
    """What the monitor would have said of a run: the verdicts at its end, and all that ever stood."""
    history, ever = VerdictHistory(1), set()
    for look, rows in enumerate(looks(run), 1):
        found = evaluate_rules(evidence(rows), run.lipschitz, limits)
        history.update(found, torch.tensor([False]), look, look)
        ever |= set(history.current())
    if run.failed:
        history.update({}, torch.tensor([True]), len(run.rows), len(run.rows))
    return set(history.current()), ever | set(history.current())
