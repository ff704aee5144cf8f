"""A step stays on its tensors' device and never reads a value from it.

Run on torch's meta device, where a tensor has a shape and no values: mixing in a CPU tensor or reading a value (`.item()`,
`if tensor > 0`) is an error there. On a GPU the first is an error and the second waits for the device.
"""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch._subclasses.fake_tensor import FakeTensorMode

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.losses import NonSaturatingGAN
from ganlab.models.ensemble import Ensemble
from ganlab.regularizers import R1, GradientPenalty, InstanceNoise, LeCam

REGULARIZERS = sorted(path.stem for path in (Path(conf_folder()) / "regularizer").glob("*.yaml"))
IMAGES = (8, 1, 8, 8)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """There is none for this device, and none is on here."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def composed(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", [*overrides, "logger=[]", "name=test", "run_dir=here"])
    return instantiate(OmegaConf.to_container(config, resolve=True)["gan"], _convert_="all")


def two_steps_of_each(gan, shape, labeled=True):
    gan.to("meta")
    real = torch.randn(shape, device="meta")
    y = torch.zeros(len(real), dtype=torch.long, device="meta") if labeled else None
    gan.log_next_step = True
    for step in 2 * (gan.discriminator_step, gan.generator_step):
        gan.on_step_start()
        terms, metrics = step(real, y)
        sum(terms.values()).backward()
        assert all(value.device.type == "meta" for value in (terms | metrics).values())
        for regularizer in gan.regularizers.values():
            regularizer.project(gan.discriminator)
        gan.d_updates += 1
    assert all(p.grad.device.type == "meta" for p in (*gan.generator.parameters(), *gan.discriminator.parameters()))


def test_every_family(family, make_gan):
    two_steps_of_each(make_gan(family), (8, 2), labeled=family.requires_labels)


@pytest.mark.parametrize("prior", ["uniform", "batch", "marginal"])
@pytest.mark.parametrize("conditioning", ["labels", "concat", "cbn", "ac"])
def test_every_conditioning_with_all_regularizers(conditioning, prior):
    every = f"regularizer=[{','.join(REGULARIZERS)}]"
    tiny = ["data=digits", "networks.width=2", f"conditioning={conditioning}", f"label_prior={prior}"]
    gan = composed(*tiny, "loss=ns", every)
    assert len(gan.regularizers) == len(REGULARIZERS) - 1  # spectral norm belongs to the network
    two_steps_of_each(gan, IMAGES)


@pytest.mark.parametrize("pack", [1, 2])
def test_residual_networks(pack):
    gan = composed("data=fashion_mnist", "networks=resnet", "networks.width=2", "conditioning=cbn", f"gan.pack={pack}")
    two_steps_of_each(gan, (4, 1, 28, 28))


@contextmanager
def cudas_bf16():
    """torch.autocast("cuda", torch.bfloat16), which switches itself off where there is no GPU."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


@pytest.mark.parametrize(
    "words",
    [
        "data=digits conditioning=labels gan.pack=2",
        "data=digits conditioning=cbn networks.discriminator.norm=layer",
        "data=digits loss=ns conditioning=ac networks.generator.norm=instance",
        "data=fashion_mnist networks=resnet conditioning=cbn networks.discriminator.norm=batch",
    ],
)
def test_dtypes_under_cuda_autocast(words):
    """A GPU casts other operations to bf16 and float32 than a CPU does. Forward only, which torch can pretend without one."""
    gan = composed(*words.split(), "networks.width=2", "regularizer=[lecam,diffaugment,instance_noise]")
    side = 28 if "fashion" in words else 8
    with FakeTensorMode(), cudas_bf16():
        for module in gan.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
                        tensors[name] = torch.nn.Parameter(fake) if isinstance(tensor, torch.nn.Parameter) else fake
        gan._device, gan.log_next_step = torch.device("cuda", 0), True
        assert gan.generator(gan.sample_latents(4), torch.zeros(4, dtype=torch.long, device="cuda")).dtype == torch.bfloat16
        for step in (gan.discriminator_step, gan.generator_step):
            terms, metrics = step(torch.rand(4, 1, side, side, device="cuda"), torch.zeros(4, dtype=torch.long, device="cuda"))
            assert all((t.device.type, t.dtype) == ("cuda", torch.float32) for t in (terms | metrics).values())


class Reads(NonSaturatingGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.mean() * float(fake_logits.mean() > 0)


class Strays(R1):
    def penalty(self, discriminator, outputs):
        return super().penalty(discriminator, outputs) + torch.zeros(1).sum(0, keepdim=True)


@pytest.mark.parametrize("settings", [{"family": Reads}, {"regularizers": {"strays": Strays(1.0)}}], ids=["reads", "strays"])
def test_device_reads_and_foreign_tensors_are_detected(settings, make_gan):
    with pytest.raises(RuntimeError, match="meta"):
        two_steps_of_each(make_gan(**settings), (8, 2), labeled=False)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_an_ensemble(family, make_gan, norm):
    """Its draws of latents apart, which come from a generator per seed."""
    regularizers = {"r1": R1(1.0), "gp": GradientPenalty(1.0), "lecam": LeCam(0.3, start=0), "noise": InstanceNoise(0.2)}
    ensemble = Ensemble([make_gan(family, seed=s, norm=norm, regularizers=regularizers) for s in (1, 2)], [1, 2])
    ensemble.gradient_clip = 1.0
    ensemble.to("meta")
    ensemble.template.to("meta")
    z = torch.randn(2, 8, 3, device="meta")
    y = torch.zeros(2, 8, dtype=torch.long, device="meta") if family.requires_labels else None
    ensemble.log_next_step = True
    for name, network in (("discriminator_step", ensemble.discriminator), ("generator_step", ensemble.generator)):
        terms, metrics = getattr(ensemble, name)(torch.randn(2, 8, 2, device="meta"), y, z)
        sum(terms.values()).sum().backward()
        parameters = list(network.parameters())
        ensemble.clip_gradients_to_norm(parameters, ensemble.gradient_norm([p.grad for p in parameters]))
        assert all(value.shape == (2,) and value.device.type == "meta" for value in (terms | metrics).values())
