"""Parts that do not go together: each refusal with its reason, each warning, and silence where there is no cause."""

import warnings

import pytest
import torch
from torch import nn

from ganlab.losses import CGAN, LSGAN, WGAN, HingeGAN, NonSaturatingGAN, RaGAN, RpGAN
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels, Marginal, Unconditional, Uniform
from ganlab.models.ensemble import Ensemble
from ganlab.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from ganlab.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    DiffAugment,
    GradientPenalty,
    InstanceNoise,
    LeCam,
    WeightClipping,
)


def build(family=NonSaturatingGAN, *, g_classes=0, discriminator=None, **settings):
    return family(
        MLPGenerator(3, (2,), [4], bounded=False, num_classes=g_classes),
        MLPDiscriminator((2,), [4]) if discriminator is None else discriminator,
        generator_optimizer=lambda p: torch.optim.SGD(p, 0.1),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, 0.1),
        **settings,
    )


def warnings_of(act):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


# Refused


def test_missing_labels_are_refused():
    for conditioning in (None, Unconditional()):
        with pytest.raises(ValueError, match="^CGAN needs labels and has none; add conditioning=labels"):
            build(CGAN, conditioning=conditioning)


@pytest.mark.parametrize("kind", [ClassLabels, lambda n: AuxiliaryClassifier(n, 1.0)])
@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes", "auxiliary_classes"])
@pytest.mark.parametrize(
    ("g", "d", "labels", "message"),
    [
        (0, 3, 3, "the generator was built for 0 classes and the conditioning has 3"),
        (3, 0, 3, "the discriminator was built for 0 classes and the conditioning has 3"),
        (3, 4, 3, "the discriminator was built for 4 classes and the conditioning has 3"),
        (4, 3, 3, "the generator was built for 4 classes and the conditioning has 3"),
        (3, 0, 0, "the generator was built for 3 classes and the conditioning has 0"),
        (0, 3, 0, "the discriminator was built for 3 classes and the conditioning has 0"),
    ],
)
def test_networks_built_for_other_labels_are_refused(g, d, labels, message, feed, kind):
    """Else a conditional GAN would train unconditionally, in silence."""
    with pytest.raises(ValueError, match=f"^{message}; choose both with conditioning=none, labels, concat, cbn or ac$"):
        build(
            g_classes=g,
            discriminator=MLPDiscriminator((2,), [4], **{feed: d}),
            conditioning=kind(labels) if labels else None,
        )


@pytest.mark.parametrize(("built_for", "pack"), [(1, 2), (2, 1), (3, 4)])
def test_discriminator_built_for_other_pack_is_refused(built_for, pack):
    with pytest.raises(ValueError, match=f"was built for packs of {built_for} and gan.pack is {pack}; set gan.pack"):
        build(discriminator=MLPDiscriminator((2,), [4], pack=built_for), pack=pack)


class Unmarked(nn.Module):
    """A user's discriminator, without the attributes of ganlab's."""

    def forward(self, x, y=None):
        return x.sum(1)

    def forward_with_classes(self, x, y=None):
        return x.sum(1), torch.zeros(len(x), 3)


def test_auxiliary_classifier_with_packs_is_refused():
    for discriminator in (Unmarked(), MLPDiscriminator((2,), [4], projection_classes=3, pack=2)):
        with pytest.raises(ValueError, match="not packs of 2; use gan.pack=1, or conditioning=labels or concat"):
            build(
                g_classes=3, discriminator=discriminator, conditioning=AuxiliaryClassifier(3, 1.0), pack=2
            )  # fmt: skip


@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes"])
def test_missing_auxiliary_classifier_is_refused(feed):
    with pytest.raises(ValueError, match="needs a discriminator with one; choose both with conditioning=ac"):
        build(
            g_classes=3,
            discriminator=MLPDiscriminator((2,), [4], **{feed: 3}),
            conditioning=AuxiliaryClassifier(3, 1.0),
        )


def test_untrained_auxiliary_classifier_is_refused():
    """D was built for conditioning=ac, and ClassLabels would neither show it labels nor train the classifier."""
    with pytest.raises(ValueError, match="auxiliary"):
        build(g_classes=3, discriminator=MLPDiscriminator((2,), [4], auxiliary_classes=3), conditioning=ClassLabels(3))


