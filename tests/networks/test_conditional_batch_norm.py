"""Conditional batch norm against its formula, and the generators that have it."""

import pytest
import torch

from ganlab.networks import DCGANGenerator, MLPGenerator, ResNetGenerator
from ganlab.networks.labels import ConditionalBatchNorm

NORM = "conditional_batch"
BUILDS = {
    "mlp": lambda norm, classes: MLPGenerator(6, (2,), [9, 5], bounded=False, norm=norm, num_classes=classes),
    "dcgan": lambda norm, classes: DCGANGenerator(6, 2, 16, 4, norm, classes),
    "resnet": lambda norm, classes: ResNetGenerator(6, 2, 32, 2, norm, classes),
}


def build(kind, norm=NORM, classes=4):
    torch.manual_seed(0)
    return BUILDS[kind](norm, classes)


def disturb(g):
    """As training would: gains and biases that differ between classes."""
    for m in g.modules():
        if isinstance(m, ConditionalBatchNorm):
            torch.nn.init.normal_(m.gain_and_bias.weight, std=0.5)
    return g


@pytest.mark.parametrize(
    ("norm", "shape"), [(torch.nn.BatchNorm1d, (7, 3)), (torch.nn.BatchNorm2d, (7, 3, 4, 5))], ids=["1d", "2d"]
)
def test_conditional_batch_norm_values(norm, shape):
    """de Vries et al. 2017, eq. 2-4: (1 + gain_y) (h - E h) / sqrt(Var h + 1e-5) + bias_y, over batch and space."""
    torch.manual_seed(0)
    layer = ConditionalBatchNorm(norm, 4, 3).double()
    h, y = torch.randn(shape, dtype=torch.float64) * 2 + 3, torch.tensor([3, 0, 0, 1, 2, 3, 1])
    over = [0, *range(2, h.ndim)]
    normalized = (h - h.mean(over, keepdim=True)) / (h.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(h, y), normalized)  # gain 1 and bias 0 to begin with
    torch.nn.init.normal_(layer.gain_and_bias.weight)
    gain, bias = layer.gain_and_bias.weight[:, :3], layer.gain_and_bias.weight[:, 3:]
    for i, label in enumerate(y.tolist()):
        for c in range(3):
            expected = normalized[i, c] * (1 + gain[label, c]) + bias[label, c]
            torch.testing.assert_close(layer(h, y)[i, c], expected)


@pytest.mark.parametrize("kind", BUILDS)
def test_labels_enter_only_in_conditional_batch_norm(kind):
    g, z = build(kind).eval(), torch.randn(4, 6)
    y, other = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 0, 3])
    assert torch.equal(g(z, y), g(z, other))  # gains and biases start equal for all classes
    disturb(g)
    changed = (g(z, y) - g(z, other)).flatten(1).abs().amax(1)
    assert (changed > 1e-4).tolist() == [True, False, True, False] and changed[1] == changed[3] == 0
    plain, conditional = dict(build(kind, "batch", 0).named_parameters()), dict(g.named_parameters())
    shared = set(plain) & set(conditional)
    assert all(plain[name].shape == conditional[name].shape for name in shared)  # the stem takes the latents alone
    assert {name.rsplit(".", 2)[-2] for name in set(conditional) - shared} == {"gain_and_bias"}
    assert g.num_classes == 4


@pytest.mark.parametrize("kind", BUILDS)
def test_each_class_has_its_own_gradient(kind):
    g = build(kind)
    (
        g(torch.randn(8, 6), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
        * torch.randn(8, *g(torch.randn(2, 6), torch.tensor([0, 1])).shape[1:])
    ).sum().backward()
    for m in g.modules():
        if isinstance(m, ConditionalBatchNorm):
            reached = (m.gain_and_bias.weight.grad != 0).any(1)
            assert reached.tolist() == [True, True, True, False]  # class 3 was not in the batch


@pytest.mark.parametrize("kind", BUILDS)
def test_missing_classes_or_labels_are_refused(kind):
    with pytest.raises(ValueError, match="needs labels, got num_classes=0; use conditioning=cbn"):
        build(kind, classes=0)
    with pytest.raises(ValueError, match="built for 4 classes and got no labels; pass y"):
        build(kind)(torch.randn(3, 6))
    with pytest.raises(ValueError, match="unknown norm layer 'cbn'; choose one of none, batch, .*, conditional_batch$"):
        build(kind, norm="cbn")


@pytest.mark.parametrize("kind", BUILDS)
def test_bf16_stays_bf16(kind):
    """A float32 gain would turn every later layer's input back into float32."""
    g, seen = disturb(build(kind)), []
    for m in g.modules():
        if isinstance(m, ConditionalBatchNorm):
            m.register_forward_hook(lambda m, args, out: seen.append((args[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        x = g(torch.randn(8, 6), torch.arange(8) % 4)
    assert x.isfinite().all() and seen and all(before == after for before, after in seen)
