"""The labels of real samples and fakes, label priors, and the auxiliary classifier."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from torch.utils.data import DataLoader

from ganlab.losses import CGAN, WGAN, NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels, Marginal, Unconditional, Uniform
from ganlab.models.gan import StepOutputs

Y = torch.tensor([2, 0, 0, 1, 0])
PRIORS = [Uniform, Batch, Marginal]


def shares(y, classes=3):
    return y.bincount(minlength=classes) / len(y)


def test_unconditional_ignores_labels():
    assert Unconditional().step_labels(Y, 5) == (None, None)
    assert Unconditional().step_labels(None, 5) == (None, None)
    assert Unconditional().sample_labels(None, 5) is None
    assert (Unconditional.num_classes, Unconditional.auxiliary) == (0, False)
    Unconditional().fit_prior(Y)
    Unconditional().validate_labels(None)
    assert Unconditional().discriminator_term(None) is None and Unconditional().generator_term(None) is None
    with pytest.raises(ValueError, match="unconditional and takes no labels; leave y out"):
        Unconditional().sample_labels(Y, 5)


# Priors


@pytest.mark.parametrize("conditioning", [ClassLabels(3), ClassLabels(3, Uniform(3)), ClassLabels(3, Marginal(3))])
def test_reals_keep_their_labels_and_fakes_are_drawn_uniformly(conditioning):
    """The prior is uniform, whatever the data's marginal is; the marginal is uniform before it is learned."""
    torch.manual_seed(0)
    y = torch.zeros(30_000, dtype=torch.long)
    real_y, fake_y = conditioning.step_labels(y, 30_000)
    assert real_y is y
    assert fake_y.dtype == torch.int64 and fake_y.shape == (30_000,)
    torch.testing.assert_close(shares(fake_y), torch.full((3,), 1 / 3), atol=0.015, rtol=0)  # 5 standard errors


IMBALANCED = torch.tensor([0] * 90 + [1] * 3 + [2] * 7)
UNIFORM = "label_prior=uniform gives every class the same number of generated samples, but the training set has 90 % in class 0"
ADVICE = {
    Uniform: f"{UNIFORM} and 3 % in class 1; use label_prior=marginal or label_prior=batch",
    Batch: "after training with label_prior=batch, .* have uniform ones, .* 90 % in class 0 and 3 % in class 1; give labels",
}


@pytest.mark.parametrize("prior", ADVICE)
def test_uniform_labels_on_imbalanced_data_warn_with_the_shares(prior):
    with pytest.warns(UserWarning, match=ADVICE[prior]):
        ClassLabels(3, prior(3)).fit_prior(IMBALANCED)