@pytest.mark.parametrize("conditioning", [None, ClassLabels(3), AuxiliaryClassifier(3, 1.0)])
def test_user_discriminator_without_attributes_is_accepted(conditioning):
    pack = 1 if conditioning is not None and conditioning.auxiliary else 2
    build(g_classes=3 if conditioning else 0, discriminator=Unmarked(), conditioning=conditioning, pack=pack)


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: Consistency(1.0, r)])
def test_image_augmentation_of_points_is_refused(fit, make_batches, wrap):
    regularizer = wrap(DiffAugment(color=False, translation=0.1, cutout=0))
    with pytest.raises(ValueError, match=r"for images .* got samples \[6, 2\]; for points take regularizer=instance_noise"):
        fit(build(regularizers={"augment": regularizer}), make_batches(1))


# Warned of


def test_wgan_without_lipschitz_constraint_warns():
    for regularizers in (
        None, {}, {"r1": R1(1.0), "r2": R2(1.0)}, {"off": None}, {"dragan": DRAGAN(1.0, 0.5)}, {"lecam": LeCam(1.0)}
    ):  # fmt: skip
        (message,) = warnings_of(lambda regularizers=regularizers: build(WGAN, regularizers=regularizers))
        assert message.startswith("WGAN without a Lipschitz constraint")
        assert "add regularizer=clip, regularizer=gp or regularizer=sn" in message


def test_each_constraint_is_recognized():
    for regularizer in (
        WeightClipping(0.01), GradientPenalty(10.0), GradientPenalty(10.0, one_sided=True), GradientPenalty(10.0, center=0)
    ):  # fmt: skip
        assert not warnings_of(lambda regularizer=regularizer: build(WGAN, regularizers={"it": regularizer}))
    assert not warnings_of(lambda: build(WGAN, discriminator=MLPDiscriminator((2,), [4], spectral_norm=True)))


@pytest.mark.parametrize("family", [NonSaturatingGAN, LSGAN, HingeGAN, RpGAN, RaGAN])
def test_other_families_need_no_constraint(family):
    assert not warnings_of(lambda: build(family))
    assert not warnings_of(lambda: build(family, discriminator=MLPDiscriminator((2,), [4], spectral_norm=True)))


@pytest.mark.parametrize(
    ("family", "regularizers", "named"),
    [
        (NonSaturatingGAN, {"r1": R1(1.0)}, "r1"),
        (NonSaturatingGAN, {"mine": R2(1.0), "noise": InstanceNoise(0.1)}, "mine"),
        (WGAN, {"gp": GradientPenalty(1.0)}, "gp"),
        (NonSaturatingGAN, {"d": DRAGAN(1.0, 0.5)}, "d"),
        (RpGAN, {}, "RpGAN"),
        (RpGAN, {"r1": R1(1.0), "r2": R2(1.0)}, "r1, r2, RpGAN"),
        (RaGAN, {}, "RaGAN"),
    ],
)
@pytest.mark.parametrize("images", [False, True])
def test_batch_norm_in_the_discriminator_warns(family, regularizers, named, images):
    def make(norm):
        if images:
            return build(family, discriminator=DCGANDiscriminator(1, 16, 4, norm), regularizers=regularizers)
        return build(family, discriminator=MLPDiscriminator((2,), [4, 4], norm), regularizers=regularizers)

    (message,) = warnings_of(lambda: make("batch"))
    assert message.startswith("batch norm in the discriminator")
    assert f"does not go with {named}; use networks.discriminator.norm=none (or layer)" in message
    for norm in ("none", "layer"):
        assert not warnings_of(lambda norm=norm: make(norm))


def test_batch_norm_elsewhere_does_not_warn():
    assert not warnings_of(lambda: build(discriminator=MLPDiscriminator((2,), [4, 4], "batch")))
    assert not warnings_of(
        lambda: build(WGAN, discriminator=MLPDiscriminator((2,), [4, 4], "batch"), regularizers={"clip": WeightClipping(0.1)})
    )
    g = MLPGenerator(3, (2,), [4], bounded=False, norm="batch")
    sgd = {f"{network}_optimizer": torch.optim.SGD for network in ("generator", "discriminator")}
    assert not warnings_of(lambda: RpGAN(g, MLPDiscriminator((2,), [4]), regularizers={"r1": R1(1.0)}, **sgd))


class Trainer:
    """What the check at the start of training looks at."""

    def __init__(self, shape=None, precision="32-true"):
        self.datamodule = None if shape is None else type("Data", (), {"shape": shape})()
        self.precision = precision


def validate_at_fit_start(gan, trainer):
    from ganlab.models.compatibility import validate_at_fit_start

    return warnings_of(lambda: validate_at_fit_start(gan, trainer))


