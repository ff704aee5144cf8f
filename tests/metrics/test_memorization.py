import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_digits

from ganlab.metrics.memorization import auc, memorization

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


def test_fresh_real_images_are_no_copies(digits):
    train, held_out, fresh = digits
    found = memorization(fresh, held_out, train, CPU)
    assert not found.memorized
    assert found.auc.low < 0.5 < found.auc.high
    assert found.copies.value < 0.02 and found.copies_of_real.value < 0.02


def test_a_memorizer_is_caught(digits):
    train, held_out, _ = digits
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(2))[:300]
    found = memorization(train[chosen], held_out, train, CPU)
    assert found.memorized and found.copies.value == 1 and found.copied.all()
    assert found.auc.value == 0 and found.auc.high < 0.05
    assert torch.equal(found.place, chosen) and (found.distance == 0).all()
    assert found.copies_of_real.value < 0.02  # would be 1 with the two sides swapped


@pytest.mark.parametrize("strength", [5, 15])
def test_copies_under_noise_are_caught(digits, strength):
    train, held_out, _ = digits
    found = memorization(noisy(train[:300], strength), held_out, train, CPU)
    assert found.memorized and found.copies.value > 0.8 and found.auc.high < 0.2


def test_a_tenth_of_copies_is_caught_and_found(digits):
    train, held_out, fresh = digits
    samples = torch.cat([train[:30], fresh[30:]])
    found = memorization(samples, held_out, train, CPU)
    assert found.memorized and found.copied[:30].all() and found.copied[30:].double().mean() < 0.02


def test_smooth_samples_close_to_the_data_are_no_copies(digits):
    """Blends of real images lie closer to the training data than real images do: a low AUC alone says nothing."""
    train, held_out, fresh = digits
    near = torch.cdist(fresh.double().flatten(1), train.double().flatten(1)).topk(12, largest=False).indices
    blends = train[near].double().mean(1).round().byte()
    found = memorization(blends, held_out, train, CPU)
    assert found.auc.high < 0.3 and not found.memorized


def test_on_points_exact_copies_are_caught_and_fresh_ones_are_not():
    random = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.randn(n, 2, generator=random) for n in (2000, 400, 400))
    honest, copier = (memorization(samples, held_out, train, CPU) for samples in (fresh, train[:400]))
    assert not honest.memorized and 0.1 < honest.copies_of_real.value < 0.4  # the plane is crowded
    assert copier.memorized and copier.copies.value == 1


def test_false_alarms_are_rare():
    random = torch.Generator().manual_seed(1)
    alarms = 0
    for _ in range(60):
        train, held_out, fresh = (torch.randn(n, 3, generator=random) for n in (300, 100, 100))
        alarms += memorization(fresh, held_out, train, CPU).memorized
    assert alarms <= 2


def test_training_images_that_occur_twice_hide_no_copy(digits):
    train, held_out, _ = digits
    found = memorization(train[:50], held_out, torch.cat([train, train[:50]]), CPU)
    assert found.memorized and found.copies.value == 1


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_the_mann_whitney_statistic(ties):
    random = np.random.default_rng(3)
    x, y = random.normal(0.4, 1.5, 37), random.normal(size=53)
    if ties:
        x, y = x.round(), y.round()
    found = auc(torch.from_numpy(x), torch.from_numpy(y))
    assert found.value == pytest.approx(mannwhitneyu(x, y).statistic / (37 * 53))
    assert found.low < found.value < found.high
    assert auc(torch.from_numpy(y), torch.from_numpy(x)).value == pytest.approx(1 - found.value)


def test_its_interval_covers_as_often_as_it_says():
    """P(X > Y) = Φ(0.5 / √2) for X ~ N(0.5, 1), Y ~ N(0, 1)."""
    truth = float(torch.distributions.Normal(0, 1).cdf(torch.tensor(0.5 / 2**0.5)))
    random = torch.Generator().manual_seed(4)
    inside = 0
    for _ in range(500):
        found = auc(torch.randn(60, generator=random) + 0.5, torch.randn(90, generator=random))
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 500 <= 0.98
