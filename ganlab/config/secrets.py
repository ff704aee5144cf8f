"""Keep keys and tokens of the environment out of the configuration, which is written into the run directory."""

import os
import re
from collections.abc import Iterable

from omegaconf.resolvers import oc

SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)  # in the name of an environment variable


def env(name: str, *default: str) -> str | None:
    """OmegaConf's resolver `oc.env`, which refuses to read a secret."""
    if SECRET.search(name):
        raise ValueError(_refusal(f"${{oc.env:{name}}}", name))
    return oc.env(name, *default)


def validate_words(words: Iterable[str]) -> None:
    """Raise ValueError if a word of the command line holds a secret's value or has Hydra save one."""
    values = {value: name for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 8}
    for word in words:
        names = [name for value, name in values.items() if value in word]
        if re.search(r"\benv_(copy|set)\b", word):  # hydra.job.env_copy=[NAME]
            names += filter(SECRET.search, re.findall(r"\w+", word))
        if names:
            raise ValueError(_refusal("the command line", names[0]))


def _refusal(what: str, name: str) -> str:
    return (
        f"{what} would write {name} into the run directory; leave it out, the library that needs {name} reads it from the "
        "environment itself"
    )
