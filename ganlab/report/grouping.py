"""Runs of the same config and protocol are seeds of one setting, single runs and ensembles apart; settings measured the same way share a protocol card."""

from __future__ import annotations

import json
from collections import defaultdict

from ganlab.report.cards import card_of, give_cards
from ganlab.report.names import name
from ganlab.report.runs import Run
from ganlab.report.settings import Setting, flatten

# What a run is trained and measured by; the rest of its config feeds these, or says where, when and how to look.
MEANING = ("gan", "data", "metrics", "trainer", "max_images")
NO_MATTER = {"data.data_dir", "metrics.batch_size",
             *(f"trainer.{key}" for key in ("_target_", "accelerator", "strategy", "deterministic", "benchmark", "profiler",
                                            "log_every_n_steps", "enable_checkpointing", "enable_progress_bar",
                                            "enable_model_summary", "default_root_dir"))}  # fmt: skip
# What tells a run's place and number; all else may name a setting, if it goes with what the run is trained by.
NO_NAME = {"seed", "seeds", "seeds_at_once", "eval_every", "published", "run_dir", "name", "data_dir", "callbacks",
           "logger", "monitor"}  # fmt: skip


def group(runs: list[Run]) -> list[list[Setting]]:
    """Settings, named, by protocol card: one list per card, the one with the most runs first."""
    by_config: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        flat = _flat(run)
        by_config[json.dumps([run.single, flat], sort_keys=True) if flat else str(run.folder)].append(run)
    settings = [_setting(same) for runs in by_config.values() for same in _by_protocol(runs)]
    give_cards(settings)
    by_card: dict[tuple, list[Setting]] = defaultdict(list)
    for setting in settings:
        by_card[tuple(sorted(setting.card.items()))].append(setting)
    cards = sorted(by_card.values(), key=lambda group: -sum(len(s.runs) for s in group))
    for card in cards:
        name(card)
    return cards


def _by_protocol(runs: list[Run]) -> list[list[Run]]:
    """Runs of one config by what their results were measured by. One without any, failed or not over, is dropped nowhere:
    it goes with the measured run that began nearest to it, whose data it most likely had."""
    cards = {run.folder: _protocol_of(run) for run in runs if run.summary.get("protocol")}
    began = [(_written(run), cards[run.folder]) for run in runs if run.folder in cards]
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        at = _written(run)
        _, nearest = min(began, key=lambda other: abs(other[0] - at), default=(at, ""))
        alike[cards.get(run.folder, nearest)].append(run)
    return list(alike.values())


def _protocol_of(run: Run) -> str:
    return json.dumps(card_of(Setting([run], flat=_flat(run)), run.summary["protocol"]), sort_keys=True)


def _setting(runs: list[Run]) -> Setting:
    """One run per seed, since a repeated seed is no new evidence: the newest that is over, or the newest if none is."""
    oldest_first = [seed for run in sorted(runs, key=_written) for seed in run.seeds]
    chosen = {seed.seed: seed for seed in sorted(oldest_first, key=lambda seed: seed.status != "unfinished")}
    kept = [run for run in runs if any(chosen[seed.seed] is seed for seed in run.seeds)]
    for run in kept:
        run.seeds = [seed for seed in run.seeds if chosen[seed.seed] is seed]
    kept.sort(key=lambda run: min(seed.seed for seed in run.seeds))
    flat = _flat(kept[0])
    presets = flatten({key: value for key, value in kept[0].config.items() if key not in {*MEANING, *NO_NAME}})
    return Setting(kept, replaced=len(runs) - len(kept), flat=flat, everything=flat | presets)


def _flat(run: Run) -> dict[str, str]:
    flat = flatten({key: run.config[key] for key in MEANING if key in run.config})
    return {key: value for key, value in flat.items() if key not in NO_MATTER}


def _written(run: Run) -> float:
    paths = [run.folder / name for name in ("config.yaml", "summary.json", "metrics.csv", ".hydra")]
    return next((path.stat().st_mtime for path in paths if path.exists()), 0.0)
