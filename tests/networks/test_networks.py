"""Shapes, ranges, labels and the promise `one_pass`, by experiment."""

import pytest
import torch
from torch.nn.utils.parametrizations import _SpectralNorm

from ganlab.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    ResNetDiscriminator,
    ResNetGenerator,
)

IMAGE = (2, 28, 28)
NORMS = {
    "dcgan": ["none", "batch", "instance", "layer"],
    "resnet": ["none", "batch", "instance", "layer"],
    "mlp": ["none", "batch", "layer"],
}
ALL = [(kind, norm) for kind, norms in NORMS.items() for norm in norms]


def discriminator(kind, norm="none", **options):
    torch.manual_seed(0)
    if kind == "mlp":
        return MLPDiscriminator(IMAGE, [9, 5], norm, **options)
    return {"dcgan": DCGANDiscriminator, "resnet": ResNetDiscriminator}[kind](2, 28, 4, norm, **options)


def generator(kind, norm="none", classes=0):
    torch.manual_seed(0)
    if kind == "mlp":
        return MLPGenerator(6, IMAGE, [9, 5], bounded=True, norm=norm, num_classes=classes)
    return {"dcgan": DCGANGenerator, "resnet": ResNetGenerator}[kind](6, 2, 28, 4, norm, classes)


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("classes", [0, 3])
def test_dcgan_shapes_and_range(size, channels, classes):
    torch.manual_seed(0)
    y = torch.tensor([0, 2, 1]) if classes else None
    g = DCGANGenerator(5, channels, size, 4, num_classes=classes)
    x = g(torch.randn(3, 5) * 10, y)
    assert x.shape == (3, channels, size, size)
    assert x.dtype == torch.float32 and -1 <= x.min() < 0 < x.max() <= 1
    for labels in ({"projection_classes": classes}, {"concat_classes": classes}):
        logits = DCGANDiscriminator(channels, size, 4, **labels)(x, y)
        assert logits.shape == (3,)
        assert logits.std() > 0
        logits.sum().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in g.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 6, 7, 9, 18, 22, 27, 30, 36])
@pytest.mark.parametrize("build", [lambda s: DCGANGenerator(5, 1, s, 4), lambda s: DCGANDiscriminator(1, s, 4)])
def test_sizes_that_do_not_halve_are_refused(size, build):
    with pytest.raises(ValueError, match=rf"got {size}$"):
        build(size)


@pytest.mark.parametrize("build", [generator, discriminator])
@pytest.mark.parametrize("kind", NORMS)
def test_unknown_norm_is_refused_with_the_choices(build, kind):
    with pytest.raises(ValueError, match="unknown norm layer 'btach'; choose one of none, batch"):
        build(kind, "btach")


@pytest.mark.parametrize(("kind", "norm"), ALL)
@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes"])
def test_one_pass_is_promised_only_where_samples_do_not_mix(kind, norm, feed):
    """In training mode, where batch norm mixes: the same sample in other company."""
    d = discriminator(kind, norm, **{feed: 4})
    x, other, y = torch.randn(5, *IMAGE), torch.randn(5, *IMAGE) * 3 + 1, torch.tensor([0, 1, 2, 3, 0])
    company = torch.cat([x[:2], other])
    alone, accompanied = d(x, y)[:2], d(company, torch.cat([y[:2], y]))[:2]
    assert torch.allclose(alone, accompanied, atol=1e-5) == (norm != "batch")
    assert getattr(d, "one_pass", False) == (kind == "mlp" and norm != "batch")


@pytest.mark.parametrize(("kind", "norm"), ALL)
def test_spectral_norm_bounds_every_weight(kind, norm):
    for labels in ({"projection_classes": 4}, {"concat_classes": 4}):
        d = discriminator(kind, norm, spectral_norm=True, **labels)
        weights = [m for m in d.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding))]
        with torch.no_grad():
            for p in d.parameters():
                p.mul_(7)  # a weight that training made large
            for _ in range(200):
                for m in weights:
                    assert m.weight.isfinite().all()  # a look at it, as in a forward pass, is one power iteration
        d.eval()
        assert len(weights) >= 3
        for m in weights:
            assert torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
    assert not any(isinstance(m, _SpectralNorm) for m in discriminator(kind, norm).modules())


