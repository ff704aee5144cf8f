"""Group runs into settings (the same configuration, several seeds), and settings into rankings (the same protocol)."""

import json
import math
from collections import defaultdict

from ganlab.report.naming import name_groups, split_by
from ganlab.report.runs import Run, RunGroup

# The config keys that training and measuring depend on. The others feed these, or say where, when and how to evaluate.
SETTINGS = ("gan", "data", "metrics", "trainer", "max_images")
IGNORED = {"data.data_dir", "metrics.batch_size",
           *(f"trainer.{key}" for key in ("_target_", "accelerator", "strategy", "deterministic", "benchmark", "profiler",
                                          "log_every_n_steps", "enable_checkpointing", "enable_progress_bar",
                                          "enable_model_summary", "default_root_dir"))}  # fmt: skip
# Keys that never name a group. Any other names one if SETTINGS depend on it.
NOT_IN_NAMES = {
    "seed", "seeds", "threads", "eval_every", "published", "run_dir", "name", "data_dir", "callbacks", "logger", "monitor",
}  # fmt: skip
# Keys of data and metrics that do not change what a result means.
NOT_IN_PROTOCOL = {"batch_size", "data_dir", "root"}

SAMPLES, BUDGET = "N (samples per evaluation)", "budget (real images)"
FIELD_NAMES = {"samples": SAMPLES, "fingerprint": "data fingerprint", "extractor.sha256": "extractor hash",
               "extractor.name": "extractor", "extractor.accuracy": "extractor's accuracy",
               "reference": "split", "reference_size": "split's size", "reference_fingerprint": "split's fingerprint"}  # fmt: skip


def group_runs(runs: list[Run]) -> list[list[RunGroup]]:
    """Named groups, one list per protocol; the list with the most runs comes first."""
    settings = [_settings_of(run) or str(run.dir.path) for run in runs]  # a run without a config is alone
    configs = [json.dumps([run.is_ensemble, setting], sort_keys=True) for run, setting in zip(runs, settings, strict=True)]
    groups = [_build_group(same) for runs in split_by(configs, runs) for same in _split_by_protocol(runs)]
    _assign_protocols(groups)
    rankings = split_by([json.dumps(group.protocol, sort_keys=True) for group in groups], groups)
    rankings.sort(key=lambda groups: -sum(len(group.runs) for group in groups))
    for groups in rankings:
        name_groups(groups)
    return rankings


def differing_fields(protocols: list[dict[str, str]]) -> dict[str, list[str]]:
    """The fields in which protocols differ, each with its value in every protocol ("–" where one lacks it)."""
    fields = dict.fromkeys(name for protocol in protocols for name in protocol)
    values = {name: [protocol.get(name, "–") for protocol in protocols] for name in fields}
    return {name: row for name, row in values.items() if len(set(row)) > 1}


def flatten(value, path: str = "") -> dict[str, str]:
    """{"gan": {"n_critic": 5}} -> {"gan.n_critic": "5"}; a list is one value."""
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value, default=str).strip('"')} if path else {}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{path}.{key}" if path else str(key))
    return flat


def _settings_of(run: Run) -> dict[str, str]:
    flat = flatten({key: run.config[key] for key in SETTINGS if key in run.config})
    return {key: value for key, value in flat.items() if key not in IGNORED}


def _split_by_protocol(runs: list[Run]) -> list[list[Run]]:
    """Runs of one config by the protocol of their results. A run without a result joins the run with one that started
    nearest to it, whose data it most likely had."""
    measured = [run for run in runs if run.summary.get("protocol")]
    protocols = []
    for run in runs:
        nearest = min(measured, key=lambda other: abs(other.started - run.started), default=run)
        source = RunGroup([run if run.summary.get("protocol") else nearest], settings=_settings_of(run))
        protocols.append(json.dumps(protocol_of(source, source.metric_protocol), sort_keys=True))
    return split_by(protocols, runs)


