"""Inspect a run's directory, or a sweep's, and say how to continue it."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ganlab.runs.run_dir import RunDir, read_yaml
from ganlab.runs.trust import ALWAYS, LIBRARIES, modules_to_trust, require_trusted, targets, untrusted

REQUIRED = ("callbacks", "data", "gan", "logger", "max_images", "name", "run_dir", "seed", "seeds", "trainer")

TRAINER_LIMITS = {"max_steps": -1, "max_time": None, "fast_dev_run": False}  # with the values that set none

# Of a sweep's overrides of Hydra itself, those that cannot run anything: others could name classes or shell commands.
HARMLESS = re.compile(r"hydra/(launcher|sweeper)(/\w+)?=\w+|hydra\.(launcher|sweeper)\.[\w.]+=[\w.+-]*|hydra\.sweep\.subdir=.*")


def config_to_resume(run: RunDir, trust: Sequence[str] = (), max_images: int | None = None) -> dict:
    """The saved configuration of a run that goes on, with the run's directory where it is now.

    Args:
        max_images: the new length of the run; None keeps it.

    Raises:
        ValueError: the run is complete and max_images is not given, is of another version of ganlab, or names a class of an
            untrusted module; the run has seen max_images already.
    """
    is_finished = run.status == "finished"
    if run.is_complete and not run.ended_early and (max_images is None or not is_finished):
        way_out = f"python -m ganlab resume={run.path} max_images=NUMBER lengthens it" if is_finished else "start a new run"
        raise ValueError(f"{run.path} is {run.status}, there is nothing to continue; {way_out}")
    config = run.read_config()
    if "look_every" in config:
        raise ValueError(f"{run.config_file} is of ganlab 0.1, whose runs this version does not continue; train again")
    if missing := [key for key in REQUIRED if key not in config]:
        raise ValueError(f"{run.config_file} is of no run of ganlab (it has no {missing[0]}); give a run's directory")
    require_trusted(targets(config), (*LIBRARIES, *trust))
    if ended_by := run.ended_early:
        config = without_limit(config, ended_by)
    if max_images is not None:
        require_more_images(run, max_images)
        config = with_length(config, max_images)
    return relocate_paths(config, config["run_dir"], str(run.path))


def require_more_images(run: RunDir, max_images: int) -> None:
    """
    Raises:
        ValueError: the run has seen as many images, or it is finished and has no checkpoint to go on from.
    """
    from ganlab.runs.loading import read_checkpoint  # start-up time: torch loads here, after other refusals

    if (checkpoint := run.last_checkpoint) is None:
        if run.is_complete:
            raise ValueError(f"{run.path} has no checkpoints/last.ckpt to go on from; start a new run of {max_images} images")
        return
    seen = read_checkpoint(checkpoint)["state_dict"]["_extra_state"]["images_seen"]
    if max_images <= seen:
        raise ValueError(f"{run.path} has seen {seen:,} images already, got max_images={max_images}; give more")


def with_length(config: dict, max_images: int) -> dict:
    """The configuration with another max_images, for the callbacks that count to it, too."""
    callbacks = {
        key: part | {"images": max_images} if part and part.get("images") == config["max_images"] else part
        for key, part in config["callbacks"].items()
    }
    return config | {"max_images": max_images, "callbacks": callbacks}


def without_limit(config: dict, ended_by: str) -> dict:
    """The configuration without the trainer's limit that ended the run; a verdict that ended it only warns."""
    limits = {key: off for key, off in TRAINER_LIMITS.items() if f"trainer.{key}=" in ended_by}
    config = config | {"trainer": config["trainer"] | limits}
    if config["callbacks"].get("verdicts") and ended_by.isupper():
        config = with_actions(config, verdict_actions(config) | {ended_by.lower(): "warn"})
    return config


def verdict_actions(config: dict) -> dict[str, str]:
    """Verdict or "default" -> action."""
    actions = (config["callbacks"].get("verdicts") or {}).get("on_verdict") or {}
    return {"default": actions} if isinstance(actions, str) else actions


def with_actions(config: dict, actions: str | dict[str, str]) -> dict:
    verdicts = config["callbacks"]["verdicts"] | {"on_verdict": actions}
    return config | {"callbacks": config["callbacks"] | {"verdicts": verdicts}}


