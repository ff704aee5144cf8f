"""Maxout units, initial weights, and MLPs stacked and batched."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ganlab.networks import MLPDiscriminator, MLPGenerator


def reference(d, x, pieces):
    """D's logits, one sample, one unit and one piece at a time: the largest of its own `pieces` affine functions."""
    logits = []
    for h in x.flatten(1):
        for layer in (m for m in d.body.modules() if isinstance(m, nn.Linear)):
            rows = [w @ h + b for w, b in zip(layer.weight, layer.bias, strict=True)]
            h = torch.stack([max(rows[u : u + pieces]) for u in range(0, len(rows), pieces)])
        logits.append(d.head.linear.weight[0] @ h + d.head.linear.bias[0])
    return torch.stack(logits)


@pytest.mark.parametrize("pieces", [2, 5])
@pytest.mark.parametrize("pack", [1, 3])
def test_maxout_is_the_maximum_of_its_pieces(pieces, pack):
    torch.manual_seed(0)
    d = MLPDiscriminator((2,), [7, 4], pack=pack, maxout=pieces).double()
    x = torch.randn(6, 2 * pack, dtype=torch.float64) * 3 + 0.5
    assert [tuple(p.shape) for n, p in d.named_parameters() if n.endswith("weight")] == [
        (7 * pieces, 2 * pack),
        (4 * pieces, 7),
        (1, 4),
    ]
    expected = reference(d, x, pieces)
    torch.testing.assert_close(d(x), expected)
    assert expected.std() > 0.01
    got = torch.autograd.grad(d(x).square().sum(), d.parameters())
    torch.testing.assert_close(got, torch.autograd.grad(reference(d, x, pieces).square().sum(), d.parameters()))


def test_one_layer_of_maxout_is_convex():
    """A maximum of affine functions lies below its chords, strictly somewhere; LeakyReLU units of mixed sign do not."""
    torch.manual_seed(0)
    d = MLPDiscriminator((2,), [50], maxout=5)
    a, b = torch.randn(200, 2) * 2, torch.randn(200, 2) * 2
    h = [d.features(x) for x in (a, b, (a + b) / 2)]
    excess = (h[0] + h[1]) / 2 - h[2]
    assert excess.min() > -1e-5 and excess.max() > 0.1


