"""The files of a run, whatever a kill or a full disk left of them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import yaml

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a run's config is resolved, plain YAML; OmegaConf is 20x slower


def as_number(text) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def table(path: Path) -> list[dict]:
    """The table's whole lines: a run that was killed may have left half of one at the end."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = text[: text.rfind("\n") + 1].replace("\0", "")
    return list(csv.DictReader(io.StringIO(lines)))


def read_summary(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except OSError:
        return {}
    except ValueError as error:
        return {"status": "failed", "error": f"its summary.json cannot be read ({error})"}
    return found if isinstance(found, dict) else {"status": "failed", "error": "its summary.json holds no summary"}


def plain_yaml(path: Path):
    try:
        return yaml.load(path.read_text(), Loader)
    except (OSError, yaml.YAMLError):
        return None


def hydra_config(path: Path) -> dict:
    """What Hydra composed, for a run that stopped before it wrote its own config.yaml: resolved as far as it can be."""
    if not path.exists():
        return {}
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    import ganlab.config.resolvers  # noqa: F401  what conf/ asks for

    config = OmegaConf.load(path)
    config.name, config.run_dir = "", ""  # only Hydra can resolve these, and a setting does not depend on them
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config, resolve=False)
