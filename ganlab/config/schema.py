"""Type-check overrides against conf/."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import GenericAlias, NoneType
from typing import get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ganlab.config.paths import conf_folder
from ganlab.config.suggestions import iter_keys
from ganlab.utils.validation import validate_int

TOP_LEVEL: dict[str, tuple] = {  # the types of the keys outside all sections, and the sections that a run needs
    "name": (str,),
    "run_dir": (str,),
    "data_dir": (str,),
    "seed": (int,),
    "seeds": (int, NoneType),
    "threads": (int,),
    "max_images": (int,),
    "eval_every": (int,),
    "published": (dict, NoneType),
    **dict.fromkeys(("callbacks", "data", "gan", "logger", "trainer"), (dict,)),
}
SECTION_OR_NULL = ("callbacks.verdicts", "gan.discriminator_scheduler", "gan.generator_scheduler")  # null in conf/
SEVERAL_TYPES = ("monitor.on_verdict", "trainer.deterministic")  # their classes also take strings
REQUIRED = ("callbacks", "data", "gan", "logger", "name", "run_dir", "seed", "trainer")
WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", dict: "a section", NoneType: "null"}

ENDLESS = "training is one endless epoch; set its length in real images with max_images="
EVALUATES = "ganlab evaluates by itself; set the interval in real images with eval_every=, the samples with metrics.samples="
NO_TEST = "training neither tests nor predicts; leave it out"
CLIPS = "gan.gradient_clip=NUMBER clips the gradients of both networks"
# Argument of lightning.Trainer: (values that ask for nothing, what to use instead)
TRAINER_WITHOUT_EFFECT: dict[str, tuple[tuple, str]] = {
    "max_epochs": ((None, -1), ENDLESS),
    "min_epochs": ((None,), ENDLESS),
    "min_steps": ((None,), ENDLESS),
    "limit_train_batches": ((None, 1.0), ENDLESS),
    "overfit_batches": ((0, 0.0), "training is one endless epoch over all data; choose smaller data"),
    "reload_dataloaders_every_n_epochs": ((0,), "training is one endless epoch; leave it out"),
    "limit_val_batches": ((None, 1.0), EVALUATES),
    "val_check_interval": ((None, 1.0), EVALUATES),
    "check_val_every_n_epoch": ((None, 1), EVALUATES),
    "num_sanity_val_steps": ((None, 0), EVALUATES),
    "limit_test_batches": ((None, 1.0), NO_TEST),
    "limit_predict_batches": ((None, 1.0), NO_TEST),
    "inference_mode": ((True,), NO_TEST),
    "accumulate_grad_batches": ((1,), "losses and penalties are of whole batches; raise data.batch_size"),
    "gradient_clip_val": ((None,), CLIPS),
    "gradient_clip_algorithm": ((None,), CLIPS),
    "use_distributed_sampler": ((True,), "each process takes its own share of each epoch; leave it out"),
    "barebones": ((False,), "a run logs and measures itself; choose logger=csv, metrics=none and 'monitor=[]'"),
    "logger": ((), "choose loggers with logger=, such as logger=csv or logger=[csv,wandb]"),
    "callbacks": ((), "add a callback with +callbacks.NAME={_target_: MODULE.CLASS}"),
    "plugins": ((), "ganlab sets its own; leave it out"),
}


def validate_types(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check the types of the top-level keys and of the keys that were typed, and convert numbers in place.

    An int becomes a float where conf/ has a float, and 1e5 becomes an int where conf/ has an int. Strings below the top
    level, and keys that conf/ does not have, are left to the classes that take them.

    Raises:
        ValueError: a value of the wrong type, a missing section, or a top-level number out of range.
    """
    if missing := [key for key in REQUIRED if key not in cfg]:
        raise ValueError(f"{missing[0]} is missing in this config; leave ~{missing[0]} out")
    typed = {key for word in overrides if "." in (key := word.lstrip("+").partition("=")[0])}
    expected = expected_types(Path(conf_folder())) if typed else {}
    for key, types in [*TOP_LEVEL.items(), *((key, expected[key]) for key in sorted(typed & expected.keys()))]:
        parent, _, name = key.rpartition(".")
        try:
            section = OmegaConf.select(cfg, parent) if parent else cfg
            value = OmegaConf.select(cfg, key)
        except OmegaConfBaseException:  # an interpolation that fails is reported where it is used
            continue
        if not isinstance(section, DictConfig) or name not in section:
            continue
        converted = value if value is None and OmegaConf.is_interpolation(section, name) else _convert(key, value, types)
        if converted is not value:
            OmegaConf.update(cfg, key, converted, force_add=True)
    if not OmegaConf.select(cfg, "gan._target_"):
        raise ValueError("gan has no _target_, the class of the loss; choose one of ganlab's with loss=")
    for key, (neutral, instead) in TRAINER_WITHOUT_EFFECT.items():
        asks_nothing = {(type(value), value) for value in neutral}  # limit_train_batches=1.0 is all batches, 1 is one
        if key in cfg.trainer and (type(value := cfg.trainer[key]), value) not in asks_nothing:
            raise ValueError(f"trainer.{key}={value} has no effect: {instead}")
    validate_int("seed", cfg.seed, 0, 2**32 - 1)  # numpy's range
    if cfg.get("seeds") is not None:
        validate_int("seeds", cfg.seeds)
    if "threads" in cfg:
        validate_int("threads", cfg.threads)
    validate_devices(cfg.trainer)


