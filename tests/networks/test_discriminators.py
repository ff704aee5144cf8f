"""What every discriminator shares: packing, the auxiliary classifier, and labels of packed samples."""

import pytest
import torch
from torch.nn.functional import one_hot

from ganlab.networks import DCGANDiscriminator, Discriminator, MLPDiscriminator, ResNetDiscriminator

BUILDS = {
    "mlp": lambda **options: MLPDiscriminator((3, 28, 28), [7, 5], **options),
    "points": lambda **options: MLPDiscriminator((2,), [7, 5], **options),
    "dcgan": lambda **options: DCGANDiscriminator(3, 28, 4, **options),
    "resnet": lambda **options: ResNetDiscriminator(3, 28, 4, **options),
}
CHANNELS = {"points": 2}


@pytest.fixture(params=BUILDS)
def kind(request):
    return request.param


def build(kind, **options):
    torch.manual_seed(0)
    return BUILDS[kind](**options)


def inputs(kind, n, pack=1):
    return torch.randn(n, pack * CHANNELS.get(kind, 3), *([] if kind == "points" else [28, 28])) * 0.7 + 0.2


def test_every_public_discriminator_is_covered():
    import ganlab.networks

    public = {v for v in vars(ganlab.networks).values() if isinstance(v, type) and issubclass(v, Discriminator)}
    assert public - {Discriminator} == {type(build(kind)) for kind in BUILDS}


@pytest.mark.parametrize("pack", [1, 2, 3, 4])
@pytest.mark.parametrize("labels", [{}, {"concat_classes": 5}, {"projection_classes": 5}])
def test_a_pack_of_samples_gets_one_logit(kind, pack, labels):
    d = build(kind, pack=pack, **labels)
    y = torch.arange(3 * pack).view(3, pack) % 5 if labels else None
    logits = d(inputs(kind, 3, pack), y)
    assert logits.shape == (3,) and logits.std() > 0 and d.pack == pack
    if labels and pack == 1:
        torch.manual_seed(1)
        x = inputs(kind, 3)
        assert torch.equal(d(x, y), d(x, y.view(3)))


def test_only_the_first_layer_grows_with_the_pack(kind):
    """PacGAN (Lin et al. 2018, sec. 3): the same D with m times the inputs; the first layer's weights depend on them."""
    one, three = (dict(build(kind, pack=pack).named_parameters()) for pack in (1, 3))
    grown = {name: (three[name].shape[1], one[name].shape[1]) for name in one if one[name].shape != three[name].shape}
    inputs_of_one = {"mlp": 3 * 28 * 28, "points": 2}.get(kind, 3)
    assert set(grown.values()) == {(3 * inputs_of_one, inputs_of_one)}
    assert len(grown) == (2 if kind == "resnet" else 1)  # a residual block has two ways in


