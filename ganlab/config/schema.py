"""A setting keeps the kind that conf/ gives it: numbers stay numbers, sections stay sections."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.config import suggestions

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a section of settings",
    type(None): "null",
}
OPEN = ("trainer.devices", "trainer.precision", "trainer.deterministic", "monitor.on_verdict")  # these have several kinds
REQUIRED = ("callbacks", "data", "gan", "logger", "name", "run_dir", "seed", "trainer")
NULL = {  # what may stand where conf/ has null
    "callbacks.verdicts": dict,
    "data.root": str,
    "gan.discriminator_scheduler": dict,
    "gan.generator_scheduler": dict,
    "published": dict,
    "seeds_at_once": int,
}
SEEDS = 2**32  # numpy takes seeds below this


def settle(cfg: DictConfig, conf: Path) -> None:
    """Refuses a setting of another kind than in conf/; whole numbers become floats, and 1e5 a whole number, where due.

    Only settings that conf/ has are looked at; what a value may be within its kind is for the part that it goes to.

    Raises:
        ValueError: the first setting of another kind, or a section that is missing.
    """
    for key, kinds in known(conf).items():
        try:
            value = OmegaConf.select(cfg, key, default=None)
        except OmegaConfBaseException:  # an interpolation that leads nowhere is told where it is resolved
            continue
        parent, _, name = key.rpartition(".")
        section = OmegaConf.select(cfg, parent) if parent else cfg
        if value is None and isinstance(section, DictConfig) and OmegaConf.is_interpolation(section, name):
            continue  # so is one that leads to null: Hydra's own facts are null until its job begins
        if not isinstance(section, DictConfig) or name not in section:
            if key in REQUIRED:
                raise ValueError(f"{key} is missing in this config; leave ~{key} out")
            continue
        settled = _settled(key, value, kinds)
        if settled is not value:
            OmegaConf.update(cfg, key, settled, force_add=True)
    if not OmegaConf.select(cfg, "gan._target_"):
        raise ValueError("gan has no _target_, the class of the loss; choose one of ganlab's with loss=")
    if OmegaConf.select(cfg, "trainer.max_epochs") == 0:
        raise ValueError("trainer.max_epochs=0 trains nothing; set the length with max_images=")
    if not 0 <= cfg.seed < SEEDS:
        raise ValueError(f"seed must lie in 0 … {SEEDS - 1}, got {cfg.seed}")


@cache
def known(conf: Path) -> dict[str, tuple]:
    """The kinds that a key has in the files of conf/: types, or [type] for a list of equals; its sections come first."""
    found, aliases, free = defaultdict(set), defaultdict(set), {*OPEN}
    found["name"], found["run_dir"] = {str}, {str}
    for key, choice, value in suggestions.keys(conf):
        if isinstance(value, str) and "${" in value:
            points = re.fullmatch(r"\$\{([\w.]+)\}", value)
            aliases[key].add(points[1] if points else key)
        elif isinstance(value, ListConfig):
            items = {type(item) for item in value._content and [node._value() for node in value._content]}
            found[key].add((list, items.pop() if len(items) == 1 and items <= {int, float} else None))
        else:
            found[key].add(dict if isinstance(value, DictConfig) else type(value))
            if value is None and key in NULL:
                found[key].add(NULL[key])
        top = key.partition(".")[0]
        if choice and top != key and key.count(".") == 1 and top not in found:
            found[top].add(dict)
    for key, others in aliases.items():  # of the kind of what it points to
        for other in others:
            if other in found and other not in free:
                found[key] |= found[other]
            elif key not in ("name", "run_dir"):
                free.add(key)
    free |= {key for key, kinds in found.items() if kinds == {type(None)}}
    return {key: tuple(found[key]) for key in sorted(found, key=lambda key: key.count(".")) if key not in free}


def _settled(key: str, value, kinds: tuple):
    """The value in one of the kinds, itself if it is of one."""
    if value is None and (
        type(None) in kinds or dict in kinds and "." in key
    ):  # a part may be left out: callbacks.sample_grid=null
        return value
    kind = {DictConfig: dict, ListConfig: list}.get(type(value), type(value))
    if kind is list:
        return _settled_list(key, value, kinds)
    if kind in kinds:
        return value
    if kind is int and float in kinds:
        return _as_float(key, value)
    if kind is float and int in kinds and value.is_integer():
        return int(value)
    if kind in (int, float, bool) and str in kinds:
        return str(value)
    raise ValueError(f"{key} must be {_said(kinds)}, got {_shown(value)}")


def _settled_list(key: str, value: ListConfig, kinds: tuple):
    lists = [kind for kind in kinds if isinstance(kind, tuple)]
    if not lists:
        raise ValueError(f"{key} must be {_said(kinds)}, got {_shown(value)}")
    if any(item is None for _, item in lists):
        return value
    wanted = {item for _, item in lists}
    items = [_settled(f"{key}[{place}]", item, tuple(wanted)) for place, item in enumerate(value)]
    return value if all(new is old for new, old in zip(items, value, strict=True)) else items


def _as_float(key: str, value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{key} must be a number below 1.8e308, got a whole number of {len(str(value))} digits") from None


def _said(kinds: tuple) -> str:
    words = dict.fromkeys("a list" if isinstance(kind, tuple) else WORDS[kind] for kind in kinds)
    return " or ".join(sorted(words, key=lambda word: word == "null"))


def _shown(value) -> str:
    return "null" if value is None else repr(value)
