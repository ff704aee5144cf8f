"""The evaluation suite on samplers whose quality is known by construction."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ganlab.data import Ring, Split, StackedDigits, to_float, to_uint8
from ganlab.data.base import split_fingerprint
from ganlab.metrics import ClassifierQuality, InceptionQuality, StackedQuality, ToyQuality
from ganlab.metrics import classifier as classifier_module
from ganlab.metrics import suite as suite_module
from ganlab.metrics.suite import EvaluationSuite
from ganlab.models.conditioning import ClassLabels, Unconditional


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 20)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    monkeypatch.setattr(classifier_module, "BATCH_SIZE", 32)


def sampler(x, y=None, classes=0):
    """A stand-in for a GAN that returns x in order, or samples of x whose labels y are asked for if it is conditional."""
    conditioning = ClassLabels(classes) if classes else Unconditional()

    def sample_in_batches(n, asked=None, *, seed, batch_size, **_):
        """The next unused sample of each label that is asked for, modulo the classes of x; without labels, in order."""
        if asked is None:
            return iter(x[:n].split(batch_size))
        asked = asked % (int(y.max()) + 1)
        order = y.argsort(stable=True)
        starts, counts = torch.bincount(y).cumsum(0) - torch.bincount(y), torch.bincount(y)
        rank = torch.empty_like(asked)
        rank[asked.argsort(stable=True)] = torch.cat([torch.arange(c) for c in torch.bincount(asked).tolist()])
        return iter(x[order[starts[asked] + rank % counts[asked]]].split(batch_size))

    return SimpleNamespace(device=torch.device("cpu"), conditioning=conditioning, sample_in_batches=sample_in_batches)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """597 train and 600 test images, and 600 that are in neither, half of them in val."""
    data = load_digits()
    x = torch.from_numpy((data.images * 255 / 16).round().astype(np.uint8))[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], torch.from_numpy(data.target)[order]
    facts = {"shape": (1, 8, 8), "num_classes": 10, "fingerprint": "digits", "data_dir": tmp_path_factory.mktemp("d")}
    data = SimpleNamespace(
        train=Split(x[1200:], y[1200:]), val=Split(x[:300], y[:300]), test=Split(x[600:1200], y[600:1200]), **facts
    )
    return data, Split(x[:600], y[:600])


def run(gan, data, metric, seed=1):
    return EvaluationSuite(gan, data, [metric], metric.samples, seed).run()


def test_real_images_score_like_real_data(digits):
    data, new = digits
    results = run(sampler(to_float(new.x), new.y, 10), data, ClassifierQuality(500))
    metrics = {name.removesuffix("_500").removesuffix("_classifier"): n for name, n in results.metrics.items()}
    for name in ("precision", "recall", "density", "coverage", "gan_train", "gan_test"):
        assert abs(metrics[name].value - metrics[name].real) < 0.12, name
    assert metrics["frechet"].value < 2 * metrics["frechet"].real
    assert abs(metrics["vendi"].value - metrics["vendi"].real) < 0.05 * metrics["vendi"].real
    further = metrics["nearest_train_auc_pixels"]
    assert not results.memorization.memorized and further.low < 0.5 < further.high
    assert "500 samples are fewer than 20 for each of the 64" in results.not_measured["frechet_infinity"]


def test_memorizer_of_two_classes(digits):
    data, _ = digits
    keep = data.train.y < 2
    x, y = data.train.x[keep].repeat(5, 1, 1, 1), data.train.y[keep].repeat(5)
    results = run(sampler(to_float(x), y, 10), data, ClassifierQuality(300))
    metrics = {name.removesuffix("_300").removesuffix("_classifier"): n for name, n in results.metrics.items()}
    assert metrics["recall"].value < 0.5 < metrics["precision"].value and metrics["coverage"].value < 0.5
    assert metrics["gan_train"].value < 0.35 and 0.1 < metrics["gan_test"].value < 0.35  # two of ten labels are right
    assert metrics["vendi"].value < 0.6 * metrics["vendi"].real
    assert metrics["frechet"].value > 3 * metrics["frechet"].real and metrics["kid"].value > 0.01
    assert results.memorization.memorized and metrics["copies_pixels"].value == 1
    assert metrics["nearest_train_pixels"].value == 0 < metrics["nearest_train_pixels"].real


def test_perfect_conditional_sampler_of_rare_classes_scores_like_real_data(digits, monkeypatch):
    """Of 0s and 1s at 9 : 1; equally many of both would score ten times as much."""
    data, new = digits
    few = lambda s: torch.cat([(s.y == 0).nonzero().flatten(), (s.y == 1).nonzero().flatten()[: int((s.y == 0).sum()) // 9]])
    splits = {name: Split(s.x[i], s.y[i]) for name, s in (("train", data.train), ("test", data.test)) for i in [few(s)]}
    data = SimpleNamespace(**vars(data) | splits | {"num_classes": 2, "fingerprint": "rare"})
    gan = sampler(to_float(new.x[new.y < 2]), new.y[new.y < 2], 2)
    frechet = run(gan, data, ClassifierQuality(50)).metrics["frechet_classifier_50"]
    assert 0.5 < frechet.value / frechet.real < 1.7
    assert frechet.protocol["labels"].endswith("of the reference")
    monkeypatch.setattr(suite_module, "reference_labels", lambda *_: torch.arange(50) % 2)
    assert run(gan, data, ClassifierQuality(50)).metrics["frechet_classifier_50"].value > 4 * frechet.value


def test_images_out_of_range_are_scored_as_they_are_saved(digits):
    data, new = digits
    x = to_float(new.x) * 1.2
    results = [run(sampler(x, new.y, 10), data, ClassifierQuality(100)) for x in (x, to_float(to_uint8(x)))]
    first, second = ({name: m.value for name, m in r.metrics.items()} for r in results)
    assert first == second


def test_split_is_measured_on_and_named(digits):
    """The sampler of the validation images scores 0 on that split alone."""
    data, _ = digits
    values = {}
    for split in ("val", "test"):
        metric = ClassifierQuality(300)
        gan = sampler(to_float(data.val.x))
        suite = EvaluationSuite(gan, data, [metric], 300, split=split, draws=1)
        values[split] = suite.run().metrics
        for name, result in values[split].items():
            assert result.protocol["reference"] == {"val": "validation split", "test": "test split"}[split], name
            assert result.protocol["reference_fingerprint"] == split_fingerprint(getattr(data, split)), name
            assert result.protocol["reference_size"] == len(getattr(data, split).x)
    assert values["val"]["frechet_classifier_300"].value == pytest.approx(0, abs=1e-3)
    assert values["test"]["frechet_classifier_300"].value > 0.1
    assert values["val"]["nearest_train_auc_pixels_300"].value == 0.5 != values["test"]["nearest_train_auc_pixels_300"].value


def test_values_at_small_n_have_intervals_of_their_draws(ring, make_gan):
    """Each of five draws lies in the interval from the others' seeds more often than not, and far seeds agree."""
    gan = make_gan().eval()
    for p in gan.generator_ema.parameters():
        p.mul_(2)  # so that samples reach the modes

    def measure(seed, draws):
        metric = ToyQuality(200)
        return EvaluationSuite(gan, ring, [metric], 200, seed, draws=draws).run().metrics

    wide = measure(0, 10)
    for seed in (0, 1, 2):
        single = measure(seed, 1)
        for name in ("frechet_points_200", "kid_points_200", "vendi_points_200", "density_points_200", "kl_with_off_mode_200"):
            low, high = wide[name].low, wide[name].high
            assert seed or wide[name].value == single[name].value, "the value is that of the first draw"
            assert low < high and single[name].low is None
            assert low - (high - low) < single[name].value < high + (high - low)
            assert "Student's t from 10" in wide[name].protocol["interval"]
    assert 0 < wide["frechet_points_200"].low < wide["frechet_points_200"].value < wide["frechet_points_200"].high
    assert wide["copies_points_200"].protocol["interval"] == "Wilson 95 %"


