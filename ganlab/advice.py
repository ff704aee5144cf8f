"""What to type instead of an override that does not fit: the nearest key, or the choice that brings it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

LISTS = ("regularizer", "monitor", "logger")  # groups of which several may be chosen at once


def unknown_key(key: str, conf: Path) -> str:
    """A sentence for a key that the composed config does not have."""
    brings = dict(reversed(list(_keys(conf))))  # the first file that has a key wins
    if choice := brings.get(key):
        return f"there is no {key} in this config; it comes with {choice}"
    near = difflib.get_close_matches(key, brings, n=3, cutoff=0.75)
    meant = f"did you mean {' or '.join(near)}?" if near else "python -m ganlab --cfg job prints all keys."
    return f"there is no key {key}; {meant} (One of your own is added by +{key}=VALUE.)"


def unresolved(key: str, needs: str) -> str:
    """A sentence for a part whose config takes a value from another part that has none."""
    sentence = f"{key} needs {needs}, which this config does not have"
    if key.startswith("networks."):
        sentence += "; take networks=mlp for points, and networks=dcgan, resnet or mlp_images for images"
    return sentence


def _keys(conf: Path) -> Iterator[tuple[str, str]]:
    """Every dotted key of conf/, with the choice that brings it; none for those that are always there."""
    yield from ((key, "") for key in _below(OmegaConf.load(conf / "config.yaml")))
    for path in sorted(conf.glob("*/*.yaml")):
        group, text = path.parent.name, path.read_text()
        package = re.match(r"# @package (\S+)", text)
        place = package[1] if package else group
        if place == "_global_":
            continue
        choice = f"'{group}=[{path.stem}]'" if group in LISTS else f"{group}={path.stem}"
        yield from ((key, choice) for key in _below(OmegaConf.create(text), place))


def _below(node, place: str = "") -> Iterator[str]:
    if place:
        yield place
    if isinstance(node, DictConfig):
        for name in node:
            if name not in ("defaults", "_target_", "_partial_"):
                child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
                yield from _below(child, f"{place}.{name}".strip("."))
