"""Each loss with each regularizer, conditioning, label prior and packing: composed as on the command line, and trained."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

import ganlab
import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.losses import __all__ as FAMILIES
from ganlab.regularizers import is_spectrally_normalized

CONF = Path(conf_folder())
STEPS = 6  # at least one step of G with n_critic=5
pytestmark = pytest.mark.filterwarnings("ignore:WGAN without a Lipschitz constraint")
TINY = {
    "digits": ["data=digits", "networks.width=2", "networks.latent_dim=3", "data.batch_size=8"],
    "ring": ["data=ring", "networks.hidden=[6,6]", "data.batch_size=8"],
}
IMAGES_ONLY = {"diffaugment", "consistency"}


def presets(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def family_of(loss):
    return getattr(ganlab, OmegaConf.load(CONF / "loss" / f"{loss}.yaml")._target_.removeprefix("ganlab."))


def preset_of_each_family():
    """The preset that adds least to its class: `ns` for NonSaturatingGAN, not `dragan`."""
    chosen = {}
    for name in presets("loss"):
        body = OmegaConf.load(CONF / "loss" / f"{name}.yaml")
        best = chosen.setdefault(body._target_, (len(body), name))
        chosen[body._target_] = min(best, (len(body), name))
    return {target.removeprefix("ganlab."): name for target, (_, name) in chosen.items()}


FAMILY_PRESETS = preset_of_each_family()
CONDITIONINGS = presets("conditioning")
REGULARIZERS = presets("regularizer")
every_family = pytest.mark.parametrize("loss", FAMILY_PRESETS.values())


@cache
def full_config(data, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*TINY.get(data, [f"data={data}"]), *overrides, "logger=[]"])


def composed(data, *overrides, **gan):
    config = OmegaConf.merge(full_config(data, *overrides), {"gan": gan})
    return {part: OmegaConf.to_container(config[part], resolve=True) for part in ("gan", "data")}


def built(config):
    """The GAN, or the error that refuses it, without Hydra's around it."""
    torch.manual_seed(0)
    try:
        return instantiate(config["gan"], _convert_="all")
    except InstantiationException as error:
        raise error.__cause__ from None


@cache
def loaded(data):
    module = instantiate(composed(data)["data"], _convert_="all")
    module.setup()
    return module


def weights(gan):
    """Weights of both networks without biases, some of which no step changes (before a norm layer, or in a clipped critic)."""
    return {
        f"{role}.{name}": p.detach().clone()
        for role, network in (("generator", gan.generator), ("discriminator", gan.discriminator))
        for name, p in network.named_parameters()
        if p.ndim >= 2
    }


def trained(data, fit, *overrides):
    return train(composed(data, *overrides), data, fit)


