"""The probes on GANs with known answers, and that probing changes nothing."""

import copy
import math

import pytest
import torch
from torch import nn

from ganlab.data import Ring, Split, TensorData
from ganlab.diagnostics.held_out import HeldOut, flatten_samples
from ganlab.diagnostics.probes import largest_singular_value, probe, probe_memorization, probe_movement
from ganlab.losses import CGAN, LSGAN, MinimaxGAN, NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels
from ganlab.models.ensemble import Ensemble
from ganlab.regularizers import InstanceNoise


@pytest.fixture
def ring():
    data = Ring(num_classes=8, dim=2, std=0.02, batch_size=50, train_size=600, test_size=700, data_seed=0)
    data.setup()
    return data


class FixedSamples(nn.Module):
    """A generator that returns given samples, in order, whatever the latents are."""

    latent_dim = 3

    def __init__(self, samples):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(2))
        self.register_buffer("samples", samples)

    def forward(self, z, y=None):
        return self.samples[: len(z)] + self.anchor


def gan_of(make_gan, samples, **settings):
    gan = make_gan(**settings)
    gan.generator, gan.generator_ema = FixedSamples(samples), FixedSamples(samples).requires_grad_(False)
    return gan


def real_points(data, n, seed, modes=range(8)):
    random = torch.Generator().manual_seed(seed)
    modes = torch.tensor(list(modes))
    y = modes[torch.randint(len(modes), (n,), generator=random)]
    return data.centers[y] + data.std * torch.randn(n, 2, generator=random)


def numbers(gan, data):
    result, _ = probe(gan, HeldOut(gan, data))
    return {name: float(value[0]) for name, value in result.items()}


def test_new_real_samples_look_like_the_data(make_gan, ring):
    result = numbers(gan_of(make_gan, real_points(ring, 512, 5)), ring)
    assert abs(result["energy_distance"]) < 0.01 and 0.4 < result["nn_accuracy"] < 0.6
    assert result["diversity"] == pytest.approx(1, abs=0.03) and result["spacing"] == pytest.approx(1, abs=0.2)
    assert result["effective_modes"] == pytest.approx(1, abs=0.03) and result["modes_kept"] == 1 and result["rarest_mode"] > 0.5
    assert result["sample_max"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("modes", "kept"), [([3], 1 / 8), ([1, 5], 2 / 8), ([0, 1, 2, 4, 5, 7], 6 / 8)])
def test_missing_modes_are_counted(make_gan, ring, modes, kept):
    result = numbers(gan_of(make_gan, real_points(ring, 512, 5, modes)), ring)
    assert result["modes_kept"] == kept and result["rarest_mode"] == 0
    assert result["effective_modes"] == pytest.approx(kept, rel=0.05)  # the ring's modes are equally likely
    assert result["energy_distance"] > 0.01


def test_repeated_samples_have_no_spacing(make_gan, ring):
    few = ring.centers.repeat(64, 1)
    result = numbers(gan_of(make_gan, few), ring)
    assert result["spacing"] == 0 and result["modes_kept"] == 1 and result["effective_modes"] == pytest.approx(1, abs=0.03)
    far = numbers(gan_of(make_gan, 50 * torch.ones(512, 2)), ring)
    assert far["sample_max"] == pytest.approx(50, rel=0.1) and far["energy_distance"] > 0.9 and far["nn_accuracy"] == 1
    assert far["diversity"] == 0


class Linear(nn.Module):
    """D(x) = slope · x₀ + offset, so that every number of a step has a closed form."""

    def __init__(self, slope, offset=0.0):
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.tensor([slope, 0.0])), nn.Parameter(torch.tensor(offset))

    def forward(self, x, y=None):
        return x @ self.weight + self.offset


@pytest.mark.parametrize("family", [MinimaxGAN, NonSaturatingGAN, LSGAN], indirect=True)
def test_step_numbers_match_closed_forms(make_gan, ring, family):
    """Fakes at (2, 0), reals on the unit circle, D(x) = -7 x₀: every fake gets logit -14, every real one at least -7.5."""
    gan = gan_of(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1), family=family)
    gan.discriminator = Linear(-7.0)
    result = numbers(gan, ring)
    expected = {"MinimaxGAN": 1 / (1 + math.exp(14)), "NonSaturatingGAN": 1 / (1 + math.exp(-14)), "LSGAN": 15.0}[
        family.__name__
    ]
    assert result["loss_slope"] == pytest.approx(expected, rel=1e-3)
    assert result["g_grad_norm"] == pytest.approx(7 * expected, rel=1e-3)  # dD/danchor = (-7, 0)
    assert result["saturated"] == (family is MinimaxGAN)
    assert result["auc"] == 1 and result["accuracy_fake"] == 1 and 0.3 < result["accuracy_real"] < 0.7
    assert result["logit_max"] == pytest.approx(14) and 12 < result["logit_gap"] < 16
    assert result["d_slope"] == pytest.approx(7, rel=1e-5) and result["d_slope_max"] == pytest.approx(7, rel=1e-5)
    assert result["d_weight_norm"] == pytest.approx(7)


