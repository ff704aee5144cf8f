"""Runs of the same config and protocol are seeds of one setting, single runs and ensembles apart; settings measured the same way share a protocol card."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

from ganlab.report.names import name
from ganlab.report.runs import Run, Seed

# What a run is trained and measured by; the rest of its config feeds these, or says where, when and how to look.
MEANING = ("gan", "data", "metrics", "trainer", "max_images")
NO_MATTER = {"data.data_dir", "metrics.batch_size",
             *(f"trainer.{key}" for key in ("_target_", "accelerator", "strategy", "deterministic", "benchmark", "profiler",
                                            "log_every_n_steps", "enable_checkpointing", "enable_progress_bar",
                                            "enable_model_summary", "default_root_dir"))}  # fmt: skip
# What tells a run's place and number; all else may name a setting, if it goes with what the run is trained by.
NO_NAME = {"seed", "seeds", "seeds_at_once", "look_every", "published", "run_dir", "name", "data_dir", "callbacks",
           "logger", "monitor"}  # fmt: skip
# Of data and metrics, what cannot change a measured number's meaning.
NOT_THE_MEASURE = {"batch_size", "data_dir", "root"}
BUDGET = "budget (real images)"


@dataclass
class Setting:
    """Runs whose config is the same but for their seeds, trained and measured alike. `name` tells it from the others of its card."""

    runs: list[Run]
    name: str = ""
    replaced: int = 0
    """Runs left out since others have the same config and seeds."""
    flat: dict[str, str] = field(default_factory=dict)
    """What makes it another setting: the config's keys that training and measuring heed, as text."""
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


def group(runs: list[Run]) -> list[list[Setting]]:
    """Settings, named, by protocol card: one list per card, the one with the most runs first."""
    by_config: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        flat = _flat(run)
        by_config[json.dumps([run.single, flat], sort_keys=True) if flat else str(run.folder)].append(run)
    settings = [_setting(same) for runs in by_config.values() for same in _by_protocol(runs)]
    _give_cards(settings)
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
    cards = {run.folder: _card_of(run) for run in runs if run.summary.get("protocol")}
    began = [(_written(run), cards[run.folder]) for run in runs if run.folder in cards]
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        at = _written(run)
        _, nearest = min(began, key=lambda other: abs(other[0] - at), default=(at, ""))
        alike[cards.get(run.folder, nearest)].append(run)
    return list(alike.values())


def _card_of(run: Run) -> str:
    return json.dumps(_card(Setting([run], flat=_flat(run)), run.summary["protocol"]), sort_keys=True)


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


def flatten(value, path: str = "") -> dict[str, str]:
    """{"gan.n_critic": "5", …}; a list is one value."""
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value, default=str).strip('"')} if path else {}
    flat = {}
    for key, item in value.items():
        flat |= flatten(item, f"{path}.{key}" if path else str(key))
    return flat


# Protocol cards --------------------------------------------------------------------------------------------------


def _give_cards(settings: list[Setting]) -> None:
    """A setting whose runs all crashed takes what was measured from one with the same data and metric in its config."""
    measured: dict[str, dict] = {}
    for setting in settings:
        if setting.protocol:
            measured.setdefault(_measure(setting), setting.protocol)
    for setting in settings:
        protocol = setting.protocol or measured.get(_measure(setting), {})
        setting.card = _card(setting, protocol)
    _count_packs(settings)


def _measure(setting: Setting) -> str:
    parts = {key: value for key, value in setting.flat.items() if key.partition(".")[0] in ("data", "metrics")}
    return json.dumps({k: v for k, v in parts.items() if k.rpartition(".")[2] not in NOT_THE_MEASURE}, sort_keys=True)


def _card(setting: Setting, protocol: dict) -> dict[str, str]:
    """What has to be equal before two numbers may stand in one ranking; every value as text."""
    config, summaries = setting.runs[0].config, [run.summary for run in setting.runs]

    def known(name: str, otherwise):
        return next((summary[name] for summary in summaries if summary.get(name) is not None), otherwise)

    target = setting.flat.get("data._target_", "unknown").rpartition(".")[2]
    card = {"data": target, "N (samples per look)": "unknown"} | flatten(protocol)
    renamed = {"samples": "N (samples per look)", "fingerprint": "data fingerprint", "extractor.sha256": "extractor hash",
               "extractor.name": "extractor", "extractor.accuracy": "extractor's held-out accuracy", "reference": "split"}  # fmt: skip
    card = {renamed.get(key, key): value for key, value in card.items()}
    if "samples" in protocol:
        card["N (samples per look)"] = f"{protocol['samples']:,}"
    if not protocol:  # nothing was measured: what the config says must do
        card |= {key: value for key, value in setting.flat.items() if key.partition(".")[0] in ("data", "metrics")}
        card = {key: value for key, value in card.items() if key.rpartition(".")[2] not in NOT_THE_MEASURE}
    card.setdefault("split", "the modes' exact centres" if "modes" in protocol else "unknown")
    card["precision"] = str(known("precision", (config.get("trainer") or {}).get("precision", "unknown")))
    card["EMA of the generator"] = f"{known('ema_decay', (config.get('gan') or {}).get('ema_decay', 'unknown'))}"
    budget = config.get("max_images", "unknown")
    card[BUDGET] = f"{budget:,}" if isinstance(budget, int) else str(budget)
    return card


def _count_packs(settings: list[Setting]) -> None:
    """One budget for settings of different packs that show D as many packs as often, each its own number of images."""
    alike: dict[tuple, list[Setting]] = defaultdict(list)
    for setting in settings:
        rest = {key: value for key, value in setting.card.items() if key != BUDGET}
        if updates := _updates(setting):
            alike[updates, tuple(sorted(rest.items()))].append(setting)
    for (updates, _), same in alike.items():
        budgets = sorted({(int(s.flat.get("gan.pack", 1)), s.card[BUDGET]) for s in same})
        if len({pack for pack, _ in budgets}) == len({images for _, images in budgets}) == len(budgets) > 1:
            images = "; ".join(f"pack={pack}: {images}" for pack, images in budgets)
            for setting in same:
                setting.card[BUDGET] = f"{updates:,} updates of D ({images})"


def _updates(setting: Setting) -> int | None:
    """How often D learns within the budget; None if the config does not say."""
    config = setting.runs[0].config
    images, batch = config.get("max_images"), (config.get("data") or {}).get("batch_size")
    known = all(isinstance(value, int) and value > 0 for value in (images, batch))
    return -(-images // batch) if known else None


def differing(cards: list[dict[str, str]]) -> dict[str, list[str]]:
    """The fields in which cards differ, each with its value on every card ("–" where a card lacks it)."""
    fields = dict.fromkeys(name for card in cards for name in card)
    values = {name: [card.get(name, "–") for card in cards] for name in fields}
    return {name: found for name, found in values.items() if len(set(found)) > 1}
