"""Protocol cards: what has to be equal before two numbers may stand in one ranking."""

from __future__ import annotations

import json
from collections import defaultdict

from ganlab.report.settings import Setting, flatten

# Of data and metrics, what cannot change a measured number's meaning.
NOT_THE_MEASURE = {"batch_size", "data_dir", "root"}
BUDGET = "budget (real images)"


def give_cards(settings: list[Setting]) -> None:
    """A setting whose runs all crashed takes what was measured from one with the same data and metric in its config."""
    measured: dict[str, dict] = {}
    for setting in settings:
        if setting.protocol:
            measured.setdefault(_measure(setting), setting.protocol)
    for setting in settings:
        protocol = setting.protocol or measured.get(_measure(setting), {})
        setting.card = card_of(setting, protocol)
    _count_packs(settings)


def _measure(setting: Setting) -> str:
    parts = {key: value for key, value in setting.flat.items() if key.partition(".")[0] in ("data", "metrics")}
    return json.dumps({k: v for k, v in parts.items() if k.rpartition(".")[2] not in NOT_THE_MEASURE}, sort_keys=True)


def card_of(setting: Setting, protocol: dict) -> dict[str, str]:
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
    card.setdefault("split", "the modes' exact centers" if "modes" in protocol else "unknown")
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
