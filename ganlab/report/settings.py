"""Runs of the same config are seeds of one setting; settings measured the same way share a protocol card."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field

from ganlab.report.runs import Run, Seed

# What tells a run's place and number, and not how it was trained or measured.
NOT_A_SETTING = {"seed", "seeds", "seeds_at_once", "published", "run_dir", "name", "data_dir", "callbacks", "logger"}
# Of data and metrics, what cannot change a measured number's meaning.
NOT_THE_MEASURE = {"batch_size", "num_workers", "data_dir", "root"}


@dataclass
class Setting:
    """Runs whose config is the same but for their seeds. `name` says in what it differs from the others of its card."""

    runs: list[Run]
    name: str = ""
    replaced: int = 0
    """Runs left out since a newer one has the same config and seed."""
    flat: dict[str, str] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[Seed]:
        return sorted((seed for run in self.runs for seed in run.seeds), key=lambda seed: seed.seed)

    @property
    def protocol(self) -> dict:
        return next((run.summary["protocol"] for run in self.runs if run.summary.get("protocol")), {})


def group(runs: list[Run]) -> list[list[Setting]]:
    """Settings, named, by protocol card: one list per card, the one with the most runs first."""
    by_config: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        flat = _flat(run)
        by_config[json.dumps(flat, sort_keys=True) if flat else str(run.folder)].append(run)
    settings = [_setting(same) for same in by_config.values()]
    _give_cards(settings)
    by_card: dict[tuple, list[Setting]] = defaultdict(list)
    for setting in settings:
        by_card[tuple(sorted(setting.card.items()))].append(setting)
    cards = sorted(by_card.values(), key=lambda group: -sum(len(s.runs) for s in group))
    for card in cards:
        _name(card)
    return cards


def _setting(runs: list[Run]) -> Setting:
    """One run per seed: the newest, since a repeated seed is no new evidence."""
    newest: dict[int, Run] = {}
    kept = []
    for run in sorted(runs, key=_written, reverse=True):
        numbers = {seed.seed for seed in run.seeds}
        if numbers <= newest.keys():
            continue
        run.seeds = [seed for seed in run.seeds if seed.seed not in newest]
        newest |= dict.fromkeys(numbers, run)
        kept.append(run)
    kept.sort(key=lambda run: min(seed.seed for seed in run.seeds))
    return Setting(kept, replaced=len(runs) - len(kept), flat=_flat(kept[0]))


def _flat(run: Run) -> dict[str, str]:
    flat = flatten({key: value for key, value in run.config.items() if key not in NOT_A_SETTING})
    return {key: value for key, value in flat.items() if not key.endswith(".data_dir")}


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
    card["budget (real images)"] = f"{budget:,}" if isinstance(budget, int) else str(budget)
    return card


def differing(cards: list[dict[str, str]]) -> dict[str, list[str]]:
    """The fields in which cards differ, each with its value on every card ("–" where a card lacks it)."""
    fields = dict.fromkeys(name for card in cards for name in card)
    values = {name: [card.get(name, "–") for card in cards] for name in fields}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


# Names -----------------------------------------------------------------------------------------------------------


def _name(settings: list[Setting]) -> None:
    """The loss first; where that leaves settings of one name, what they differ in among each other, and no more."""
    for setting in settings:
        setting.name = _loss(setting)
    for alike in _by(settings, lambda setting: setting.name):
        _tell_apart(alike)


def _tell_apart(settings: list[Setting]) -> None:
    if len(settings) == 1:
        return
    differing = next(_candidates(settings), None)
    if differing is None:  # runs that left no config
        for setting in settings:
            setting.name += f" ({setting.runs[0].folder.name})"
        return
    key, values = differing
    for setting, value in zip(settings, values, strict=True):
        setting.name += f" {key}={_short(value)}" if value is not None else ""
    for alike in _by(settings, lambda setting: values[settings.index(setting)]):
        _tell_apart(alike)


def _by(settings: list[Setting], key) -> list[list[Setting]]:
    groups: dict = defaultdict(list)
    for setting in settings:
        groups[key(setting)].append(setting)
    return list(groups.values())


def _candidates(settings: list[Setting]):
    """(key, value in each setting or None): what people typed first, if it matters, then the config, short keys first."""
    flats = [setting.flat for setting in settings]
    differ = {key for flat in flats for key in flat if len({other.get(key) for other in flats}) > 1}
    overrides = [setting.runs[0].overrides for setting in settings]
    for key in dict.fromkeys(key for row in overrides for key in row):
        matters = any(name == key or name.startswith(f"{key}.") for name in differ)
        values = [row.get(key) for row in overrides]
        if matters and key != "loss" and len(set(values)) > 1:
            yield key, values
    for key in sorted(differ, key=lambda key: (key.count("."), len(key), key)):
        yield key, [flat.get(key) for flat in flats]


def _loss(setting: Setting) -> str:
    """The preset's name; the class's own name if that is the user's, or if the choice is not known."""
    target = setting.flat.get("gan._target_", "")
    if target and not target.startswith("ganlab."):
        return target.rpartition(".")[2]
    folder = setting.runs[0].folder / ".hydra"
    try:
        choice = re.search(r"^      loss: (\S+)$", (folder / "hydra.yaml").read_text(), re.MULTILINE)
    except OSError:
        choice = None
    found = (choice and choice[1]) or setting.runs[0].overrides.get("loss") or target.rpartition(".")[2]
    return found or setting.runs[0].folder.name


def _short(value: str) -> str:
    """A search's numbers with 4 digits instead of 17."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value
