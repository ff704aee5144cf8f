import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ganlab.data import Split, to_float
from ganlab.metrics import ClassifierQuality, InceptionQuality
from ganlab.metrics import classifier as classifier_module
from ganlab.metrics import image_quality as quality_module
from ganlab.metrics.classifier import Classifier, load_classifier, train_classifier
from ganlab.metrics.image_quality import to_inception_input
from ganlab.metrics.sampling import evenly_spaced_samples

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    data = load_digits()
    x = torch.from_numpy((data.images * 255 / 16).round().astype(np.uint8))[:, None]
    y = torch.from_numpy(data.target).long()
    train, test = train_test_split(np.arange(len(y)), test_size=360, stratify=y, random_state=0)
    return SimpleNamespace(
        train=Split(x[train], y[train]),
        val=Split(x[test], y[test]),
        test=Split(x[test[:50]], y[test[:50]]),
        shape=(1, 8, 8),
        num_classes=10,
        fingerprint="digits",
        data_dir=tmp_path_factory.mktemp("data"),
    )


@pytest.fixture
def metric(digits):
    metric = ClassifierQuality(samples=10_000)
    metric.setup(digits, "cpu")
    return metric


def cache(data):
    return list((data.data_dir / "extractors").iterdir())


# the extractor


@pytest.mark.parametrize("size, channels", [(1, 1), (4, 2), (128, 1), (8, 1), (9, 3), (16, 2), (28, 1), (32, 3), (64, 4)])
def test_classifier_accepts_every_size(size, channels):
    features, logits = Classifier(channels, size, 7).eval()(torch.zeros(2, channels, size, size))
    assert features.shape == (2, Classifier.num_features) and logits.shape == (2, 7)
    assert features.dtype == logits.dtype == torch.float32


def test_classifier_of_digits_is_accurate_and_frozen(digits):
    network, card = load_classifier(digits, CPU)
    logits = network(to_float(digits.val.x))[1]
    assert float((logits.argmax(1) == digits.val.y).double().mean()) == pytest.approx(card["accuracy"])
    assert 0.97 <= card["accuracy"] < 1
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_classifier_training_is_deterministic_and_leaves_global_state_alone(digits, monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 50)
    split = Split(digits.train.x[:300], digits.train.y[:300])
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():
        first = train_classifier(split, 10, CPU)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()
    torch.manual_seed(6)
    second = train_classifier(split, 10, CPU)
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)


def test_cached_classifier_has_the_same_features(digits, tmp_path, monkeypatch):
    data = SimpleNamespace(**vars(digits) | {"data_dir": tmp_path / "new"})
    state = torch.get_rng_state()
    fresh, card = load_classifier(data, CPU)
    monkeypatch.setattr(classifier_module, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
    cached, same_card = load_classifier(data, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    x = to_float(data.val.x)
    assert torch.equal(fresh(x)[0], cached(x)[0]) and card == same_card
    assert [path.suffix for path in cache(data)] == [".pt"]
    data.fingerprint = "other"
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        load_classifier(data, CPU)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"garbage", lambda b: b[: len(b) // 2]])
def test_corrupt_cache_is_replaced(digits, tmp_path, caplog, monkeypatch, damage):
    data = SimpleNamespace(**vars(digits) | {"data_dir": tmp_path})
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 2)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    _, card = load_classifier(data, CPU)
    (path,) = cache(data)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.INFO, logger="ganlab"):
        assert load_classifier(data, CPU)[1] == card
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert str(path) in warning and "training the classifier again" in warning and "\n" not in warning
    assert torch.load(path, weights_only=True)["card"].items() < card.items(), "all but the accuracy, which is no part of it"


def test_unwritable_cache_directory_is_only_logged(digits, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 2)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.INFO, logger="ganlab"):
        load_classifier(SimpleNamespace(**vars(digits) | {"data_dir": tmp_path / "file"}), CPU)
    assert "not cached" in caplog.text


