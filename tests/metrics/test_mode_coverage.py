import math
from types import SimpleNamespace

import pytest
import torch

from ganlab.data import Split, TensorData
from ganlab.metrics import ClassifierQuality, ToyQuality
from ganlab.metrics.mode_coverage import OFF_MODE_MASS, count_modes, mode_scores, perfect_sampler_scores, smallest_gap


def ring(std=0.01):
    angles = torch.arange(8) * (2 * math.pi / 8)
    return SimpleNamespace(centers=torch.stack([angles.cos(), angles.sin()], 1), std=std, fingerprint="f")


def grid():
    axis = torch.tensor([-4.0, -2, 0, 2, 4])
    return SimpleNamespace(centers=torch.cartesian_prod(axis, axis), std=0.05, fingerprint="f")


def draw(toy, n, seed=0):
    random = torch.Generator().manual_seed(seed)
    mode = torch.randint(len(toy.centers), (n,), generator=random)
    return toy.centers[mode] + toy.std * torch.randn(n, 2, generator=random)


def test_off_mode_mass_is_the_gaussian_tail():
    assert OFF_MODE_MASS == pytest.approx(math.exp(-4.5)) and OFF_MODE_MASS == pytest.approx(0.0111, abs=1e-5)


def test_scores_of_seven_of_eight_modes():
    toy = ring()
    samples = toy.centers[[3, 0, 6, 1, 1, 7, 4, 5, 5, 5]] + 0.005
    counts = count_modes(samples, toy.centers, toy.std)
    assert counts.tolist() == [1, 2, 0, 1, 1, 3, 1, 1, 0]
    scores = mode_scores(counts)
    assert scores["modes"] == 7 and scores["high_quality"] == 1
    p = [0.1, 0.2, 0.1, 0.1, 0.3, 0.1, 0.1]
    assert float(scores["reverse_kl"]) == pytest.approx(sum(q * math.log(8 * q) for q in p))
    assert float(scores["kl_with_off_mode"]) == pytest.approx(sum(q * math.log(8 * q / (1 - math.exp(-4.5))) for q in p))
    shuffled = count_modes(samples.flip(0), toy.centers.flip(0), toy.std)
    assert shuffled[:-1].tolist() == counts[:-1].flip(0).tolist()
    assert mode_scores(shuffled)["reverse_kl"] == pytest.approx(float(scores["reverse_kl"]))


@pytest.mark.parametrize("x, on_mode", [(0.75, True), (-0.75, True), (0.7500001, False), (math.nan, False)])
def test_three_sigma_is_inclusive_and_nan_is_off_mode(x, on_mode):
    counts = count_modes(torch.tensor([[x, 0.0]]), torch.tensor([[0.0, 0.0], [8.0, 0.0]]), 0.25)
    assert counts.tolist() == ([1, 0, 0] if on_mode else [0, 0, 1])


def test_kl_with_off_mode_is_finite_without_high_quality_samples():
    toy = ring()
    nothing, one = (mode_scores(count_modes(x, toy.centers, 0.01)) for x in (torch.zeros(10, 2), toy.centers[:1]))
    assert nothing["modes"] == 0 and nothing["high_quality"] == 0 and nothing["reverse_kl"] == math.inf
    assert float(nothing["kl_with_off_mode"]) == pytest.approx(4.5)
    assert one["kl_with_off_mode"] < nothing["kl_with_off_mode"]


@pytest.mark.parametrize("toy, reverse_kl", [(ring(), 0.0014), (grid(), 0.0049)])
def test_perfect_sampler_scores_match_simulation(toy, reverse_kl):
    runs = [mode_scores(count_modes(draw(toy, 2500, seed), toy.centers, toy.std)) for seed in range(400)]
    expected = perfect_sampler_scores(len(toy.centers), 2500)
    assert expected["reverse_kl"] == pytest.approx(reverse_kl, abs=1e-4)
    for name, value in expected.items():
        values = torch.stack([scores[name] for scores in runs])
        assert value == pytest.approx(float(values.mean()), abs=4 * float(values.std()) / 20 + 1e-9), name


def test_metric_names_real_scores_and_protocol():
    metric = ToyQuality(samples=25_000)
    state = torch.get_rng_state()
    metric.setup(ring(), "cpu")
    metric.update(draw(ring(), 25_000))
    scores = metric.compute()
    assert torch.equal(state, torch.get_rng_state())
    assert set(scores) == set(metric.real_scores) == {
        "modes_25k", "high_quality_25k", "reverse_kl_25k", "kl_with_off_mode_25k"
    }  # fmt: skip
    assert metric.objective in scores and scores["modes_25k"] == 8
    assert float(scores["high_quality_25k"]) == pytest.approx(0.9889, abs=0.004)
    assert metric.protocol["samples"] == 25_000 and metric.protocol["fingerprint"] == "f"


def test_states_of_two_processes_add_up():
    samples, metrics = draw(grid(), 300), [ToyQuality(samples=300) for _ in range(3)]
    for metric, share in zip(metrics, (samples, samples[:100], samples[100:])):
        metric.setup(grid(), "cpu")
        metric.update(share)
    whole, first, second = metrics
    first.counts += second.counts
    assert first.compute() == whole.compute()
    whole.reset()
    assert whole.counts.sum() == 0


def test_invalid_settings_and_data_are_rejected():
    with pytest.raises(ValueError, match="metrics.samples must be an integer of at least 1, got 0"):
        ToyQuality(samples=0)
    with pytest.raises(ValueError, match="use metrics=classifier"):
        ToyQuality(samples=10).setup(SimpleNamespace(shape=(1, 8, 8)), "cpu")
    with pytest.raises(ValueError, match="lower data.std"):
        ToyQuality(samples=10).setup(ring(std=0.2), "cpu")
    metric = ToyQuality(samples=10)
    metric.setup(ring(), "cpu")
    metric.update(torch.zeros(9, 2))
    with pytest.raises(ValueError, match="needs 10 samples, got 9"):
        metric.compute()


class Moons(TensorData):
    """Points without known modes."""

    def load(self):
        split = Split(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(20, dtype=torch.int64))
        return split, split


@pytest.mark.parametrize("metric", [ToyQuality, ClassifierQuality])
def test_points_without_known_modes_are_rejected(metric):
    with pytest.raises(ValueError, match="got Moons.* use metrics=none, or your own metric"):
        metric(10).setup(Moons(shape=(2,), num_classes=0, batch_size=5), "cpu")


def test_smallest_gap_of_modes():
    assert smallest_gap(torch.tensor([[0.0, 0.0], [9.0, 0.0], [9.0, 2.5]])) == 2.5
    assert smallest_gap(torch.zeros(1, 2)) == math.inf