def test_without_maxout_nothing_changes():
    for options in ({}, {"maxout": None, "init_std": None}):
        torch.manual_seed(3)
        d = MLPDiscriminator((2,), [7, 5], **options)
        torch.manual_seed(3)
        layers = [nn.Linear(2, 7), nn.LeakyReLU(0.2), nn.Linear(7, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1)]
        x = torch.randn(4, 2)
        torch.testing.assert_close(d(x), nn.Sequential(*layers)(x).squeeze(1), rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_norms_precede_maxout(norm):
    torch.manual_seed(0)
    d = MLPDiscriminator((2,), [6, 4], norm, maxout=3)
    logits = d(torch.randn(5, 2))
    assert logits.shape == (5,) and logits.std() > 0
    kinds = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    norms = [m for m in d.modules() if isinstance(m, tuple(kinds.values()))]
    assert [len(m.weight) for m in norms] == ([] if norm == "none" else [18, 12])
    assert all(isinstance(m, kinds[norm]) for m in norms)


@pytest.mark.parametrize("bad", [1, 0, -2, 2.0, "5", True])
def test_fewer_than_two_pieces_are_refused(bad):
    with pytest.raises(ValueError, match=f"maxout must be an integer of at least 2, got {bad!r}$"):
        MLPDiscriminator((2,), [4], maxout=bad)


def test_spectral_norm_keeps_maxout_1_lipschitz():
    """Each unit moves by at most its block's share of ||W dx||, so the layer's outputs by at most ||dx||."""
    torch.manual_seed(0)
    d = MLPDiscriminator((2,), [30, 20], spectral_norm=True, maxout=4, init_std=0.02)
    for _ in range(100):
        d(torch.zeros(2, 2))  # power iterations
    d.eval()
    x = torch.randn(500, 2).mul(3).requires_grad_()
    (slope,) = torch.autograd.grad(d(x).sum(), x)
    assert 0.01 < slope.norm(dim=1).max() <= 1.01


@pytest.mark.parametrize(
    "build",
    [
        lambda **o: MLPGenerator(2, (2,), [300, 300], bounded=False, norm="batch", **o),
        lambda **o: MLPDiscriminator((2,), [300, 300], maxout=3, auxiliary_classes=5, **o),
    ],
)
def test_init_std(build):
    torch.manual_seed(0)
    net = build(init_std=0.07)
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    weights = torch.cat([m.weight.flatten() for m in linear])
    assert weights.std().item() == pytest.approx(0.07, rel=0.02) and abs(weights.mean()) < 0.001
    kurtosis = (weights / weights.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.1)  # normal; uniform has 1.8
    assert not any(m.bias.any() for m in linear)
    assert all((m.weight == 1).all() and not m.bias.any() for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    default = next(m for m in build().modules() if isinstance(m, nn.Linear) and m.in_features == 300)
    assert default.weight.std().item() == pytest.approx((3 * 300) ** -0.5, rel=0.02)  # torch's own


@pytest.mark.parametrize("bad", [0, -0.02, float("inf"), "0.02", True])
def test_init_std_out_of_range_is_refused(bad):
    for build in (
        lambda: MLPGenerator(2, (2,), [4], False, init_std=bad),
        lambda: MLPDiscriminator((2,), [4], init_std=bad),
    ):
        with pytest.raises(ValueError, match=r"init_std must be a number above 0, got "):
            build()


@pytest.mark.parametrize("maxout", [None, 3])
@pytest.mark.parametrize("pack", [1, 2])
def test_init_reach_spreads_the_zeros_over_the_square(maxout, pack):
    """-b = <w, x0> with x0 uniform in [-R, R]^d: -b / ||w|| has variance R^2/3 in any direction, and |b| <= R ||w||_1."""
    nets = []
    for reach in (None, 4.0):
        torch.manual_seed(0)
        nets.append(MLPDiscriminator((2,), [4000, 20], pack=pack, maxout=maxout, init_reach=reach))
    default, spread = ([m for m in net.modules() if isinstance(m, nn.Linear)] for net in nets)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(default, spread, strict=True))
    assert all(torch.equal(a.bias, b.bias) for a, b in zip(default[1:], spread[1:], strict=True))
    w, b = spread[0].weight, spread[0].bias
    assert (b.abs() <= 4 * w.abs().sum(1) + 1e-6).all() and abs((b / w.norm(dim=1)).mean()) < 0.1
    assert (b / w.norm(dim=1)).std().item() == pytest.approx(4 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("bad", [0, -1, float("inf"), "4", True])
def test_init_reach_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"init_reach must be a number above 0, got "):
        MLPDiscriminator((2,), [4], init_reach=bad)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_init_shift(norm):
    nets = []
    for shift in (None, 0.7):
        torch.manual_seed(0)
        nets.append(dict(MLPGenerator(2, (2,), [4000, 3000], False, norm=norm, init_shift=shift).named_parameters()))
    default, shifted = nets
    shifts = [name for name in default if not torch.equal(default[name], shifted[name])]
    assert [shifted[name].shape for name in shifts] == [(4000,), (3000,)]
    for name in shifts:
        assert not default[name].any() and abs(shifted[name].mean()) < 0.05
        assert shifted[name].std().item() == pytest.approx(0.7, rel=0.04)


def test_init_shift_spreads_the_zeros():
    """A unit of G's first layer sees a normal number: after batch norm with shift b it is on for a share Phi(b) of all z."""
    torch.manual_seed(0)
    g = MLPGenerator(2, (2,), [50], False, norm="batch", init_shift=1.0)
    on = (g.body[:2](torch.randn(40_000, 2)) > 0).float().mean(0)
    torch.testing.assert_close(on, torch.special.ndtr(g.body[1].bias.detach()), atol=0.01, rtol=0)
    assert on.min() < 0.1 and on.max() > 0.9


@pytest.mark.parametrize("bad", [0, -1, float("inf"), "1", True])
def test_init_shift_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"init_shift must be a number above 0, got "):
        MLPGenerator(2, (2,), [4], False, norm="batch", init_shift=bad)


