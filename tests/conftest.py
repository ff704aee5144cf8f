"""Tiny GANs and quiet trainers for every room's tests."""

import sys
import warnings

import pytest
import torch
from lightning import Callback, Trainer

import ganlab.losses
from ganlab.__main__ import main
from ganlab.conditioning import ClassLabels
from ganlab.gan import GAN
from ganlab.networks import MLPDiscriminator, MLPGenerator


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Thousands of tiny games, and a process per core: threads would only wait for each other."""
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts


def public_families():
    """Every GAN that ganlab.losses defines for the public."""
    found = vars(ganlab.losses).values()
    return [c for c in found if isinstance(c, type) and issubclass(c, GAN) and c is not GAN and c.__name__[0] != "_"]


@pytest.fixture(params=public_families(), ids=lambda family: family.__name__)
def family(request):
    return request.param


@pytest.fixture
def make_gan():
    """A GAN of MLPs on points; `classes` gives it labels, and a family that requires labels gets 3."""

    def make(
        family=ganlab.losses.NonSaturatingGAN,
        *,
        classes=0,
        feed="projection_classes",
        shape=(2,),
        norm="none",
        g_norm="none",
        spectral_norm=False,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        seed=0,
        **gan,
    ):
        torch.manual_seed(seed)
        classes = classes or (3 if family.requires_labels else 0)
        generator = MLPGenerator(3, shape, [8], bounded=False, norm=g_norm, num_classes=classes)
        discriminator = MLPDiscriminator(shape, [7, 5], norm, spectral_norm, **({feed: classes} if classes else {}))
        gan.setdefault("conditioning", ClassLabels(classes) if classes else None)
        gan.setdefault("generator_optimizer", optimizer)
        gan.setdefault("discriminator_optimizer", optimizer)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*without a Lipschitz constraint|batch norm in the discriminator.*"
            )
            return family(generator, discriminator, **gan)

    return make


@pytest.fixture
def make_batches():
    """Labelled batches off centre, so that no symmetry hides a sign."""

    def make(count, size=6, shape=(2,), classes=3, seed=1):
        random = torch.Generator().manual_seed(seed)
        return [
            (torch.randn(size, *shape, generator=random) * 0.7 + 0.4, torch.randint(classes, (size,), generator=random))
            for _ in range(count)
        ]

    return make


class Loader:
    """A list of batches as Lightning wants it; it would take a bare list for several loaders."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class SeedAtStart(Callback):
    def __init__(self, seed):
        self.seed = seed

    def on_train_start(self, trainer, gan):
        torch.manual_seed(self.seed)


@pytest.fixture
def make_trainer():
    """A silent CPU trainer; the random numbers of training start from `seed`."""

    def make(*callbacks, seed=5, max_epochs=1, logger=False, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Trainer(
                accelerator="cpu",
                devices=1,
                max_epochs=max_epochs,
                logger=logger,
                callbacks=[SeedAtStart(seed), *callbacks],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                **settings,
            )

    return make


@pytest.fixture
def fit(make_trainer):
    """Trains a GAN on a list of batches or a datamodule, and hands back the trainer."""

    def fit(gan, data, *callbacks, ckpt_path=None, **settings):
        trainer = make_trainer(*callbacks, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(gan, Loader(data) if isinstance(data, list) else data, ckpt_path=ckpt_path)
        return trainer

    return fit


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    """Runs ganlab in this process, in an empty folder; returns (exit code, everything it printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "my_gan", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main() sets it, and this puts it back

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ganlab", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            print("" if isinstance(end.code, int) else end.code, file=sys.stderr)  # as Python prints it at exit
        out, err = capfd.readouterr()
        return code, out + err

    return run