def test_auc_is_zero_for_a_reversed_critic(make_gan, ring):
    gan = gan_of(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1))
    gan.discriminator = Linear(+7.0)
    result = numbers(gan, ring)
    assert result["auc"] == 0 and result["logit_gap"] < -12


def test_relativistic_loss_slope_depends_on_real_logits(make_gan, ring):
    """RpGAN's slope is σ(r - f), which falls with the real logits: -14 against about 0 gives nearly 1."""
    gan = gan_of(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1), family=RpGAN)
    gan.discriminator = Linear(-7.0)
    assert numbers(gan, ring)["loss_slope"] > 0.95
    gan.discriminator = Linear(+7.0)
    assert numbers(gan, ring)["loss_slope"] < 0.05


def test_spectrally_normalized_weights_have_no_singular_value(make_gan, ring):
    """D divides them by their norms, so that their own size means nothing."""
    assert "d_singular_value" in numbers(make_gan(), ring) and "d_singular_value" not in numbers(
        make_gan(spectral_norm=True), ring
    )


def test_power_iteration_finds_the_largest_singular_value():
    matrices = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.matrix_norm(matrices, ord=2)
    torch.testing.assert_close(largest_singular_value(matrices, rounds=200), expected, rtol=1e-3, atol=0)
    assert (largest_singular_value(matrices, rounds=4) <= expected * (1 + 1e-5)).all()


def test_movement_of_still_jumping_and_shuffled_samples(make_gan, ring):
    held = HeldOut(make_gan(), ring)
    still = real_points(ring, 512, 1)[None]
    assert {name: float(v) for name, v in probe_movement(held, still, still).items()} == pytest.approx(
        {"drift": 0, "mode_turnover": 0, "displacement": 0}, abs=0.01
    )
    jump = probe_movement(held, ring.centers[0].expand(1, 512, 2), ring.centers[4].expand(1, 512, 2))
    assert float(jump["drift"]) == pytest.approx(1) and float(jump["mode_turnover"]) == 1
    assert float(jump["displacement"]) == pytest.approx(2 / held.real_diversity)
    shuffled = probe_movement(held, still, still[:, torch.randperm(512)])
    assert (
        float(shuffled["drift"]) < 0.01 and float(shuffled["displacement"]) > 0.5
    )  # the samples moved, their distribution did not


@pytest.mark.parametrize(("copied", "low", "high"), [(0.0, 0.4, 0.6), (1.0, 1.0, 1.0), (0.5, 0.65, 0.85)])
def test_memorization_separates_copies_from_new_data(make_gan, ring, copied, low, high):
    samples = real_points(ring, 512, 9)
    if copied:
        samples[:: round(1 / copied)] = ring.train.x[: 512 : round(1 / copied)]
    gan = gan_of(make_gan, samples)
    assert low <= float(probe_memorization(HeldOut(gan, ring), gan)[0]) <= high


@pytest.mark.parametrize(("modes", "least", "most"), [(8, 8, 8), (25, 20, 25), (100, 0, 5)])
def test_rare_modes_are_never_called_missing(make_gan, modes, least, most):
    """New real samples look healthy, however many modes the data has."""
    data = Ring(num_classes=modes, dim=2, std=0.001, batch_size=50, train_size=600, test_size=4000, data_seed=0)
    data.setup()
    held = HeldOut(make_gan(), data)
    assert least <= int(held.mode_is_common.sum()) <= most
    for seed in range(5):
        result, _ = probe(gan_of(make_gan, real_points(data, 512, seed, range(modes))), held)
        assert ("rarest_mode" in result) == ("modes_kept" in result) == bool(held.mode_is_common.any())
        if "rarest_mode" in result:
            assert float(result["rarest_mode"]) > 0.1 and float(result["modes_kept"]) > 0.9


def test_a_class_without_training_samples_is_not_a_mode(make_gan):
    data = Images(8, 3)
    data.setup()
    data.train.y[data.train.y == 1] = 0
    held = HeldOut(make_gan(shape=data.shape), data)
    assert (
        set(held.mode_of_prototype.tolist()) == {0, 2}
        and not held.mode_is_common[1]
        and held.mode_is_common[0]
        and held.mode_is_common[2]
    )


