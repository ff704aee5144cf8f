"""A trained GAN back from its run folder or checkpoint, without running anything that the file says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate

from ganlab.gan import GAN


def load(path: str | Path, trust: Sequence[str] = (), seed: int | None = None) -> GAN:
    """The GAN of a run folder (its best checkpoint, else its last) or of one checkpoint, on the CPU, ready to `sample`.

    The file is read with `weights_only=True`, and the classes its config names are built only if they come from
    ganlab, from torch's optimisers, or from a module in `trust`: a checkpoint from a stranger executes nothing.

    Args:
        path: a run's folder or a `.ckpt` file.
        trust: modules of your own that hold the family or networks, e.g. `["my_gan"]`.
        seed: which copy of an ensemble; None takes the first that did not fail.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is truncated, was not written by ganlab, or names a class of an untrusted module; the run
            has no such seed.
    """
    path = checkpoint_of(Path(path))
    no_checkpoint = f"{path} is no checkpoint of a ganlab run, or is not whole"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        config = checkpoint["ganlab"]["config"]["gan"]
        weights, seeds = checkpoint["state_dict"], checkpoint["ganlab"].get("seeds")
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ValueError(f"{no_checkpoint} ({type(error).__name__}: {str(error).partition(chr(10))[0]})") from error
    if seeds is not None:
        weights = copy_of(weights, seeds, seed)
    elif seed is not None:
        raise ValueError(f"{path} is of one run and no ensemble, got seed={seed}; leave seed out")
    for target in targets(config):
        require_trusted(target, trust)
    with torch.random.fork_rng(devices=[]):  # the first weights, soon overwritten, are drawn from the caller's state
        gan = instantiate(config, _convert_="all") if isinstance(config, dict) else None
    if not isinstance(gan, GAN):
        raise ValueError(f"{no_checkpoint} (its config builds {type(gan).__name__}, not a GAN)")
    try:
        gan.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{no_checkpoint} (its weights do not fit its config)") from error
    gan.run_config = checkpoint["ganlab"]["config"]
    return gan.eval()


def copy_of(weights: dict, seeds: list[int], seed: int | None) -> dict:
    """One copy's weights out of an ensemble's."""
    failed = weights.pop("failed")
    if seed is None:
        seed = next((s for s, bad in zip(seeds, failed.tolist()) if not bad), seeds[0])
    if seed not in seeds:
        raise ValueError(f"this ensemble has the seeds {seeds[0]} … {seeds[-1]}, got seed={seed}")
    index = seeds.index(seed)
    if failed[index]:
        raise ValueError(f"seed {seed} of this ensemble failed, its weights are not numbers; take another")
    return {name: value[index] if isinstance(value, torch.Tensor) else value for name, value in weights.items()}


def checkpoint_of(path: Path) -> Path:
    candidates = [path] if path.is_file() else [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if parts := sorted(path.glob("seeds_*/checkpoints/last.ckpt")):
        raise FileNotFoundError(f"{path} was trained in parts; give the one with your seed, such as {parts[0].parents[1]}")
    raise FileNotFoundError(f"no checkpoint at {path}; give a run's folder (with checkpoints/ inside) or a .ckpt file")


def targets(config) -> Iterator[str]:
    """Every `_target_` of a nested config, and every string that OmegaConf would make something else of."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield str(config["_target_"])
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from targets(item)
    elif isinstance(config, str) and "${" in config:  # a run saves its config resolved; oc.create could make a _target_
        yield config


def require_trusted(target: str, trust: Sequence[str]) -> None:
    """The name must lead to a class that was *defined* in a trusted module: `ganlab.job.os.system` does not."""
    modules = ("ganlab", "torch.optim", *trust)
    named = any(target.startswith(f"{module}.") for module in modules)
    try:
        found = get_object(target) if named else None
    except ImportError as error:
        raise ValueError(
            f"the checkpoint names {target}, which cannot be imported: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(found, type) or not any(f"{found.__module__}.".startswith(f"{module}.") for module in modules):
        raise ValueError(
            f"the checkpoint names {target}, which is not ganlab's; if you trust its module, pass "
            f"trust=[{target.partition('.')[0]!r}] to ganlab.load"
        )
