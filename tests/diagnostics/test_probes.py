"""What the probes say of games whose answers are known; and that they leave no trace."""

import copy
import math

import pytest
import torch
from torch import nn

from ganlab.data import Ring, Split, TensorData
from ganlab.diagnostics.held_out import flat, held_out
from ganlab.diagnostics.probes import largest_singular_value, of_the_memory, of_the_movement, probe
from ganlab.losses import CGAN, LSGAN, MinimaxGAN, NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels
from ganlab.models.ensemble import Ensemble
from ganlab.regularizers import InstanceNoise


@pytest.fixture
def ring():
    data = Ring(num_classes=8, dim=2, std=0.02, batch_size=50, train_size=600, test_size=700, data_seed=0)
    data.setup()
    return data


class Shows(nn.Module):
    """A generator that answers latents with given samples, in order, whatever the latents are."""

    latent_dim = 3

    def __init__(self, samples):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(2))
        self.register_buffer("samples", samples)

    def forward(self, z, y=None):
        return self.samples[: len(z)] + self.anchor


def showing(make_gan, samples, **settings):
    gan = make_gan(**settings)
    gan.generator, gan.generator_ema = Shows(samples), Shows(samples).requires_grad_(False)
    return gan


def real_points(data, n, seed, modes=range(8)):
    random = torch.Generator().manual_seed(seed)
    modes = torch.tensor(list(modes))
    y = modes[torch.randint(len(modes), (n,), generator=random)]
    return data.centers[y] + data.std * torch.randn(n, 2, generator=random)


def numbers(gan, data):
    found, _ = probe(gan, held_out(gan, data))
    return {name: float(value[0]) for name, value in found.items()}


def test_fresh_real_samples_look_like_the_data(make_gan, ring):
    found = numbers(showing(make_gan, real_points(ring, 512, 5)), ring)
    assert abs(found["distance"]) < 0.01 and 0.4 < found["told_apart"] < 0.6
    assert found["diversity"] == pytest.approx(1, abs=0.03) and found["spacing"] == pytest.approx(1, abs=0.2)
    assert found["effective"] == pytest.approx(1, abs=0.03) and found["kept"] == 1 and found["rarest"] > 0.5
    assert found["size"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("modes", "kept"), [([3], 1 / 8), ([1, 5], 2 / 8), ([0, 1, 2, 4, 5, 7], 6 / 8)])
def test_modes_are_counted(make_gan, ring, modes, kept):
    found = numbers(showing(make_gan, real_points(ring, 512, 5, modes)), ring)
    assert found["kept"] == kept and found["rarest"] == 0
    assert found["effective"] == pytest.approx(kept, rel=0.05)  # the ring's modes are equally likely
    assert found["distance"] > 0.01


def test_samples_that_are_all_the_same_have_no_spacing(make_gan, ring):
    few = ring.centers.repeat(64, 1)
    found = numbers(showing(make_gan, few), ring)
    assert found["spacing"] == 0 and found["kept"] == 1 and found["effective"] == pytest.approx(1, abs=0.03)
    far = numbers(showing(make_gan, 50 * torch.ones(512, 2)), ring)
    assert far["size"] == pytest.approx(50, rel=0.1) and far["distance"] > 0.9 and far["told_apart"] == 1
    assert far["diversity"] == 0


class Judges(nn.Module):
    """D(x) = slope · x₀ + offset, so that every number of a turn has a closed form."""

    def __init__(self, slope, offset=0.0):
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.tensor([slope, 0.0])), nn.Parameter(torch.tensor(offset))

    def forward(self, x, y=None):
        return x @ self.weight + self.offset


@pytest.mark.parametrize("family", [MinimaxGAN, NonSaturatingGAN, LSGAN], indirect=True)
def test_the_numbers_of_a_turn_have_closed_forms(make_gan, ring, family):
    """Fakes at (2, 0), reals on the unit circle, D(x) = -7 x₀: every fake gets logit -14, every real one at least -7.5."""
    gan = showing(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1), family=family)
    gan.discriminator = Judges(-7.0)
    found = numbers(gan, ring)
    slope = {"MinimaxGAN": 1 / (1 + math.exp(14)), "NonSaturatingGAN": 1 / (1 + math.exp(-14)), "LSGAN": 15.0}[family.__name__]
    assert found["signal"] == pytest.approx(slope, rel=1e-3)
    assert found["g_gradient"] == pytest.approx(7 * slope, rel=1e-3)  # dD/danchor = (-7, 0)
    assert found["saturated"] == (family is MinimaxGAN)
    assert found["pairs"] == 1 and found["accuracy_fake"] == 1 and 0.3 < found["accuracy_real"] < 0.7
    assert found["logit_size"] == pytest.approx(14) and 12 < found["logit_gap"] < 16
    assert found["slope"] == pytest.approx(7, rel=1e-5) and found["slope_max"] == pytest.approx(7, rel=1e-5)
    assert found["d_weights"] == pytest.approx(7)


