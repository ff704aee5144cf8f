"""The ResNets against the reference architectures, written out layer by layer."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, relu

from ganlab.networks import ResNetDiscriminator, ResNetGenerator

SIZES = [28, 32, 64]


def conv(before, after, side):
    return before * after * side**2 + after


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_range(size, channels, classes):
    torch.manual_seed(0)
    y = torch.tensor([0, 2, 1]) if classes else None
    g = ResNetGenerator(5, channels, size, 4, num_classes=classes)
    x = g(torch.randn(3, 5) * 10, y)
    assert x.shape == (3, channels, size, size)
    assert x.dtype == torch.float32 and -1 <= x.min() < -0.1 and 0.1 < x.max() <= 1
    for labels in ({"projection_classes": classes}, {"concat_classes": classes}, {"auxiliary_classes": classes}):
        logits = ResNetDiscriminator(channels, size, 4, **labels)(x, y)
        assert logits.shape == (3,) and logits.std() > 0


@pytest.mark.parametrize("size", [0, 8, 16, 27, 48, 128])
@pytest.mark.parametrize("build", [lambda size: ResNetGenerator(5, 1, size, 4), lambda size: ResNetDiscriminator(1, size, 4)])
def test_other_sizes_are_refused(size, build):
    with pytest.raises(ValueError, match=rf"28, 32 or 64 pixels, got {size}; use networks=dcgan$"):
        build(size)


def test_parameter_count_matches_sngan_at_32_pixels():
    """Miyato et al. 2018, table 4: G 4x4x256, 3 blocks up, BN, 3x3; D blocks of 128: 2 down, 2 plain; sum; linear."""
    block = conv(256, 256, 3) * 2 + 2 * 2 * 256 + conv(256, 256, 1)
    g = (128 + 1) * 4 * 4 * 256 + 3 * block + 2 * 256 + conv(256, 3, 3)
    assert count(ResNetGenerator(128, 3, 32, 64)) == g
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    d = first + 3 * 2 * conv(128, 128, 3) + conv(128, 128, 1) + 128 + 1
    assert count(ResNetDiscriminator(3, 32, 64, spectral_norm=True)) == d
    assert count(ResNetDiscriminator(3, 32, 64, projection_classes=10)) == d + 10 * 128
    # labels in every norm but the last: gain and bias of each class instead of one each
    assert count(ResNetGenerator(128, 3, 32, 64, "conditional_batch", 10)) == g + 3 * 2 * 2 * 256 * (10 - 1)


def test_parameter_count_matches_the_authors_at_64_pixels():
    """G 1024 … 64 from 4x4; D 64 … 1024 in five halvings; D's blocks widen in their second convolution."""
    widths = [1024, 512, 256, 128, 64]
    g = (128 + 1) * 4 * 4 * 1024 + 2 * 64 + conv(64, 3, 3)
    d = conv(3, 64, 3) + conv(64, 64, 3) + conv(3, 64, 1) + 1024 + 1
    for wide, narrow in pairwise(widths):
        g += conv(wide, narrow, 3) + conv(narrow, narrow, 3) + 2 * wide + 2 * narrow + conv(wide, narrow, 1)
        d += conv(narrow, narrow, 3) + conv(narrow, wide, 3) + conv(narrow, wide, 1)
    assert count(ResNetGenerator(128, 3, 64, 64)) == g
    assert count(ResNetDiscriminator(3, 64, 64)) == d


def test_28_pixel_networks_have_one_doubling_less():
    block = 2 * conv(256, 256, 3) + 2 * 2 * 256 + conv(256, 256, 1)
    assert count(ResNetGenerator(128, 1, 28, 64)) == (128 + 1) * 7 * 7 * 256 + 2 * block + 2 * 256 + conv(256, 1, 3)
    extra = (3 - 1) * 128 * (9 + 1)  # three colors instead of one
    assert count(ResNetDiscriminator(3, 32, 64)) - count(ResNetDiscriminator(1, 28, 64)) == extra


