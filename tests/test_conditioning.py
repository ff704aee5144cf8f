"""Which labels samples wear."""

import pytest
import torch

from ganlab.conditioning import BatchLabels, ClassLabels, Unconditional
from ganlab.losses import CGAN, NonSaturatingGAN

Y = torch.tensor([2, 0, 0, 1, 0])


def test_unconditional_ignores_the_datas_labels():
    assert Unconditional().labels(Y, 5) == (None, None)
    assert Unconditional().labels(None, 5) == (None, None)
    assert Unconditional().checked(None, 5) is None
    with pytest.raises(ValueError, match="unconditional and takes no labels; leave y out"):
        Unconditional().checked(Y, 5)


def test_class_labels_keep_the_reals_and_draw_fakes_uniformly():
    torch.manual_seed(0)
    y = torch.zeros(30_000, dtype=torch.long)  # the prior is uniform, whatever the data's marginal is
    real_y, fake_y = ClassLabels(3).labels(y, 30_000)
    assert real_y is y
    assert fake_y.dtype == torch.int64 and fake_y.shape == (30_000,)
    shares = fake_y.bincount(minlength=3) / 30_000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.015, rtol=0)  # 5 standard errors


def test_batch_labels_wear_the_reals_own():
    real_y, fake_y = BatchLabels(3).labels(Y, 5)
    assert torch.equal(real_y, Y) and torch.equal(fake_y, Y)


@pytest.mark.parametrize("kind", [ClassLabels, BatchLabels])
def test_labels_that_lack_or_do_not_fit_are_refused(kind):
    with pytest.raises(ValueError, match="the batch has no labels; use conditioning=none or labelled data"):
        kind(3).labels(None, 5)
    for bad in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match="0 … 2"):
            kind(3).labels(bad, 2)


@pytest.mark.parametrize("bad", [0, 1, -2, 2.5, "3", None])
def test_too_few_classes_are_refused(bad):
    with pytest.raises(ValueError, match="at least 2 classes"):
        ClassLabels(bad)


def test_checked_labels():
    labels = ClassLabels(3)
    assert labels.checked(2, 4).tolist() == [2, 2, 2, 2]
    assert labels.checked([0, 2, 1], 3).tolist() == [0, 2, 1]
    assert labels.checked(torch.tensor([0, 1], dtype=torch.uint8), 2).dtype == torch.int64
    drawn = [labels.checked(None, 500, torch.Generator().manual_seed(s)) for s in (4, 4, 5)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert set(drawn[0].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], r"3 samples need 3 labels, got \[2\]"),
        (torch.zeros(3, 1, dtype=torch.long), r"3 samples need 3 labels, got \[3, 1\]"),
        (3, r"labels must be integers in 0 … 2, got \[3\]"),
        ([0, 1, -1], "labels must be integers in 0 … 2"),
        ([0.0, 1.0, 2.0], "labels must be integers in 0 … 2"),
    ],
)
def test_checked_refuses_in_words(y, message):
    with pytest.raises(ValueError, match=message):
        ClassLabels(3).checked(y, 3)


def test_cgan_without_labels_is_refused(make_gan):
    with pytest.raises(ValueError, match="CGAN needs labels and has none; add conditioning=labels"):
        make_gan(CGAN, conditioning=Unconditional())


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


def test_real_and_fake_meet_the_discriminator_with_their_own_labels(make_gan, make_batches, fit):
    """Planted discriminator: 'real' wears the batch's labels and 'fake' wears the ones the generator was given."""
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


@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes"])
def test_a_short_training_learns_which_class_is_which(make_gan, fit, feed):
    """Class 0 lives at x = -1, class 1 at x = +2."""
    random = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(350):
        y = torch.randint(2, (64,), generator=random)
        centre = torch.stack([y * 3.0 - 1, torch.zeros(64)], 1)
        batches.append((centre + 0.1 * torch.randn(64, 2, generator=random), y))
    gan = make_gan(CGAN, classes=2, feed=feed, optimizer=lambda p: torch.optim.Adam(p, 5e-3, (0.5, 0.9)), ema_decay=0.9)
    fit(gan, batches)
    assert gan.sample(200, 0, seed=1)[:, 0].mean() < -0.2
    assert gan.sample(200, 1, seed=1)[:, 0].mean() > 1.2