@pytest.mark.parametrize(("prior", "y"), [(Marginal, IMBALANCED), (Uniform, Y), (Batch, torch.tensor([0, 0, 0, 1, 2]))])
def test_other_priors_and_equal_classes_do_not_warn(prior, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClassLabels(3, prior(3)).fit_prior(y)


def test_batch_prior_copies_the_real_labels():
    conditioning = ClassLabels(3, Batch(3))
    real_y, fake_y = conditioning.step_labels(Y, 5)
    assert torch.equal(real_y, Y) and torch.equal(fake_y, Y)
    random = torch.Generator().manual_seed(0)
    drawn = conditioning.sample_labels(None, 30_000, random)  # no batch there: uniform
    torch.testing.assert_close(shares(drawn), torch.full((3,), 1 / 3), atol=0.015, rtol=0)


def test_marginal_prior_draws_training_frequencies():
    conditioning = ClassLabels(4, Marginal(4))
    conditioning.fit_prior(torch.tensor([0] * 5 + [1] * 2 + [3] * 13))
    expected = torch.tensor([0.25, 0.1, 0.0, 0.65])
    torch.testing.assert_close(conditioning.prior.frequencies, expected)
    torch.manual_seed(0)
    _, fake_y = conditioning.step_labels(torch.full((30_000,), 2), 30_000)
    assert fake_y.dtype == torch.int64
    torch.testing.assert_close(shares(fake_y, 4), expected, atol=0.015, rtol=0)
    assert (fake_y != 2).all(), "a class that the data lacks is never asked for"
    torch.testing.assert_close(shares(conditioning.sample_labels(None, 30_000), 4), expected, atol=0.015, rtol=0)


@pytest.mark.parametrize("prior", PRIORS)
def test_seeded_labels_are_reproducible(prior):
    conditioning = ClassLabels(3, prior(3))
    conditioning.fit_prior(torch.tensor([0, 0, 1, 2, 2, 2]))
    drawn = [conditioning.sample_labels(None, 500, torch.Generator().manual_seed(s)) for s in (4, 4, 5)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert set(drawn[0].tolist()) == {0, 1, 2}


class Skewed(LightningDataModule):
    """120 points of 3 classes as 1 : 0 : 3; the prior learns from `train.y`."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.train = SimpleNamespace(x=torch.randn(120, 2, generator=random), y=torch.tensor([0, 2, 2, 2]).repeat(30))

    def train_dataloader(self):
        return DataLoader([*zip(self.train.x.split(20), self.train.y.split(20), strict=True)], batch_size=None)


@pytest.mark.parametrize("prior", PRIORS)
def test_fitted_prior_is_saved_with_checkpoints(make_gan, fit, tmp_path, prior):
    drawn = []
    gan = make_gan(classes=3, conditioning=ClassLabels(3, prior(3)))
    gan.generator.register_forward_pre_hook(lambda module, args: drawn.append(args[1]))
    fit(gan, Skewed()).save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    expected = torch.tensor([0.25, 0.0, 0.75])
    assert (1 in torch.cat(drawn)) == (prior is Uniform), "fakes of the class that the data lacks"
    if prior is not Marginal:
        assert not any("frequencies" in name for name in state)
        return
    torch.testing.assert_close(state["conditioning.prior.frequencies"], expected)
    fresh = make_gan(classes=3, conditioning=ClassLabels(3, Marginal(3)), seed=9)
    fresh.load_state_dict(state)
    torch.testing.assert_close(shares(fresh.conditioning.sample_labels(None, 20_000)), expected, atol=0.02, rtol=0)
    worn = []
    fresh.generator_ema.register_forward_pre_hook(lambda module, args: worn.append(args[1]))
    fresh.sample(3000, seed=1)
    torch.testing.assert_close(shares(torch.cat(worn)), expected, atol=0.04, rtol=0)
    assert torch.equal(fresh.sample(50, seed=1), gan.sample(50, seed=1))


def test_prior_is_not_fitted_without_labels(make_gan, make_batches, fit):
    gan = make_gan(classes=3, conditioning=ClassLabels(3, Marginal(3)))
    fit(gan, make_batches(1))
    torch.testing.assert_close(gan.conditioning.prior.frequencies, torch.full((3,), 1 / 3))


# Labels that do not fit


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", [ClassLabels, lambda n, prior: AuxiliaryClassifier(n, 1.0, prior)])
def test_missing_or_out_of_range_labels_are_refused(kind, prior):
    conditioning = kind(3, prior(3))
    with pytest.raises(ValueError, match="the batch has no labels; use conditioning=none or labeled data"):
        conditioning.validate_labels(None)
    for bad in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match="0 … 2"):
            conditioning.validate_labels(bad)
    conditioning.validate_labels(Y)


@pytest.mark.parametrize("kind", [ClassLabels, lambda n: AuxiliaryClassifier(n, 1.0)])
@pytest.mark.parametrize("bad", [0, 1, -2, 2.5, "3", None])
def test_too_few_classes_are_refused(kind, bad):
    with pytest.raises(ValueError, match=f"at least 2 classes, got num_classes={bad!r}; .* use conditioning=none with a loss"):
        kind(bad)


def test_sample_labels():
    labels = ClassLabels(3)
    assert labels.sample_labels(2, 4).tolist() == [2, 2, 2, 2]
    assert labels.sample_labels([0, 2, 1], 3).tolist() == [0, 2, 1]
    assert labels.sample_labels(torch.tensor([0, 1], dtype=torch.uint8), 2).dtype == torch.int64


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], r"3 samples need 3 labels, got \[2\]"),
        (torch.zeros(3, 1, dtype=torch.long), r"3 samples need 3 labels, got \[3, 1\]"),
        (3, r"labels must be integers in 0 … 2, got \[3\]"),
        ([0, 1, -1], "labels must be integers in 0 … 2"),
        ([0.0, 1.0, 2.0], "labels must be integers in 0 … 2"),
        ("2", "labels must be integers in 0 … 2, got '2'"),
        ([0, 1, "2"], r"labels must be integers in 0 … 2, got \[0, 1, '2'\]"),
    ],
)
def test_sample_labels_refuses_with_a_message(y, message):
    with pytest.raises(ValueError, match=message):
        ClassLabels(3).sample_labels(y, 3)


# CGAN and labels on their way


@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes"])
def test_cgan_is_non_saturating_plus_labels_bit_for_bit(make_gan, make_batches, fit, feed):
    states = []
    for kind in (CGAN, NonSaturatingGAN):
        gan = make_gan(kind, classes=3, feed=feed, g_norm="batch", optimizer=torch.optim.Adam)
        fit(gan, make_batches(12), max_epochs=1)
        states.append(gan.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items() if k != "_extra_state")
    assert states[0]["_extra_state"] == states[1]["_extra_state"]


def test_discriminator_gets_the_labels_of_each_side(make_gan, make_batches, fit):
    """Planted discriminator: real samples have the batch's labels, fakes the generator's."""
    seen = []
    gan = make_gan(CGAN, norm="batch")  # batch norm: separate passes, so that each call is one side
    given = []
    gan.generator.register_forward_pre_hook(lambda m, args: given.append(args[1]))
    gan.discriminator.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
    batches = make_batches(1)
    fit(gan, batches)
    d_fake, g_fake = given
    assert torch.equal(seen[0], batches[0][1]) and torch.equal(seen[1], d_fake) and torch.equal(seen[2], g_fake)
    assert not torch.equal(d_fake, batches[0][1]) and not torch.equal(d_fake, g_fake)
    assert len(seen) == 3


@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes", "auxiliary_classes", "conditional_batch"])
def test_short_training_separates_the_classes(make_gan, fit, feed):
    """Class 0 lives at x = -1, class 1 at x = +2."""
    random = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(200):
        y = torch.randint(2, (64,), generator=random)
        center = torch.stack([y * 3.0 - 1, torch.zeros(64)], 1)
        batches.append((center + 0.1 * torch.randn(64, 2, generator=random), y))
    enters = {"feed": feed}
    if feed == "auxiliary_classes":
        enters["conditioning"] = AuxiliaryClassifier(2, 1.0)
    if feed == "conditional_batch":
        enters = {"g_norm": "conditional_batch"}
    gan = make_gan(CGAN, classes=2, optimizer=lambda p: torch.optim.Adam(p, 5e-3, (0.5, 0.9)), ema_decay=0.9, **enters)
    fit(gan, batches)
    assert gan.sample(200, 0, seed=1)[:, 0].mean() < -0.2
    assert gan.sample(200, 1, seed=1)[:, 0].mean() > 1.2


# The auxiliary classifier

REAL_C = np.array([[0.3, -1.2, 2.0], [1.5, 0.1, -0.4], [-0.7, 0.9, 0.2], [0.0, 3.0, -2.0]])
FAKE_C = np.array([[-0.1, 0.6, 0.4], [2.2, -1.0, 0.3], [0.5, 0.4, -1.5]])
REAL_Y, FAKE_Y = np.array([2, 0, 0, 1]), np.array([0, 2, 1])


def class_play():
    classes = [torch.tensor(c, requires_grad=True) for c in (REAL_C, FAKE_C)]
    labels = [torch.tensor(y) for y in (REAL_Y, FAKE_Y)]
    return StepOutputs(None, None, *labels, torch.zeros(4), torch.zeros(3), 0, *classes)


def cross_entropy(logits, y):
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("weight", [1.0, 0.3, 5])
def test_auxiliary_terms_against_scipy_and_scikit_learn(weight):
    """D: of real and of fake, each a mean; G: of fakes; cross-entropy of the sample's label."""
    conditioning = AuxiliaryClassifier(3, weight)
    outputs = class_play()
    d, g = conditioning.discriminator_term(outputs), conditioning.generator_term(outputs)
    assert d.shape == g.shape == () and d.dtype == torch.float64
    real, fake = cross_entropy(REAL_C, REAL_Y), cross_entropy(FAKE_C, FAKE_Y)
    assert d.item() == pytest.approx(weight * (real + fake), rel=1e-12)
    assert g.item() == pytest.approx(weight * fake, rel=1e-12)
    by_sklearn = [
        log_loss(y, np.exp(log_softmax(c, axis=1)), labels=[0, 1, 2]) for c, y in ((REAL_C, REAL_Y), (FAKE_C, FAKE_Y))
    ]
    assert d.item() == pytest.approx(weight * sum(by_sklearn), rel=1e-9)
    d.backward()  # weight (softmax - one-hot)/n
    for logits, y, leaf in ((REAL_C, REAL_Y, outputs.real_class_logits), (FAKE_C, FAKE_Y, outputs.fake_class_logits)):
        expected = weight * (np.exp(log_softmax(logits, axis=1)) - np.eye(3)[y]) / len(y)
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, "1", None, True])
def test_classifier_weight_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"conditioning.weight must be a number above 0, got {bad!r}"):
        AuxiliaryClassifier(3, bad)