def test_every_sample_of_a_pack_counts(kind):
    d, x = build(kind, pack=3), inputs(kind, 2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(d(x).sum(), x)
    assert (gradient.unflatten(1, (3, -1)).flatten(2).abs().amax(2) > 0).all()


def test_packed_concatenated_labels_are_one_hot_maps_side_by_side(kind):
    d, x, y = build(kind, pack=2, concat_classes=4), inputs(kind, 3, 2), torch.tensor([[3, 0], [1, 1], [0, 2]])
    if kind in ("mlp", "points"):
        x = x.flatten(1)
    maps = torch.cat([one_hot(y[:, 0], 4), one_hot(y[:, 1], 4)], 1).float()
    maps = maps.view(3, 8, *[1] * (x.ndim - 2)) * torch.ones_like(x[:, :1])
    torch.testing.assert_close(d(x, y), d.head(d.body(torch.cat([x, maps], 1)), None))
    assert (d(x, y) - d(x, y.flip(1)) != 0).tolist() == [True, False, True]  # which sample has which label


def test_packed_projection_sums_the_embeddings(kind):
    d, x, y = build(kind, pack=2, projection_classes=4), inputs(kind, 3, 2), torch.tensor([[3, 0], [1, 1], [0, 2]])
    h, rows = d.features(x, y), d.head.embedding.weight
    expected = torch.stack([h[i] @ (rows[a] + rows[b]) for i, (a, b) in enumerate(y.tolist())])
    torch.testing.assert_close(d(x, y) - d.head.linear(h).squeeze(1), expected)


@pytest.mark.parametrize("pack", [0, -1, 1.5, True, "2", None])
def test_pack_out_of_range_is_refused(kind, pack):
    with pytest.raises(ValueError, match=r"pack .gan.pack. must be an integer of at least 1, got "):
        build(kind, pack=pack)


@pytest.mark.parametrize("labels", [{"concat_classes": 4}, {"projection_classes": 4}])
def test_wrong_number_of_labels_is_refused(kind, labels):
    with pytest.raises(ValueError, match=r"3 inputs of 2 samples each need 6 labels, got \[3\]$"):
        build(kind, pack=2, **labels)(inputs(kind, 3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"3 inputs of 1 samples each need 3 labels, got \[1\]$"):
        build(kind, **labels)(inputs(kind, 3), torch.tensor([0]))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_auxiliary_classifier_reads_the_same_features(kind, spectral_norm):
    d = build(kind, auxiliary_classes=6, spectral_norm=spectral_norm).eval()
    x, y = inputs(kind, 4), torch.tensor([5, 0, 2, 1])
    logits, classes = d.forward_with_classes(x, y)
    h = d.features(x)
    assert logits.shape == (4,) and classes.shape == (4, 6)
    assert torch.equal(logits, d(x, y))
    torch.testing.assert_close(classes, h @ d.auxiliary.weight.T + d.auxiliary.bias)
    for got, wanted in zip(d.forward_with_classes(x), (logits, classes)):  # AC-GAN's D sees no label
        assert torch.equal(got, wanted)
    if spectral_norm:
        norm = torch.linalg.matrix_norm(d.auxiliary.weight, 2).item()
        assert norm < 1.5 and hasattr(d.auxiliary, "parametrizations")  # 1 after enough power iterations


def test_auxiliary_classifier_does_not_change_the_rest(kind):
    plain, with_classifier = build(kind).state_dict(), build(kind, auxiliary_classes=6).state_dict()
    assert set(with_classifier) - set(plain) == {"auxiliary.weight", "auxiliary.bias"}
    assert all(torch.equal(with_classifier[name], value) for name, value in plain.items())


def test_the_auxiliary_classifier_s_loss_reaches_every_weight_but_the_logit_s(kind):
    d = build(kind, auxiliary_classes=6)
    torch.nn.functional.cross_entropy(d.forward_with_classes(inputs(kind, 4))[1], torch.tensor([5, 0, 2, 1])).backward()
    without = {name for name, p in d.named_parameters() if p.grad is None}
    assert without == {"head.linear.weight", "head.linear.bias"}


def test_the_auxiliary_classifier_goes_with_projection_and_concatenation(kind):
    for labels in ({"concat_classes": 6}, {"projection_classes": 6}):
        d = build(kind, auxiliary_classes=6, **labels)
        x, y = inputs(kind, 2), torch.tensor([1, 4])
        assert torch.equal(d.forward_with_classes(x, y)[0], d(x, y)) and d.forward_with_classes(x, y)[1].shape == (2, 6)


def test_class_logits_without_a_classifier_are_refused(kind):
    with pytest.raises(ValueError, match="no auxiliary classifier .auxiliary_classes=0.; use conditioning=ac"):
        build(kind).forward_with_classes(inputs(kind, 2))
    with pytest.raises(ValueError, match=r"got gan\.pack=2; use gan\.pack=1"):
        build(kind, pack=2, auxiliary_classes=3)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({}, 0),
        ({"concat_classes": 3}, 3),
        ({"projection_classes": 4}, 4),
        ({"auxiliary_classes": 5}, 5),
        ({"projection_classes": 5, "auxiliary_classes": 5}, 5),
    ],
)
def test_num_classes_is_what_the_network_was_built_for(kind, labels, classes):
    assert build(kind, **labels).num_classes == classes