@pytest.mark.parametrize(("norm", "classes"), [("none", 0), ("conditional_batch", 3)])
def test_init_shift_without_norm_layers_is_refused(norm, classes):
    with pytest.raises(ValueError, match=r"init_shift=1.0 needs norm layers with shifts; use norm=batch"):
        MLPGenerator(2, (2,), [4], False, norm=norm, num_classes=classes, init_shift=1.0)


def stacked(nets, function, *inputs):
    """`function(net, parameters, buffers, input)` for all nets as one batched program."""
    parameters, buffers = stack_module_state(nets)
    bare = copy.deepcopy(nets[0]).to("meta")
    return vmap(lambda p, b, *x: function(bare, p, b, *x))(parameters, buffers, *inputs), buffers


def slope_penalty(d, parameters, buffers, x):
    """Mean squared gradient with respect to x plus mean logit: its gradient for the weights differentiates twice."""

    def logits(x):
        return functional_call(d, (parameters, buffers), (x,))

    return grad(lambda x: logits(x).sum())(x).square().sum(1).mean() + logits(x).square().mean()


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("pack", [1, 2])
def test_stacked_discriminators_match_single_ones(norm, pack):
    torch.manual_seed(0)
    nets = [MLPDiscriminator((2,), [6, 5], norm, pack=pack, maxout=3, init_std=0.3) for _ in range(4)]
    x = torch.randn(4, 7, 2 * pack)
    gradients, _ = stacked(nets, lambda d, p, b, x: grad(lambda p: slope_penalty(d, p, b, x))(p), x)
    for k, net in enumerate(nets):
        inputs = x[k].clone().requires_grad_()
        logits = net(inputs)
        (slope,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        loss = slope.square().sum(1).mean() + logits.square().mean()
        expected = torch.autograd.grad(loss, net.parameters(), allow_unused=True, materialize_grads=True)
        for (name, _), one in zip(net.named_parameters(), expected, strict=True):
            torch.testing.assert_close(gradients[name][k], one, rtol=1e-4, atol=1e-6)


def test_stacked_generators_with_batch_norm_match_single_ones():
    torch.manual_seed(0)
    nets = [MLPGenerator(2, (2,), [6, 5], bounded=False, norm="batch", init_std=0.3) for _ in range(4)]
    z = torch.randn(4, 9, 2)
    (gradients, x), buffers = stacked(
        [copy.deepcopy(net) for net in nets],
        lambda g, p, b, z: (
            grad(lambda p: functional_call(g, (p, {k: v.clone() for k, v in b.items()}), (z,)).square().sum())(p),
            functional_call(g, (p, b), (z,)),  # updates the running statistics in place
        ),
        z,
    )
    for k, net in enumerate(nets):
        out = net(z[k])
        torch.testing.assert_close(x[k], out, rtol=1e-4, atol=1e-6)
        for (name, _), one in zip(net.named_parameters(), torch.autograd.grad(out.square().sum(), net.parameters())):
            torch.testing.assert_close(gradients[name][k], one, rtol=1e-4, atol=1e-5)
        for name, one in net.named_buffers():
            torch.testing.assert_close(buffers[name][k], one)
            assert "running_mean" not in name or one.any()


def test_bf16_is_finite_and_near_float32():
    torch.manual_seed(0)
    d, x = MLPDiscriminator((2,), [50, 50], maxout=5), torch.randn(20, 2)
    with torch.autocast("cpu", torch.bfloat16):
        low = d(x)
        low.float().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in d.parameters())
    assert (low.float() - d(x)).abs().max() < 0.05 * d(x).abs().max()