def auxiliary_gan(make_gan, family=NonSaturatingGAN, weight=0.7, **settings):
    return make_gan(family, classes=3, feed="auxiliary_classes", conditioning=AuxiliaryClassifier(3, weight), **settings)


@pytest.mark.parametrize("family", [NonSaturatingGAN, WGAN, RpGAN])
@pytest.mark.parametrize("norm", ["none", "batch"])  # one pass over both sides, and one for each
def test_both_objectives_include_the_classification_term(make_gan, make_batches, family, norm):
    gan = auxiliary_gan(make_gan, family, norm=norm)
    ((x, y),) = make_batches(1)
    outputs = gan.forward_pass(x, y, with_real=True, grad_to_generator=True)
    assert outputs.real_class_logits.shape == outputs.fake_class_logits.shape == (6, 3)
    if norm == "none":
        logits, classes = gan.discriminator.forward_with_classes(outputs.real)
        torch.testing.assert_close(outputs.real_logits, logits)
        torch.testing.assert_close(outputs.real_class_logits, classes)
        torch.testing.assert_close(outputs.fake_class_logits, gan.discriminator.forward_with_classes(outputs.fake)[1])
    assert torch.equal(outputs.real_y, y)
    real, fake = (
        cross_entropy(c.detach().numpy(), y.numpy())
        for c, y in ((outputs.real_class_logits, outputs.real_y), (outputs.fake_class_logits, outputs.fake_y))
    )
    d, g = gan.discriminator_terms(outputs), gan.generator_terms(outputs)
    assert d.keys() == {"d/loss", "d/class_loss"} and g.keys() == {"g/loss", "g/class_loss"}
    assert d["d/loss"] == gan.discriminator_loss(outputs.real_logits, outputs.fake_logits)
    assert g["g/loss"] == gan.generator_loss(outputs.fake_logits, outputs.real_logits)
    assert d["d/class_loss"].item() == pytest.approx(0.7 * (real + fake), rel=1e-5)
    assert g["g/class_loss"].item() == pytest.approx(0.7 * fake, rel=1e-5)
    assert gan.discriminator_objective(outputs).item() == pytest.approx(sum(d.values()).item(), rel=1e-6)
    assert gan.generator_objective(outputs).item() == pytest.approx(sum(g.values()).item(), rel=1e-6)


