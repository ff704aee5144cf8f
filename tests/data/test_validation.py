"""Own data: the range of values, labels, classes, and samples that look like a mistake."""

import re
import warnings

import numpy as np
import pytest
import torch

from ganlab.data import Digits, Split, StackedDigits, TensorData

DIGITS = {"channels": 1, "size": 8, "num_classes": 10, "batch_size": 60, "data_dir": "data"}


class Own(TensorData):
    """Splits as given: (train, test) or (train, val, test)."""

    def __init__(self, *splits, **changes):
        super().__init__(**{"shape": (1, 4, 4), "num_classes": 0, "batch_size": 2} | changes)
        self.splits = splits

    def load(self):
        return self.splits


def images(n=12, low=0.0, high=255.0, dtype=torch.uint8, seed=0, y=None):
    """Noise that reaches low and high."""
    x = low + (high - low) * torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = low, high
    return Split(x.round().to(dtype) if dtype == torch.uint8 else x.to(dtype), torch.zeros(n).long() if y is None else y)


def both(**changes):
    return images(**changes), images(seed=1, **changes)


def set_up(*splits, **changes):
    data = Own(*splits, **changes)
    data.setup("fit")
    return data


def caught(*splits, **changes):
    """Messages of the warnings of `set_up`."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        set_up(*splits, **changes)
    return [str(message.message) for message in messages]


# range of values


class FloatDigits(Digits):
    """The digits as floats between `value_range`."""

    def __init__(self, dtype=torch.float32, **changes):
        super().__init__(**DIGITS | changes)
        self.dtype = dtype

    def load(self):
        low, high = self.value_range
        splits = super().load()
        return tuple(Split((x.double() / 255 * (high - low) + low).to(self.dtype), y) for x, y in splits)


@pytest.mark.parametrize(
    "value_range, dtype",
    [
        ((-1, 1), torch.float32),
        ([0, 1], torch.float32),
        ((0, 255), torch.float32),
        ((0, 16), torch.float64),
        ((0, 1), torch.float16),
    ],
)
def test_floats_of_a_declared_range_are_the_same_data(value_range, dtype):
    expected, data = Digits(**DIGITS), FloatDigits(dtype, value_range=value_range)
    expected.setup()
    data.setup()
    for name in ("train", "val", "test"):
        assert all(map(torch.equal, getattr(data, name), getattr(expected, name)))
    assert data.fingerprint == expected.fingerprint and data.train.x.dtype == torch.uint8


OWN_DIGITS = """
import torch
from ganlab.data import Digits, Split

class Floats(Digits):
    def __init__(self, **settings):
        super().__init__(value_range=(-1, 1), **settings)
    def load(self):
        return tuple(Split(x.float() / 127.5 - 1, y) for x, y in super().load())
