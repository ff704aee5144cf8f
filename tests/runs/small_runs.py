"""Small runs on the ring, and what their tests compare."""

import csv
from functools import cache
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  what conf/ asks for
from ganlab.config.paths import conf_folder
from ganlab.losses import NonSaturatingGAN

SMALL = [
    "name=t",
    "logger=csv",
    "trainer=cpu",
    "trainer.log_every_n_steps=7",
    "data=ring",
    "data.train_size=200",
    "data.test_size=50",
    "data.batch_size=16",
    "networks.hidden=[8,8]",
    "metrics.samples=50",
    "max_images=320",
    "eval_every=160",
]
QUIET = [*SMALL, "callbacks.sample_grid=null", "monitor=[]"]
TIMINGS = ("seconds", "images_per_second")


@cache
def composed(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, "run_dir=???"])


def config(folder, *overrides, base=QUIET):
    merged = OmegaConf.merge(composed(*base, *overrides), {"run_dir": str(folder)})
    return OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)


def last(folder):
    return torch.load(Path(folder) / "checkpoints" / "last.ckpt", weights_only=True)


def images_seen(folder):
    return last(folder)["state_dict"]["_extra_state"]["images_seen"]


def assert_same_weights(a, b):
    a, b = last(a)["state_dict"], last(b)["state_dict"]
    assert a["_extra_state"] == b["_extra_state"]
    assert all(torch.equal(a[name], b[name]) for name in a if name != "_extra_state")


def table(folder):
    """The rows of metrics.csv without times and empty cells."""
    with (Path(folder) / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if v and k not in TIMINGS} for row in csv.DictReader(file)]


class Killed(BaseException):
    """Like SIGKILL: ganlab writes nothing more, also no summary of a failure."""


class Stop(Callback):
    """Raises `error` once `at` images were seen."""

    def __init__(self, at, error=Killed):
        self.at, self.error = at, error

    def on_train_batch_start(self, trainer, gan, *_):
        if gan.images_seen >= self.at:
            raise self.error


class AnyLogger(Logger):
    """A user's own."""

    name, version = "mine", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    @property
    def experiment(self):
        return self

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *_, **__):
        pass


class FakeRun:
    """Of W&B, with its rule: a step must not decrease."""

    id, name = "x", "t"

    def __init__(self):
        self.rows, self.dropped, self.config, self.summary = [], 0, self, {}

    def log(self, row, step=None):
        if self.rows and step < self.rows[-1][0]:
            self.dropped += 1
        else:
            self.rows.append((step, row))

    def update(self, *_, **__):
        pass

    define_metric = alert = update


class LoggingGAN(NonSaturatingGAN):
    """Logs D's updates, which are 16 images each."""

    def training_step(self, batch, batch_idx=0):
        super().training_step(batch, batch_idx)
        self.log("my/updates", float(self.d_updates))