def test_a_batch_without_labels_stops_the_first_step(make_gan, make_batches, fit):
    with pytest.raises(ValueError, match="the batch has no labels; use conditioning=none or labeled data"):
        fit(auxiliary_gan(make_gan), [x for x, _ in make_batches(1)])


def test_classifier_alone_gives_the_generator_a_gradient(make_gan, make_batches, fit):
    """A loss whose logits give nothing: what moves G and D's classifier is the cross-entropy."""

    class Nothing(NonSaturatingGAN):
        @staticmethod
        def discriminator_loss(real_logits, fake_logits):
            return 0 * real_logits.sum()

        @staticmethod
        def generator_loss(fake_logits, real_logits=None):
            return 0 * fake_logits.sum()

    gan = auxiliary_gan(make_gan, Nothing)
    before = {n: p.detach().clone() for n, p in gan.named_parameters() if "ema" not in n}
    fit(gan, make_batches(3))
    still = {n for n, p in gan.named_parameters() if n in before and torch.equal(before[n], p)}
    assert still == {"discriminator.head.linear.weight", "discriminator.head.linear.bias"}


def test_a_classifier_s_loss_that_is_not_finite_stops_the_run(make_gan, make_batches, fit):
    gan = auxiliary_gan(make_gan)
    with torch.no_grad():
        gan.discriminator.auxiliary.bias.fill_(math.inf)
    with pytest.raises(FloatingPointError, match="^d/class_loss is nan on the first batch; "):
        fit(gan, make_batches(2))


def test_discriminator_logit_ignores_the_label_with_auxiliary_classifier(make_gan, make_batches):
    gan = auxiliary_gan(make_gan)
    ((x, y),) = make_batches(1)
    for a, b in zip(
        gan.discriminator.forward_with_classes(x, y), gan.discriminator.forward_with_classes(x, (y + 1) % 3), strict=True
    ):
        assert torch.equal(a, b)
