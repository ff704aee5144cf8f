"""What D sees instead of the samples: each operation against a loop over images, and where in the step it acts."""

import copy
import math
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from ganlab.losses import NonSaturatingGAN, RpGAN
from ganlab.regularizers import DiffAugment, InstanceNoise, Regularizer

COLOR = {"color": True, "translation": 0, "cutout": 0}
TRANSLATION = {"color": False, "translation": 0.25, "cutout": 0}
CUTOUT = {"color": False, "translation": 0, "cutout": 0.5}
FLIP = {"color": False, "translation": 0, "cutout": 0, "flip": True}
ALL = {"color": True, "translation": 0.125, "cutout": 0.5, "flip": True}
OPERATIONS = {
    "noise": lambda: InstanceNoise(0.4),
    "color": lambda: DiffAugment(**COLOR),
    "translation": lambda: DiffAugment(**TRANSLATION),
    "cutout": lambda: DiffAugment(**CUTOUT),
    "flip": lambda: DiffAugment(**FLIP),
    "all": lambda: DiffAugment(**ALL),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)


def images(n, channels=3, height=8, width=6, seed=0):
    """float64 and nowhere 0, off center, with no symmetry."""
    random = torch.Generator().manual_seed(seed)
    return 0.1 + torch.rand(n, channels, height, width, generator=random, dtype=torch.float64)


def augmented(x, seed=1, **settings):
    torch.manual_seed(seed)
    return DiffAugment(**settings).augment(x)


# Each operation by itself


def test_augmentation_without_parts_is_the_identity():
    x = images(3)
    assert torch.equal(augmented(x, color=False, translation=0, cutout=0), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_color(channels):
    """Image by image: x + b; channels drawn s times as far from their mean; then everything c times as far from its mean.

    b is the shift of the image's mean, c the stretch of its gray version, s that of its colors, all read off the result.
    """
    x = images(3000, channels, 4, 3)
    b, s, c = [], [], []
    for image, got in zip(x.numpy(), augmented(x, **COLOR).numpy(), strict=True):
        b.append(got.mean() - image.mean())
        gray, got_grey = image.mean(0), got.mean(0)
        c.append(got_grey.std() / gray.std())
        s.append((got - got_grey).std() / (image - gray).std() / c[-1] if channels > 1 else 1.0)
        brighter = image + b[-1]
        colored = brighter.mean(0) + s[-1] * (brighter - brighter.mean(0))
        contrasted = colored.mean() + c[-1] * (colored - colored.mean())
        np.testing.assert_allclose(got, contrasted, rtol=1e-9, atol=1e-12)
    drawn = [(b, -0.5, 0.5), (c, 0.5, 1.5)] + [(s, 0.0, 2.0)] * (channels > 1)
    for values, low, high in drawn:
        assert low <= min(values) < low + 0.02 * (high - low) and high - 0.02 * (high - low) < max(values) <= high
        quarters = np.histogram(values, 4, (low, high))[0] / len(values)
        np.testing.assert_allclose(quarters, 0.25, atol=0.04)  # uniform; 5 standard errors
    for one, other in ((b, c), (b, s), (c, s))[: 3 if channels > 1 else 1]:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1, "drawn by themselves"


def shifted(image, down, right):
    """By a loop over pixels, zeros from outside."""
    result = np.zeros_like(image)
    _, height, width = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                result[:, i, j] = image[:, i - down, j - right]
    return result


def test_translation_shifts_each_image_and_fills_with_zeros():
    """A quarter of 8 rows is 2, of 6 columns 1.5, rounded to 2: 25 shifts, each as often."""
    x = images(5000, 2)
    found = Counter()
    candidates = {(d, r): None for d in range(-2, 3) for r in range(-2, 3)}
    moved = augmented(x, **TRANSLATION)
    for shift in candidates:
        candidates[shift] = np.stack([shifted(x[k].numpy(), *shift) for k in range(40)])
    for k in range(40):  # exactly one shift explains each
        hits = [shift for shift, copies in candidates.items() if np.array_equal(copies[k], moved[k].numpy())]
        assert len(hits) == 1
    for image in moved.numpy():
        rows, columns = np.flatnonzero(image[0].any(1)), np.flatnonzero(image[0].any(0))
        down = rows[0] if rows[0] else rows[-1] - 7
        right = columns[0] if columns[0] else columns[-1] - 5
        found[int(down), int(right)] += 1
    assert set(found) == set(candidates)
    np.testing.assert_allclose(list(found.values()), 200, atol=75)  # 5 standard errors


@pytest.mark.parametrize(("share", "reach"), [(0.05, 0), (0.125, 1), (0.2, 2), (0.45, 4)])
def test_translation_covers_its_range(share, reach):
    x = torch.ones(800, 1, 8, 8)
    moved = augmented(x, color=False, translation=share, cutout=0)
    empty_rows = (moved[:, 0].sum(2) == 0).sum(1)
    empty_columns = (moved[:, 0].sum(1) == 0).sum(1)
    assert set(empty_rows.tolist()) == set(empty_columns.tolist()) == set(range(reach + 1))


@pytest.mark.parametrize(("share", "length"), [(0.5, 4), (0.25, 2), (0.4, 3), (0.1, 1)])
def test_cutout_zeroes_one_square_that_may_reach_over_the_edge(share, length):
    x = images(6000, 2, 8, 8)
    got = augmented(x, color=False, translation=0, cutout=share)
    cut = got == 0
    assert torch.equal(got[~cut], x[~cut]), "the rest is left alone"
    assert torch.equal(cut[:, 0], cut[:, 1]), "all channels at once"
    cut = cut[:, 0].numpy()
    full = 0
    for image in cut[:300]:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        if rows.size == 0:
            continue
        box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and image.sum() == box.size, "a rectangle without holes"
        assert max(box.shape) <= length
        assert all(side == length or touches for side, touches in (
            (box.shape[0], rows[0] == 0 or rows[-1] == 7), (box.shape[1], columns[0] == 0 or columns[-1] == 7)
        )), "smaller only at the edge"  # fmt: skip
        full += box.shape == (length, length)
    assert full > 50
    # a square whose center is any of the side's pixels (or their corners, if its length is even), by counting
    starts = np.arange(8 + 1 - length % 2) - length // 2
    inside = np.mean([len(set(range(a, a + length)) & set(range(8))) for a in starts])
    assert cut.mean() == pytest.approx((inside / 8) ** 2, rel=0.05)
    one_side = np.mean([[a <= pixel < a + length for pixel in range(8)] for a in starts], axis=0)
    np.testing.assert_allclose(cut.mean(0), np.outer(one_side, one_side), atol=0.035)


def test_flip_mirrors_every_second_image():
    x = images(2000)
    got = augmented(x, **FLIP)
    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(got, x, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(got, x, strict=True)])
    assert (mirrored ^ same).all()
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=0.055)


