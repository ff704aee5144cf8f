"""Stratified choices: the share of every class, against independent formulations."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedShuffleSplit

from ganlab.data import Digits, Split, TensorData
from ganlab.data.splits import class_quotas, stratified_indices, stratified_split

COUNTS = [[1], [5], [17, 17, 3], [900, 100], [3, 0, 0, 8, 1], [50, 2, 2, 2, 2], [7] * 13, [1000, 1], [0, 0, 4], [11, 23, 42]]


def labels(counts, seed=0):
    y = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).permutation(y))


def cases():
    for counts in COUNTS:
        n = sum(counts)
        for size in sorted({1, 2, n // 7, n // 2, n - 1, n} - {0}):
            if size <= n:
                yield counts, size


@pytest.mark.parametrize("counts, n", cases())
def test_quotas_are_the_largest_remainders(counts, n):
    total = sum(counts)
    exact = [Fraction(count * n, total) for count in counts]
    expected = [int(share) for share in exact]
    while sum(expected) < n:  # one at a time to the class that is furthest below its share, the first of equals
        expected[max(range(len(exact)), key=lambda k: (exact[k] - expected[k], -k))] += 1
    assert class_quotas(labels(counts), n).tolist() == expected


@pytest.mark.parametrize("counts, n", cases())
def test_indices_take_every_class_s_share_evenly_spaced(counts, n):
    y = labels(counts)
    chosen = stratified_indices(y, n)
    assert chosen.tolist() == sorted(set(chosen.tolist())) and len(chosen) == n
    quotas = class_quotas(y, n)
    assert torch.equal(torch.bincount(y[chosen], minlength=len(counts)), quotas)
    for label, (count, quota) in enumerate(zip(counts, quotas.tolist(), strict=True)):
        members = (y == label).nonzero().flatten().tolist()
        places = [members.index(i) for i in chosen.tolist() if y[i] == label]
        gaps = np.diff([-1, *places]) if places else []
        assert all(count // quota <= gap <= -(-count // quota) for gap in gaps)


@pytest.mark.parametrize("counts, size", cases())
def test_split_is_disjoint_complete_and_keeps_every_class(counts, size):
    y = labels(counts)
    rest, part = stratified_split(y, size)
    assert sorted([*rest.tolist(), *part.tolist()]) == [*range(len(y))]
    assert rest.tolist() == sorted(rest.tolist()) and part.tolist() == sorted(part.tolist())
    in_rest, in_part = Counter(y[rest].tolist()), Counter(y[part].tolist())
    for label, count in enumerate(counts):
        if count >= 2:
            share = count * size / len(y)
            assert in_rest[label] >= 1 and in_part[label] >= 1
            assert abs(in_part[label] - share) < 1 or in_part[label] in (1, count - 1)
        else:
            assert in_rest[label] == count  # a single sample is trained on
    quotas = class_quotas(y, size).tolist()
    if all(count == 0 or 1 <= share < count for share, count in zip(quotas, counts, strict=True)):
        assert torch.bincount(y[part], minlength=len(counts)).tolist() == quotas and len(part) == size


def test_split_is_random_but_always_the_same():
    y = labels([40, 60])
    first = stratified_split(y, 20)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = stratified_split(y, 20)
    assert torch.equal(torch.get_rng_state(), before) and all(map(torch.equal, first, again))
    assert first[1].tolist() != stratified_indices(y, 20).tolist()
    gaps = first[1].diff()
    assert gaps.min() <= 2 and gaps.max() >= 9, "chosen at random, not evenly"


def test_split_has_scikit_learn_s_class_counts_on_digits():
    data = Digits(channels=1, size=8, num_classes=10, batch_size=1, data_dir="data", val_size=360)
    data.setup()
    y = torch.cat([data.train.y, data.val.y])
    _, part = next(StratifiedShuffleSplit(1, test_size=360, random_state=0).split(y, y))
    difference = torch.bincount(data.val.y) - torch.bincount(y[part])
    assert difference.abs().max() <= 1 and len(data.val.y) == 360


class Two(TensorData):
    """A training and a test split; 30 points of class 0, 10 of class 1."""

    def load(self):
        x, y = torch.arange(80.0).view(40, 2), (torch.arange(40) % 4 == 3).long()
        return Split(x, y), Split(x[:4], y[:4])


@pytest.mark.parametrize("val_size, counts", [(None, [3, 1]), (12, [9, 3]), (20, [15, 5])])
def test_validation_split_is_taken_from_the_training_data(val_size, counts):
    data = Two(shape=(2,), num_classes=2, batch_size=2, val_size=val_size)
    data.setup()
    assert torch.bincount(data.val.y).tolist() == counts and len(data.test.x) == 4
    rows = torch.cat([data.train.x, data.val.x])
    assert torch.equal(rows[rows[:, 0].argsort()], torch.arange(80.0).view(40, 2))
    assert ((data.train.x[:, 0] % 8 == 6) == (data.train.y == 1)).all()  # x and y stay together


@pytest.mark.parametrize("val_size", [40, 41])
def test_validation_split_must_leave_training_data(val_size):
    data = Two(shape=(2,), num_classes=2, batch_size=2, val_size=val_size)
    with pytest.raises(ValueError, match=f"data.val_size is {val_size} of 40 training samples, which leaves none to train on"):
        data.setup()


@pytest.mark.parametrize("val_size", [0, -1, 2.5, True, "8"])
def test_val_size_is_validated(val_size):
    with pytest.raises(ValueError, match="data.val_size must be an integer of at least 1, got"):
        Two(shape=(2,), num_classes=2, batch_size=2, val_size=val_size)


GUARDED = """
import traceback
from pathlib import Path

from ganlab.data import Digits, Ring, StackedDigits

class Guard:
    def setup(self, stage=None):
        super().setup(stage)
        self.is_set_up = True

    @property
    def test(self):
        if getattr(self, "is_set_up", False):
            Path("touched").write_text("".join(traceback.format_stack()))
            raise RuntimeError("the test split was touched")
        return self.guarded

    @test.setter
    def test(self, split):
        self.guarded = split

class GuardedDigits(Guard, Digits): ...
class GuardedRing(Guard, Ring): ...
class GuardedStacks(Guard, StackedDigits): ...
"""


@pytest.mark.parametrize(
    "words",
    [
        [
            "data=digits",
            "data._target_=guarded.GuardedDigits",
            "loss=cgan",
            "networks.width=4",
            "monitor=[verdicts,counterfactual]",
        ],
        ["data=ring", "data._target_=guarded.GuardedRing", "loss=ns", "networks.hidden=[8,8]", "data.test_size=200", "seeds=2"],
        ["data=stacked_digits", "data._target_=guarded.GuardedStacks", "loss=ns", "networks.width=4", "data.test_size=100"],
    ],
    ids=["digits", "ring", "stacks"],
)
def test_training_never_touches_the_test_split(cli, tmp_path, words):
    """Metrics, best.ckpt, verdicts and pictures included."""
    (tmp_path / "guarded.py").write_text(GUARDED)
    sizes = ["metrics.samples=100", "data.batch_size=60", "max_images=480", "eval_every=240", "trainer=cpu", "logger=csv"]
    code, out = cli(*words, *sizes, "hydra.run.dir=run")
    assert not (tmp_path / "touched").exists(), (tmp_path / "touched").read_text()
    assert code == 0 and (tmp_path / "run" / "samples.png").exists(), out
    assert "quality/" in (tmp_path / "run" / "metrics.csv").read_text()