def test_full_disk_is_only_logged(digits, tmp_path, caplog, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(classifier_module, "MIN_STEPS", 2)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    monkeypatch.setattr(torch, "save", full)
    with caplog.at_level(logging.INFO, logger="ganlab"):
        load_classifier(data := SimpleNamespace(**vars(digits) | {"data_dir": tmp_path}), CPU)
    assert "not cached (the file was not written completely, the disk may be full)" in caplog.text and not cache(data)


def test_accuracy_is_that_on_the_split_in_use(digits, tmp_path):
    """The cached classifier knows nothing of the splits that it is tested on."""
    data = SimpleNamespace(**vars(digits) | {"data_dir": tmp_path})
    _, first = load_classifier(data, CPU, "val")
    data.test = Split(digits.val.x, (digits.val.y + 1) % 10)
    _, second = load_classifier(data, CPU, "test")
    assert first["sha256"] == second["sha256"] and len(cache(data)) == 1
    assert first["accuracy"] > 0.97 and second["accuracy"] < 0.03
    metric = ClassifierQuality(50)
    metric.setup(data, CPU, "test")
    assert metric.real_scores["label_agreement_50"] == second["accuracy"]


def test_the_protocol_identifies_the_reference(digits):
    cards = []
    for split in ("val", "test"):
        metric = ClassifierQuality(50)
        metric.setup(digits, "cpu", split)
        cards.append([metric.protocol[name] for name in ("reference", "reference_size", "reference_fingerprint")])
    assert cards[0][:2] == ["validation split", 360] and cards[1][:2] == ["test split", 50]
    assert cards[0][2] != cards[1][2] and all(len(card[2]) == 64 for card in cards)


def test_classifier_rejects_images_that_are_not_square(digits):
    with pytest.raises(ValueError, match="needs square images, got 1x8x12: use metrics=inception or metrics=none"):
        ClassifierQuality(10).setup(SimpleNamespace(**vars(digits) | {"shape": (1, 8, 12)}), "cpu")


@pytest.mark.parametrize("classes", [0, 1])
def test_classifier_metric_rejects_unlabeled_data(digits, classes):
    with pytest.raises(ValueError, match=f"num_classes={classes}.*metrics=inception or metrics=none"):
        ClassifierQuality(10).setup(SimpleNamespace(**vars(digits) | {"num_classes": classes}), "cpu")


# the Fréchet distance


def test_scores_of_real_images_and_of_noise(digits, metric):
    n = metric.samples
    assert n == 360 and metric.objective == "frechet_classifier_360"
    metric.update(to_float(evenly_spaced_samples(digits.train, n).x))
    scores = metric.compute()
    assert set(scores) == {"frechet_classifier_360", "classes_360", "class_kl_360"}
    assert float(scores[metric.objective]) == pytest.approx(metric.real_scores[metric.objective], rel=1e-3)
    assert scores["classes_360"] == 10 and metric.real_scores["classes_360"] == pytest.approx(10, abs=1e-6)
    assert metric.real_scores["class_kl_360"] == pytest.approx(9 / 720, rel=0.1)

    metric.reset()
    metric.update(to_float(digits.val.x), digits.val.y)
    scores = metric.compute()
    assert metric.real_scores["class_kl_360"] < 9 / 7200, "with the reference's labels only mistakes vary"
    assert float(scores[metric.objective]) == pytest.approx(0, abs=1e-3)
    assert float(scores["class_kl_360"]) == pytest.approx(0, abs=1e-6)
    assert float(scores["label_agreement_360"]) == pytest.approx(metric.real_scores["label_agreement_360"])

    metric.reset()
    metric.update(torch.zeros(n, 1, 8, 8), digits.val.y)
    scores = metric.compute()
    assert scores["classes_360"] == 1 and float(scores["class_kl_360"]) > 2
    assert float(scores["label_agreement_360"]) < 0.2
    assert float(scores[metric.objective]) > 10 * metric.real_scores[metric.objective]


def test_class_kl_matches_its_definition(metric):
    """Two classes at 3 : 1; the reverse divergence would be infinite."""
    metric.target = torch.full((10,), 0.1)
    metric.update_frechet = lambda images, real: torch.tensor([0] * 270 + [4] * 90)
    metric.frechet.compute = lambda: torch.tensor(0.0)
    metric.batch_size = metric.samples
    metric.update(torch.zeros(360, 1, 8, 8))
    kl = metric.compute()["class_kl_360"]
    assert float(kl) == pytest.approx(0.75 * np.log(7.5) + 0.25 * np.log(2.5))


def test_reset_keeps_the_reference(metric):
    before = metric.frechet.real_features_sum.clone()
    metric.update(torch.zeros(360, 1, 8, 8))
    metric.reset()
    assert torch.equal(metric.frechet.real_features_sum, before) and before.abs().sum() > 0
    assert metric.frechet.real_features_num_samples == 360
    assert metric.frechet.fake_features_num_samples == 0 and metric.seen == 0 and metric.class_counts.sum() == 0


def test_states_of_two_processes_add_up(digits):
    whole, first, second = metrics = [ClassifierQuality(360, batch_size=100) for _ in range(3)]
    for metric, share in zip(metrics, (slice(None), slice(0, 90), slice(90, None))):
        metric.setup(digits, "cpu")
        metric.update(to_float(digits.train.x[:360][share]), digits.train.y[:360][share])
    for state in ("seen", "class_counts", "correct", "labeled"):
        setattr(first, state, getattr(first, state) + getattr(second, state))
    for state in ("fake_features_sum", "fake_features_cov_sum", "fake_features_num_samples"):
        setattr(first.frechet, state, getattr(first.frechet, state) + getattr(second.frechet, state))
    merged, expected = first.compute(), whole.compute()
    assert set(merged) == set(expected)
    for name, value in expected.items():
        assert float(merged[name]) == pytest.approx(float(value), rel=1e-5), name


def test_compute_rejects_a_wrong_sample_count(metric):
    metric.update(torch.zeros(10, 1, 8, 8))
    with pytest.raises(ValueError, match="needs 360 samples, got 10"):
        metric.compute()


def test_protocol_and_setup_leave_the_global_rng_alone(digits):
    state = torch.get_rng_state()
    metric = ClassifierQuality(100)
    metric.setup(digits, "cpu")
    assert torch.equal(torch.get_rng_state(), state) and not metric.state_dict().keys() & {"seen", "class_counts"}
    assert metric.protocol["samples"] == 100 and len(metric.protocol["extractor"]["sha256"]) == 64


@pytest.mark.parametrize("kind", [ClassifierQuality, InceptionQuality])
def test_invalid_settings_and_data_are_rejected(kind):
    with pytest.raises(ValueError, match="metrics.samples must be an integer of at least 2, got 1"):
        kind(samples=1)
    with pytest.raises(ValueError, match="metrics.batch_size must be an integer of at least 1, got 0"):
        kind(samples=2, batch_size=0)
    with pytest.raises(ValueError, match="use metrics=toy"):
        kind(samples=2).setup(SimpleNamespace(shape=(2,), centers=torch.zeros(3, 2)), "cpu")


# Inception


def test_inception_input_is_rounded_clamped_and_gray_is_repeated():
    x = torch.tensor([-1.5, -1.0, 0.5 / 127.5, 1 - 0.6 / 127.5, 1.0, 1.5]).view(1, 1, 2, 3)
    bytes_ = to_inception_input(x)
    assert bytes_.dtype == torch.uint8 and bytes_.shape == (1, 3, 2, 3)
    for channel in bytes_[0]:
        assert channel.flatten().tolist() == [0, 0, 128, 254, 255, 255]
    with pytest.raises(ValueError, match="got 2: use metrics=classifier"):
        to_inception_input(torch.zeros(1, 2, 4, 4))


class Corners(torch.nn.Module):
    num_features = 4

    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1:] == (3, 8, 8)
        return x[:, 0, 2:4, 3:5].flatten(1).float()


