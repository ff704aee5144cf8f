"""PacGAN: which samples make a pack, and what happens to labels, penalties and leftover samples."""

import copy

import pytest
import torch
from torch import nn

from ganlab.losses import CGAN, LSGAN, NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import ClassLabels
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import R1, DiffAugment, GradientPenalty, LeCam, Regularizer

SHAPES = [(2,), (2, 8, 8)]


def packed(make_gan, pack, shape=(2,), family=NonSaturatingGAN, classes=0, feed="projection_classes", **settings):
    torch.manual_seed(0)
    generator = MLPGenerator(3, shape, [8], bounded=False, num_classes=classes)
    discriminator = MLPDiscriminator(shape, [7, 5], pack=pack, **({feed: classes} if classes else {}))
    sgd = {f"{network}_optimizer": lambda p: torch.optim.SGD(p, 0.1) for network in ("generator", "discriminator")}
    return family(
        generator, discriminator, pack=pack,
        **sgd | {"conditioning": ClassLabels(classes) if classes else None} | settings,
    )  # fmt: skip


def numbered(n, shape):
    """Sample i holds i + channel/10 everywhere, so that each value tells where it comes from."""
    channel = torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) / 10
    return torch.arange(n).view(-1, *[1] * len(shape)) + channel.expand(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pack", [2, 3, 4])
def test_a_pack_is_neighbors_of_one_side_with_their_labels(make_gan, pack, shape):
    """13 samples: 13 // m packs, the rest dropped; reals with reals, fakes with fakes, channels in order."""
    gan = packed(make_gan, pack, shape, classes=13)
    y = torch.arange(13)
    real = numbered(13, shape)
    raw = []
    gan.generator.register_forward_hook(lambda module, args, fake: raw.append((fake, args[1])))
    outputs = gan.forward_pass(real, y, with_real=True, grad_to_generator=False)
    n = 13 // pack
    ((fake, fake_y),) = raw
    for samples, labels, got, got_y in ((real, y, outputs.real, outputs.real_y), (fake, fake_y, outputs.fake, outputs.fake_y)):
        assert got.shape == (n, pack * shape[0], *shape[1:]) and got_y.shape == (n, pack)
        for i in range(n):
            for j in range(pack):
                assert torch.equal(got[i, j * shape[0] : (j + 1) * shape[0]], samples[i * pack + j])
                assert got_y[i, j] == labels[i * pack + j]
    assert outputs.real_logits.shape == outputs.fake_logits.shape == (n,)
    torch.testing.assert_close(outputs.real_logits, gan.discriminator(outputs.real, outputs.real_y))
    torch.testing.assert_close(outputs.fake_logits, gan.discriminator(outputs.fake, outputs.fake_y))


def test_packs_of_one_are_the_samples_themselves(make_gan, make_batches, fit):
    runs = []
    for settings in ({}, {"pack": 1}):
        gan = make_gan(**settings)
        fit(gan, make_batches(3))
        runs.append(gan.state_dict())
    assert all(torch.equal(v, runs[1][k]) for k, v in runs[0].items() if k != "_extra_state")


class Recorder(nn.Module):
    """A linear critic of packs that keeps its inputs."""

    def __init__(self, values):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, values))
        self.inputs, self.labels = [], []

    def forward(self, x, y=None):
        self.inputs.append(x)
        self.labels.append(y)
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize("pack", [2, 3, 4])
@pytest.mark.parametrize("family", [NonSaturatingGAN, RpGAN])
def test_both_steps_pack(make_gan, make_batches, fit, pack, family):
    gan = packed(make_gan, pack, family=family)
    gan.discriminator = Recorder(2 * pack)
    batches = make_batches(1, size=2 * pack + 1)
    fit(gan, batches)
    assert [x.shape for x in gan.discriminator.inputs] == [(2, 2 * pack)] * (4 if family is RpGAN else 3)
    reals = [x for x in gan.discriminator.inputs if torch.equal(x.flatten(), batches[0][0][: 2 * pack].flatten())]
    assert len(reals) == (2 if family is RpGAN else 1)
    assert gan.images_seen == 2 * pack + 1


