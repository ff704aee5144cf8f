"""Mode coverage of stacked images: scores of counts, what a perfect sampler scores, and the metric."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from ganlab.data import StackedDigits, to_float
from ganlab.metrics import ClassifierQuality, StackedQuality
from ganlab.metrics import classifier as classifier_module
from ganlab.metrics.stacked import perfect_sampler_scores, stacked_scores

# Number of each digit among MNIST's 60,000 train images (LeCun 1998).
MNIST = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], dtype=torch.float64)
SKEWED = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04], dtype=torch.float64)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = StackedDigits(
        channels=3, size=8, num_classes=1000, batch_size=64, train_size=6000, test_size=500, data_seed=0,
        data_dir=str(tmp_path_factory.mktemp("data")),
    )  # fmt: skip
    data.setup()
    return data


@pytest.fixture
def metric(digits):
    metric = StackedQuality(samples=2000, batch_size=300)
    metric.setup(digits, "cpu")
    return metric


def cubed(p):
    p = p / p.sum()
    return torch.einsum("a,b,c->abc", p, p, p).flatten()


# the scores, from counts


def test_scores_match_scipy():
    counts = torch.tensor([7, 0, 3, 0, 2])
    scores = stacked_scores(counts, SKEWED)
    assert scores["modes"] == 3
    assert float(scores["kl"]) == pytest.approx(entropy(counts, SKEWED), abs=1e-12)
    assert float(scores["kl_uniform"]) == pytest.approx(entropy(counts, np.full(5, 0.2)), abs=1e-12)
    assert abs(entropy(counts, SKEWED) - entropy(SKEWED, counts + 1e-9)) > 1  # so the direction matters


def test_half_of_the_modes_scores_log_2():
    counts = torch.zeros(1000, dtype=torch.long)
    counts[torch.randperm(1000)[:500]] = 52
    scores = stacked_scores(counts, torch.full((1000,), 1e-3))
    assert scores["modes"] == 500 and float(scores["kl"]) == pytest.approx(math.log(2))
    assert float(scores["kl_uniform"]) == pytest.approx(math.log(2))


# what a perfect sampler scores


@pytest.mark.parametrize("n, kl", [(26_000, 0.0193), (10_000, 0.0509)])
def test_perfect_sampler_of_1000_uniform_modes(n, kl):
    """Leading terms: (K - 1) / 2n + (K² - 1) / 12n²."""
    scores = perfect_sampler_scores(cubed(torch.ones(10)), n)
    assert scores["kl"] == pytest.approx(kl, abs=1e-4) and scores["kl_uniform"] == pytest.approx(scores["kl"], abs=1e-12)
    assert scores["kl"] == pytest.approx(999 / (2 * n) + (1e6 - 1) / (12 * n**2), rel=0.01)


def test_perfect_sampler_of_stacked_mnist():
    scores = perfect_sampler_scores(cubed(MNIST), 26_000)
    assert scores["kl_uniform"] == pytest.approx(0.0235, abs=5e-4)  # with MNIST's class skew
    assert scores["kl_uniform"] - scores["kl"] == pytest.approx(3 * entropy(MNIST, np.full(10, 0.1)), abs=1e-10)
    assert scores["kl"] == pytest.approx(0.0195, abs=5e-4)


def test_perfect_sampler_misses_modes_at_few_samples():
    assert perfect_sampler_scores(cubed(torch.ones(10)), 2500)["modes"] == pytest.approx(918, abs=0.5)
    assert perfect_sampler_scores(torch.full((10_000,), 1e-4), 26_000)["modes"] == pytest.approx(9257, abs=1)


def test_perfect_sampler_scores_match_simulation():
    n, runs = 40, 4000
    drawn = np.random.default_rng(0).multinomial(n, SKEWED.numpy(), size=runs)
    scores = [stacked_scores(torch.from_numpy(counts), SKEWED) for counts in drawn]
    for name, value in perfect_sampler_scores(SKEWED, n).items():
        values = torch.tensor([float(score[name]) for score in scores], dtype=torch.float64)
        assert value == pytest.approx(float(values.mean()), abs=4 * float(values.std()) / runs**0.5), name


# the metric


def test_a_stack_counts_for_the_mode_of_its_channels(digits, metric):
    """Correctly classified images, stacked as 1-2-3 seven times and 9-0-4 twice."""
    images = to_float(digits.base.test.x)
    predicted, truth = metric.classify(images), digits.base.test.y
    one = {digit: images[(predicted == digit) & (truth == digit)][0] for digit in range(10)}
    a, b = (torch.cat([one[digit] for digit in digits_]) for digits_ in ((1, 2, 3), (9, 0, 4)))
    metric.update(torch.stack([a, a, b, a, a, a, a, b, a]))
    assert metric.counts.sum() == 9 and metric.counts[123] == 7 and metric.counts[904] == 2


def test_target_is_the_distribution_of_predicted_classes(digits, metric):
    predicted = metric.classify(to_float(digits.base.train.x))
    share = np.bincount(predicted.numpy(), minlength=10) / len(predicted)
    assert metric.target.shape == (1000,) and float(metric.target.sum()) == pytest.approx(1, abs=1e-12)
    for mode in (0, 7, 123, 904, 999):
        a, b, c = map(int, f"{mode:03d}")
        assert float(metric.target[mode]) == pytest.approx(share[a] * share[b] * share[c], rel=1e-12)


def test_scores_of_real_and_of_collapsed_stacks(digits, metric):
    scores = []
    for stacks in digits.train.x.split(2000):
        metric.reset()
        metric.update(to_float(stacks))
        scores.append(metric.compute())
    assert set(scores[0]) == set(metric.real_scores) == {"modes_2k", "kl_2k", "kl_uniform_2k"}
    spread = {"modes_2k": 12, "kl_2k": 0.012, "kl_uniform_2k": 0.012}  # of one evaluation: about 9.7 modes, 0.008 nats
    for name, expected in metric.real_scores.items():
        assert np.mean([float(s[name]) for s in scores]) == pytest.approx(expected, abs=4 * spread[name] / 3**0.5), name
    metric.reset()
    collapsed = to_float(digits.train.x[:2000])
    collapsed[:, 1] = collapsed[0, 1]  # one channel: a tenth of the modes, log 10 more divergence
    metric.update(collapsed)
    scores = metric.compute()
    assert 90 <= scores["modes_2k"] <= 100
    share = metric.target.view(10, 10, 10).sum((0, 2))[metric.classify(collapsed[:1, 1:2])]
    assert float(scores["kl_2k"]) == pytest.approx(-math.log(share) + 99 / 4000, abs=0.03)


def test_four_channels(digits):
    data = StackedDigits(
        channels=4, size=8, num_classes=10_000, batch_size=64, train_size=300, test_size=10, data_seed=0,
        data_dir=digits.data_dir,
    )  # fmt: skip
    data.setup()
    metric = StackedQuality(samples=300)
    metric.setup(data, "cpu")
    metric.update(to_float(data.train.x[:]))
    truth = torch.bincount(data.train.y, minlength=10_000)
    assert metric.protocol["modes"] == len(metric.counts) == 10_000
    assert int((metric.counts - truth).abs().sum()) <= 2 * 15  # the classifier errs on some of 1,200 channels
    assert metric.real_scores["modes_300"] == pytest.approx(float(metric.compute()["modes_300"]), abs=12)


def test_objective_protocol_and_setup_leave_the_global_rng_alone(digits):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    metric = StackedQuality(samples=26_000)
    metric.setup(digits, "cpu")
    assert torch.equal(torch.get_rng_state(), state) and "counts" not in metric.state_dict()
    assert metric.objective == "kl_26k" and metric.objective in metric.real_scores and not metric.higher_is_better
    card = metric.protocol["extractor"]
    assert card["name"] == "classifier" and len(card["sha256"]) == 64 and 0.97 <= card["accuracy"] < 1
    assert metric.protocol["samples"] == 26_000 and metric.protocol["fingerprint"] == digits.fingerprint
    assert metric.protocol["data"] == "StackedDigits" and metric.protocol["resolution"] == [3, 8, 8]


def test_the_base_set_s_classifier_is_reused(digits, metric, monkeypatch):
    monkeypatch.setattr(classifier_module, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
    gray = ClassifierQuality(samples=100)
    gray.setup(digits.base, "cpu")
    assert gray.protocol["extractor"] == metric.protocol["extractor"]


def test_states_of_two_processes_add_up(digits):
    whole, first, second = metrics = [StackedQuality(samples=500) for _ in range(3)]
    x = to_float(digits.test.x[:])
    for metric, share in zip(metrics, (slice(None), slice(0, 120), slice(120, None)), strict=True):
        metric.setup(digits, "cpu")
        metric.update(x[share])
    first.counts += second.counts
    assert first.compute() == whole.compute()
    whole.reset()
    assert whole.counts.sum() == 0 and whole.target.sum() > 0


def test_invalid_settings_and_data_are_rejected(digits, metric):
    for name in ("samples", "batch_size"):
        with pytest.raises(ValueError, match=f"metrics.{name} must be an integer of at least 1, got 0"):
            StackedQuality(**{"samples": 5, name: 0})
    with pytest.raises(ValueError, match="stacked_fashion.*got Digits: use metrics=classifier"):
        StackedQuality(samples=5).setup(digits.base, "cpu")
    with pytest.raises(ValueError, match="got SimpleNamespace"):
        StackedQuality(samples=5).setup(SimpleNamespace(shape=(2,)), "cpu")
    metric.update(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="needs 2000 samples, got 1"):
        metric.compute()
