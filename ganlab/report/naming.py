"""Name groups of runs: by their loss, what was typed for some of them only, and what else tells them apart."""

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from ganlab.config.resolvers import family
from ganlab.report.formatting import shorten_value
from ganlab.report.runs import RunGroup

SEPARATE = ("loss", "gan._target_", "regularizer", "experiment")  # named by their own rules
T = TypeVar("T")
Part = list[tuple[str, str | None]]
"""A possible part of the names: of each group its text ("" if there is nothing to say), and the value that this shortens."""


def name_groups(groups: list[RunGroup]) -> None:
    """Set the `name` of the groups of one ranking, such as "rpgan + r1 r2" or "ns pack=2"."""
    for group in groups:
        group.name = loss_name(group)
    if len(groups) > 1:
        for part in _typed_parts(groups):
            _add(part, groups)
    for same in split_by([group.name for group in groups], groups):
        _make_unique(same)
    if len({group.is_ensemble for group in groups}) > 1:
        for group in groups:
            group.name += " (ensemble)" if group.is_ensemble else ""


def loss_name(group: RunGroup) -> str:
    """The loss preset; the class name if the preset is unknown or its class was replaced."""
    target, run = group.settings.get("gan._target_", ""), group.runs[0]
    preset = None if "gan._target_" in run.overrides else run.overrides.get("loss") or run.presets.get("loss")
    if preset and target:
        return family(preset, target)
    return preset or target.rpartition(".")[2] or run.name


def _add(part: Part, groups: list[RunGroup]) -> None:
    for group, (text, _) in zip(groups, part, strict=True):
        group.name += f" {text}" if text else ""


def _make_unique(groups: list[RunGroup]) -> None:
    if len(groups) == 1:
        return
    part = next((part for part in _parts(groups) if len({value for _, value in part}) > 1), None)
    if part is None:  # runs without a config
        return _add([(f"({group.runs[0].name})", None) for group in groups], groups)
    _add(part, groups)
    for same in split_by([value for _, value in part], groups):
        _make_unique(same)


def split_by(keys: list, items: list[T]) -> list[list[T]]:
    """The items of each key, in the order of the keys' first occurrence."""
    by_key: dict = {}
    for key, item in zip(keys, items, strict=True):
        by_key.setdefault(key, []).append(item)
    return list(by_key.values())


def _typed_parts(groups: list[RunGroup]) -> Iterator[Part]:
    """What was typed for some groups only. It is always in the name, even where the loss alone would tell them apart."""
    flats = [group.all_settings for group in groups]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    typed = [group.runs[0].overrides for group in groups]
    values_of = {key: [row.get(key) for row in typed] for row in typed for key in row}
    if any(_is_under(key, "regularizer") and len(set(values)) > 1 for key, values in values_of.items()):
        yield _regularizers(groups)  # also those of an experiment or a loss
    for key, values in values_of.items():
        has_effect = any(_is_under(other, key) and _differs(other, flats) for other in keys)
        if key not in SEPARATE and len(set(values)) > 1 and has_effect:
            yield _assignments(_short_key(key, keys, flats), values)


def _parts(groups: list[RunGroup]) -> Iterator[Part]:
    """In what the groups may differ, the most telling first: the loss, regularizers, networks, conditioning, then other
    presets, and the config's keys, short ones first."""
    flats = [group.all_settings for group in groups]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    differing = [key for key in keys if _differs(key, flats)]
    presets = [group.runs[0].presets for group in groups]
    targets = [group.settings.get("gan._target_", "") for group in groups]
    yield [(f"of {target.rpartition('.')[0]}" if target else "", target) for target in targets]  # classes of the same name
    yield _regularizers(groups)
    for key in dict.fromkeys(["networks", "conditioning", *(key for row in presets for key in row)]):
        if key not in SEPARATE and any(_is_under(other, key) for other in differing):
            yield _assignments(key, (row.get(key) for row in presets))
    own = dict.fromkeys(key for group in groups for key in group.settings)
    top_level = list(dict.fromkeys(key.partition(".")[0] for key in own))  # gan first, max_images last
    own_differing = own.keys() & differing
    for key in sorted(own_differing, key=lambda key: (top_level.index(key.partition(".")[0]), key.count("."), len(key), key)):
        yield _assignments(_short_key(key, keys, flats), (flat.get(key) for flat in flats))
    yield [("", str(group.is_ensemble)) for group in groups]  # written by name_groups


def _is_under(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(f"{prefix}.")


def _differs(key: str, flats: list[dict[str, str]]) -> bool:
    return len({flat.get(key) for flat in flats}) > 1


def _regularizers(groups: list[RunGroup]) -> Part:
    """The active ones, such as "+ r1 r2"."""
    configs = [(group.runs[0].config.get("gan") or {}).get("regularizers") or {} for group in groups]
    names = [" ".join(name for name, regularizer in config.items() if regularizer) for config in configs]
    return [(f"+ {name}" if name else "", name) for name in names]


def _assignments(key: str, values: Iterable[str | None]) -> Part:
    return [("" if value is None else f"{key}={_short_value(value)}", value) for value in values]


def _short_value(value: str) -> str:
    is_class = re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", value)
    return value.rpartition(".")[2] if is_class else shorten_value(value)


def _short_key(key: str, keys: dict[str, None], flats: list[dict[str, str]]) -> str:
    """The shortest end of a key (r1.gamma, lr) such that every key with this end has the same values in these groups."""
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[start:])
        same = [other for other in keys if f".{other}".endswith(f".{end}")]
        if len({tuple(flat.get(other) for flat in flats) for other in same}) == 1:
            return end
    return key