def validate_devices(trainer: DictConfig) -> None:
    """Raise ValueError if trainer.devices exceeds this machine's GPUs or CPU cores: Lightning starts a process for each."""
    accelerator, devices = trainer.get("accelerator"), trainer.get("devices")
    if not isinstance(devices, int) or devices < 2 or accelerator not in ("auto", "cpu", "cuda", "gpu"):
        return  # Lightning checks lists and other accelerators itself
    import torch  # takes seconds, which most command lines need not wait

    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    limit = torch.cuda.device_count() if on_gpu else os.cpu_count() or 1
    if devices > limit:
        raise ValueError(f"trainer.devices={devices}, but this machine has {limit} {'GPUs' if on_gpu else 'CPU cores'}")


@cache
def expected_types(conf: Path) -> dict[str, tuple]:
    """The types that conf/ gives to each key below the top level; `list[float]` for a list of floats.

    Keys that hold a string, an interpolation or null in every file are left out.
    """
    types: dict[str, set] = defaultdict(set)
    aliases = []
    for key, _, value in iter_keys(conf):
        if isinstance(value, str) and "${" in value:
            aliases.append((key, value.strip("${}")))
        else:
            types[key].add(_type(value))
    for key, other in aliases:  # gan.generator: ${networks.generator}
        types[key] |= types.get(other, set())
    for key in SECTION_OR_NULL:
        types[key] |= {dict, NoneType}
    unchecked = {key for key, found in types.items() if str in found or found <= {NoneType}}.union(SEVERAL_TYPES, TOP_LEVEL)
    return {key: tuple(found) for key, found in types.items() if key not in unchecked}


def _type(value) -> type | GenericAlias:
    if not isinstance(value, list):
        return type(value)
    items = {type(item) for item in value}
    return GenericAlias(list, tuple(items)) if items in ({int}, {float}) else list


def _convert(key: str, value, types: tuple):
    """The value itself if it has one of the types, else what it becomes in one of them."""
    kind = dict if isinstance(value, DictConfig) else type(value)
    if kind in types or value is None and dict in types and "." in key:  # a part may be left out: callbacks.sample_grid=null
        return value
    lists = [expected for expected in types if expected is list or get_origin(expected) is list]
    if isinstance(value, ListConfig) and lists:
        items = get_args(lists[0])
        return [_convert(f"{key}[{i}]", item, items) for i, item in enumerate(value)] if items else value
    if kind is int and float in types:
        with suppress(OverflowError):
            return float(value)
    if kind is float and int in types and value.is_integer():
        return int(value)
    if kind in (bool, int, float) and str in types:
        return str(value)
    allowed = " or ".join(sorted((WORDS.get(expected, "a list") for expected in types), key="null".__eq__))
    raise ValueError(f"{key} must be {allowed}, got {'null' if value is None else repr(value)}")
