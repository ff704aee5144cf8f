"""A trained run, opened for the verbs that use one: `evaluate`, `sample`, `interpolate`, `neighbors`, `export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ganlab.data import TensorData
from ganlab.models.gan import GAN
from ganlab.runs.loading import build_trusted, gan_from_checkpoint, read_checkpoint
from ganlab.runs.run_dir import find_checkpoint, run_dir_of


@dataclass(frozen=True)
class Trained:
    """A trained GAN with what its run left.

    `gan` is in eval mode on the fastest device there is; `config` the run's whole configuration, resolved; `folder` the
    run's; `checkpoint` the file; `name` the run's. `seed` is the run's own, of an ensemble the copy's; `copy` the same for
    ensembles and None for single runs. `trust`: modules whose classes may be built. `state`: the rest of the
    checkpoint (its version, seeds, and what the callbacks saved).
    """

    gan: GAN
    config: dict
    folder: Path
    checkpoint: Path
    name: str
    seed: int | None
    copy: int | None
    trust: tuple[str, ...]
    state: dict


def open_run(run: str, seed: int | None = None, trust: Sequence[str] = ()) -> Trained:
    """The run in a folder, of a `.ckpt` file, or `latest`.

    Args:
        run: as for `find`.
        seed: which copy of an ensemble (the verbs call it `run_seed`); None takes the first that did not fail.
        trust: modules of your own that hold the family, networks or data.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is not a whole checkpoint of ganlab, or has no such seed.
    """
    checkpoint = find_checkpoint(run)
    content = read_checkpoint(checkpoint)
    gan, copy = gan_from_checkpoint(content, checkpoint, trust, seed)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    config, folder = gan.run_config, run_dir_of(checkpoint).path
    return Trained(
        gan=gan.to(device),
        config=config,
        folder=folder,
        checkpoint=checkpoint,
        name=str(config.get("name") or folder.resolve().name),
        seed=config.get("seed") if copy is None else copy,
        copy=copy,
        trust=tuple(trust),
        state={key: value for key, value in content.items() if key in ("ganlab", "callbacks")},
    )


def datamodule(trained: Trained, data_dir: str | None = None, root: str | None = None) -> TensorData:
    """The run's data, set up: built from the checkpoint's config, and only from trusted classes.

    Args:
        data_dir: where data sets and extractors are kept, if not where the run had them.
        root: of data=folder, the folder of images, if it has moved.

    Raises:
        ValueError: the checkpoint has no data, or names an untrusted class; data=… takes no such argument.
        FileNotFoundError: the folder of images is not there.
    """
    config = trained.config.get("data")
    if not isinstance(config, dict):
        raise ValueError(f"{trained.checkpoint} does not say which data it was trained on; give another run")
    moved = {name: value for name, value in {"data_dir": data_dir, "root": root}.items() if value is not None}
    if unknown := [name for name in moved if name not in config]:
        raise ValueError(f"the data of {trained.name} has no {unknown[0]}, got {moved[unknown[0]]!r}; leave it out")
    config = config | moved
    if config.get("root") and not Path(config["root"]).expanduser().is_dir():
        raise FileNotFoundError(f"{config['root']}, the folder of images of {trained.name}, is not there; give root=FOLDER")
    data = build_trusted(config, trained.trust)
    if not isinstance(data, TensorData):
        raise ValueError(f"{trained.checkpoint} has a config whose data is a {type(data).__name__}; give another run")
    data.prepare_data()
    data.setup()
    return data
