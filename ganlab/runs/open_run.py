"""Open a trained run for the verbs that use one: `evaluate`, `sample`, `interpolate`, `neighbors`, `export`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ganlab.data import TensorData
from ganlab.models.gan import GAN
from ganlab.runs.loading import build_trusted, gan_from_checkpoint, read_checkpoint, set_threads
from ganlab.runs.run_dir import RunDir, find_checkpoint, run_dir_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A trained GAN with what its run left.

    Attributes:
        gan: in eval mode, on the fastest device there is.
        config: the run's configuration, resolved.
        seed: the run's own; of an ensemble, the member's.
        member: the same for ensembles, None for single runs.
        trust: modules whose classes may be built.
        state: the rest of the checkpoint: its version, seeds, and what the callbacks saved.
        data_fingerprint: of the training data, as saved with the checkpoint; None if it was not.
    """

    gan: GAN
    config: dict
    run_dir: RunDir
    checkpoint: Path
    name: str
    seed: int | None
    member: int | None
    trust: tuple[str, ...]
    state: dict
    data_fingerprint: str | None


def open_run(run: str, seed: int | None = None, trust: Sequence[str] = ()) -> TrainedRun:
    """The run of a directory, of a `.ckpt` file, or `latest`.

    Args:
        run: as for `find_checkpoint`.
        seed: which member of an ensemble (the verbs call it `run_seed`); None takes the first that did not fail.
        trust: modules of your own that hold the family, networks or data.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is not a whole checkpoint of ganlab, has no such seed, or its generator has nan or infinite
            weights.
    """
    checkpoint = find_checkpoint(run)
    content = read_checkpoint(checkpoint)
    gan, member = gan_from_checkpoint(content, checkpoint, trust, seed)
    set_threads(content["ganlab"]["config"])
    if not all(weights.isfinite().all() for weights in gan.generator_ema.parameters()):
        raise ValueError(
            f"the generator in {checkpoint} has weights that are not finite, its training diverged; give another one"
        )
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    config, run_dir = content["ganlab"]["config"], run_dir_of(checkpoint)
    return TrainedRun(
        gan=gan.to(device),
        config=config,
        run_dir=run_dir,
        checkpoint=checkpoint,
        name=str(config.get("name") or run_dir.path.resolve().name),
        seed=config.get("seed") if member is None else member,
        member=member,
        trust=tuple(trust),
        state={key: value for key, value in content.items() if key in ("ganlab", "callbacks")},
        data_fingerprint=next((v["fingerprint"] for v in content.values() if isinstance(v, dict) and "fingerprint" in v), None),
    )


def load_data(trained: TrainedRun, data_dir: str | None = None, root: str | None = None) -> TensorData:
    """The run's data, set up; built from the checkpoint's config, and only from trusted classes. Warns if the data has changed.

    Args:
        data_dir: where data sets and extractors are kept, if not where the run had them.
        root: of data=folder, the directory of images, if it has moved.

    Raises:
        ValueError: the checkpoint has no data, or names an untrusted class; the data takes no such argument.
        FileNotFoundError: the directory of images does not exist.
    """
    config = trained.config.get("data")
    if not isinstance(config, dict):
        raise ValueError(f"{trained.checkpoint} does not say which data it was trained on; give another run")
    moved = {name: value for name, value in {"data_dir": data_dir, "root": root}.items() if value is not None}
    if unknown := [name for name in moved if name not in config]:
        raise ValueError(f"the data of {trained.name} has no {unknown[0]}, got {moved[unknown[0]]!r}; leave it out")
    config = config | moved
    if config.get("root") and not Path(config["root"]).expanduser().is_dir():
        raise FileNotFoundError(f"{config['root']}, the images of {trained.name}, does not exist; give root=DIR")
    data = build_trusted(config, trained.trust)
    if not isinstance(data, TensorData):
        raise ValueError(f"{trained.checkpoint} has a config whose data is a {type(data).__name__}; give another run")
    data.prepare_data()
    data.setup()
    if trained.data_fingerprint not in (None, data.fingerprint):
        log.warning(
            f"the data of {trained.name} has changed since it was trained ({len(data.train.x):,} training samples now): it may "
            "have been trained on samples that are now held out; restore the data for comparable numbers"
        )
    return data
