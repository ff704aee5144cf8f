"""Shipped families and regularizers conform; `conformance` never raises and has no side effects."""

import logging
from collections import Counter
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
import ganlab.losses
from ganlab import CGAN, GAN, LSGAN, WGAN, AlphaGAN, HingeGAN, MinimaxGAN, NonSaturatingGAN, RpGAN
from ganlab.analysis import Check, assert_conforms, conformance
from ganlab.config.paths import conf_folder
from ganlab.losses.f_gan import FGAN
from ganlab.regularizers import R1, DiffAugment, GradientPenalty, InstanceNoise, Regularizer, WeightClipping

CONF = Path(conf_folder())
FAMILIES = [getattr(ganlab.losses, name) for name in ganlab.losses.__all__]
# Settings of the loss; all others belong to the networks or to training
LOSS_SETTINGS = {"alpha_d", "alpha_g", "saturating", "n_critic", "critic_warmup", "pack"}


def names(folder):
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml"))


@cache
def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [*overrides, "name=test", "run_dir=here"]), resolve=True)


def regularizers_of(config):
    return instantiate(config["gan"]["regularizers"] or {}, _convert_="all")


def statuses(family):
    return {(c.where, c.name): c.state for c in conformance(family)}


# Everything shipped conforms


@pytest.mark.parametrize("loss", names("loss"))
def test_every_preset_conforms_with_its_own_settings_and_regularizers(loss):
    config = composed(f"loss={loss}")
    own = {key: value for key, value in config["gan"].items() if key in LOSS_SETTINGS}
    assert_conforms(partial(get_class(config["gan"]["_target_"]), **own, regularizers=regularizers_of(config)))


@pytest.mark.parametrize("regularizer", names("regularizer"))
def test_every_regularizer_preset_conforms(regularizer):
    assert_conforms(partial(RpGAN, regularizers=regularizers_of(composed(f"regularizer=[{regularizer}]"))))


def test_every_family_has_a_preset():
    presets = {get_class(composed(f"loss={loss}")["gan"]["_target_"]) for loss in names("loss")}
    assert presets == set(FAMILIES)


@pytest.mark.parametrize(
    ("alpha_d", "alpha_g", "saturating"),
    [(0.3, 1.0, False), (0.5, 1.2, True), (2.0, 0.8, False), (0.9999, 1.0001, True), (float("inf"), 3.0, False)],
)
def test_the_alpha_family_conforms(alpha_d, alpha_g, saturating):
    assert_conforms(partial(AlphaGAN, alpha_d=alpha_d, alpha_g=alpha_g, saturating=saturating))


@pytest.mark.parametrize("family", [f for f in FAMILIES if issubclass(f, FGAN)], ids=lambda f: f.__name__)
def test_saturating_f_gans_conform(family):
    assert_conforms(partial(family, saturating=True))


@pytest.mark.parametrize(
    "family",
    [
        partial(WGAN, pack=2, n_critic=5, critic_warmup=True, regularizers={"clip": WeightClipping(0.01)}),
        partial(CGAN, pack=3, regularizers={"gp": GradientPenalty(10.0, every=4, center=0.0)}),
        partial(
            RpGAN,
            gradient_clip=0.1,
            ema_decay=0.0,
            regularizers={
                "r1": R1(0.05, every=2),
                "off": None,
                "augment": DiffAugment(True, 0.125, 0.5, True),
                "noise": InstanceNoise(0.2),
                "clip": WeightClipping(0.1),
            },
        ),
    ],
    ids=["packed, clipped, warmed up", "packed, labeled, lazy", "everything at once"],
)
def test_combined_settings_conform(family):
    assert_conforms(family)


# Which checks are made


def test_checks_of_a_family_with_a_gradient_penalty():
    found = statuses(partial(NonSaturatingGAN, regularizers={"gp": GradientPenalty(10.0)}))
    assert {key for key, ok in found.items() if ok != "pass"} == {
        ("regularizers.gp (GradientPenalty)", "penalty is evaluated where its name says"),  # ganlab's own
        ("regularizers.gp (GradientPenalty)", "augmentation lets gradients through"),  # it does not augment
        ("regularizers.gp (GradientPenalty)", "augmentation treats both sides alike"),
        ("training_step", "labels stay with their side"),  # there are none
    }
    assert Counter(where for where, _ in found) == {
        "__init__": 1,
        "discriminator_loss": 18,
        "generator_loss": 16,
        "regularizers.gp (GradientPenalty)": 14,
        "training_step": 7,
    }


def test_checks_that_do_not_apply_are_none():
    found = statuses(partial(WGAN, regularizers={"clip": WeightClipping(0.01)}))
    assert found["discriminator_loss", "bounded where it should be"] == "not applicable"  # its constraint bounds it
    assert found["regularizers.clip (WeightClipping)", "penalty on a linear critic"] == "not applicable"
    images = statuses(partial(HingeGAN, regularizers={"augment": DiffAugment(True, 0.0, 0.0)}))
    assert images["regularizers.augment (DiffAugment)", "augmentation lets gradients through"] == "pass"