def test_flip_is_off_by_default():
    x = images(50)
    assert torch.equal(augmented(x, color=False, translation=0.0, cutout=0.0), x)


@pytest.mark.parametrize("shape", [(2,), (3, 5, 4)])
def test_instance_noise_is_gaussian_and_drawn_for_each_value(shape):
    x = torch.full((4000, *shape), 3.0, dtype=torch.float64)
    torch.manual_seed(0)
    d = ((InstanceNoise(0.4).augment(x) - 3) / 0.4).flatten(1).numpy()
    assert abs(d.mean()) < 0.06 and d.std() == pytest.approx(1, rel=0.05)
    assert np.mean(np.abs(d) < 1) == pytest.approx(0.6827, abs=0.03)
    assert abs(np.corrcoef(d[:, 0], d[:, 1])[0, 1]) < 0.08


def test_noise_fades_linearly():
    x, noise = torch.zeros(4000, 2, dtype=torch.float64), InstanceNoise(0.4, fade=8)
    for step, left in [(0, 1), (2, 0.75), (7, 0.125), (8, 0), (9, 0)]:
        noise.on_step_start(step)
        assert noise.augment(x).std().item() == pytest.approx(0.4 * left, rel=0.05)


def test_noise_fades_in_both_steps(make_gan, make_batches, fit):
    """By D's updates, two per update of G."""
    seen = []

    class Seen(InstanceNoise):
        def augment(self, x):
            seen.append(self.left.item())
            return super().augment(x)

    gan = make_gan(RpGAN, n_critic=2, regularizers={"noise": Seen(0.1, fade=4)})
    fit(gan, make_batches(5))
    assert [left for left, _ in groupby(seen)] == [1, 0.75, 0.5, 0.25, 0]


# What all share


@every_operation
def test_augmentation_is_drawn_per_image_and_call(operation):
    """Equal images come out different from each other, and from call to call."""
    x = images(1, 3, 16, 16).expand(12, -1, -1, -1)
    torch.manual_seed(0)
    first, second = OPERATIONS[operation]().augment(x), OPERATIONS[operation]().augment(x)
    assert not torch.equal(first, second)
    assert len({tuple(image.flatten().tolist()) for image in first}) > (1 if operation == "flip" else 6)


@every_operation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_augmentation_keeps_shape_dtype_and_input(operation, dtype):
    x = images(5).to(dtype)
    before = x.clone()
    got = OPERATIONS[operation]().augment(x)
    assert got.shape == x.shape and got.dtype == dtype
    assert torch.equal(x, before)


@every_operation
def test_augmentation_is_differentiable(operation):
    def fixed(x):
        torch.manual_seed(3)
        return OPERATIONS[operation]().augment(x)

    assert torch.autograd.gradcheck(fixed, images(2, 2, 4, 4).requires_grad_())


