"""Load a trained GAN from its run or checkpoint, without executing anything that the file says."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

import ganlab
from ganlab.models.gan import GAN
from ganlab.runs.run_dir import find_checkpoint
from ganlab.runs.trust import require_trusted, targets

NO_CHECKPOINT = "is no checkpoint of a ganlab run, or is not whole"


def load(path: str | Path, trust: Sequence[str] = (), seed: int | None = None) -> GAN:
    """Load the GAN of a run (its best checkpoint, else its last) or of one checkpoint, on the CPU, ready to `sample`.

    The file is read with `weights_only=True`, and the classes its config names are built only if they come from
    ganlab, from torch's optimizers, or from a module in `trust` (whose functions are called, too): a checkpoint from a
    stranger executes nothing.

    Args:
        path: a run's directory, a `.ckpt` file, or `latest`: the run at or below ./outputs with the newest checkpoint.
        trust: modules of your own that hold the family, networks or optimizers, e.g. `["my_gan"]`.
        seed: which member of an ensemble; None takes the first that did not fail.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is truncated, was not written by ganlab or by a version of it whose checkpoints differ, or
            names a class of an untrusted module; the run has no such seed.
    """
    checkpoint = find_checkpoint(path)
    return gan_from_checkpoint(read_checkpoint(checkpoint), checkpoint, trust, seed)[0]


def read_checkpoint(checkpoint: Path) -> dict:
    """The content of a checkpoint file: tensors, numbers and strings. Nothing in it is executed.

    Raises:
        ValueError: it is damaged, no checkpoint of ganlab, or of ganlab 0.1.
    """
    try:
        with zipfile.ZipFile(checkpoint) as file:
            if (damaged := file.testzip()) is not None:  # torch does not look at the checksums
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        about = content["ganlab"]
        well_formed = isinstance(about["config"]["gan"], dict) and isinstance(content["state_dict"], dict)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} ({reason}){_way_out(checkpoint)}") from error
    if not well_formed:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (it has no config of a GAN, or no weights){_way_out(checkpoint)}")
    if str(about.get("version")).startswith("0.1."):
        raise ValueError(
            f"{checkpoint} is of ganlab {about['version']}, whose checkpoints ganlab {ganlab.__version__} does not read; "
            "load it with ganlab 0.1, or train again"
        )
    return content


def _way_out(checkpoint: Path) -> str:
    """How to continue a run whose last checkpoint is damaged."""
    if checkpoint.name != "last.ckpt":
        return ""
    if checkpoint.with_name("best.ckpt").is_file():
        return "; copy best.ckpt over it to continue from there, or delete it to start again"
    return "; delete it to start again"


def gan_from_checkpoint(content: dict, checkpoint: Path, trust: Sequence[str], seed: int | None) -> tuple[GAN, int | None]:
    """The GAN that a checkpoint describes, and which seed of an ensemble it is (None: of a single run)."""
    about, weights = content["ganlab"], content["state_dict"]
    seeds = about.get("seeds")
    if seeds is not None:
        weights, seed = member_of(weights, seeds, seed, checkpoint)
    elif seed is not None:
        raise ValueError(f"{checkpoint} is of a single run, not of an ensemble, got seed {seed}; leave it out")
    try:
        with warnings.catch_warnings(action="ignore"):  # advice on training
            gan = build_trusted(about["config"]["gan"], trust)
    except (InstantiationException, TypeError, AttributeError) as error:
        cause = str(error.__cause__ or error).partition("\n")[0]
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its config cannot be built: {cause}){_version(about)}") from error
    if not isinstance(gan, GAN):
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its config builds {type(gan).__name__}, not a GAN)")
    counters = weights.get("_extra_state")
    if not isinstance(counters, dict) or {*counters} != {*gan.get_extra_state()} or {*map(type, counters.values())} != {int}:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its counters are not ganlab's){_version(about)}")
    try:
        gan.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its weights do not fit its config){_version(about)}") from error
    gan.run_config = about["config"]
    return gan.eval(), seed


def build_trusted(config: dict, trust: Sequence[str] = ()):
    """Instantiate a part of a checkpoint's config if every class it names is trusted. Torch's random state is kept.

    Raises:
        ValueError: it names a class of an untrusted module.
    """
    require_trusted(targets(config), trust)
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten by the checkpoint's
        return instantiate(config, _convert_="all")


def _version(about: dict) -> str:
    """What to do where the checkpoint is of another version."""
    theirs = about.get("version")
    if theirs == ganlab.__version__:
        return ""
    return f"; it is of ganlab {theirs} and this is {ganlab.__version__}: load it with its own version"


def member_of(weights: dict, seeds: list[int], seed: int | None, checkpoint: Path) -> tuple[dict, int]:
    """One member's weights out of an ensemble's, and its seed."""
    failed = weights.get("failed")
    if not isinstance(seeds, list) or not isinstance(failed, torch.Tensor) or failed.shape != (len(seeds),):
        raise ValueError(f"{checkpoint} {NO_CHECKPOINT} (its members and its seeds do not match)")
    if seed is None:
        seed = next((s for s, bad in zip(seeds, failed.tolist()) if not bad), seeds[0])
    if seed not in seeds:
        raise ValueError(f"this ensemble has the seeds {seeds[0]} … {seeds[-1]}, got {seed}")
    index = seeds.index(seed)
    if failed[index]:
        raise ValueError(f"seed {seed} of this ensemble failed, its weights are not numbers; take another")
    stacked = {name: value for name, value in weights.items() if name != "failed"}
    return {name: value[index] if isinstance(value, torch.Tensor) else value for name, value in stacked.items()}, seed


def set_threads(config: dict) -> None:
    """Compute with as many threads as the run, so that its numbers are the same; torch's default if its config has none."""
    if (threads := config.get("threads")) is not None:
        torch.set_num_threads(threads)
