"""`key=value` words on the command line, for the verbs that compose no configuration."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import GenericAlias
from typing import get_args

TRUTH = {"true": True, "false": False}
MEANING = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

OPTIONS = {  # of the verbs that load torch: what they know is told, and what they do not is refused, without it
    "evaluate": {
        "run": "latest",
        "n": 10_000,
        "seed": 1,
        "out": str,
        "run_seed": int,
        "features": str,
        "data_dir": str,
        "root": str,
        "trust": list[str],
    },
    "export": {
        "run": "latest",
        "format": "safetensors",
        "run_seed": int,
        "out": str,
        "trust": list[str],
    },
    "interpolate": {
        "run": "latest",
        "from": 1,
        "to": int,
        "labels": list[int],
        "label": int,
        "steps": 10,
        "rows": 6,
        "run_seed": int,
        "out": str,
        "trust": list[str],
        "data_dir": str,
    },
    "neighbors": {
        "run": "latest",
        "n": 8,
        "k": 3,
        "label": int,
        "seed": 1,
        "run_seed": int,
        "out": str,
        "trust": list[str],
        "data_dir": str,
        "root": str,
    },
    "sample": {
        "run": "latest",
        "n": 64,
        "label": int,
        "truncation": float,
        "seed": 1,
        "run_seed": int,
        "out": str,
        "trust": list[str],
        "data_dir": str,
    },
}


def parsed(verb: str, arguments: list[str], **defaults) -> dict:
    """The words as a dict with a key for each of `defaults`; `-h` or `--help` prints the options and ends the program.

    A default is a value, whose type the word must have, or, for an option that may be left out, the type itself: then
    it is None where it is absent or `null`. Types: int (also 10_000), float, bool, str, list[int] and list[str]
    (comma-separated).

        parsed("sample", ["n=3"], run="latest", n=64, label=int) == {"run": "latest", "n": 3, "label": None}

    Raises:
        ValueError: a word is not key=value, its key is unknown or was given before, or its value is of another type.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage(verb, defaults))
        raise SystemExit(0)
    given: dict[str, object] = {}
    for word in arguments:
        key, equals, text = word.partition("=")
        if not equals:
            place = next((key for key in ("run", "resume") if key in defaults), None)
            meant = f", perhaps {place}={word}" if place and (word == "latest" or Path(word).exists()) else ""
            raise ValueError(f"{verb} takes key=value, got {word!r}{meant}; it knows {', '.join(defaults)}")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=2)
            meant = f", perhaps {' or '.join(near)} was meant" if near else ""
            raise ValueError(f"{verb} has no option {key}={meant}; it knows {', '.join(defaults)}")
        if key in given:
            raise ValueError(f"{key}= was given twice, the second time as {text!r}; leave one out")
        given[key] = _read(key, text, defaults[key])
    return {key: given.get(key, None if _is_type(default) else default) for key, default in defaults.items()}


def usage(verb: str, defaults: dict) -> str:
    """The options with their defaults, one a line."""
    lines = [f"python -m ganlab {verb} [key=value …]"]
    for key, default in defaults.items():
        lines.append(f"  {key}={_described(default) if _is_type(default) else _written(default)}")
    return "\n".join(lines)


def _is_type(default) -> bool:
    return isinstance(default, (type, GenericAlias))


def _written(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(kind) -> str:
    if isinstance(kind, GenericAlias):
        return f"… ({MEANING[get_args(kind)[0]]}, or several with commas between; may be left out)"
    return f"… ({MEANING[kind]}; may be left out)"


def _read(key: str, text: str, default):
    if not _is_type(default):
        return _value(key, text, type(default))
    if text == "null":
        return None
    if isinstance(default, GenericAlias):
        return [_value(key, word, get_args(default)[0]) for word in text.split(",")]
    return _value(key, text, default)


def _value(key: str, text: str, kind: type):
    try:
        value = TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        value = None
    if value is None or (kind is str and not text):
        raise ValueError(f"{key}= must be {MEANING[kind]}, got {text!r}") from None
    return value