def test_a_critic_that_has_it_backwards_orders_no_pair(make_gan, ring):
    gan = showing(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1))
    gan.discriminator = Judges(+7.0)
    found = numbers(gan, ring)
    assert found["pairs"] == 0 and found["logit_gap"] < -12


def test_relativistic_gradients_see_both_sides(make_gan, ring):
    """RpGAN's slope is σ(r - f), which falls with the reals' logits: -14 against about 0 gives nearly 1."""
    gan = showing(make_gan, torch.tensor([2.0, 0.0]).repeat(512, 1), family=RpGAN)
    gan.discriminator = Judges(-7.0)
    assert numbers(gan, ring)["signal"] > 0.95
    gan.discriminator = Judges(+7.0)
    assert numbers(gan, ring)["signal"] < 0.05


def test_weights_under_spectral_norm_say_nothing_of_the_critic(make_gan, ring):
    """It does not use them as they are; their norms are 1 by construction."""
    assert "d_singular" in numbers(make_gan(), ring) and "d_singular" not in numbers(make_gan(spectral_norm=True), ring)


def test_the_power_method_finds_the_largest_singular_value():
    matrices = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.matrix_norm(matrices, ord=2)
    torch.testing.assert_close(largest_singular_value(matrices, rounds=200), expected, rtol=1e-3, atol=0)
    assert (largest_singular_value(matrices, rounds=4) <= expected * (1 + 1e-5)).all()


def test_movement(make_gan, ring):
    held = held_out(make_gan(), ring)
    still = real_points(ring, 512, 1)[None]
    assert {name: float(v) for name, v in of_the_movement(held, still, still).items()} == pytest.approx(
        {"drift": 0, "turnover": 0, "stride": 0}, abs=0.01
    )
    jump = of_the_movement(held, ring.centers[0].expand(1, 512, 2), ring.centers[4].expand(1, 512, 2))
    assert float(jump["drift"]) == pytest.approx(1) and float(jump["turnover"]) == 1
    assert float(jump["stride"]) == pytest.approx(2 / held.real_spread)
    shuffled = of_the_movement(held, still, still[:, torch.randperm(512)])
    assert float(shuffled["drift"]) < 0.01 and float(shuffled["stride"]) > 0.5  # the samples moved, their law did not


@pytest.mark.parametrize(("copied", "low", "high"), [(0.0, 0.4, 0.6), (1.0, 1.0, 1.0), (0.5, 0.65, 0.85)])
def test_copies_of_the_training_set_are_told_from_fresh_data(make_gan, ring, copied, low, high):
    samples = real_points(ring, 512, 9)
    if copied:
        samples[:: round(1 / copied)] = ring.train.x[: 512 : round(1 / copied)]
    gan = showing(make_gan, samples)
    assert low <= float(of_the_memory(held_out(gan, ring), gan)[0]) <= high


@pytest.mark.parametrize(("modes", "least", "most"), [(8, 8, 8), (25, 20, 25), (100, 0, 5)])
def test_a_mode_that_few_held_out_samples_know_is_not_missed(make_gan, modes, least, most):
    """Fresh samples of the data are no ill game, however many modes it has."""
    data = Ring(num_classes=modes, dim=2, std=0.001, batch_size=50, train_size=600, test_size=4000, data_seed=0)
    data.setup()
    held = held_out(make_gan(), data)
    assert least <= int(held.known.sum()) <= most
    for seed in range(5):
        found, _ = probe(showing(make_gan, real_points(data, 512, seed, range(modes))), held)
        assert ("rarest" in found) == ("kept" in found) == bool(held.known.any())
        if "rarest" in found:
            assert float(found["rarest"]) > 0.1 and float(found["kept"]) > 0.9


def test_a_class_that_the_reference_samples_lack_is_no_mode(make_gan):
    data = Images(8, 3)
    data.setup()
    data.train.y[data.train.y == 1] = 0
    held = held_out(make_gan(shape=data.shape), data)
    assert set(held.mode_of.tolist()) == {0, 2} and not held.known[1] and held.known[0] and held.known[2]