def train(config, data, fit):
    gan = built(config)
    before = weights(gan)
    fit(gan, loaded(data), limit_train_batches=STEPS)
    assert (gan.d_updates, gan.g_updates) == (STEPS, STEPS // gan.n_critic)
    after = weights(gan)
    assert len(after) >= 4 and not [name for name in after if torch.equal(before[name], after[name])], "all weights changed"
    assert all(p.isfinite().all() for p in gan.parameters())
    y = 1 if gan.conditioning.num_classes else None
    assert gan.sample(3, y, seed=0).isfinite().all()
    return gan


def test_every_family_has_a_preset():
    assert set(FAMILY_PRESETS) == set(FAMILIES)
    assert {"none", "labels", "concat", "cbn", "ac"} <= set(CONDITIONINGS)
    assert IMAGES_ONLY < set(REGULARIZERS)


@pytest.mark.parametrize("loss", presets("loss"))
def test_every_loss_preset_trains(loss, fit):
    trained("digits", fit, f"loss={loss}")


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@every_family
def test_every_family_with_every_conditioning(loss, conditioning, fit):
    overrides = [f"loss={loss}", f"conditioning={conditioning}"]
    if (loss, conditioning) == ("cgan", "none"):
        with pytest.raises(ValueError, match="CGAN needs labels and has none; add conditioning=labels"):
            trained("digits", fit, *overrides)
        return
    gan = trained("digits", fit, *overrides)
    classes = 0 if conditioning == "none" else 10
    assert gan.conditioning.num_classes == gan.generator.num_classes == gan.discriminator.num_classes == classes
    assert gan.conditioning.auxiliary == (conditioning == "ac")


@cache
def with_all_regularizers(data, loss):
    return composed(data, f"loss={loss}", f"regularizer=[{','.join(REGULARIZERS)}]")


def with_one_regularizer(data, loss, name):
    """One of those that were composed together, which saves time; spectral norm is a setting of the network."""
    if name == "sn":
        return composed(data, f"loss={loss}", "regularizer=[sn]")
    gan = with_all_regularizers(data, loss)["gan"]
    discriminator = gan["discriminator"] | {"spectral_norm": False}
    return {"gan": gan | {"discriminator": discriminator, "regularizers": {name: gan["regularizers"][name]}}}


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@every_family
def test_every_family_with_every_regularizer(loss, regularizer, fit):
    data = "ring" if loss in ("cgan", "rpgan") and regularizer not in IMAGES_ONLY else "digits"
    gan = train(with_one_regularizer(data, loss, regularizer), data, fit)
    assert list(gan.regularizers) == ([] if regularizer == "sn" else [regularizer])
    assert is_spectrally_normalized(gan.discriminator) == (regularizer == "sn")


@pytest.mark.parametrize("regularizer", sorted(IMAGES_ONLY))
def test_regularizers_for_images_refuse_points(regularizer, fit):
    with pytest.raises(ValueError, match="is for images .* for points take regularizer=instance_noise"):
        trained("ring", fit, "loss=ns", f"regularizer=[{regularizer}]")


def test_all_regularizers_at_once(fit):
    gan = train(with_all_regularizers("digits", "cgan"), "digits", fit)
    assert set(gan.regularizers) == set(REGULARIZERS) - {"sn"}


@pytest.mark.parametrize("prior", presets("label_prior"))
@pytest.mark.parametrize("conditioning", [name for name in CONDITIONINGS if name != "none"])
def test_every_conditioning_with_every_prior(conditioning, prior, fit):
    gan = trained("ring", fit, "loss=wgan_gp", f"conditioning={conditioning}", f"label_prior={prior}")
    assert type(gan.conditioning.prior).__name__.lower() == prior
    assert gan.conditioning.num_classes == gan.conditioning.prior.num_classes == 8


@pytest.mark.parametrize(("data", "pack"), [("ring", 2), ("ring", 3), ("ring", 4), ("digits", 2)])
@pytest.mark.parametrize("conditioning", [name for name in CONDITIONINGS if name != "ac"])
def test_packing_with_every_conditioning(conditioning, pack, data, fit):
    config = composed(data, "loss=rpgan", f"conditioning={conditioning}", "regularizer=[r1]", pack=pack)
    gan = train(config, data, fit)
    assert gan.discriminator.pack == gan.pack == pack


@pytest.mark.parametrize("pack", [1, 3])
@pytest.mark.parametrize("conditioning", ["labels", "concat", "ac"])
@pytest.mark.parametrize("loss", [name for name in presets("loss") if family_of(name).pairs_samples])
def test_losses_of_pairs_give_both_samples_the_same_label(loss, conditioning, pack):
    """As R3GAN does, in both steps."""
    if conditioning == "ac" and pack > 1:
        return
    gan = built(composed("ring", f"loss={loss}", f"conditioning={conditioning}", pack=pack))
    steps, forward_pass = [], gan.forward_pass
    gan.forward_pass = lambda *args, **settings: steps.append(forward_pass(*args, **settings)) or steps[-1]
    real, y = (part[:20] for part in loaded("ring").train)
    gan.discriminator_step(real, y)
    gan.generator_step(real, y)
    for outputs in steps:
        assert torch.equal(outputs.real_y, outputs.fake_y) and len(outputs.real_y) == len(outputs.fake_logits) == 20 // pack
        assert torch.equal(outputs.real_y.flatten(), y[: 20 // pack * pack])


@pytest.mark.parametrize("networks", [name for name in presets("networks") if name not in ("mlp", "dcgan")])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_other_networks_with_every_conditioning(networks, conditioning, fit):
    """On images as large as the networks need; two steps only, since they are slow."""
    pack = 1 if conditioning == "ac" else 2
    tiny = "networks.hidden=[6,6]" if networks.startswith("mlp") else "networks.width=2"
    gan = built(
        composed("fashion_mnist", "loss=ns", f"networks={networks}", tiny, f"conditioning={conditioning}", f"gan.pack={pack}")
    )
    before = weights(gan)
    fit(gan, [(torch.rand(4, 1, 28, 28) - 0.3, torch.tensor([3, 0, 9, 9]))] * 2)
    assert not [name for name, after in weights(gan).items() if torch.equal(before[name], after)]
    assert all(p.isfinite().all() for p in gan.parameters())


@pytest.mark.parametrize(
    ("data", "overrides", "message"),
    [
        ("digits", ["loss=ns", "conditioning=ac", "gan.pack=2"], "auxiliary classifier .* use gan.pack=1"),
        ("ring", ["loss=ns", "conditioning=ac", "gan.pack=3"], "auxiliary classifier .* use gan.pack=1"),
        ("ring", ["loss=ns", "gan.pack=0"], "an integer of at least 1, got 0"),
        ("digits", ["loss=ns", "networks.generator.norm=conditional_batch"], "needs labels, got num_classes=0; use conditioning=cbn"),
        ("ring", ["loss=cgan", "conditioning=none"], "CGAN needs labels and has none"),
        ("digits", ["loss=ns", "networks=resnet"], "28, 32 or 64 pixels, got 8; use networks=dcgan"),
        ("folder", ["loss=ns", "conditioning=labels"], "labels need at least 2 classes, got num_classes=0; name the data's classes, or use conditioning=none"),
        ("digits", ["loss=alpha", "gan.alpha_d=0"], "gan.alpha_d must be a number above 0, got 0"),
    ],
)  # fmt: skip
def test_impossible_pairs_are_refused_with_the_reason(data, overrides, message):
    config = composed(data, *overrides)
    with pytest.raises(ValueError, match=message):
        built(config)


def test_pack_larger_than_the_batch_is_refused(fit):
    with pytest.raises(ValueError, match="a batch of 8 holds no pack of 9; raise data.batch_size or lower gan.pack"):
        trained("ring", fit, "loss=ns", "gan.pack=9")