def test_intervals_end_at_the_number_of_modes_and_at_1(ring):
    """Draws with seven or eight of the modes."""

    def draw(n, asked, *, seed, batch_size, **_):
        rare = (ring.train.y != 0) | (torch.arange(len(ring.train.y)) < 100)
        pool, random = ring.train.x[rare], torch.Generator().manual_seed(seed)
        return iter(pool[torch.randint(len(pool), (n,), generator=random)].split(batch_size))

    gan = SimpleNamespace(device=torch.device("cpu"), conditioning=Unconditional(), sample_in_batches=draw)
    results = run(gan, ring, ToyQuality(100)).metrics
    assert 7 < results["modes_100"].protocol["mean of draws"] < 8 and results["modes_100"].high == 8
    assert results["high_quality_100"].value < results["high_quality_100"].high == 1


def test_each_metric_has_its_protocol(digits):
    data, new = digits
    results = run(sampler(to_float(new.x), new.y, 10), data, ClassifierQuality(100), seed=4)
    for name, result in results.metrics.items():
        protocol = result.protocol
        assert name.endswith("_100") and protocol["samples"] == 100 and protocol["seed"] == 4, name
        assert protocol["fingerprint"] == "digits" and "test split" in protocol["reference"]
        unused = "pixels" in name or name.startswith("gan_train")
        assert result.real is not None and ("extractor" in protocol) is not unused
        assert unused or len(protocol["extractor"]["sha256"]) == 64
    assert {results.metrics[f"{name}_classifier_100"].protocol["k"] for name in ("precision", "recall")} == {3}
    assert {results.metrics[f"{name}_classifier_100"].protocol["k"] for name in ("density", "coverage")} == {5}