def matches_saved_config(run: RunDir, config: dict) -> bool:
    """Whether the directory holds the very run that this configuration describes."""
    if not run.is_run:
        return False
    saved = run.read_config()
    if run.is_complete and not {*REQUIRED} - saved.keys():  # it may have been lengthened since, or gone on without a limit
        ours, theirs = config["trainer"], saved["trainer"]
        limits = {key: ours[key] for key, off in TRAINER_LIMITS.items() if key in ours and key in theirs and theirs[key] == off}
        saved = with_length(saved, min(saved["max_images"], config["max_images"]))
        saved["trainer"] = theirs | limits
        warnings = {name: action for name, action in verdict_actions(saved).items() if action == "warn"}
        if warnings and verdict_actions(config) | warnings == verdict_actions(saved):
            saved = with_actions(saved, config["callbacks"]["verdicts"]["on_verdict"])
    return relocate_paths(saved, str(saved.get("run_dir")), config["run_dir"]) == config


def relocate_paths(config, old: str, new: str):
    """The configuration with every path at or below the directory `old` moved to `new`."""
    if isinstance(config, dict):
        return {key: relocate_paths(value, old, new) for key, value in config.items()}
    if isinstance(config, list):
        return [relocate_paths(value, old, new) for value in config]
    inside = isinstance(config, str) and (config == old or config.startswith(f"{old}/"))
    return new + config[len(old) :] if inside else config


def resume_command(run: RunDir) -> str:
    """The command that continues a run, quoted for a shell, with the modules to trust."""
    names: list[str] = []
    with suppress(ValueError):
        names = [name.partition(".")[0] for name in targets(run.read_config())]
    users = [name for name in dict.fromkeys(names) if name not in (*ALWAYS, *LIBRARIES, "torch")]
    return shlex.join(["python", "-m", "ganlab", f"resume={run.path}", *([f"trust={','.join(users)}"] if users else [])])


class SweepCommand(NamedTuple):
    """`words`: the arguments of `python -m ganlab` that continue a sweep; `cwd`: where they were typed first."""

    words: list[str]
    cwd: str | None


def sweep_command(folder: Path, trust: Sequence[str] = ()) -> SweepCommand:
    """The sweep's own command, in its own directory: jobs that are complete stay, others are continued or started.

    Whatever of it could run code is trusted by name: classes by their module, `--config-dir` by its path, overrides of Hydra
    beyond the choice of launcher and sweeper by their key.

    Raises:
        ValueError: multirun.yaml is of no sweep, or something is not trusted.
    """
    file = folder / "multirun.yaml"
    content = read_yaml(file)
    hydra = content.get("hydra") if isinstance(content, dict) else None
    if not hydra:
        raise ValueError(f"{file} is of no sweep (it has no hydra); give a sweep's directory")
    task, own = hydra["overrides"]["task"], hydra["overrides"]["hydra"]
    own = [word for word in own if not word.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    config_dirs = [s["path"] for s in hydra["runtime"]["config_sources"] if s["provider"] == "command-line"]

    classes = untrusted((target for word in task for target in _targets_in(word)), (*LIBRARIES, *trust))
    others = [word for word in (*own, *config_dirs) if not HARMLESS.fullmatch(word) and word.partition("=")[0] not in trust]
    if classes or others:
        names = [*modules_to_trust(trust, classes), *(word.partition("=")[0] for word in others)]
        raise ValueError(
            f"this sweep has {' and '.join([*classes, *others])}, which may run anything; if it is yours, add "
            f"trust={','.join(names)}"
        )
    quoted = str(folder).replace("'", r"\'")  # Hydra reads few characters without quotes
    words = ["-m", *(f"--config-dir={path}" for path in config_dirs), *task, *own, f"hydra.sweep.dir='{quoted}'"]
    return SweepCommand(words, hydra["runtime"].get("cwd"))


def _targets_in(word: str) -> list[str]:
    """The classes that an override names."""
    key, _, value = word.partition("=")
    return value.split(",") if key.endswith("_target_") else re.findall(r"_target_: *([\w.]+)", value)