def test_inception_with_a_replacement_network(digits):
    metric = InceptionQuality(samples=10_000, network=Corners())
    metric.setup(digits, "cpu")
    metric.update(to_float(digits.val.x))
    assert metric.objective == "frechet_inception_360"
    assert float(metric.compute()["frechet_inception_360"]) == pytest.approx(0, abs=0.1)
    assert metric.real_scores["frechet_inception_360"] > 1


def test_slow_extractor_is_told_once(digits, monkeypatch, caplog):
    monkeypatch.setattr(quality_module, "SLOW_SECONDS", -1)
    InceptionQuality(samples=20, network=Corners()).setup(digits, "cpu")
    (message,) = [r.getMessage() for r in caplog.records if "in each evaluation" in r.getMessage()]
    assert message.startswith("the inception features of 20 images take 0 s") and "metrics.samples" in message
    caplog.clear()
    monkeypatch.setattr(quality_module, "is_first_process", lambda: False)
    ClassifierQuality(samples=20).setup(digits, "cpu")
    assert not caplog.records, "the other processes of a run are silent"


def test_features_that_are_not_finite_are_refused(digits):
    """torchmetrics' eigenvalue routine may end the process at them."""

    class Overflowing(Corners):
        def forward(self, x):
            return torch.where(x[:, 0, 2:4, 3:5].flatten(1) > 200, torch.inf, super().forward(x))

    with pytest.raises(ValueError, match="the features of inception are not finite; use another extractor"):
        InceptionQuality(samples=300, network=Overflowing()).setup(digits, "cpu")
    metric = InceptionQuality(samples=300, network=Corners())
    metric.setup(digits, "cpu")
    metric.network.forward = lambda x: torch.full((len(x), 4), torch.nan)
    metric.update(to_float(digits.val.x[:300]))
    with pytest.raises(ValueError, match="the features of inception are not finite"):
        metric.compute()


@pytest.mark.parametrize("error", [ModuleNotFoundError("no torch-fidelity"), OSError("no route to host")])
def test_missing_inception_weights_are_explained(digits, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(quality_module, "FrechetInceptionDistance", refuse)
    with pytest.raises(FileNotFoundError, match=r"ganlab\[inception\].*checkpoints.*metrics=classifier") as caught:
        InceptionQuality(samples=100).setup(digits, "cpu")
    assert str(error) in str(caught.value) and "\n" not in str(caught.value)
