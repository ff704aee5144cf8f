"""Every network composes with every way of conditioning, with packing and with spectral norm, and builds."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.regularizers import is_spectrally_normalized

CONF = Path(conf_folder())
DATA = {
    "mlp": ["ring"],
    "mlp_images": ["digits"],
    "dcgan": ["digits", "mnist", "cifar10"],
    "resnet": ["mnist", "cifar10"],
}
PAIRS = [(networks, data) for networks, sets in DATA.items() for data in sets]


@cache
def composed(networks, data, *overrides):
    chosen = [f"networks={networks}", f"data={data}", "networks.latent_dim=5", "loss=ns", "name=test", "run_dir=here"]
    chosen.append("networks.width=4" if networks in ("dcgan", "resnet") else "networks.hidden=[9,7]")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*chosen, *overrides])


def built(*choices, pack=1):
    torch.manual_seed(0)
    config = OmegaConf.merge(composed(*choices), {"gan": {"pack": pack}})
    return instantiate(OmegaConf.to_container(config, resolve=True)["gan"], _convert_="all"), config.data


def test_all_networks_are_covered():
    assert set(DATA) == {path.stem for path in (CONF / "networks").glob("*.yaml")}


@pytest.mark.parametrize(("networks", "data"), PAIRS)
@pytest.mark.parametrize("conditioning", ["none", "labels", "concat", "cbn", "ac"])
def test_both_steps_of_any_combination(networks, data, conditioning):
    a_turn(networks, data, conditioning, pack=1)
    if conditioning == "ac":
        with pytest.raises(Exception, match=r"got gan\.pack=3; use gan\.pack=1"):
            a_turn(networks, data, conditioning, pack=3)
    else:
        a_turn(networks, data, conditioning, pack=3)


def a_turn(networks, data, conditioning, pack):
    gan, facts = built(networks, data, f"conditioning={conditioning}", "regularizer=[sn]", pack=pack)
    assert is_spectrally_normalized(gan.discriminator)
    y = torch.arange(6) % facts.num_classes
    real = gan.sample(6, None if conditioning == "none" else y) * 0.9 + 0.1
    outputs = gan.forward_pass(real, y, with_real=True, grad_to_generator=True)
    assert outputs.real_logits.shape == outputs.fake_logits.shape == (6 // pack,)
    classes = outputs.fake_class_logits
    assert (classes.shape == (6, facts.num_classes)) if conditioning == "ac" else classes is None
    gan.generator_objective(outputs).backward(retain_graph=True)
    gan.discriminator_objective(outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in gan.generator.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in gan.discriminator.parameters())


@pytest.mark.parametrize(("networks", "data"), PAIRS)
def test_conditional_batch_norm_is_in_the_generator(networks, data):
    gan, facts = built(networks, data, "conditioning=cbn")
    assert gan.generator.label_inputs == 0 and gan.generator.num_classes == facts.num_classes
    assert gan.discriminator.head.embedding.num_embeddings == facts.num_classes
    gan, _ = built(networks, data, "conditioning=labels")
    assert gan.generator.label_inputs == facts.num_classes


def test_spectral_norm_leaves_other_regularizers_alone():
    config = composed("dcgan", "digits", "regularizer=[sn,r1]")
    assert config.networks.discriminator.spectral_norm is True and set(config.regularizer) == {"r1"}
    assert composed("dcgan", "digits", "regularizer=[r1]").networks.discriminator.spectral_norm is False


def test_resnet_preset_matches_the_paper():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["networks=resnet", "data=cifar10", "loss=ns", "name=test", "run_dir=here"])
    assert (config.networks.latent_dim, config.networks.width) == (128, 64)
    assert config.networks.generator.norm == "batch" and config.networks.discriminator.norm == "none"
