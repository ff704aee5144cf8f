import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_digits

from ganlab.metrics.memorization import mann_whitney_auc, memorization

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    """1,197 training images, 300 held out, 300 never seen."""
    images = torch.from_numpy((load_digits().images * 255 / 16).round().astype(np.uint8))[:, None]
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    return images[600:], images[:300], images[300:600]


def noisy(images, strength, seed=1):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)) * strength
    return (images + noise).round().clamp(0, 255).byte()


def test_new_real_images_are_not_copies(digits):
    train, held_out, new = digits
    result = memorization(new, held_out, train, CPU)
    assert not result.memorized
    assert result.auc.low < 0.5 < result.auc.high
    assert result.copies.value < 0.02 and result.real_copies.value < 0.02


def test_training_images_are_copies(digits):
    train, held_out, _ = digits
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(2))[:300]
    result = memorization(train[chosen], held_out, train, CPU)
    assert result.memorized and result.copies.value == 1 and result.is_copy.all()
    assert result.auc.value == 0 and result.auc.high < 0.05
    assert torch.equal(result.nearest_index, chosen) and (result.distance == 0).all()
    assert result.real_copies.value < 0.02  # would be 1 with the two sides swapped


@pytest.mark.parametrize("strength", [5, 15])
def test_noisy_training_images_are_copies(digits, strength):
    train, held_out, _ = digits
    result = memorization(noisy(train[:300], strength), held_out, train, CPU)
    assert result.memorized and result.copies.value > 0.8 and result.auc.high < 0.2


def test_ten_percent_of_copies_is_detected(digits):
    train, held_out, new = digits
    samples = torch.cat([train[:30], new[30:]])
    result = memorization(samples, held_out, train, CPU)
    assert result.memorized and result.is_copy[:30].all() and result.is_copy[30:].double().mean() < 0.02


def test_smooth_samples_are_not_copies(digits):
    """Blends of real images lie closer to the training data than real images do: a low AUC alone says nothing."""
    train, held_out, new = digits
    near = torch.cdist(new.double().flatten(1), train.double().flatten(1)).topk(12, largest=False).indices
    blends = train[near].double().mean(1).round().byte()
    result = memorization(blends, held_out, train, CPU)
    assert result.auc.high < 0.3 and not result.memorized


def test_copies_of_points_are_detected():
    random = torch.Generator().manual_seed(0)
    train, held_out, new = (torch.randn(n, 2, generator=random) for n in (2000, 400, 400))
    honest, copier = (memorization(samples, held_out, train, CPU) for samples in (new, train[:400]))
    assert not honest.memorized and 0.1 < honest.real_copies.value < 0.4  # the plane is crowded
    assert copier.memorized and copier.copies.value == 1


def test_false_alarms_are_rare():
    random = torch.Generator().manual_seed(1)
    false_alarms = 0
    for _ in range(60):
        train, held_out, new = (torch.randn(n, 3, generator=random) for n in (300, 100, 100))
        false_alarms += memorization(new, held_out, train, CPU).memorized
    assert false_alarms <= 2


def test_copies_of_duplicated_training_images_are_detected(digits):
    train, held_out, _ = digits
    result = memorization(train[:50], held_out, torch.cat([train, train[:50]]), CPU)
    assert result.memorized and result.copies.value == 1


@pytest.mark.parametrize("ties", [False, True])
def test_auc_matches_scipy(ties):
    random = np.random.default_rng(3)
    x, y = random.normal(0.4, 1.5, 37), random.normal(size=53)
    if ties:
        x, y = x.round(), y.round()
    result = mann_whitney_auc(torch.from_numpy(x), torch.from_numpy(y))
    assert result.value == pytest.approx(mannwhitneyu(x, y).statistic / (37 * 53))
    assert result.low < result.value < result.high
    assert mann_whitney_auc(torch.from_numpy(y), torch.from_numpy(x)).value == pytest.approx(1 - result.value)


def test_auc_interval_coverage_is_nominal():
    """P(X > Y) = Φ(0.5 / √2) for X ~ N(0.5, 1), Y ~ N(0, 1)."""
    truth = float(torch.distributions.Normal(0, 1).cdf(torch.tensor(0.5 / 2**0.5)))
    random = torch.Generator().manual_seed(4)
    inside = 0
    for _ in range(500):
        result = mann_whitney_auc(torch.randn(60, generator=random) + 0.5, torch.randn(90, generator=random))
        inside += result.low <= truth <= result.high
    assert 0.92 <= inside / 500 <= 0.98
