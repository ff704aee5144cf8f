"""CUDA graphs, data on the GPU, and resume there. tests/models/test_cuda_graphs.py tests the graphs' logic without a GPU."""

import warnings

import pytest
import torch
from lightning import Callback, Trainer

from ganlab.data import Ring, Split, TensorData
from ganlab.losses import NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import ClassLabels
from ganlab.models.ensemble import Ensemble
from ganlab.networks import DCGANDiscriminator, DCGANGenerator, ResNetDiscriminator, ResNetGenerator
from ganlab.regularizers import R1, DiffAugment, GradientPenalty, LeCam

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

ADAM = lambda p: torch.optim.Adam(p, 1e-3, (0.5, 0.9), fused=True)
STEPS = 60


class RecordBatches(Callback):
    """The batches of each step, and how many kinds of steps were recorded as CUDA graphs."""

    def __init__(self):
        self.batches, self.recorded = [], 0

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        self.batches.append(batch)
        self.recorded = 0 if gan._graphs is None else len(gan._graphs.recorded)


def train(gan, data, **settings):
    batches = RecordBatches()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(
            accelerator="gpu", devices=1, max_steps=2 * STEPS, logger=False, callbacks=[batches], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, **{"deterministic": False} | settings,
        ).fit(gan, data)  # fmt: skip
    return batches


def weights(gan):
    return torch.cat([p.detach().flatten() for p in gan.parameters()])


def ring():
    return Ring(dim=2, num_classes=8, std=0.01, batch_size=64, train_size=1000, test_size=100, data_seed=0)


class Noise(TensorData):
    """Small gray images of three classes."""

    def __init__(self):
        super().__init__(shape=(1, 28, 28), num_classes=3, batch_size=32)

    def load(self):
        random = torch.Generator().manual_seed(0)
        x = torch.randint(0, 256, (320, 1, 28, 28), generator=random, dtype=torch.uint8)
        split = Split(x, torch.randint(3, (320,), generator=random))
        return split, split


def image_gan(network, **settings):
    torch.manual_seed(0)
    norm, feed = {"norm": "conditional_batch", "num_classes": 3}, {"projection_classes": 3}
    dcgan = lambda: (DCGANGenerator(8, 1, 28, 8, **norm), DCGANDiscriminator(1, 28, 8, **feed))
    resnet = lambda: (ResNetGenerator(8, 1, 28, 4, **norm), ResNetDiscriminator(1, 28, 4, spectral_norm=True, **feed))
    return NonSaturatingGAN(
        *{"dcgan": dcgan, "resnet": resnet}[network](), conditioning=ClassLabels(3), generator_optimizer=ADAM,
        discriminator_optimizer=ADAM, **settings,
    )  # fmt: skip


REGULARIZERS = {
    "none": None,
    "gradient penalty": GradientPenalty(1.0),
    "lazy R1": R1(1.0, every=4),
    "LeCam": LeCam(0.3, start=20),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_graphs_match_eager_steps(make_gan, name, precision):
    ends = []
    for cuda_graphs in (False, True):
        regularizers = {"regularizer": REGULARIZERS[name]} if REGULARIZERS[name] else None
        gan = make_gan(RpGAN, optimizer=ADAM, cuda_graphs=cuda_graphs, regularizers=regularizers, n_critic=2)
        assert (train(gan, ring(), precision=precision).recorded >= 2) == cuda_graphs
        ends.append(weights(gan))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("network", ["dcgan", "resnet"])
def test_graphs_of_images(network, precision):
    regularizers = {"r1": R1(1.0, every=4), "augment": DiffAugment(color=True, translation=0.1, cutout=0.2)}
    ends = []
    for cuda_graphs in (False, True):
        gan = image_gan(network, regularizers=regularizers, cuda_graphs=cuda_graphs)
        assert train(gan, Noise(), precision=precision, deterministic=True).recorded == (3 if cuda_graphs else 0)
        ends.append(weights(gan))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)


def test_graphs_of_an_ensemble(make_gan):
    ends = []
    for cuda_graphs in (False, True):
        gans = [make_gan(RpGAN, optimizer=ADAM, seed=seed, cuda_graphs=cuda_graphs) for seed in (1, 2, 3)]
        data = ring()
        data.seeds = [1, 2, 3]
        ensemble = Ensemble(gans, data.seeds)
        assert train(ensemble, data).recorded == (2 if cuda_graphs else 0)
        ends.append(weights(ensemble))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)


def test_gpu_batches_match_cpu_batches(make_gan):
    data = ring()
    on_gpu = train(make_gan(optimizer=ADAM), data).batches
    assert data._stream.batches.split.x.device.type == "cuda" and data.train.x.device.type == "cpu"
    torch.manual_seed(0)
    data = ring()
    data.setup()
    for (x, y), (cpu_x, cpu_y) in zip(on_gpu, data.train_dataloader()):
        assert torch.equal(x.cpu(), cpu_x) and torch.equal(y.cpu(), cpu_y)


STOP = """
from pathlib import Path

from lightning import Callback


class Stop(Callback):
    def on_train_batch_end(self, trainer, gan, *batch):
        if gan.d_updates == 27 and not Path("stopped").exists():
            Path("stopped").touch()
            raise RuntimeError("stopped")
"""


@pytest.mark.parametrize("seeds", [[], ["seeds=2"]], ids=["single", "ensemble"])
@pytest.mark.parametrize("graphs", [False, True])
def test_resume_is_bit_identical(cli, tmp_path, graphs, seeds):
    (tmp_path / "my_gan.py").write_text(STOP)
    overrides = [
        "data=ring", "data.train_size=1000", "data.batch_size=50", "networks=mlp", "trainer=deterministic", "logger=csv",
        "monitor=[]", "max_images=2000", "eval_every=500", f"gan.cuda_graphs={str(graphs).lower()}", *seeds,
    ]  # fmt: skip
    assert cli(*overrides, f"hydra.run.dir={tmp_path / 'uninterrupted'}")[0] == 0
    assert cli(*overrides, f"hydra.run.dir={tmp_path / 'resumed'}", "+callbacks.stop._target_=my_gan.Stop")[0] == 1
    code, printed = cli(f"resume={tmp_path / 'resumed'}", "trust=my_gan")
    assert code == 0 and (tmp_path / "stopped").exists(), printed
    uninterrupted, resumed = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("uninterrupted", "resumed")
    )
    assert uninterrupted["state_dict"].pop("_extra_state") == resumed["state_dict"].pop("_extra_state")
    for name, tensor in uninterrupted["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name


class Synchronizes(NonSaturatingGAN):
    """Reads a number from the GPU in every step."""

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return NonSaturatingGAN.generator_loss(fake_logits) * (2 if fake_logits.mean() > 0 else 1)


def test_step_that_synchronizes_is_refused(make_gan):
    """The last test: a failed recording leaves torch's allocator and streams in their state."""
    with pytest.raises(ValueError, match="cannot become a CUDA graph .*capturing.*leave out gan.cuda_graphs"):
        train(make_gan(Synchronizes, optimizer=ADAM, cuda_graphs=True), ring())