def test_copies_are_measured_a_few_at_a_time(make_gan, ring, monkeypatch):
    ensemble = Ensemble([make_gan(seed=seed) for seed in (3, 4, 5)], [3, 4, 5])
    held = held_out(ensemble, ring)
    together, _ = probe(ensemble, held)
    monkeypatch.setattr("ganlab.diagnostics.probes.AT_ONCE", 2)
    for name, value in probe(ensemble, held)[0].items():
        torch.testing.assert_close(value, together[name], msg=name)


class Images(TensorData):
    def __init__(self, size=8, classes=3):
        super().__init__(shape=(1, size, size), num_classes=classes, batch_size=10)
        self.size, self.classes = size, classes

    def load(self):
        random = torch.Generator().manual_seed(0)
        y = torch.randint(max(self.classes, 1), (300,), generator=random)
        x = (y[:, None, None, None] * 60 + torch.randint(60, (300, *self.shape), generator=random)).byte()
        return Split(x[:200], y[:200]), Split(x[200:], y[200:])


@pytest.mark.parametrize("classes", [0, 3, 100])
@pytest.mark.parametrize("size", [8, 28])
def test_images_of_any_size_and_labels(make_gan, size, classes):
    data = Images(size, classes)
    data.setup()
    gan = make_gan(shape=data.shape)
    held = held_out(gan, data)
    assert held.many_real.shape == (100, min(size, 16) ** 2)
    if classes == 3:
        assert torch.equal(
            held.modes(held.many_real), data.test.y[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
        )
    assert float(held.share.sum()) == pytest.approx(1, abs=0.2)
    found, moving = probe(gan, held)
    assert moving.shape == (1, min(128, 100), held.many_real.shape[1])
    assert all(value.shape == (1,) and value.isfinite().all() for value in found.values())


def test_flat_averages_large_images_and_leaves_small_ones():
    x = torch.arange(2 * 32 * 32.0).view(2, 1, 32, 32)
    assert flat(x).shape == (2, 256) and flat(x).mean() == pytest.approx(x.mean().item())
    assert flat(x[None]).shape == (1, 2, 256) and torch.equal(flat(x[None])[0], flat(x))
    assert torch.equal(flat(torch.ones(3, 2)), torch.ones(3, 2))


GAMES = {
    "plain": {},
    "labels": {"family": CGAN, "classes": 8},
    "norms": {"norm": "batch", "g_norm": "batch", "spectral_norm": False},
    "spectral": {"spectral_norm": True},
    "noise": {"regularizers": {"noise": InstanceNoise(0.1)}},
    "auxiliary": {"classes": 8, "feed": "auxiliary_classes"},
}


@pytest.mark.parametrize("game", GAMES)
def test_probing_leaves_the_game_as_it_was(make_gan, ring, game):
    settings = dict(GAMES[game])
    if game == "auxiliary":
        settings["conditioning"] = AuxiliaryClassifier(8, 1.0)
    elif "classes" in settings:
        settings["conditioning"] = ClassLabels(8)
    gan = make_gan(**settings)
    held = held_out(gan, ring)
    before, random = copy.deepcopy(gan.state_dict()), torch.get_rng_state()
    first, _ = probe(gan, held)
    of_the_memory(held, gan)
    assert all(torch.equal(v, before[k]) for k, v in gan.state_dict().items() if k != "_extra_state")
    assert torch.equal(torch.get_rng_state(), random) and all(p.grad is None for p in gan.parameters())
    again, _ = probe(gan, held)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("game", ["plain", "labels", "norms"])
def test_a_copy_of_an_ensemble_is_probed_like_its_single_run(make_gan, ring, game):
    settings = dict(GAMES[game])
    if "classes" in settings:  # a prior that draws would draw anew for each copy
        settings["conditioning"] = ClassLabels(8, Batch(8))
    gans = [make_gan(seed=seed, **settings) for seed in (3, 4)]
    ensemble = Ensemble(gans, [3, 4])
    together, moving = probe(ensemble, held_out(ensemble, ring))
    for index, gan in enumerate(gans):
        alone, moved = probe(gan, held_out(gan, ring))
        torch.testing.assert_close(moving[index], moved[0], atol=1e-4, rtol=1e-4)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][index], value[0], atol=1e-3, rtol=1e-3, msg=name)