@pytest.mark.parametrize("shape", [(5, 2), (5, 3, 4), (5,)])
def test_augmentation_of_points_is_refused(shape):
    with pytest.raises(ValueError, match=r"images \[n, C, H, W\], got samples .*; for points take regularizer=instance_noise"):
        DiffAugment(**ALL).augment(torch.zeros(shape))


@pytest.mark.parametrize("name", ["translation", "cutout"])
@pytest.mark.parametrize("bad", [1, 1.5, -0.1, math.nan, "0.5", None, True])
def test_shares_out_of_range_are_refused(name, bad):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number of at least 0 and below 1, got {bad!r}"):
        DiffAugment(**(ALL | {name: bad}))


@pytest.mark.parametrize("bad", [0, -0.1, math.nan, "1", None])
def test_sigma_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"`sigma` must be a number above 0, got {bad!r}"):
        InstanceNoise(bad)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "9"])
def test_fade_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"`fade` must be an integer of at least 1, got {bad!r}"):
        InstanceNoise(0.1, fade=bad)


# In the step


class Times(Regularizer):
    """Doubles and adds 1: what D saw is then known exactly."""

    def __init__(self, factor=2.0, shift=1.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def augment(self, x):
        return self.factor * x + self.shift


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5, -0.5]))
        self.inputs = []

    def forward(self, x, y=None):
        self.inputs.append(x)
        return x @ self.weight


@pytest.mark.parametrize("family", [NonSaturatingGAN, RpGAN])
def test_both_steps_augment(make_gan, make_batches, fit, family):
    """D's step and G's; for a relativistic family also the reals of G's step; in this order."""
    gan = make_gan(family, regularizers={"first": Times(), "second": Times(1.0, 10.0)})
    gan.discriminator = Linear()
    fakes = []
    gan.generator.register_forward_hook(lambda module, args, fake: fakes.append(fake))
    real = make_batches(1)
    fit(gan, real)
    expected = [real[0][0], fakes[0], *[real[0][0]] * (family is RpGAN), fakes[1]]
    for seen, raw in zip(gan.discriminator.inputs, expected, strict=True):
        torch.testing.assert_close(seen, (2 * raw + 1) + 10)


def test_the_generators_gradient_passes_through_the_augmentation(make_gan, make_batches, fit):
    """SGD of rate 1 for G: what it lost is the gradient of s(-D(2 G(z) + 1)), twice that of an identity's chain."""
    gan = make_gan(
        NonSaturatingGAN,
        regularizers={"times": Times()},
        generator_optimizer=lambda p: torch.optim.SGD(p, 1.0),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, 0.0),
    )
    gan.discriminator = Linear()
    G, w = copy.deepcopy(gan.generator), gan.discriminator.weight.detach().clone()
    before = [p.detach().clone() for p in gan.generator.parameters()]
    fit(gan, make_batches(1))
    torch.manual_seed(5)
    torch.randn(6, 3)  # D's step draws first
    loss = softplus(-((2 * G(torch.randn(6, 3)) + 1) @ w)).mean()
    for old, new, gradient in zip(before, gan.generator.parameters(), torch.autograd.grad(loss, G.parameters()), strict=True):
        torch.testing.assert_close(old - new.detach(), gradient, rtol=1e-4, atol=1e-6)


@every_operation
def test_real_and_fake_get_independent_noise_in_every_step(make_gan, operation):
    gan = make_gan(RpGAN, regularizers={"a": OPERATIONS[operation]()}, shape=(1, 8, 8))
    x = images(16, 1, 8, 8).float()
    gan.generator.forward = lambda z, y=None: x + 0 * z.sum()
    torch.manual_seed(0)
    d, g = (gan.forward_pass(x, None, with_real=True, grad_to_generator=grad) for grad in (False, True))
    sides = [d.real, d.fake, g.real, g.fake]
    assert not any(torch.equal(a, b) for i, a in enumerate(sides) for b in sides[:i])


def test_samples_are_not_augmented(make_gan):
    plain, noisy = make_gan(), make_gan(regularizers={"times": Times()})
    assert torch.equal(plain.sample(5, seed=0), noisy.sample(5, seed=0))


def test_penalties_get_augmented_samples(make_gan):
    """R1 of augmented reals is R1 at the points where D was asked."""
    seen = []

    class Looks(Regularizer):
        def penalty(self, discriminator, outputs):
            seen.append(outputs.real)
            return discriminator(outputs.real, outputs.real_y).mean()

    gan = make_gan(regularizers={"looks": Looks(), "times": Times()})
    x = torch.arange(8.0).view(4, 2)
    gan.discriminator_objective(gan.forward_pass(x, None, with_real=True, grad_to_generator=False))
    assert torch.equal(seen[0], 2 * x + 1)
