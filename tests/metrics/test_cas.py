import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from ganlab.data import Split
from ganlab.metrics import cas
from ganlab.metrics import classifier as classifier_module
from ganlab.metrics.cas import LEARNING_RATES, classification_accuracy_score, nearest_mean_accuracy

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x = torch.from_numpy((data.images * 255 / 16).round().astype(np.uint8))[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], torch.from_numpy(data.target)[order]
    return Split(x[300:], y[300:]), Split(x[:300], y[:300])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 50)
    monkeypatch.setattr(classifier_module, "BATCH_SIZE", 32)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)


def test_cas_of_real_samples_is_high(digits):
    result = classification_accuracy_score(*digits, 10, CPU, seed=1)
    assert 0.93 < result.accuracy <= 1 and 0.9 < result.held_out_accuracy <= 1 and result.learning_rate in LEARNING_RATES


def test_cas_loses_the_share_of_a_missing_class(digits):
    train, test = digits
    keep = train.y != 3
    result = classification_accuracy_score(Split(train.x[keep], train.y[keep]), test, 10, CPU, seed=1)
    share = float((test.y == 3).double().mean())
    assert result.accuracy <= 1 - share + 1e-9 and result.accuracy > 1 - share - 0.08 and result.held_out_accuracy > 0.9


def test_cas_of_random_labels_is_low(digits):
    train, test = digits
    wrong = train.y[torch.randperm(len(train.y), generator=torch.Generator().manual_seed(2))]
    assert classification_accuracy_score(Split(train.x, wrong), test, 10, CPU, seed=1).accuracy < 0.3


def test_learning_rate_is_chosen_on_held_out_samples(digits, monkeypatch):
    """The first rate is better on held-out samples, the second on the test split."""
    train, test = digits
    calls, networks = [], iter(["first", "second"])

    def train_classifier(split, *_):
        calls.append(len(split.x))
        return next(networks)

    monkeypatch.setattr(cas, "train_classifier", train_classifier)

    def accuracy(network, split, device):
        calls.append((network, "test" if split is test else len(split.x)))
        return {"first": 0.9, "second": 0.8}[network] if split is not test else {"first": 0.1, "second": 1.0}[network]

    monkeypatch.setattr(cas, "accuracy", accuracy)
    result = classification_accuracy_score(train, test, 10, CPU, seed=1)
    tenth = int(len(train.x) * 0.1)
    rest = len(train.x) - tenth
    assert calls == [rest, ("first", tenth), rest, ("second", tenth), ("first", "test")]
    assert result == (0.1, 0.9, LEARNING_RATES[0])


def test_cas_rejects_too_few_samples(digits):
    with pytest.raises(ValueError, match="at least 20 samples, got 19"):
        classification_accuracy_score(Split(digits[0].x[:19], digits[0].y[:19]), digits[1], 10, CPU, seed=1)


def test_nearest_mean_accuracy_matches_scikit_learn():
    random = torch.Generator().manual_seed(0)
    y, y_test = torch.randint(3, (90,), generator=random), torch.randint(3, (70,), generator=random)
    centers = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    x, x_test = (centers[labels] + torch.randn(len(labels), 2, generator=random) for labels in (y, y_test))
    expected = NearestCentroid().fit(x.numpy(), y.numpy()).score(x_test.numpy(), y_test.numpy())
    assert nearest_mean_accuracy(Split(x, y), Split(x_test, y_test), 3) == pytest.approx(expected)
    keep = y != 1
    missing = nearest_mean_accuracy(Split(x[keep], y[keep]), Split(x_test, y_test), 3)
    expected = NearestCentroid().fit(x[keep].numpy(), y[keep].numpy()).score(x_test.numpy(), y_test.numpy())
    assert missing == pytest.approx(expected)
