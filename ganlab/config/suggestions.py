"""What to type instead of an override that does not fit: the nearest key, or the choice that brings it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

LOSS_SIGNATURES = {  # what a loss takes
    "discriminator_loss": "def discriminator_loss(self, real_logits, fake_logits)",
    "generator_loss": "def generator_loss(self, fake_logits, real_logits=None)",
}
LISTS = ("regularizer", "monitor", "logger")  # groups of which several may be chosen at once


def unknown_key(key: str, conf: Path) -> str:
    """A sentence for a key that the composed config does not have."""
    brings = {key: choice for key, choice, _ in reversed(list(iter_keys(conf)))}  # the first file that has a key wins
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


def iter_keys(conf: Path) -> Iterator[tuple[str, str, object]]:
    """Each dotted key in conf/, the choice that brings it ("" for a key that is always there), and its unresolved value."""
    yield from ((key, "", value) for key, value in _flatten(_load(conf / "config.yaml")) if key)
    for path in sorted(conf.glob("*/*.yaml")):
        group, package = path.parent.name, re.match(r"# @package (\S+)", path.read_text())
        place = package[1] if package else group
        if place == "_global_":
            continue
        choice = f"'{group}=[{path.stem}]'" if group in LISTS else f"{group}={path.stem}"
        yield from ((key, choice, value) for key, value in _flatten(_load(path), place))


def _load(path: Path) -> object:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def _flatten(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    yield place, value
    if isinstance(value, dict):
        for name in value:
            if name not in ("defaults", "_target_", "_partial_"):
                yield from _flatten(value[name], f"{place}.{name}".strip("."))