"""


def test_float_images_train_and_score_as_uint8(cli, tmp_path):
    """All of metrics.csv but the times is the same, Fréchet distances and probes included."""
    (tmp_path / "own.py").write_text(OWN_DIGITS)
    words = ["data=digits", "loss=ns", "networks.width=4", "metrics.samples=100", "max_images=120", "eval_every=60"]
    words += ["trainer=cpu", "logger=csv"]
    assert cli(*words, "hydra.run.dir=a")[0] == 0
    code, out = cli(*words, "data._target_=own.Floats", "hydra.run.dir=b")
    assert code == 0, out
    a, b = (np.genfromtxt(f"{run}/metrics.csv", delimiter=",", names=True) for run in "ab")
    names = [name for name in a.dtype.names if "second" not in name]
    scores = [name for name in names if name.startswith("qualityfrechet")]
    assert scores and np.isfinite(a[scores[0]]).any() and a.dtype.names == b.dtype.names
    for name in names:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(
    "low, high, usual",
    [(-1, 1, r"\\(-1, 1\\)"), (0, 1, r"\\(0, 1\\)"), (0, 250, r"\\(0, 255\\)"), (-0.5, 0.25, r"\\(-1, 1\\)")],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_float_images_without_a_range_are_refused(low, high, usual, dtype):
    message = f"{dtype} images with values from {low} to {high}: return uint8 images of 0 … 255, or .*value_range={usual}$"
    with pytest.raises(ValueError, match=message.replace("\\\\", "\\")):
        set_up(*both(low=low, high=high, dtype=dtype))


@pytest.mark.parametrize("low, high, inside", [(-1, 1.1, False), (-1.1, 1, False), (-1.003, 1.003, True)])
def test_values_outside_the_range_are_refused(low, high, inside):
    splits = both(low=low, high=high, dtype=torch.float32)
    if inside:  # by less than half a gray level
        data = set_up(*splits, value_range=(-1, 1))
        x = torch.cat([data.train.x, data.val.x])
        assert x.min() == 0 and x.max() == 255
        return
    with pytest.raises(ValueError, match=rf"values from {low} to {high}, outside value_range=\(-1, 1\): correct one"):
        set_up(*splits, value_range=(-1, 1))


@pytest.mark.parametrize(
    "value_range", [(1, -1), (0, 0), (0,), (0, 1, 2), (0, float("nan")), (0, float("inf")), "ab", (None, 1)]
)
def test_value_range_is_validated(value_range):
    with pytest.raises(ValueError, match=r"value_range must be two numbers \(low, high\), low < high"):
        Own(value_range=value_range)


def test_value_range_of_points_is_refused():
    with pytest.raises(ValueError, match=r"value_range is for images .*got the shape \(2,\): leave it out"):
        Own(shape=(2,), value_range=(-1, 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_samples_that_are_not_finite_are_named(bad, shape):
    x = torch.rand(12, *shape)
    x[7].view(-1)[1] = bad
    good = Split(torch.rand(12, *shape), torch.zeros(12).long())
    settings = {"shape": shape} | ({"value_range": (0, 1)} if len(shape) == 3 else {})
    for splits in ((Split(x, good.y), good), (good, Split(x, good.y))):
        with pytest.raises(ValueError, match="nan or inf, first in sample 7"):
            set_up(*splits, **settings)


@pytest.mark.parametrize("value_range", [None, (0, 255)])
def test_masks_of_0_and_1_are_refused_and_can_be_declared(value_range):
    splits = both(high=1)
    with pytest.raises(ValueError, match=r"gray values of 0 and 1 only, .*black on black: multiply .*value_range=\(0, 1\)"):
        set_up(*splits, value_range=value_range)
    assert set_up(*splits, value_range=(0, 1)).train.x.unique().tolist() == [0, 255]
    with pytest.raises(ValueError, match="gray values of 0 and 1 only"):  # scaled in one split, forgotten in the other
        set_up(images(), splits[1], value_range=value_range)


@pytest.mark.parametrize(
    "splits, settings, words",
    [
        (both(), {}, []),
        (both(high=16), {}, ["from 0 to 16 of 0 … 255; unless that is meant, scale them"]),
        (both(low=200), {}, ["from 200 to 255"]),
        (both(low=0, high=1, dtype=torch.float32), {"value_range": (-1, 1)}, ["from 128 to 255"]),
        ((images(), images()), {}, ["10 of 12 test images are training images too"]),  # the other two are the validation split
        ((images(), images(seed=2), images(seed=1)), {}, []),
        ((images(), images(), images(seed=1)), {}, ["12 of 12 validation images"]),
    ],
)
def test_suspicious_images_raise_a_warning(splits, settings, words):
    messages = caught(*splits, **settings)
    assert len(messages) == len(words) and all(word in message for word, message in zip(words, messages))


@pytest.mark.parametrize("scale, word", [(1, None), (1e4, "root mean square of 1"), (1e-4, "root mean square of 0.0001")])
def test_points_far_from_scale_1_raise_a_warning(scale, word):
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * scale
    split = Split(x, torch.zeros(500).long())
    messages = caught(split, split, shape=(2,))
    assert [bool(word) for _ in messages] == [True] * bool(word) and all(word in message for message in messages)


# labels and classes


@pytest.mark.parametrize(
    "labels, num_classes, message",
    [
        ([1, 2, 3], 3, "labels are 1 … 3 but must be 0 … 2: subtract 1 from them"),
        ([1, 2, 3], 4, "class 0 has 0 training, 0 validation and 0 test samples.*subtract 1 from yours"),
        ([0, 1, 5], 3, "data.num_classes is 3 but labels reach 5: type data.num_classes=6"),
        ([0, 1, 2], 0, "data.num_classes is 0 but labels reach 2: type data.num_classes=3"),
        ([0, 1, 2], 4, "class 3 has 0 training, 0 validation and 0 test samples, but needs one in each: add samples of it"),
        ([0, 2, 4], 5, r"class 1 has 0 training, .* in each \(1 more of 5 classes are missing in a split\)"),
        ([0, 1, -1], 3, "returned the label -1: labels are 0 … num_classes - 1"),
    ],
)
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_labels_must_be_those_of_the_classes(labels, num_classes, message, shape):
    y = torch.tensor(labels).repeat(4)
    x = torch.randn(12, 2) if shape == (2,) else images().x
    with pytest.raises(ValueError, match=message):
        set_up(Split(x, y), Split(x, y), num_classes=num_classes, shape=shape)


@pytest.mark.parametrize("split", [0, 1, 2])
def test_class_must_be_in_every_split(split):
    labels = [torch.arange(12) % 3 for _ in range(3)]
    labels[split] = labels[split] % 2
    splits = [images(seed=seed, y=y) for seed, y in enumerate(labels)]
    counts = [4, 4, 4]
    counts[split] = 0
    with pytest.raises(ValueError, match="class 2 has {} training, {} validation and {} test samples".format(*counts)):
        set_up(*splits, num_classes=3)


def test_modes_of_stacks_may_be_missing():
    """A thousand modes in 20 stacks: what is counted is which of them a generator finds."""
    data = StackedDigits(**DIGITS | {"channels": 3, "num_classes": 1000}, train_size=60, test_size=20, data_seed=0)
    data.setup()
    assert len(data.train.y.unique()) <= 60


# shapes and splits


@pytest.mark.parametrize(
    "x, message",
    [
        (images().x.squeeze(1), r"shape \(4, 4\), not \(1, 4, 4\): add a channel axis with x.unsqueeze\(1\)"),
        (images().x.permute(0, 2, 3, 1), r"shape \(4, 4, 1\), not \(1, 4, 4\): use x.movedim\(-1, 1\)"),
        (images().x[..., :3], r"shape \(1, 4, 3\), not \(1, 4, 4\)$"),
    ],
)
def test_shape_must_be_the_configured_one(x, message):
    with pytest.raises(ValueError, match=message):
        set_up(Split(x, torch.zeros(12).long()), images())


@pytest.mark.parametrize("got, hint", [((8, 8), ""), ((8, 8, 3), ": use x.movedim(-1, 1)"), ((1, 8, 8), "")])
def test_hints_give_the_configured_shape(got, hint):
    split = Split(torch.zeros(6, *got, dtype=torch.uint8), torch.zeros(6).long())
    with pytest.raises(ValueError, match=re.escape(f"shape {got}, not (3, 8, 8){hint}") + "$"):
        set_up(split, split, shape=(3, 8, 8))


def test_hint_for_signals_whose_channels_are_last():
    x = torch.randn(6, 64, 2)
    with pytest.raises(ValueError, match=r"use x.movedim\(-1, 1\)$"):
        set_up(Split(x, torch.zeros(6).long()), Split(x, torch.zeros(6).long()), shape=(2, 64))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_empty_split_is_refused(empty):
    splits = [images(seed=seed) for seed in range(3)]
    splits[empty] = Split(*(part[:0] for part in splits[empty]))
    with pytest.raises(ValueError, match="Own.load.. returned an empty split"):
        set_up(*splits)


@pytest.mark.parametrize("returned", [(), (images(),), images(), [images(), images()], (images(),) * 4])
def test_load_must_return_two_or_three_splits(returned):
    data = Own()
    data.load = lambda: returned
    with pytest.raises(ValueError, match=r"must return \(train, test\) or \(train, val, test\), got"):
        data.setup()


def test_images_that_are_not_contiguous_are_the_same_data():
    x, y = images()
    flipped = x.flip(3).contiguous().flip(3).permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    assert not flipped.is_contiguous()
    first, second = (set_up(Split(part, y), images(seed=1)) for part in (x, flipped))
    assert first.fingerprint == second.fingerprint
    torch.manual_seed(0)
    batch, _ = next(iter(first.batches()))
    torch.manual_seed(0)
    assert torch.equal(batch, next(iter(second.batches()))[0])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[:, 0], r"shape \(8, 8\), not \(1, 8, 8\): add a channel axis"),
        (lambda x: x.permute(0, 2, 3, 1), r"shape \(8, 8, 1\), not \(1, 8, 8\): use x.movedim"),
        (lambda x: x[..., :6], r"shape \(1, 8, 6\), not \(1, 8, 8\)$"),
        (lambda x: x[..., :6, :6], "the images are 1x6x6, not 1x8x8: type data.channels=1 data.size=6"),
    ],
)
def test_a_setting_is_suggested_only_where_it_helps(change, message):
    class Changed(Digits):
        def load(self):
            return tuple(Split(change(x), y) for x, y in super().load())

    with pytest.raises(ValueError, match=message):
        Changed(**DIGITS).setup()


def test_images_need_no_class_names():
    """A subclass of Images that names no classes is told the number of its labels, not of its names."""

    class Nameless(Digits):
        classes = ()

    data = Nameless(**DIGITS)
    data.setup()
    assert data.train.y.unique().tolist() == [*range(10)]
    with pytest.raises(ValueError, match="num_classes is 7 but labels reach 9: type data.num_classes=10"):
        Nameless(**DIGITS | {"num_classes": 7}).setup()