def weights(net):
    """(weight, bias) of every convolution and linear layer, in the order in which they were written down."""
    layers = [m for m in net.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    return iter([(m.weight, m.bias) for m in layers])


@pytest.mark.parametrize(("size", "halvings"), [(28, 2), (32, 2), (64, 5)])
def test_discriminator_matches_reference(size, halvings):
    """Written out as the authors have it, with the shortcut's halving after its 1x1 convolution."""
    torch.manual_seed(0)
    d, x = ResNetDiscriminator(3, size, 2).double(), torch.randn(2, 3, size, size, dtype=torch.float64)
    for p in d.parameters():
        torch.nn.init.normal_(p, std=0.2)  # biases, too
    layers = weights(d)
    h = conv2d(relu(conv2d(x, *next(layers), padding=1)), *next(layers), padding=1)
    h = avg_pool2d(h, 2) + conv2d(avg_pool2d(x, 2), *next(layers))
    for level in range(1, len(d.body) - 2):
        path = conv2d(relu(conv2d(relu(h), *next(layers), padding=1)), *next(layers), padding=1)
        if level < halvings:
            path, h = avg_pool2d(path, 2), avg_pool2d(conv2d(h, *next(layers)), 2)
        h = path + h
    expected = torch.nn.functional.linear(relu(h).sum((2, 3)), *next(layers)).squeeze(1)
    torch.testing.assert_close(d(x), expected)
    assert next(layers, None) is None


@pytest.mark.parametrize("size", SIZES)
def test_generator_matches_reference(size):
    """Without norm, as the authors have it, with the shortcut's doubling before its 1x1 convolution."""
    torch.manual_seed(0)
    g, z = ResNetGenerator(5, 3, size, 2, norm="none").double(), torch.randn(2, 5, dtype=torch.float64)
    for p in g.parameters():
        torch.nn.init.normal_(p, std=0.2)
    layers = weights(g)
    side = {28: 7, 32: 4, 64: 4}[size]
    h = torch.nn.functional.linear(z, *next(layers)).view(2, -1, side, side)

    def doubled(h):
        return interpolate(h, scale_factor=2, mode="nearest")

    while h.shape[-1] < size:
        path = conv2d(relu(conv2d(doubled(relu(h)), *next(layers), padding=1)), *next(layers), padding=1)
        h = path + conv2d(doubled(h), *next(layers))
    torch.testing.assert_close(g(z), conv2d(relu(h), *next(layers), padding=1).tanh())
    assert next(layers, None) is None


@pytest.mark.parametrize("size", SIZES)
def test_norm_layers_match_reference(size):
    """Before every activation: of G; of D's blocks but the first, as in WGAN-GP's critic (layer norm)."""
    blocks = {28: (2, 3), 32: (3, 3), 64: (4, 4)}[size]
    kinds = {"batch": torch.nn.BatchNorm2d, "instance": torch.nn.InstanceNorm2d, "layer": torch.nn.GroupNorm}
    for norm, kind in kinds.items():
        found = [
            sum(isinstance(m, kind) for m in net.modules())
            for net in (ResNetGenerator(5, 3, size, 2, norm), ResNetDiscriminator(3, size, 2, norm))
        ]
        assert found == [2 * blocks[0] + 1, 2 * blocks[1]]


def test_initial_weights_are_glorot_uniform():
    """Uniform in ± gain sqrt(6 / (fan_in + fan_out)), the gain sqrt(2) inside the residual paths and 1 elsewhere."""
    torch.manual_seed(0)
    for net in (ResNetGenerator(128, 3, 32, 16), ResNetDiscriminator(3, 32, 16)):
        for name, m in net.named_modules():
            if isinstance(m, torch.nn.Conv2d):
                fans = (m.in_channels + m.out_channels) * m.kernel_size[0] ** 2
                bound = ((2 if "residual" in name else 1) * 6 / fans) ** 0.5
                assert 0.9 * bound < m.weight.abs().max() <= bound and not m.bias.any(), name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_gradient_reaches_every_weight(size, norm):
    torch.manual_seed(0)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    g = ResNetGenerator(5, 3, size, 4, "batch", num_classes=3)
    d = ResNetDiscriminator(3, size, 4, norm, projection_classes=3, auxiliary_classes=3)
    logits, classes = d.forward_with_classes(g(torch.randn(6, 5), y), y)
    (torch.nn.functional.softplus(-logits).mean() + torch.nn.functional.cross_entropy(classes, y)).backward()
    for net in (g, d):
        for name, p in net.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", SIZES)
def test_bf16_is_finite_and_near_float32(size):
    torch.manual_seed(0)
    g, d = ResNetGenerator(16, 3, size, 4), ResNetDiscriminator(3, size, 4)
    z = torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        x = g(z)
        d(x).float().mean().backward()
        low = d(x.detach().float()).float()
    assert all(p.grad.isfinite().all() for net in (g, d) for p in net.parameters())
    full = d(x.detach().float())
    assert (low - full).abs().max() < 0.05 * full.abs().max()
    assert (x.float() - g(z)).abs().max() < 0.2


def test_a_gradient_penalty_differentiates_twice():
    torch.manual_seed(0)
    d, x = ResNetDiscriminator(3, 28, 4, "layer"), torch.randn(2, 3, 28, 28).requires_grad_()
    (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    for name, p in d.named_parameters():
        if name.endswith("weight") and "head" not in name:
            assert p.grad is not None and p.grad.abs().sum() > 0, name
