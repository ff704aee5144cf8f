"""What to type instead of an override that does not fit: the nearest key, or the choice that brings it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, ListConfig, Node, OmegaConf

LOSS_SIGNATURES = {  # what a loss takes
    "discriminator_loss": "def discriminator_loss(self, real_logits, fake_logits)",
    "generator_loss": "def generator_loss(self, fake_logits, real_logits=None)",
}
LISTS = ("regularizer", "monitor", "logger")  # groups of which several may be chosen at once


def unknown_key(key: str, conf: Path) -> str:
    """A sentence for a key that the composed config does not have."""
    brings = {key: choice for key, choice, _ in reversed(list(keys(conf)))}  # the first file that has a key wins
    if choice := brings.get(key):
        return f"there is no {key} in this config; it comes with {choice}"
    group, end = key.partition(".")[0], key.rpartition(".")[2]
    inside = [other for other in brings if other.startswith(f"{group}.") and other.endswith(f".{end}")]
    near = sorted(inside)[:3] or difflib.get_close_matches(key, brings, n=3, cutoff=0.75)
    meant = f"did you mean {' or '.join(near)}?" if near else "python -m ganlab --cfg job prints all keys."
    return f"there is no key {key}; {meant} (One of your own is added by +{key}=VALUE.)"


def unresolved(key: str, needs: str) -> str:
    """A sentence for a part whose config takes a value from another part that has none."""
    sentence = f"{key} needs {needs}, which this config does not have"
    if key.startswith("networks."):
        sentence += "; take networks=mlp for points, and networks=dcgan, resnet or mlp_images for images"
    return sentence


def keys(conf: Path) -> Iterator[tuple[str, str, object]]:
    """Every dotted key of conf/, the choice that brings it ("" for those that are always there), and its raw value."""
    yield from ((key, "", value) for key, value in _below(OmegaConf.load(conf / "config.yaml")) if key)
    for path in sorted(conf.glob("*/*.yaml")):
        group, text = path.parent.name, path.read_text()
        package = re.match(r"# @package (\S+)", text)
        place = package[1] if package else group
        if place == "_global_":
            continue
        choice = f"'{group}=[{path.stem}]'" if group in LISTS else f"{group}={path.stem}"
        yield from ((key, choice, value) for key, value in _below(OmegaConf.create(text), place))


def _below(node, place: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(node, DictConfig):
        yield place, node._value() if isinstance(node, Node) and not isinstance(node, ListConfig) else node
        return
    yield place, node
    for name in node:
        if name not in ("defaults", "_target_", "_partial_"):
            yield from _below(node._get_node(name), f"{place}.{name}".strip("."))
