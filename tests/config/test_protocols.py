"""The published protocols: each experiment, as composed and built, has the numbers of its paper and of the authors' code."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import ganlab
import ganlab.config.resolvers  # registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.metrics import ToyQuality
from ganlab.networks.mlp import Maxout

CONF = Path(conf_folder())
PAC = ["ring_pac", "grid_pac"]
ALL = ["ring_alpha", *PAC]


@cache
def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*overrides, "name=test", "run_dir=here"])


def built(experiment, *overrides):
    config = OmegaConf.to_container(composed(f"+experiment={experiment}", *overrides), resolve=True)
    torch.manual_seed(0)
    gan, data = (instantiate(config[part], _convert_="all") for part in ("gan", "data"))
    data.setup()
    return gan, data, config


def widths(net):
    """Inputs and outputs of each linear layer."""
    return [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]


def layers(net):
    """Layers of the hidden part, in order."""
    return [type(layer).__name__ for layer in net.body]


def steps(config, data):
    """D's steps until max_images is reached, which ends a run."""
    return -(-config["max_images"] // data.batch_size)


def commands(experiment):
    """The command lines in an experiment's comment, each as its overrides."""
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text().replace("\\\n#", " ")
    lines = re.findall(r"^#   python -m ganlab (.*)$", text, re.MULTILINE)
    return [[word for word in line.split() if not word.startswith(("-m", "+experiment", "seed=", "seeds="))] for line in lines]


def full_protocol(experiment):
    """(gan, data, config) of each command that sets max_images."""
    for overrides in commands(experiment):
        if any(word.startswith("max_images=") for word in overrides):
            overrides = [word for word in overrides if not word.startswith("loss=")]
            yield built(experiment, *overrides)


def assert_adam(gan, lr, betas):
    for optimizer in gan.configure_optimizers()[0]:
        (group,) = optimizer.param_groups
        assert type(optimizer) is torch.optim.Adam
        assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (lr, betas, 0)


@pytest.mark.parametrize("experiment", ALL)
def test_settings_shared_by_all_protocols(experiment):
    """z = N(0, I_2), one step each, no moving average, no penalty, no label, metrics of 2,500 samples."""
    gan, data, config = built(experiment)
    assert gan.generator.latent_dim == 2 and data.shape == (2,)
    z = gan.sample_latents(20_000)
    assert z.mean().abs() < 0.05 and torch.allclose(z.T.cov(), torch.eye(2), atol=0.05)
    assert (gan.n_critic, gan.ema_decay, gan.gradient_clip) == (1, 0, None)
    assert not gan.regularizers and not gan.conditioning.num_classes
    metric = instantiate(config["metrics"])
    assert isinstance(metric, ToyQuality) and metric.samples == 2500
    assert config["max_images"] % config["eval_every"] == 0  # the last evaluation is at the end of the run


@pytest.mark.parametrize("experiment", ALL)
def test_ema_decay_0_samples_from_the_generator_itself(experiment, fit, make_batches):
    gan, *_ = built(experiment)
    fit(gan, make_batches(2, size=8))
    gan.generator.eval()
    z = torch.randn(5, 2)
    assert torch.equal(gan.generator_ema.eval()(z), gan.generator(z))


class TestRingAlpha:
    """Welfert et al. 2023."""

    def test_data(self):
        _, data, _ = built("ring_alpha")
        angle = torch.arange(8) * 2 * torch.pi / 8
        torch.testing.assert_close(data.centers, torch.stack([angle.cos(), angle.sin()], 1), atol=1e-6, rtol=0)
        assert data.std**2 == pytest.approx(1e-4)
        assert (len(data.train.x), len(data.test.x), data.batch_size) == (50_000, 25_000, 128)

    def test_networks(self):
        gan, *_ = built("ring_alpha")
        assert widths(gan.generator) == [(2, 400), (400, 400), (400, 400), (400, 400), (400, 2)]
        assert widths(gan.discriminator) == [(2, 200), (200, 200), (200, 200), (200, 200), (200, 1)]
        assert layers(gan.generator) == ["Linear", "Identity", "ReLU"] * 4
        assert layers(gan.discriminator) == ["Linear", "Identity", "LeakyReLU"] * 4
        assert {m.negative_slope for m in gan.discriminator.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}

    @pytest.mark.parametrize(
        ("overrides", "family", "settings"),
        [
            (["loss=minimax"], ganlab.MinimaxGAN, {}),
            (["loss=ns"], ganlab.NonSaturatingGAN, {}),
            (["loss=ls"], ganlab.LSGAN, {}),
            (["loss=alpha"], ganlab.AlphaGAN, {"alpha_d": 0.5, "alpha_g": 1.2, "saturating": False}),
            (
                ["loss=alpha", "gan.alpha_d=0.3", "gan.alpha_g=1", "gan.saturating=true"],
                ganlab.AlphaGAN,
                {"alpha_d": 0.3, "alpha_g": 1, "saturating": True},
            ),
        ],
    )
    def test_loss_and_optimizer_of_each_row(self, overrides, family, settings):
        gan, *_ = built("ring_alpha", *overrides)
        assert type(gan) is family and {name: getattr(gan, name) for name in settings} == settings
        assert_adam(gan, 1e-4, (0.9, 0.999))
        rows = (CONF / "experiment" / "ring_alpha.yaml").read_text()
        assert " ".join(overrides) in rows

    def test_length(self):
        """400 epochs, about 156,000 steps and 20 million images; the short form is a tenth."""
        for _, data, config in full_protocol("ring_alpha"):
            batches = len(data.batches())
            assert batches == 390 and steps(config, data) == 400 * batches == 156_000
            assert config["max_images"] % config["eval_every"] == 0
        _, data, short = built("ring_alpha")
        assert steps(short, data) == 40 * batches


@pytest.mark.parametrize("experiment", PAC)
class TestPac:
    """Lin et al. 2018, Table 1."""

    def test_data(self, experiment):
        _, data, _ = built(experiment)
        if experiment == "ring_pac":
            assert type(data) is ganlab.data.Ring and len(data.centers) == 8 and data.std == 0.01
        else:
            expected = {(float(a), float(b)) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}
            assert {tuple(c) for c in data.centers.tolist()} == expected and data.std == 0.05
        assert len(data.train.x) == 100_000

    @pytest.mark.parametrize("pack", [1, 2, 4])
    def test_networks(self, experiment, pack):
        gan, *_ = built(experiment, f"gan.pack={pack}")
        g, d = gan.generator, gan.discriminator
        assert widths(g) == [(2, 400), (400, 400), (400, 400), (400, 400), (400, 2)]
        assert layers(g) == ["Linear", "BatchNorm1d", "ReLU"] * 4
        assert widths(d) == [(2 * pack, 5 * 200), (200, 5 * 200), (200, 5 * 200), (200, 1)]
        assert layers(d) == ["Linear", "Identity", "Maxout"] * 3
        assert {m.pieces for m in d.modules() if isinstance(m, Maxout)} == {5}
        for net in (g, d):
            linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
            weights = torch.cat([m.weight.flatten() for m in linear])
            assert weights.std().item() == pytest.approx(0.02, rel=0.01) and not any(m.bias.any() for m in linear)

    @pytest.mark.parametrize("pack", [1, 2, 4])
    def test_step_has_100_packs(self, experiment, pack):
        gan, data, _ = built(experiment, f"gan.pack={pack}")
        real, y = next(iter(data.train_dataloader()))
        outputs = gan.forward_pass(real, y, with_real=True, grad_to_generator=True)
        assert outputs.real.shape == outputs.fake.shape == (100, 2 * pack)
        assert outputs.real_logits.shape == outputs.fake_logits.shape == (100,)

    def test_loss_and_optimizer(self, experiment):
        gan, *_ = built(experiment)
        assert type(gan) is ganlab.NonSaturatingGAN
        assert_adam(gan, 1e-4, (0.8, 0.999))

    def test_length(self, experiment):
        """400,000 steps of GAN, PacGAN2 and PacGAN4; the short form, a fortieth, for any pack."""
        packs = []
        for gan, data, config in full_protocol(experiment):
            packs.append(gan.pack)
            assert steps(config, data) == 400_000 and config["max_images"] == 400_000 * 100 * gan.pack
            assert config["max_images"] == 40 * config["eval_every"]
        assert packs == [1, 2, 4]
        for pack in (1, 2, 3, 4, 10):
            _, data, config = built(experiment, f"gan.pack={pack}")
            assert steps(config, data) == 10_000 and config["max_images"] == 10 * config["eval_every"]


def test_grid_recipe_keeps_data_networks_and_batches_of_the_protocol():
    (theirs, data, _), (ours, same, config) = built("grid_pac"), built("grid_recipe")
    assert torch.equal(data.train.x, same.train.x) and data.batch_size == same.batch_size == 100
    for net in ("generator", "discriminator"):
        a, b = getattr(theirs, net), getattr(ours, net)
        assert str(a) == str(b) and [p.shape for p in a.parameters()] == [p.shape for p in b.parameters()]
    assert (ours.pack, ours.n_critic) == (theirs.pack, theirs.n_critic) == (1, 1)
    assert steps(config, same) == 40_000 == config["gan"]["generator_scheduler"]["T_max"]
    ours.configure_optimizers()
    assert ours._schedulers["d"] is None and ours.regularizers["instance_noise"].fade == 0.8 * 40_000


@pytest.mark.parametrize("experiment", ALL)
@pytest.mark.parametrize("loss", ["wgan", "wgan_gp", "rpgan", "hinge"])
def test_other_losses_train_in_a_protocol(experiment, loss, fit):
    gan, data, _ = built(experiment, f"loss={loss}")
    random = torch.Generator().manual_seed(0)
    x = data.train.x[torch.randint(len(data.train.x), (6, 12), generator=random)]
    fit(gan, [(batch, torch.zeros(12, dtype=torch.long)) for batch in x])
    assert gan.g_updates >= 1 and all(p.isfinite().all() for p in gan.parameters())