class Learned(NonSaturatingGAN):
    """A loss with a weight of its own, one that does not learn, and one that D has, too."""

    def __init__(self, *networks, **settings):
        super().__init__(*networks, **settings)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.head = next(self.discriminator.parameters())


@pytest.mark.parametrize("members", [None, 2])
def test_untrained_parameters_of_a_loss_warn(members):
    gans = [build(Learned) for _ in range(members or 1)]
    (message,) = validate_at_fit_start(Ensemble(gans, [1, 2]) if members else gans[0], Trainer())
    assert message.startswith("nothing trains scale of Learned, since neither network holds it; put it into the discriminator")


@pytest.mark.parametrize(
    ("regularizers", "named"),
    [
        ({"r1": R1(1.0, every=2)}, "r1"),
        ({"a": R1(1.0), "r2": R2(1.0, every=16)}, "r2"),
        ({"r1": R1(1.0, every=4), "gp": GradientPenalty(1.0, every=4)}, "r1, gp"),
    ],
)
def test_lazy_penalties_on_points_warn(regularizers, named):
    gan = build(regularizers=regularizers)
    (message,) = validate_at_fit_start(gan, Trainer(shape=(2,)))
    assert message.startswith(f"lazy penalties ({named}) are reported to fail on 2-D toys (R3GAN, Huang et al. 2024)")
    assert message.endswith(f"use regularizer.{named.split(',')[0]}.every=1")
    assert not validate_at_fit_start(gan, Trainer(shape=(1, 8, 8))) and not validate_at_fit_start(gan, Trainer())
    assert not validate_at_fit_start(build(regularizers={"r1": R1(1.0)}), Trainer(shape=(2,)))


@pytest.mark.parametrize("members", [None, 2])
def test_pairs_of_unequal_labels_warn(members):
    def messages(family, **conditioning):
        gans = [build(family, g_classes=3, discriminator=MLPDiscriminator((2,), [4], projection_classes=3), **conditioning)]
        return validate_at_fit_start(Ensemble(gans * members, [*range(members)]) if members else gans[0], Trainer())

    for prior in (None, Uniform(3), Marginal(3)):
        (message,) = messages(RpGAN, conditioning=ClassLabels(3, prior))
        assert message.startswith("RpGAN compares each fake with one real sample, which has another label")
        assert f"({type(prior or Uniform(3)).__name__})" in message and message.endswith("use label_prior=batch")
        for family in (RaGAN, NonSaturatingGAN):
            assert not messages(family, conditioning=ClassLabels(3, prior))
    assert not messages(RpGAN, conditioning=ClassLabels(3, Batch(3)))
    assert not validate_at_fit_start(build(RpGAN), Trainer())


def test_fp16_warns():
    (message,) = validate_at_fit_start(build(), Trainer(precision="16-mixed"))
    assert "fp16 is reported to cripple GAN training" in message and "use trainer.precision=bf16-mixed" in message
    for precision in ("32-true", "bf16-mixed", "64-true"):
        assert not validate_at_fit_start(build(), Trainer(precision=precision))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_weights_are_refused(precision):
    weight = torch.ones((), dtype=torch.bfloat16)
    assert weight.lerp(weight + 0.5, 0.001) == weight, "the reason"
    with pytest.raises(
        ValueError, match=f"trainer.precision={precision} rounds weights so coarsely .* use trainer.precision=bf16-mixed"
    ):
        validate_at_fit_start(build(), Trainer(precision=precision))


def test_fit_start_validates(make_trainer, make_batches):
    """Under a real trainer, with the numbers of a real run."""
    from lightning import LightningDataModule
    from torch.utils.data import DataLoader

    class Points(LightningDataModule):
        shape = (2,)

        def train_dataloader(self):
            return DataLoader(make_batches(1), batch_size=None)

    trainer = make_trainer()
    messages = warnings_of(lambda: trainer.fit(build(regularizers={"r1": R1(1.0, every=2)}), Points()))
    assert sum("lazy penalties (r1)" in message for message in messages) == 1


def test_compatible_parts_do_not_warn():
    g = DCGANGenerator(3, 1, 8, 4, norm="conditional_batch", num_classes=3)
    d = DCGANDiscriminator(1, 8, 4, projection_classes=3, pack=2)
    sgd = {f"{network}_optimizer": torch.optim.SGD for network in ("generator", "discriminator")}
    assert not warnings_of(lambda: CGAN(g, d, conditioning=ClassLabels(3), pack=2, regularizers={"r1": R1(1.0)}, **sgd))