@pytest.fixture(scope="module")
def ring():
    data = Ring(num_classes=8, dim=2, std=0.01, batch_size=10, train_size=1500, test_size=700, data_seed=0)
    data.setup()
    return data


@pytest.mark.parametrize("conditional", [False, True])
def test_perfect_sampler_of_points(ring, conditional):
    new = ring._draw(600, torch.Generator().manual_seed(9))
    results = run(sampler(new.x, new.y, 8) if conditional else sampler(new.x), ring, ToyQuality(600))
    value = {name: n.value for name, n in results.metrics.items()}
    assert value["modes_600"] == 8 and abs(value["high_quality_600"] - 0.989) < 0.02
    assert abs(value["density_points_600"] - 1) < 0.15 and value["coverage_points_600"] > 0.93
    assert 7 < value["vendi_points_600"] < 9 and abs(value["frechet_infinity_points_600"]) < 0.02
    assert not results.memorization.memorized
    if conditional:
        assert value["gan_train_points_600"] == value["gan_test_points_600"] == 1
    else:
        assert results.not_measured.keys() == {"gan_train", "gan_test"}


def test_collapsed_sampler_of_points_with_wrong_labels(ring):
    first = ring.train.y == 0
    x, y = ring.train.x[first].repeat(4, 1), torch.arange(4 * int(first.sum())) % 8
    results = run(sampler(x, y, 8), ring, ToyQuality(600))
    value = {name: n.value for name, n in results.metrics.items()}
    assert value["modes_600"] == 1 and value["vendi_points_600"] < 1.3 and value["recall_points_600"] < 0.3
    assert abs(value["gan_test_points_600"] - 1 / 8) < 0.05 and value["gan_train_points_600"] < 0.5
    assert results.memorization.memorized


def test_single_mode_has_no_vendi_score():
    data = Ring(num_classes=1, dim=2, std=0.01, batch_size=10, train_size=300, test_size=200, data_seed=0)
    data.setup()
    results = run(sampler(data._draw(100, torch.Generator().manual_seed(9)).x), data, ToyQuality(100))
    assert results.metrics["modes_100"].value == 1 and "vendi" in results.not_measured


def test_vendi_score_of_points_needs_known_modes(ring):
    class Points(ToyQuality):
        def setup(self, datamodule, device, split):
            super().setup(ring, device, split)

    data = SimpleNamespace(shape=ring.shape, num_classes=0, train=ring.train, test=ring.test, fingerprint=ring.fingerprint)
    results = run(sampler(ring.train.x), data, Points(400))
    assert results.not_measured.keys() == {"vendi", "gan_train", "gan_test"} and "coverage_points_400" in results.metrics


def test_stacks_use_the_features_of_all_channels(tmp_path):
    sizes = {"train_size": 300, "test_size": 200, "data_seed": 0}
    data = StackedDigits(channels=3, size=8, num_classes=1000, batch_size=10, data_dir=tmp_path, **sizes)
    data.setup()
    new = data._stack(data.base.test, 150, torch.Generator().manual_seed(5))
    metric = StackedQuality(150)
    results = run(sampler(to_float(new.x[torch.arange(150)])), data, metric)
    assert {"modes_150", "kl_150", "precision_channels_150", "copies_pixels_150"} <= results.metrics.keys()
    assert results.metrics["density_channels_150"].value == pytest.approx(1, abs=0.4)
    stacks = to_float(new.x[torch.arange(4)])
    per_channel = [metric.classifier(stacks[:, c : c + 1])[0] for c in range(3)]
    torch.testing.assert_close(metric.features(stacks), torch.cat(per_channel, 1))


class Mean(torch.nn.Module):
    """Replaces Inception: the mean of each color, uint8 -> [n, 3]."""

    num_features = 3

    def forward(self, x):
        assert x.dtype == torch.uint8
        return x.float().mean((2, 3))


def test_inception_features_are_those_of_its_network(digits):
    data, new = digits
    metric = InceptionQuality(100, network=Mean())
    metric.setup(data, "cpu")
    expected = new.x[:7].float().mean((2, 3)).expand(-1, 3)
    torch.testing.assert_close(metric.features(to_float(new.x[:7])), expected)


def test_results_are_deterministic_and_leave_the_global_rng_alone(ring):
    new = ring._draw(400, torch.Generator().manual_seed(9)).x
    state = torch.get_rng_state()
    first, second = (run(sampler(new), ring, ToyQuality(400), seed=3).metrics for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def test_invalid_sample_counts_and_samples_are_rejected(ring):
    points = torch.zeros(800, 2)
    for n in (0, 19, 701):
        with pytest.raises(ValueError, match=f"n must be in 20 … 700, the size of the smaller split, got {n}"):
            EvaluationSuite(sampler(points), ring, [ToyQuality(max(n, 1))], n, 1)
    with pytest.raises(ValueError, match="samples are not finite"):
        run(sampler(points + torch.nan), ring, ToyQuality(100))
