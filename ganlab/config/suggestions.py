"""What to type instead of an override that does not fit."""

import difflib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

LOSS_SIGNATURES = {  # what a loss takes
    "discriminator_loss": "def discriminator_loss(self, real_logits, fake_logits)",
    "generator_loss": "def generator_loss(self, fake_logits, real_logits=None)",
}
LISTS = ("regularizer", "monitor", "logger")  # groups of which several may be chosen at once
OTHER_NAMES = {  # what to choose: other names of it
    "loss=ns": "bce non_saturating nonsaturating nsgan",
    "loss=minimax": "saturating",
    "loss=minimax or loss=ns": "gan vanilla",
    "loss=wgan": "wasserstein",
    "loss=ls": "least_squares lsgan",
    "loss=ns conditioning=ac": "ac_gan acgan",
    "loss=ns 'regularizer=[r1]'": "r1gan",
    "loss=hinge 'regularizer=[sn]'": "sngan",
    "'regularizer=[gp]'": "gradient_penalty",
    "'regularizer=[sn]'": "spectral_norm",
    "'regularizer=[clip]'": "weight_clipping",
    "data=cifar10": "cifar",
    "data=fashion_mnist": "fashion",
    "metrics=classifier or metrics=inception": "fid",
}
OTHER_KEYS = {
    "max_images (a run's length is counted in real images)": "epochs iterations max_epochs max_steps num_epochs steps",
    "optimizer.generator.lr or optimizer.discriminator.lr": "learning_rate",
    "gan.n_critic": "critic_iters critic_steps d_steps",
}


def unknown_key(key: str, conf: Path) -> str:
    """A sentence for a key that the composed config does not have."""
    choices = {key: choice for key, choice, _ in reversed(list(iter_keys(conf)))}  # the first file that has a key wins
    if choice := choices.get(key):
        return f"there is no {key} in this config; it comes with {choice}"
    section, name = key[: key.find(".") + 1], key.rpartition(".")[2]
    same_name = [known for known in choices if known.startswith(section) and known.endswith(f".{name}")]
    near = sorted(same_name)[:3] or difflib.get_close_matches(key, choices, n=3, cutoff=0.75)
    meant = _find(OTHER_KEYS, key) or " or ".join(near)
    hint = f"did you mean {meant}?" if meant else "python -m ganlab --cfg job prints all keys."
    return f"there is no key {key}; {hint} (Your own key is added by +{key}=VALUE.)"


def unknown_choice(file: str, options: Sequence[str], conf: Path) -> str:
    """A sentence for `group/name` without a file; `options`: the names that the group has."""
    group, _, name = file.rpartition("/")
    if not name:
        return "there is no config.yaml in the directory of --config-path; leave it out, --config-dir adds your own directory"
    if not group:
        return f"there is no configuration {name!r}; leave --config-name out, or name a file in your --config-dir"
    options = options or sorted(path.stem for path in (conf / group).glob("*.yaml"))
    name = name.lower().replace("-", "_")
    elsewhere = [_choice(path.parent.name, name) for path in conf.glob("*/*.yaml") if path.stem == name]
    near = [_choice(group, option) for option in difflib.get_close_matches(name, options, n=1)]
    meant = _find(OTHER_NAMES, name) or " or ".join(elsewhere or near)
    hint = f"did you mean {meant}? Or choose" if meant else "choose"
    return f"there is no {group}={file.rpartition('/')[2]}; {hint} one of {', '.join(options)}"


def unknown_target(target: str) -> str:
    """A sentence for a `_target_` that cannot be imported."""
    module, _, name = target.rpartition(".")
    if module and "." not in module and not module.startswith(("ganlab", "torch")):
        return (
            f"{target} is not found; does {module}.py stand in {Path.cwd()}, and does it define {name}? "
            "Your own modules are imported from the directory where you start python -m ganlab"
        )
    return f"there is no {name} in the module {module}; correct this _target_" if module else f"{target!r} is no MODULE.CLASS"


def unresolved_key(key: str, needs: str) -> str:
    """A sentence for a part whose config takes a value from another part that has none."""
    sentence = f"{key} needs {needs}, which this config does not have"
    if key.startswith("networks."):
        sentence += "; take networks=mlp for points, and networks=dcgan, resnet or mlp_images for images"
    return sentence


def misplaced_option(words: Sequence[str]) -> str | None:
    """A sentence with the command to type if an option stands between overrides, which argparse refuses; else None."""
    overrides = [word for word in words if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    if not overrides:
        return None
    last = max(i for i, word in enumerate(words) if word in overrides)
    between = [word for word in words[words.index(overrides[0]) : last] if word.startswith("-")]
    if not between:
        return None
    options = [word for word in words if word not in overrides]
    command = shlex.join(["python", "-m", "ganlab", *options, *overrides])
    return f"{between[0]} stands between overrides; options come first: {command}"


def iter_keys(conf: Path) -> Iterator[tuple[str, str, object]]:
    """Each dotted key in conf/, the choice that brings it ("" for a key that is always there), and its unresolved value."""
    yield from ((key, "", value) for key, value in _flatten(_load(conf / "config.yaml")) if key)
    for path in sorted(conf.glob("*/*.yaml")):
        group, package = path.parent.name, re.match(r"# @package (\S+)", path.read_text())
        place = package[1] if package else group
        if place == "_global_":
            continue
        yield from ((key, _choice(group, path.stem), value) for key, value in _flatten(_load(path), place))


def _find(table: dict[str, str], name: str) -> str | None:
    return next((meant for meant, names in table.items() if name in names.split()), None)


def _choice(group: str, name: str) -> str:
    if group in LISTS:
        return f"'{group}=[{name}]'"
    return f"{'+' * (group == 'experiment')}{group}={name}"


def _load(path: Path) -> object:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def _flatten(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    yield place, value
    if isinstance(value, dict):
        for name in value:
            if name not in ("defaults", "_target_", "_partial_"):
                yield from _flatten(value[name], f"{place}.{name}".strip("."))