def test_a_packed_step_equals_a_hand_written_one(make_gan, make_batches, fit):
    """LSGAN in packs of 2 on a linear critic: closed-form gradients of one step each."""
    gan = packed(make_gan, 2, family=LSGAN)
    gan.discriminator = Recorder(4)
    w, G = gan.discriminator.weight.detach().clone(), copy.deepcopy(gan.generator)
    before = [p.detach().clone() for p in G.parameters()]
    ((real, y),) = make_batches(1)
    fit(gan, [(real, y)])
    torch.manual_seed(5)
    with torch.no_grad():
        fake = G(torch.randn(6, 3)).view(3, 4)
    r, f = real.view(3, 4) @ w, fake @ w
    step = ((r - 1)[:, None] * real.view(3, 4)).mean(0) + (f[:, None] * fake).mean(0)
    torch.testing.assert_close(gan.discriminator.weight.detach(), w - 0.1 * step)
    loss = ((G(torch.randn(6, 3)).view(3, 4) @ (w - 0.1 * step) - 1) ** 2).mean() / 2
    for old, new, slope in zip(before, gan.generator.parameters(), torch.autograd.grad(loss, G.parameters()), strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * slope)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("feed", ["concat_classes", "projection_classes"])
@pytest.mark.parametrize("pack", [2, 3])
def test_labels_of_packs_train_and_matter(make_gan, make_batches, fit, pack, feed, shape):
    gan = packed(make_gan, pack, shape, CGAN, classes=3, feed=feed)
    before = [p.detach().clone() for p in gan.discriminator.parameters()]
    batches = make_batches(3, size=7, shape=shape)
    fit(gan, batches)
    assert all(
        not torch.equal(a, b) and b.isfinite().all() for a, b in zip(before, gan.discriminator.parameters(), strict=True)
    )
    x = batches[0][0][: 2 * pack].reshape(2, -1, *shape[1:])
    y = torch.tensor([[0] * pack, [1] * pack])
    other = y.clone()
    other[0, pack - 1] = 2  # the last sample's label in the first pack only
    change = gan.discriminator(x, other) - gan.discriminator(x, y)
    assert change[0].abs() > 1e-6 and change[1] == 0


def test_penalties_get_packs(make_gan):
    """||grad||^2 over both samples of a pack: gamma/2 ||w||^2, and WGAN-GP's (||w|| - 1)^2."""
    seen = []

    class Looks(Regularizer):
        def penalty(self, discriminator, outputs):
            seen.append((outputs.real.shape, outputs.fake.shape, outputs.real_y.shape))

    regularizers = {"r1": R1(3.0), "gp": GradientPenalty(7.0), "lecam": LeCam(1.0, start=0), "looks": Looks()}
    gan = packed(make_gan, 2, classes=3, regularizers=regularizers)
    gan.discriminator = Recorder(4)
    norm = gan.discriminator.weight.norm().item()
    outputs = gan.forward_pass(torch.randn(6, 2), torch.arange(6) % 3, with_real=True, grad_to_generator=False)
    lecam = (outputs.real_logits - outputs.fake_logits.mean()).relu().square().mean()
    lecam = lecam + (outputs.real_logits.mean() - outputs.fake_logits).relu().square().mean()
    expected = 3 / 2 * norm**2 + 7 * (norm - 1) ** 2 + lecam.item()
    assert sum(gan.penalties(outputs).values()).item() == pytest.approx(expected, rel=1e-5)
    assert seen == [((3, 4), (3, 4), (3, 2))]
    assert gan.discriminator.labels[-1].shape == (3, 2)


def test_images_are_augmented_before_they_are_packed(make_gan):
    """Each sample of a pack has its own shift; a pack is no image of 2·C channels to the augmentation."""
    gan = packed(make_gan, 2, (1, 8, 8), regularizers={"shift": DiffAugment(color=False, translation=0.25, cutout=0)})
    torch.manual_seed(0)
    outputs = gan.forward_pass(torch.ones(60, 1, 8, 8), None, with_real=True, grad_to_generator=False)
    assert outputs.real.shape == (30, 2, 8, 8)
    assert (outputs.real[:, 0] != outputs.real[:, 1]).flatten(1).any(1).float().mean() > 0.8


def test_samples_are_not_packed(make_gan, make_batches, fit):
    gan = packed(make_gan, 3)
    fit(gan, make_batches(2))
    assert gan.sample(5, seed=0).shape == (5, 2)


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_smaller_than_a_pack_is_refused(make_gan, make_batches, fit, size):
    with pytest.raises(ValueError, match=f"a batch of {size} holds no pack of 4; raise data.batch_size or lower gan.pack"):
        fit(packed(make_gan, 4), make_batches(1, size=size))


@pytest.mark.parametrize("bad", [0, -2, 1.5, "2", None, True])
def test_pack_out_of_range_is_refused(make_gan, bad):
    with pytest.raises(ValueError, match=f"gan.pack must be an integer of at least 1, got {bad!r}"):
        make_gan(pack=bad)
