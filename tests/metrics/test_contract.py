"""Every public function of metrics gives a number or raises a sentence, whatever the samples are like."""

import ast
import math
from pathlib import Path

import pytest
import torch

import ganlab.metrics
from ganlab.data import Split
from ganlab.diagnostics import sample_statistics
from ganlab.diagnostics.held_out import k_means
from ganlab.metrics import cas, fid, histograms, kid, knn, memorization, mode_coverage, prdc, stacked, vendi
from ganlab.metrics import classifier as classifier_module
from ganlab.utils import statistics

CPU = torch.device("cpu")
CENTERS = torch.tensor([[0.0, 0.0], [3.0, 0.0]])


def normal(n, d=20, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def with_value(value):
    x = normal(60)
    x[3, 1] = value
    return x


SAMPLES = {
    "nan": with_value(math.nan),
    "inf": with_value(math.inf),
    "minus inf": with_value(-math.inf),
    "huge": normal(60).double() * 1e200,
    "constant": torch.ones(60, 20),
    "zero": torch.zeros(60, 20),
    "duplicated": normal(3).repeat(20, 1),
    "fewer than features": normal(8),
    "one": normal(1),
    "none": normal(0),
}
REFUSED = ("nan", "inf", "minus inf", "huge", "none")


def labels(x):
    return torch.arange(len(x)) % 2


def one_class(x):
    return Split(x, torch.zeros(len(x), dtype=torch.long))


GOOD = normal(60, seed=1)
SPLIT = Split(GOOD, labels(GOOD))
# of features x: what is computed, and which samples it refuses beside REFUSED
OF_FEATURES = {
    "frechet_distance": (lambda x: fid.frechet_distance(x, GOOD), ["one"]),
    "frechet_distance of the reference": (lambda x: fid.frechet_distance(GOOD, x), ["one"]),
    "frechet_infinity": (lambda x: fid.frechet_infinity(x, GOOD, 0), []),
    "frechet_infinity of few features": (lambda x: fid.frechet_infinity(x[:, :2], GOOD[:, :2], 0), []),
    "kernel_distance": (lambda x: kid.kernel_distance(x, GOOD), ["one"]),
    "kernel_distance of the reference": (lambda x: kid.kernel_distance(GOOD, x), ["one"]),
    "prdc": (lambda x: prdc.prdc(GOOD, x), ["one"]),
    "prdc of the reference": (lambda x: prdc.prdc(x, GOOD), ["one"]),
    "kth_neighbor_distances": (lambda x: knn.kth_neighbor_distances(x, (1,)), ["one"]),
    "nearest_neighbors": (lambda x: knn.nearest_neighbors(x, GOOD, CPU), []),
    "nearest_neighbors of the references": (lambda x: knn.nearest_neighbors(GOOD, x, CPU), []),
    "memorization": (lambda x: vars(memorization.memorization(x, GOOD, GOOD, CPU)), []),
    "memorization of the held-out samples": (lambda x: vars(memorization.memorization(GOOD, x, GOOD, CPU)), []),
    "memorization of the training samples": (lambda x: vars(memorization.memorization(GOOD, GOOD, x, CPU)), ["one"]),
    "vendi_score": (vendi.vendi_score, []),
    "vendi_score_of_points": (lambda x: vendi.vendi_score_of_points(x, 1.0), []),
    "nearest_mean_accuracy": (lambda x: cas.nearest_mean_accuracy(Split(x, labels(x)), SPLIT, 2), []),
    "nearest_mean_accuracy of one class": (lambda x: cas.nearest_mean_accuracy(one_class(x), SPLIT, 2), []),
    "nearest_mean_accuracy of the test split": (lambda x: cas.nearest_mean_accuracy(SPLIT, one_class(x), 2), []),
    "k_means": (lambda x: k_means(x, 3), []),
}


def numbers(result):
    """All numbers of a result, whatever its type."""
    if isinstance(result, torch.Tensor):
        return result.double().flatten().tolist()
    if isinstance(result, dict):
        return [number for value in result.values() for number in numbers(value)]
    if isinstance(result, (tuple, list)):
        return [number for value in result for number in numbers(value)]
    return [] if result is None else [float(result)]


@pytest.mark.parametrize("name", OF_FEATURES)
def test_features_give_numbers_or_a_sentence(name):
    function, refused = OF_FEATURES[name]
    for kind, x in SAMPLES.items():
        if kind in (*REFUSED, *refused):
            with pytest.raises(ValueError, match=r"needs? .*, got [^\n]*\d[^\n]*$"):
                print(name, kind, function(x))
        else:
            assert all(math.isfinite(number) for number in numbers(function(x))), kind


def test_every_public_function_has_a_contract():
    """Those that are not of features are tested below, or with the module that they belong to."""
    elsewhere = {
        "validate_features", "pairwise_distances", "iter_blocks", "flatten_samples", "format_count",
        "reference_protocol", "reference_labels", "evaluation_samples", "evenly_spaced_samples", "as_saved", "require_finite",
        "smallest_gap", "perfect_class_scores", "binomial_pmf", "target_with_off_mode", "perfect_sampler_scores",
        "to_inception_input", "load_classifier",
    }  # fmt: skip
    tested = {name.partition(" of ")[0] for name in (*OF_FEATURES, *OF_COUNTS, *OF_IMAGES)} | {"mann_whitney_auc"}
    for path in Path(ganlab.metrics.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert node.name in tested | elsewhere, f"{path.name}: {node.name}"


NONE, SOME = torch.zeros(3, dtype=torch.long), torch.tensor([3, 0, 2])
THIRDS = torch.full((3,), 1 / 3)
OF_COUNTS = {
    "kl_divergence": (histograms.kl_divergence, {"counts": NONE, "values": [math.inf]}),
    "kl_divergence of nan": (histograms.kl_divergence, {"counts": torch.tensor([1.0, math.nan]), "error": "finite counts"}),
    "kl_divergence of negative": (histograms.kl_divergence, {"counts": torch.tensor([1.0, -1.0]), "error": "at least 0"}),
    "stacked_scores": (lambda c: stacked.stacked_scores(c, THIRDS), {"counts": NONE, "values": [0, math.inf, math.inf]}),
    "stacked_scores of one mode": (
        lambda c: stacked.stacked_scores(c, THIRDS),
        {"counts": torch.tensor([0, 1, 0]), "values": [1, math.log(3), math.log(3)]},
    ),
    "mode_scores": (mode_coverage.mode_scores, {"counts": NONE, "error": "at least 1 sample, got 0"}),
    "count_modes": (
        lambda c: mode_coverage.count_modes(torch.tensor([[0.0, 0], [math.nan, 0], [math.inf, 0], [1e30, 0]]), CENTERS, 0.1),
        {"counts": None, "values": [1, 0, 3]},
    ),
    "count_modes of none": (lambda c: mode_coverage.count_modes(CENTERS[:0], CENTERS, 0.1), {"counts": 0, "values": [0, 0, 0]}),
    "expected_kl": (lambda n: histograms.expected_kl(THIRDS, n), {"counts": 0, "error": "of at least 1, got 0"}),
    "expected_kl of one": (lambda n: histograms.expected_kl(THIRDS, n), {"counts": 1, "values": [math.log(3)]}),
    "expected_coverage": (lambda n: histograms.expected_coverage(THIRDS, n), {"counts": 1, "values": [1]}),
    "quartiles": (statistics.quartiles, {"counts": [], "error": "at least one value, got none"}),
    "quartiles of one": (statistics.quartiles, {"counts": [math.inf], "values": [math.inf] * 3}),
    "mean_interval": (statistics.mean_interval, {"counts": [math.nan], "error": "no nan"}),
    "wilson_interval": (lambda n: statistics.wilson_interval(0, n), {"counts": 0, "error": "n >= 1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_COUNTS)
def test_counts_give_numbers_or_a_sentence(name):
    function, case = OF_COUNTS[name]
    if "error" in case:
        with pytest.raises(ValueError, match=case["error"]):
            function(case["counts"])
    else:
        assert numbers(function(case["counts"])) == pytest.approx(case["values"])


def images(n, value=None):
    x = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return x if value is None else torch.full_like(x, value)


OF_IMAGES = {
    "classification_accuracy_score of constant images": (images(40, 7), images(20), 1.0),
    "classification_accuracy_score of few": (images(19), images(20), "at least 20 samples, got 19"),
    "classification_accuracy_score of no test images": (images(40), images(0), "at least 1 sample, got 0"),
    "train_classifier of one": (images(1), images(20), "at least 2 samples, got 1"),
    "accuracy of none": (images(40), images(0), "at least 1 sample, got 0"),
}


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_give_numbers_or_a_sentence(name, monkeypatch):
    monkeypatch.setattr(classifier_module, "MIN_STEPS", 2)
    monkeypatch.setattr(classifier_module, "EPOCHS", 0)
    x, test, expected = OF_IMAGES[name]
    train, test = one_class(x), one_class(test)  # a class that the samples lack must not matter either

    def score():
        if name.startswith("class"):
            return cas.classification_accuracy_score(train, test, 1, CPU, 0).accuracy
        return classifier_module.accuracy(classifier_module.train_classifier(train, 1, CPU), test, CPU)

    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            score()
    else:
        assert score() == expected


def test_auc_orders_infinite_values_and_refuses_nan_and_nothing():
    inf, ones = torch.tensor([math.inf, 2.0, 2.0]), torch.ones(4)
    assert memorization.mann_whitney_auc(inf, ones).value == 1 and memorization.mann_whitney_auc(ones, inf).value == 0
    assert memorization.mann_whitney_auc(ones, ones).value == 0.5
    assert memorization.mann_whitney_auc(torch.tensor([2.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])) == (0.375, None, None)
    for x, y in ((inf[:0], ones), (ones, inf[:0]), (torch.tensor([math.nan, 1]), ones), (ones, torch.tensor([math.nan]))):
        with pytest.raises(ValueError, match="values on both sides and no nan"):
            memorization.mann_whitney_auc(x, y)


def test_statistics_of_samples_are_finite_where_the_samples_are():
    """A member of an ensemble that is nan stays nan; the others' rows do not change."""
    real = normal(10, 3).expand(3, -1, -1)
    fake = torch.stack([normal(10, 3, seed=2), torch.full((10, 3), math.nan), torch.zeros(10, 3)])
    d = {"rr": (real, real), "rf": (real, fake), "ff": (fake, fake)}
    d = {name: sample_statistics.pairwise(*pair) for name, pair in d.items()}
    rr, ff = (sample_statistics.nearest_other_distance(d[name]) for name in ("rr", "ff"))
    energy = sample_statistics.normalized_energy_distance(
        d["rf"].mean((1, 2)), sample_statistics.mean_pairwise(d["rr"]), sample_statistics.mean_pairwise(d["ff"])
    )
    assert energy.isfinite().tolist() == [True, False, True]
    assert sample_statistics.nn_accuracy(rr, d["rf"], ff).isfinite().all()
    same = torch.zeros(2)
    assert sample_statistics.normalized_energy_distance(same, same, same).tolist() == [0, 0], "the same point everywhere"
