"""`trainer=fast` is the same training in another precision, and follows it."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.nn.utils import parameters_to_vector

from ganlab.callbacks import TrainMetrics
from ganlab.config.paths import conf_folder
from ganlab.config.resolvers import fast_precision
from ganlab.models.conditioning import ClassLabels
from ganlab.networks import DCGANDiscriminator, DCGANGenerator
from ganlab.regularizers import GradientPenalty

STEPS = 20


def test_the_preset_changes_the_precision_and_nothing_else():
    def trainer(preset):
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            return OmegaConf.to_container(compose("config", [f"trainer={preset}"]).trainer, resolve=False)

    default, fast = trainer("auto"), trainer("fast")
    assert fast.pop("precision") == "${ganlab.fast_precision:${trainer.accelerator},${oc.select:data.dim,null}}"
    assert default.pop("precision") == "32-true"
    assert fast == default


@pytest.mark.parametrize(("platform", "accelerator"), [("darwin", "cpu"), ("linux", "auto")])
def test_mps_is_not_chosen(monkeypatch, platform, accelerator):
    """It has no float64."""
    monkeypatch.setattr("sys.platform", platform)
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        assert compose("config").trainer.accelerator == accelerator


def test_points_stay_in_float32():
    def precision(*overrides):
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            return compose("config", ["trainer=fast", *overrides]).trainer.precision

    assert precision("+experiment=ring") == precision("data=grid") == "32-true"
    assert precision("data=digits") == fast_precision("auto")


class Losses(TrainMetrics):
    """Both networks' losses, step by step."""

    def __init__(self):
        super().__init__()
        self.d, self.g = [], []

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        gan.log_next_step = True

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        self.d.append(float(gan.step_metrics["d/loss"]))
        self.g.append(float(gan.step_metrics["g/loss"]))
        gan.step_metrics = {}


@pytest.fixture
def trained(family, fit, make_batches):
    """Train on small images: the losses per step, and the weights' change."""

    def train(precision):
        torch.manual_seed(0)
        labels = {"num_classes": 3} if family.requires_labels else {}
        heads = {"projection_classes": 3} if family.requires_labels else {}
        gan = family(
            DCGANGenerator(8, 1, 8, 8, **labels),
            DCGANDiscriminator(1, 8, 8, **heads),
            conditioning=ClassLabels(3) if family.requires_labels else None,
            regularizers={"gp": GradientPenalty(1.0)},
            generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.999)),
            discriminator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.999)),
        )
        start = parameters_to_vector(gan.parameters()).detach()
        losses = Losses()
        batches = [(x.clamp(-1, 1), y) for x, y in make_batches(STEPS, size=32, shape=(1, 8, 8))]
        fit(gan, batches, losses, precision=precision)
        return losses, parameters_to_vector(gan.parameters()).detach() - start

    return train


def test_bf16_follows_float32(trained):
    (default, moved), (fast, moved_fast) = trained("32-true"), trained("bf16-mixed")
    for one, other in ((default.d, fast.d), (default.g, fast.g)):
        one, other = torch.tensor(one), torch.tensor(other)
        assert not torch.equal(one, other)  # bf16 was at work
        assert (one - other).abs().max() < 0.03 * (one.max() - one.min())
    assert torch.cosine_similarity(moved, moved_fast, 0) > 0.999
    assert moved_fast.norm() / moved.norm() == pytest.approx(1, abs=0.002)