def test_members_in_chunks_give_the_same_numbers(make_gan, ring, monkeypatch):
    ensemble = Ensemble([make_gan(seed=seed) for seed in (3, 4, 5)], [3, 4, 5])
    held = HeldOut(ensemble, ring)
    together, _ = probe(ensemble, held)
    monkeypatch.setattr("ganlab.diagnostics.probes.MEMBERS_AT_ONCE", 2)
    for name, value in probe(ensemble, held)[0].items():
        torch.testing.assert_close(value, together[name], msg=name)


class Images(TensorData):
    may_miss_classes = True

    def __init__(self, size=8, classes=3):
        super().__init__(shape=(1, size, size), num_classes=classes, batch_size=10)
        self.size, self.classes = size, classes

    def load(self):
        random = torch.Generator().manual_seed(0)
        y = torch.randint(max(self.classes, 1), (300,), generator=random)
        x = (y[:, None, None, None] * 60 + torch.randint(60, (300, *self.shape), generator=random)).byte()
        return Split(x[:150], y[:150]), Split(x[200:], y[200:]), Split(x[150:200], y[150:200])


@pytest.mark.parametrize("classes", [0, 3, 100])
@pytest.mark.parametrize("size", [8, 28])
def test_images_of_any_size_and_number_of_classes(make_gan, size, classes):
    data = Images(size, classes)
    data.setup()
    gan = make_gan(shape=data.shape)
    held = HeldOut(gan, data)
    assert held.real.shape == (100, min(size, 16) ** 2)
    if classes == 3:
        assert torch.equal(held.modes(held.real), data.val.y[torch.randperm(100, generator=torch.Generator().manual_seed(0))])
    assert float(held.mode_share.sum()) == pytest.approx(1, abs=0.2)
    result, samples = probe(gan, held)
    assert samples.shape == (1, min(128, 100), held.real.shape[1])
    assert all(value.shape == (1,) and value.isfinite().all() for value in result.values())


def test_flatten_samples_averages_large_images_only():
    x = torch.arange(2 * 32 * 32.0).view(2, 1, 32, 32)
    flat = flatten_samples(x, dims=3)
    assert flat.shape == (2, 256) and flat.mean() == pytest.approx(x.mean().item())
    assert torch.equal(flatten_samples(x[None], dims=3), flat[None])
    assert torch.equal(flatten_samples(torch.ones(4, 3, 2), dims=1), torch.ones(4, 3, 2))
    assert flatten_samples(torch.ones(4, 3, 2, 64), dims=2).shape == (4, 3, 128)  # signals


GANS = {
    "plain": {},
    "labels": {"family": CGAN, "classes": 8},
    "norms": {"norm": "batch", "g_norm": "batch", "spectral_norm": False},
    "spectral": {"spectral_norm": True},
    "noise": {"regularizers": {"noise": InstanceNoise(0.1)}},
    "auxiliary": {"classes": 8, "feed": "auxiliary_classes"},
}


@pytest.mark.parametrize("kind", GANS)
def test_probing_changes_nothing(make_gan, ring, kind):
    settings = dict(GANS[kind])
    if kind == "auxiliary":
        settings["conditioning"] = AuxiliaryClassifier(8, 1.0)
    elif "classes" in settings:
        settings["conditioning"] = ClassLabels(8)
    gan = make_gan(**settings)
    held = HeldOut(gan, ring)
    before, random = copy.deepcopy(gan.state_dict()), torch.get_rng_state()
    first, _ = probe(gan, held)
    probe_memorization(held, gan)
    assert all(torch.equal(v, before[k]) for k, v in gan.state_dict().items() if k != "_extra_state")
    assert torch.equal(torch.get_rng_state(), random) and all(p.grad is None for p in gan.parameters())
    again, _ = probe(gan, held)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("kind", ["plain", "labels", "norms"])
def test_ensemble_members_match_single_gans(make_gan, ring, kind):
    settings = dict(GANS[kind])
    if "classes" in settings:  # a prior that draws labels would draw others for each member
        settings["conditioning"] = ClassLabels(8, Batch(8))
    gans = [make_gan(seed=seed, **settings) for seed in (3, 4)]
    ensemble = Ensemble(gans, [3, 4])
    together, samples = probe(ensemble, HeldOut(ensemble, ring))
    for index, gan in enumerate(gans):
        alone, own_samples = probe(gan, HeldOut(gan, ring))
        torch.testing.assert_close(samples[index], own_samples[0], atol=1e-4, rtol=1e-4)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][index], value[0], atol=1e-3, rtol=1e-3, msg=name)
