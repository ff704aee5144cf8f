"""Fixtures: tiny GANs, silent trainers, the command line, and run directories."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import Callback, Trainer

import ganlab.losses
from ganlab.cli.main import main
from ganlab.models.conditioning import ClassLabels
from ganlab.models.ensemble import Ensemble
from ganlab.models.gan import GAN
from ganlab.networks import MLPDiscriminator, MLPGenerator


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """One thread per process, since pytest starts a process per core."""
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts


def public_families():
    """Every public GAN of ganlab.losses."""
    return [
        c
        for c in vars(ganlab.losses).values()
        if isinstance(c, type) and issubclass(c, GAN) and c is not GAN and c.__name__[0] != "_"
    ]


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
            warnings.filterwarnings("ignore", message=".*without a Lipschitz constraint|batch norm in the discriminator.*")
            return family(generator, discriminator, **gan)

    return make


@pytest.fixture
def make_batches():
    """Labeled batches, not centered at 0, so that no symmetry hides a wrong sign."""

    def make(count, size=6, shape=(2,), classes=3, seed=1):
        random = torch.Generator().manual_seed(seed)
        return [
            (torch.randn(size, *shape, generator=random) * 0.7 + 0.4, torch.randint(classes, (size,), generator=random))
            for _ in range(count)
        ]

    return make


class Loader:
    """A list of batches as a loader; Lightning takes a plain list for several loaders."""

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
    """A silent CPU trainer, whose training starts from the random `seed`."""

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
    """Trains a GAN on a list of batches or a datamodule; returns the trainer."""

    def fit(gan, data, *callbacks, ckpt_path=None, **settings):
        trainer = make_trainer(*callbacks, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(gan, Loader(data) if isinstance(data, list) else data, ckpt_path=ckpt_path)
        return trainer

    return fit


@pytest.fixture
def cli(tmp_path, monkeypatch, capfd):
    """Runs ganlab in this process, in an empty directory; returns (exit code, printed text)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "my_gan", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ganlab", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main() sets it for the processes that it starts
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            print("" if isinstance(end.code, int) else end.code, file=sys.stderr)  # as Python prints it at exit
        out, err = capfd.readouterr()
        return code, out + err

    return run


@pytest.fixture(scope="session")
def make_run():
    """Writes a run directory with a checkpoint of small untrained networks; returns its GAN.

    The moving average differs from the generator in every weight, and batch norm's averages from their initial values.
    """

    def make(folder: Path, generator="DCGANGenerator", data="Digits", classes=10, seed=3, seeds=None, **network) -> GAN:
        points = data == "Ring"
        labels = {"num_classes": classes} if classes else {}
        sizes = {"shape": [2], "hidden": [16]} if points else {"channels": 1, "size": 8, "width": 4}
        data_settings = (
            {"num_classes": 8, "dim": 2, "std": 0.01, "train_size": 600, "test_size": 300, "data_seed": 0}
            if points
            else {"channels": 1, "size": 8, "num_classes": 10, "val_size": 360, "data_dir": str(folder / "data")}
        )
        adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3}
        config = {
            "name": f"{data.lower()}-test",
            "seed": seed,
            "data": {"_target_": f"ganlab.data.{data}", "batch_size": 60, **data_settings},
            "gan": {
                "_target_": "ganlab.NonSaturatingGAN",
                "generator": {
                    "_target_": f"ganlab.networks.{generator}", "latent_dim": 5, **sizes, **labels,
                    **({"bounded": not points} if generator == "MLPGenerator" else {}), **network,
                },
                "discriminator": {
                    "_target_": f"ganlab.networks.{'MLP' if points else 'DCGAN'}Discriminator", **sizes,
                    **({"projection_classes": classes} if classes else {}),
                },
                "generator_optimizer": adam,
                "discriminator_optimizer": adam,
                "conditioning": {"_target_": "ganlab.models.conditioning.ClassLabels", **labels} if classes else None,
            },
        }  # fmt: skip
        members = []
        for member_seed in seeds or [seed]:
            torch.manual_seed(member_seed)
            gan = instantiate(config["gan"], _convert_="all")
            for tensor in [*gan.generator_ema.parameters(), *gan.generator_ema.buffers()]:
                if tensor.is_floating_point():
                    tensor.data += 0.3 * torch.rand_like(tensor)
            gan.images_seen = 600
            members.append(gan)
        gan_or_ensemble = members[0] if seeds is None else Ensemble(members, seeds)
        gan_or_ensemble.run_config = config
        content = {
            "state_dict": gan_or_ensemble.state_dict(),
            "callbacks": {"Evaluation": {"best": 1.0, "latest": {"quality/x": 1.5}}},
        }
        gan_or_ensemble.on_save_checkpoint(content)
        (folder / "checkpoints").mkdir(parents=True)
        torch.save(content, folder / "checkpoints" / "last.ckpt")
        return gan_or_ensemble.eval()

    return make