@pytest.mark.parametrize("kind", NORMS)
def test_unconditional_networks_have_no_label_weights_and_ignore_labels(kind):
    for build, x in ((discriminator, torch.randn(4, *IMAGE)), (generator, torch.randn(4, 6))):
        net = build(kind)
        assert torch.equal(net(x), net(x, torch.tensor([0, 1, 2, 3])))
        assert not any("embedding" in name for name, _ in net.named_parameters())
    count = sum(p.numel() for p in generator(kind, classes=4).parameters())
    assert count > sum(p.numel() for p in generator(kind).parameters())


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("feed", ["projection_classes", "concat_classes"])
def test_labels_change_both_networks_outputs(kind, feed):
    y, other = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 0, 3])
    same = torch.tensor([False, True, False, True])
    g, d = generator(kind, classes=4), discriminator(kind, **{feed: 4})
    z, x = torch.randn(4, 6), torch.randn(4, *IMAGE)
    changed_g = (g(z, y) - g(z, other)).flatten(1).abs().amax(1)
    changed_d = (d(x, y) - d(x, other)).abs()
    assert torch.equal(changed_g < 1e-6, same)
    assert torch.equal(changed_d < 1e-6, same)
    for net, values in ((g, z), (d, x)):
        with pytest.raises(ValueError, match="got no(ne| labels); pass y"):
            net(values)


def test_projection_is_the_unconditional_head_plus_one_inner_product():
    """Miyato & Koyama 2018, eq. 3: w·h + b + <e_y, h>."""
    d = discriminator("mlp", projection_classes=4)
    x, y = torch.randn(3, *IMAGE), torch.tensor([3, 0, 2])
    h = d.body(x.flatten(1))
    rows = d.head.embedding.weight[y]
    expected = [h[i] @ d.head.linear.weight[0] + d.head.linear.bias[0] + rows[i] @ h[i] for i in range(3)]
    torch.testing.assert_close(d(x, y), torch.stack(expected))


def test_concatenated_labels_are_constant_one_hot_maps():
    """Mirza & Osindero 2014: y is one more input; the first layer's label weights act as a bias chosen by class."""
    d = discriminator("dcgan", concat_classes=3)
    x = torch.randn(2, *IMAGE)
    y = torch.tensor([2, 0])
    maps = torch.zeros(2, 3, 28, 28)
    maps[0, 2], maps[1, 0] = 1, 1
    torch.testing.assert_close(d(x, y), d.head(d.body(torch.cat([x, maps], 1)), None))


@pytest.mark.parametrize("norm", NORMS["dcgan"])
def test_dcgan_norm_layers(norm):
    kinds = {"batch": torch.nn.BatchNorm2d, "instance": torch.nn.InstanceNorm2d, "layer": torch.nn.GroupNorm}
    for net, expected in (
        (generator("dcgan", norm), 2),
        (discriminator("dcgan", norm), 1),
    ):  # none on the image's level
        counts = {name: sum(isinstance(m, kind) for m in net.modules()) for name, kind in kinds.items()}
        assert counts == {name: expected * (name == norm) for name in kinds}


def test_mlp_generator_on_points_is_unbounded():
    torch.manual_seed(0)
    x = MLPGenerator(3, (2,), [8], bounded=False)(torch.randn(200, 3) * 30)
    assert x.shape == (200, 2) and x.abs().max() > 1
    x = MLPGenerator(3, (2,), [8], bounded=True)(torch.randn(200, 3) * 30)
    assert 0.9 < x.abs().max() <= 1