def test_a_failed_check_has_name_place_message_and_paper():
    class Original(MinimaxGAN):
        generator_loss = staticmethod(NonSaturatingGAN.generator_loss)

    (failed,) = [check for check in conformance(Original) if check.state == "fail"]
    assert (failed.name, failed.where) == ("the loss its name says", "generator_loss")
    assert failed.message.startswith("Original descends from MinimaxGAN, but its generator gradient is NonSaturatingGAN's")
    assert "-0.99995 at f = -10 instead of -4.5398e-05" in failed.message
    assert "MinimaxGAN: Minimax loss (Goodfellow et al. 2014, eq. 1): D: s(-r)" in failed.message
    with pytest.raises(AssertionError, match="1 check failed") as caught:
        assert_conforms(Original)
    for text in (failed.where, failed.name, failed.message, failed.paper):
        assert text in str(caught.value)
    assert assert_conforms(MinimaxGAN) is None


def test_every_check_has_a_paper_and_a_message_unless_ok():
    for check in conformance(partial(WGAN, regularizers={"gp": GradientPenalty(10.0), "clip": WeightClipping(0.1)})):
        assert isinstance(check, Check) and check.paper and check.where and check.name
        assert bool(check.message) == (check.state != "pass")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("MinimaxLoss", MinimaxGAN),
        ("Saturating_GAN", MinimaxGAN),
        ("MyNonSaturatingGAN", NonSaturatingGAN),
        ("NSLoss", NonSaturatingGAN),
        ("WGANGP", WGAN),
        ("WGAN_GP_Loss", WGAN),
        ("WassersteinGAN", WGAN),
        ("R3GAN", RpGAN),
        ("SoftHingeGAN", None),
        ("BeyondWGAN", None),
        ("GANLoss", None),
        ("MMDGAN", None),
    ],
)
def test_a_class_is_named_like_a_loss_only_if_its_name_says_nothing_else(name, family):
    losses = ("discriminator_loss", "generator_loss")
    kind = type(name, (GAN,), {loss: staticmethod(getattr(LSGAN, loss)) for loss in losses})
    found = {check.where: check for check in conformance(kind) if check.name == "the loss its name says"}
    if family is None:
        assert found["generator_loss"].state == "not applicable"
        assert found["generator_loss"].message == "its name is no known loss's; its gradient is LSGAN's"
    else:
        message = f"{name} is named like {family.__name__}, but its generator gradient is LSGAN's"
        assert found["generator_loss"].message.startswith(message)


# Broken user code


class Stops(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        raise StopIteration

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return Stops.generator_loss(fake_logits)


class InPlace(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return real_logits.neg_().exp_().mean() + fake_logits.exp_().mean()

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return torch.nn.functional.softplus(fake_logits.neg_()).mean()


class Theory(NonSaturatingGAN):
    @staticmethod
    def divergence(p, q):
        raise ZeroDivisionError("no idea")


class Broken(Regularizer):
    def __init__(self, method):
        super().__init__()
        setattr(self, method, self.breaks)

    def breaks(self, *args):
        raise RuntimeError("not today")


class NeedsMore(NonSaturatingGAN):
    def __init__(self, *players, margin, **settings):
        super().__init__(*players, **settings)


@pytest.mark.parametrize(
    ("family", "where", "says"),
    [
        (Stops, "discriminator_loss", "raises StopIteration"),
        (Stops, "generator_loss", "raises RecursionError: maximum recursion depth exceeded"),
        (Theory, "discriminator_loss", "raises ZeroDivisionError: no idea"),
        (partial(NonSaturatingGAN, regularizers={"mine": Broken("penalty")}), "regularizers.mine (Broken)", "not today"),
        (partial(NonSaturatingGAN, regularizers={"mine": Broken("augment")}), "training_step", "not today"),
        (partial(NonSaturatingGAN, regularizers={"mine": Broken("project")}), "training_step", "not today"),
        (partial(NonSaturatingGAN, regularizers={"mine": "r1"}), "__init__", "regularizer.mine must be a"),
        (NeedsMore, "__init__", "missing 1 required keyword-only argument: 'margin'"),
        (int, "__init__", "raises AttributeError"),
        (None, "__init__", "raises AttributeError"),
        (GAN, "__init__", "abstract"),
    ],
)  # fmt: skip
def test_it_never_raises(family, where, says):
    failed = [check for check in conformance(family) if check.state == "fail"]
    assert any(check.where == where and says in check.message for check in failed), failed


def test_changing_logits_in_place_is_named_and_breaks_no_other_check():
    failed = {c.where: c.name for c in conformance(InPlace) if c.state == "fail" and c.where != "training_step"}
    assert failed == {"discriminator_loss": "the same at each call", "generator_loss": "the same at each call"}


def test_it_has_no_side_effects():
    torch.manual_seed(3)
    torch.set_num_threads(2)
    logger = logging.getLogger("lightning.pytorch")
    state, level, family = torch.get_rng_state(), logger.level, partial(RpGAN, regularizers={"r1": R1(1.0)})
    with torch.no_grad():
        first = conformance(family)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2 and logger.level == level
    with torch.inference_mode():
        assert conformance(family) == first
    assert family.keywords["regularizers"]["r1"].gamma == 1.0


def test_it_is_silent(capfd, caplog, recwarn):
    conformance(partial(WGAN, regularizers={"gp": GradientPenalty(10.0)}))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records and not recwarn.list
