"""What a setting is called: its loss, what was typed for it and not for all, and what else tells it from the others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from ganlab.config.resolvers import family
from ganlab.report.settings import Setting

# Presets that a name says before anything else; the loss and the regularizers have their own place.
FIRST, OWN_PLACE = ("networks", "conditioning"), ("loss", "gan._target_", "regularizer", "experiment")
Facet = tuple[Callable[[str | None], str], list[str | None]]
"""How a value is written, and the value of each setting."""


def name(settings: list[Setting]) -> None:
    """Gives each setting of a card its name, such as "rpgan + r1 r2" or "ns pack=2"."""
    for setting in settings:
        setting.name = loss(setting)
    if len(settings) > 1:
        for written, values in _typed(settings):
            for setting, value in zip(settings, values, strict=True):
                setting.name += f" {text}" if (text := written(value)) else ""
    for alike in _by(settings, [setting.name for setting in settings]):
        _tell_apart(alike)
    if len({setting.single for setting in settings}) > 1:
        for setting in settings:
            setting.name += "" if setting.single else " (ensemble)"


def loss(setting: Setting) -> str:
    """The preset's name; the class's own name if another class was put into it, or if the choice is not known."""
    target, run = setting.flat.get("gan._target_", ""), setting.runs[0]
    preset = run.overrides.get("loss") or choices(run.folder).get("loss")
    if preset and target:
        return family(preset, target)
    return preset or target.rpartition(".")[2] or run.folder.name


def choices(folder: Path) -> dict[str, str]:
    """The presets that Hydra chose for a run: {"loss": "ns", "optimizer": "adam", …}; {} if it left no word of them."""
    try:
        text = (folder / ".hydra" / "hydra.yaml").read_text()
    except OSError:
        return {}
    block = re.search(r"^    choices:\n((?:      .*\n)+)", text, re.MULTILINE)
    return dict(re.findall(r"^      ([\w@.]+): ([\w.-]+)$", block[1], re.MULTILINE)) if block else {}


def _tell_apart(settings: list[Setting]) -> None:
    if len(settings) == 1:
        return
    facet = next((f for f in _facets(settings) if len(set(f[1])) > 1), None)
    if facet is None:  # runs that left no config
        for setting in settings:
            setting.name += f" ({setting.runs[0].folder.name})"
        return
    written, values = facet
    for setting, value in zip(settings, values, strict=True):
        setting.name += f" {text}" if (text := written(value)) else ""
    for alike in _by(settings, values):
        _tell_apart(alike)


def _by(settings: list[Setting], values: list) -> list[list[Setting]]:
    groups: dict = defaultdict(list)
    for setting, value in zip(settings, values, strict=True):
        groups[value].append(setting)
    return list(groups.values())


def _typed(settings: list[Setting]) -> Iterator[Facet]:
    """What somebody typed for some of the settings only: never left out, though the loss alone might tell them apart."""
    flats = [setting.everything for setting in settings]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    typed = [setting.runs[0].overrides for setting in settings]
    values_of = {key: [row.get(key) for row in typed] for row in typed for key in row}
    if any(_under(key, "regularizer") and len(set(values)) > 1 for key, values in values_of.items()):
        yield _acting, [_regularizers(setting) for setting in settings]  # those of an experiment and of a loss as well
    for key, values in values_of.items():
        if key not in OWN_PLACE and len(set(values)) > 1 and any(_under(k, key) and _differs(k, flats) for k in keys):
            yield _assigned(_short_key(key, keys, flats)), values


def _under(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def _differs(key: str, flats: list[dict[str, str]]) -> bool:
    return len({flat.get(key) for flat in flats}) > 1


def _facets(settings: list[Setting]) -> Iterator[Facet]:
    """In what the settings may differ, in the order in which a reader wants to know: the loss, regularizers, networks,
    conditioning, then what people typed, other presets, and the config's keys, short ones first."""
    flats = [setting.everything for setting in settings]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    differ = [key for key in keys if _differs(key, flats)]
    presets = [choices(setting.runs[0].folder) for setting in settings]
    typed = [setting.runs[0].overrides for setting in settings]

    def matters(group: str) -> bool:
        return any(_under(key, group) for key in differ)

    yield _module, [setting.flat.get("gan._target_") for setting in settings]
    yield _acting, [_regularizers(setting) for setting in settings]
    for group in FIRST:
        if matters(group):
            yield _assigned(group), [row.get(group) for row in presets]
    for key in dict.fromkeys(key for row in typed for key in row):
        if key not in OWN_PLACE and matters(key):
            yield _assigned(_short_key(key, keys, flats)), [row.get(key) for row in typed]
    for group in dict.fromkeys(group for row in presets for group in row):
        if group not in (*FIRST, *OWN_PLACE) and matters(group):
            yield _assigned(group), [row.get(group) for row in presets]
    own = list(dict.fromkeys(key for setting in settings for key in setting.flat))
    groups = list(dict.fromkeys(key.partition(".")[0] for key in own))  # gan first, the length of training last
    known = [key for key in own if key in differ]
    for key in sorted(known, key=lambda key: (groups.index(key.partition(".")[0]), key.count("."), len(key), key)):
        yield _assigned(_short_key(key, keys, flats)), [flat.get(key) for flat in flats]
    yield lambda value: "", [str(setting.single) for setting in settings]  # `name` says it


def _regularizers(setting: Setting) -> str:
    """The names of those that act, "r1 r2"; their numbers come with the other keys."""
    found = (setting.runs[0].config.get("gan") or {}).get("regularizers") or {}
    return " ".join(name for name, regularizer in found.items() if regularizer)


def _module(target: str | None) -> str:
    """Where a loss of one's own comes from, if another of the same name comes from elsewhere."""
    return f"of {target.rpartition('.')[0]}" if target else ""


def _acting(regularizers: str) -> str:
    return f"+ {regularizers}" if regularizers else ""


def _assigned(key: str) -> Callable[[str | None], str]:
    return lambda value: "" if value is None else f"{key}={_short(value)}"


def _short_key(key: str, keys: dict[str, None], flats: list[dict[str, str]]) -> str:
    """The end of a key, as long as no other key with this end has other values in these settings: r1.gamma, lr."""
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        end = ".".join(parts[start:])
        same = [other for other in keys if f".{other}".endswith(f".{end}")]
        if len({tuple(flat.get(other) for flat in flats) for other in same}) == 1:
            return end
    return key


def _short(value: str) -> str:
    """A class without its module; a search's numbers with 4 digits instead of 17."""
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", value):
        return value.rpartition(".")[2]
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value
