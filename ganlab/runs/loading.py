"""A trained GAN back from its run folder or checkpoint, without running anything that the file says."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

import ganlab
from ganlab.models.gan import GAN
from ganlab.runs.finding import find

ALWAYS = ("ganlab", "torch.optim")  # whose classes every checkpoint may name
OWN = ("lightning", "torchmetrics")  # what a whole run names besides the modules that are always trusted
NO_CHECKPOINT = "is no checkpoint of a ganlab run, or is not whole"


def load(path: str | Path, trust: Sequence[str] = (), seed: int | None = None) -> GAN:
    """The GAN of a run folder (its best checkpoint, else its last) or of one checkpoint, on the CPU, ready to `sample`.

    The file is read with `weights_only=True`, and the classes its config names are built only if they come from
    ganlab, from torch's optimizers, or from a module in `trust` (whose functions are called, too): a checkpoint from a
    stranger executes nothing.

    Args:
        path: a run's folder, a `.ckpt` file, or `latest`, the newest run with a checkpoint at or below ./outputs.
        trust: modules of your own that hold the family, networks or optimizers, e.g. `["my_gan"]`.
        seed: which copy of an ensemble; None takes the first that did not fail.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is truncated, was not written by ganlab or by a version of it whose checkpoints differ, or
            names a class of an untrusted module; the run has no such seed.
    """
    checkpoint = find(path, seed)
    return from_checkpoint(read(checkpoint), checkpoint, trust, seed)[0]


def read(checkpoint: Path) -> dict:
    """What the file holds: tensors, numbers and strings, in a form that every ganlab checkpoint has."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            if (damaged := file.testzip()) is not None:  # torch does not look at the checksums
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        about = content["ganlab"]
        well_formed = isinstance(about["config"]["gan"], dict) and isinstance(content["state_dict"], dict)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} ({reason}){_instead(checkpoint)}") from error
    if not well_formed:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (it has no config of a GAN, or no weights){_instead(checkpoint)}")
    return content


def _instead(checkpoint: Path) -> str:
    """Where a run may go on whose last checkpoint is damaged."""
    if checkpoint.name != "last.ckpt":
        return ""
    if checkpoint.with_name("best.ckpt").is_file():
        return "; copy best.ckpt over it to go on from there, or delete it to begin again"
    return "; delete it to begin again"


def from_checkpoint(content: dict, checkpoint: Path, trust: Sequence[str], seed: int | None) -> tuple[GAN, int | None]:
    """The GAN that a checkpoint's content describes, and which copy of an ensemble it is (None: of a single run)."""
    about, weights = content["ganlab"], content["state_dict"]
    seeds = about.get("seeds")
    if seeds is not None:
        weights, seed = copy_of(weights, seeds, seed, checkpoint)
    elif seed is not None:
        raise ValueError(f"{checkpoint} is of one run and no ensemble, got seed {seed} to choose; leave it out")
    try:
        with warnings.catch_warnings(action="ignore"):  # advice on training
            gan = build_trusted(about["config"]["gan"], trust)
    except (InstantiationException, TypeError, AttributeError) as error:
        cause = str(error.__cause__ or error).partition("\n")[0]
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its config cannot be built: {cause}){_version(about)}") from error
    if not isinstance(gan, GAN):
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its config builds {type(gan).__name__}, not a GAN)")
    clocks = weights.get("_extra_state")
    if not isinstance(clocks, dict) or {*clocks} != {*gan.get_extra_state()} or {*map(type, clocks.values())} != {int}:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its clocks are not ganlab's){_version(about)}")
    try:
        gan.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its weights do not fit its config){_version(about)}") from error
    gan.run_config = about["config"]
    return gan.eval(), seed


def build_trusted(config: dict, trust: Sequence[str] = ()):
    """What a part of a checkpoint's config describes, if every class it names is trusted; torch's random state stays.

    Raises:
        ValueError: it names a class of an untrusted module.
    """
    require_trusted(targets(config), trust)
    with torch.random.fork_rng(devices=[]):  # the first weights, soon overwritten, are drawn from the caller's state
        return instantiate(config, _convert_="all")


def _version(about: dict) -> str:
    """What to do where the checkpoint is of another version."""
    theirs = about.get("version")
    if theirs == ganlab.__version__:
        return ""
    return f"; it is of ganlab {theirs} and this is {ganlab.__version__}: load it with its own version"


def copy_of(weights: dict, seeds: list[int], seed: int | None, checkpoint: Path) -> tuple[dict, int]:
    """One copy's weights out of an ensemble's, and its seed."""
    failed = weights.get("failed")
    if not isinstance(seeds, list) or not isinstance(failed, torch.Tensor) or failed.shape != (len(seeds),):
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its copies and its seeds do not match)")
    if seed is None:
        seed = next((s for s, bad in zip(seeds, failed.tolist()) if not bad), seeds[0])
    if seed not in seeds:
        raise ValueError(f"this ensemble has the seeds {seeds[0]} … {seeds[-1]}, got {seed}")
    index = seeds.index(seed)
    if failed[index]:
        raise ValueError(f"seed {seed} of this ensemble failed, its weights are not numbers; take another")
    one = {name: value for name, value in weights.items() if name != "failed"}
    return {name: value[index] if isinstance(value, torch.Tensor) else value for name, value in one.items()}, seed


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


def require_trusted(names: Iterable[str], trust: Sequence[str]) -> None:
    """
    Raises:
        ValueError: some of these lead to no class of a trusted module.
    """
    if found := strangers(names, trust):
        modules = suggested(trust, found)
        raise ValueError(
            f"the run names {' and '.join(found)}, which {'is' if len(found) == 1 else 'are'} not ganlab's; if you trust "
            f"{'its module' if len(found) == 1 else 'their modules'}, pass trust={modules} to ganlab.load, or "
            f"trust={','.join(modules)} on the command line"
        )


def strangers(names: Iterable[str], trust: Sequence[str]) -> list[str]:
    """Those that lead to nothing that was *defined* in a trusted module, as `ganlab.cli.job.os.system` does not.

    Classes of a trusted module may be built. Functions may be called only if they are of a module in `trust` itself: a
    schedule of one's own is one, and ganlab has some that write files.

    Raises:
        ValueError: one of a trusted module cannot be imported.
    """
    own = [name for name in trust if name not in OWN]

    def of(modules: Sequence[str], name: str) -> bool:
        return any(f"{name}.".startswith(f"{module}.") for module in modules)

    found = []
    for name in dict.fromkeys(names):
        try:
            kind = get_object(name) if of((*ALWAYS, *trust), name) else None
        except ImportError as error:
            raise ValueError(f"the run names {name}, which cannot be imported: {str(error).splitlines()[0]}") from error
        if not isinstance(kind, (type, FunctionType)):
            found.append(name)
        elif not of((*ALWAYS, *trust) if isinstance(kind, type) else own, kind.__module__):
            found.append(f"{kind.__module__}.{kind.__qualname__}")
    return found


def suggested(trust: Sequence[str], found: Iterable[str]) -> list[str]:
    """What to type for these to be trusted, with what is typed already."""
    return list(dict.fromkeys([*(name for name in trust if name not in OWN), *(name.partition(".")[0] for name in found)]))