def _build_group(runs: list[Run]) -> RunGroup:
    """Keep one run per seed, since a repeated seed is no new evidence: the newest that is over, else the newest."""
    oldest_first = [seed for run in sorted(runs, key=lambda run: run.started) for seed in run.seeds]
    chosen = {seed.seed: seed for seed in sorted(oldest_first, key=lambda seed: seed.status != "unfinished")}
    kept = [run for run in runs if any(chosen[seed.seed] is seed for seed in run.seeds)]
    for run in kept:
        run.seeds = [seed for seed in run.seeds if chosen[seed.seed] is seed]
    kept.sort(key=lambda run: min(seed.seed for seed in run.seeds))
    settings = _settings_of(kept[0])
    presets = flatten({key: value for key, value in kept[0].config.items() if key not in {*SETTINGS, *NOT_IN_NAMES}})
    return RunGroup(kept, replaced=len(runs) - len(kept), settings=settings, all_settings=settings | presets)


def _assign_protocols(groups: list[RunGroup]) -> None:
    """A group without a result takes its protocol from one with the same data and metrics in its config."""
    measured: dict[str, dict] = {}
    for group in groups:
        if group.metric_protocol:
            measured.setdefault(str(_data_and_metrics(group)), group.metric_protocol)
    for group in groups:
        group.protocol = protocol_of(group, group.metric_protocol or measured.get(str(_data_and_metrics(group)), {}))
    _join_packed_budgets(groups)


def _data_and_metrics(group: RunGroup) -> dict[str, str]:
    settings = {key: value for key, value in group.settings.items() if key.startswith(("data.", "metrics."))}
    return {key: settings[key] for key in sorted(settings) if key.rpartition(".")[2] not in NOT_IN_PROTOCOL}


def protocol_of(group: RunGroup, measured: dict) -> dict[str, str]:
    """What has to be equal before two results are comparable, as text. `measured`: the metric's own description, or {}."""
    config, summaries = group.runs[0].config, [run.summary for run in group.runs]

    def first_known(name: str, default) -> str:
        return str(next((summary[name] for summary in summaries if summary.get(name) is not None), default))

    data = group.settings.get("data._target_", "unknown").rpartition(".")[2]
    protocol = {"data": data, SAMPLES: "unknown"}
    protocol |= {FIELD_NAMES.get(key, key): value for key, value in flatten(measured).items()}
    if "samples" in measured:
        protocol[SAMPLES] = f"{measured['samples']:,}"
    if not measured:
        protocol |= _data_and_metrics(group)
    protocol.setdefault("split", "the modes' exact centers" if "modes" in measured else "unknown")
    protocol["precision"] = first_known("precision", (config.get("trainer") or {}).get("precision", "unknown"))
    protocol["EMA of the generator"] = first_known("ema_decay", (config.get("gan") or {}).get("ema_decay", "unknown"))
    budget = config.get("max_images", "unknown")
    protocol[BUDGET] = f"{budget:,}" if isinstance(budget, int) else str(budget)
    return protocol


def _join_packed_budgets(groups: list[RunGroup]) -> None:
    """Give groups of different `gan.pack` one budget where they train D on equally many packs, and so on as many times
    more images as a pack holds."""
    alike: dict[tuple, list[RunGroup]] = defaultdict(list)
    for group in groups:
        if updates := _discriminator_updates(group.runs[0].config):
            others = {key: value for key, value in group.protocol.items() if key != BUDGET}
            alike[updates, tuple(sorted(others.items()))].append(group)
    for (updates, _), same in alike.items():
        budgets = sorted({(int(group.settings.get("gan.pack", 1)), group.protocol[BUDGET]) for group in same})
        if len({pack for pack, _ in budgets}) == len({images for _, images in budgets}) == len(budgets) > 1:
            images = "; ".join(f"pack={pack}: {images}" for pack, images in budgets)
            for group in same:
                group.protocol[BUDGET] = f"{updates:,} updates of D ({images})"


def _discriminator_updates(config: dict) -> int | None:
    """How many batches the budget has; None if the config does not tell."""
    images, batch = config.get("max_images"), (config.get("data") or {}).get("batch_size")
    return math.ceil(images / batch) if isinstance(images, int) and isinstance(batch, int) and batch > 0 else None
