"""Stacked images: images and labels of a stack, and that lazy stacks act like a tensor."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import chisquare

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.data import Batches, Digits, FashionMNIST, Images, Split, Stacked, StackedDigits, StackedFashionMNIST
from ganlab.data.batches import EnsembleBatches
from ganlab.data.stacked import LazyStacks, mode_number

FACTS = {"channels": 3, "size": 2, "num_classes": 64, "batch_size": 4, "data_dir": "data"}
SIZES = {"train_size": 50, "test_size": 20, "data_seed": 0}


class Numbered(Images):
    """Image i of 13 is all i (train), of 5 all 50 + i (val), or of 7 all 100 + i (test); 4 classes, unsymmetric."""

    classes = ("a", "b", "c", "d")

    def load(self):
        def split(n, start):
            values = torch.arange(start, start + n)
            return Split(values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), values**2 % 11 % 4)

        return split(13, 0), split(5, 50), split(7, 100)


class StackedNumbers(Stacked):
    base_class = Numbered


def stacked(cls=StackedNumbers, **changes):
    data = cls(**FACTS | SIZES | changes)
    data.prepare_data()
    data.setup()
    return data


def dense(split):
    return Split(split.x[:], split.y)


def test_mode_numbers_are_digits_of_a_number():
    assert mode_number(torch.tensor([[0, 0, 7], [1, 2, 3], [9, 9, 9], [4, 0, 0]]), 10).tolist() == [7, 123, 999, 400]
    assert mode_number(torch.tensor([[3, 1, 2]]), 5).tolist() == [3 * 25 + 5 + 2]
    assert mode_number(torch.tensor([[9, 8, 7, 6]]), 10).tolist() == [9876]


@pytest.mark.parametrize("channels, modes", [(1, 4), (3, 64), (4, 256)])
def test_stacks_hold_base_images_and_their_label_the_classes(channels, modes):
    data = stacked(channels=channels, num_classes=modes)
    assert data.shape == (channels, 2, 2) and len(data.classes) == modes
    for split, n, low, high in ((data.train, 50, 0, 13), (data.val, 20, 50, 55), (data.test, 20, 100, 107)):
        x = split.x[:]
        assert x.shape == split.x.shape == (n, channels, 2, 2) and x.dtype == split.x.dtype == torch.uint8
        assert split.y.dtype == torch.int64 and split.y.shape == (n,)
        for image, label in zip(x.tolist(), split.y.tolist(), strict=True):
            values = [channel[0][0] for channel in image]
            assert image == [[[v, v], [v, v]] for v in values] and all(low <= v < high for v in values)
            letters = ["abcd"[v * v % 11 % 4] for v in values]
            assert data.classes[label] == "-".join(letters)
            assert label == int("".join(str("abcd".index(letter)) for letter in letters), 4)


def test_images_are_drawn_uniformly_and_independently():
    indices = stacked(train_size=100_000).train.x.indices.numpy()
    assert indices.shape == (100_000, 3)
    for channel in indices.T:
        assert chisquare(np.bincount(channel, minlength=13)).pvalue > 1e-3
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert chisquare(np.bincount(indices[:, a] * 13 + indices[:, b], minlength=169)).pvalue > 1e-3


def test_stacks_follow_from_the_data_seed_alone():
    state = torch.get_rng_state()
    first = stacked()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    again, other = stacked(), stacked(data_seed=1)
    assert torch.equal(first.train.x[:], again.train.x[:]) and torch.equal(first.test.y, again.test.y)
    assert not torch.equal(first.train.x[:], other.train.x[:])


def test_lazy_stacks_index_like_a_tensor():
    split = stacked().train
    x, lazy = split.x[:], split.x
    assert len(lazy) == 50 and lazy.shape == x.shape
    rows = torch.tensor([[3, 0, 49], [7, 7, 1]])
    for index in (5, -1, slice(4, 30, 3), [2, 40], rows[0], rows, x[:, 0, 0, 0] > 6):
        assert torch.equal(lazy[index], x[index])
    assert torch.equal(lazy.index_select(0, rows[1]), x.index_select(0, rows[1]))
    for a, b in zip(lazy.split(15), x.split(15), strict=True):
        assert torch.equal(a, b)


def test_base_images_are_stored_once():
    data = stacked(train_size=5000)
    assert isinstance(data.train.x, LazyStacks) and data.train.x.images.data_ptr() == data.base.train.x.data_ptr()
    assert sum(t.nbytes for t in vars(data.train.x).values() if isinstance(t, torch.Tensor)) < 5000 * 3 * 8 + 100


@pytest.mark.parametrize("rank, world_size", [(0, 1), (1, 3)])
def test_batches_equal_those_of_a_tensor(rank, world_size):
    data, passes = stacked(), []
    for split in (data.train, dense(data.train)):
        torch.manual_seed(4)
        batches = Batches(split, 4, rank, world_size)
        passes.append([batch for _ in range(2) for batch in batches])
    assert len(passes[0]) == len(passes[1]) == 2 * (50 // world_size // 4)
    for (x, y), (expected_x, expected_y) in zip(*passes, strict=True):
        assert torch.equal(x, expected_x) and torch.equal(y, expected_y) and x.is_contiguous()
    assert any(not torch.equal(a[1], b[1]) for a, b in pairwise(passes[0]))


def test_ensemble_batches_equal_those_of_a_tensor():
    data = stacked()
    passes = [[*EnsembleBatches(split, 6, seeds=[3, 8])] for split in (data.train, dense(data.train))]
    assert len(passes[0]) == len(passes[1]) == 8 and passes[0][0][0].shape == (2, 6, 3, 2, 2)
    for (x, y), (expected_x, expected_y) in zip(*passes, strict=True):
        assert torch.equal(x, expected_x) and torch.equal(y, expected_y)


def test_stacks_become_floats_after_transfer():
    data = stacked()
    x, y = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert x.dtype == torch.float32 and x.shape == (4, 3, 2, 2) and y.shape == (4,)
    letters = ((x[:, :, 0, 0] + 1) * 127.5).round().long() ** 2 % 11 % 4
    assert torch.equal(mode_number(letters, 4), y)


def test_fingerprint_sees_base_images_members_and_channels():
    def flipped(data):
        data.base.train.x[3, 0, 1, 1] += 1
        return data

    def relabeled(data):
        data.train.y[3] += 1
        return data

    prints = [
        data.fingerprint
        for data in (
            stacked(),
            stacked(data_seed=1),
            stacked(train_size=49),
            stacked(channels=2, num_classes=16, train_size=75),
            flipped(stacked()),
            relabeled(stacked()),
        )
    ]
    assert len(set(prints)) == len(prints) and all(len(p) == 64 and int(p, 16) for p in prints)
    assert stacked().fingerprint == prints[0] == stacked(test_size=3, batch_size=9).fingerprint


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channels": 4}, "data.num_classes is 64 but the data has 256 classes: type data.num_classes=256"),
        ({"num_classes": 4}, "type data.num_classes=64"),
        ({"size": 8}, "the images are 3x2x2, not 3x8x8: type data.channels=3 data.size=2"),
        ({"channels": 0}, "data.channels must be an integer of at least 1, got 0"),
        ({"train_size": 0}, "data.train_size must be an integer of at least 1, got 0"),
        ({"test_size": 2.5}, "data.test_size must be an integer of at least 1, got 2.5"),
        ({"data_seed": -1}, "data.data_seed must be an integer of at least 0, got -1"),
    ],
)
def test_settings_that_do_not_match_the_data_are_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        stacked(**change)


def test_stacked_digits_are_digits():
    data = stacked(StackedDigits, size=8, num_classes=1000, train_size=300)
    digits = Digits(channels=1, size=8, num_classes=10, batch_size=1, data_dir="data")
    digits.setup()
    named = {tuple(x.flatten().tolist()): int(y) for x, y in zip(digits.train.x, digits.train.y, strict=True)}
    for x, y in zip(data.train.x[:], data.train.y.tolist(), strict=True):
        assert f"{y:03d}" == "".join(str(named[tuple(channel.flatten().tolist())]) for channel in x)
    assert data.classes[123] == "1-2-3" and data.base.fingerprint == digits.fingerprint


@pytest.mark.skipif(not FashionMNIST.debian.is_dir(), reason="Fashion-MNIST is not on this machine")
def test_stacked_fashion_is_read(tmp_path):
    facts = {"size": 28, "num_classes": 1000, "data_dir": str(tmp_path)}
    data = stacked(StackedFashionMNIST, **facts)
    assert data.train.x[:].shape == (50, 3, 28, 28) and data.train.x.images.shape == (50_000, 1, 28, 28)
    assert data.val.x.images.shape == data.test.x.images.shape == (10_000, 1, 28, 28)


def test_missing_files_are_reported_by_the_base_set(monkeypatch):
    def prepare_data(self):
        raise FileNotFoundError("the base set's own sentence")

    monkeypatch.setattr(Numbered, "prepare_data", prepare_data)
    with pytest.raises(FileNotFoundError, match="own sentence"):
        stacked()


# the config


def composed(*overrides):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("config", [*overrides, "name=test", "run_dir=somewhere"])


@pytest.mark.parametrize("name, size", [("stacked_mnist", 28), ("stacked_fashion", 28), ("stacked_digits", 8)])
def test_files_choose_the_metric_and_pacgan_s_settings(name, size):
    """Facts §4: 128k stacked training images, batch 64, 26,000 samples."""
    config = composed(f"data={name}")
    data = instantiate(OmegaConf.to_container(config, resolve=True)["data"])
    assert isinstance(data, Stacked) and data.shape == (3, size, size) and data.num_classes == 1000
    assert (data.train_size, data.batch_size) == (128_000, 64)
    assert config.metrics._target_ == "ganlab.metrics.StackedQuality" and config.metrics.samples == 26_000
    assert "evaluation" in config.callbacks and composed(f"data={name}", "metrics=none").callbacks.evaluation is None


def test_10000_modes_can_be_configured():
    config = composed("+experiment=stacked", "data.channels=4", "data.num_classes=10000")
    config = OmegaConf.to_container(config, resolve=True)
    gan, data = instantiate(config["gan"], _convert_="all"), instantiate(config["data"])
    data.setup()
    assert gan.sample(2).shape[1:] == data.train.x.shape[1:] == (4, 8, 8)
    assert data.train.y.max() > 9000 and len(data.train.y.unique()) > 9000


def test_experiment_has_pacgan_s_settings():
    """Facts §4: DCGAN, Adam 2e-4 beta1 0.5, batch 64; its code: width 64, 100 latents, batch norm in D, no averaging."""
    config = composed("+experiment=stacked")
    for player in ("generator", "discriminator"):
        assert config.optimizer[player]._target_ == "torch.optim.Adam"
        assert (config.optimizer[player].lr, config.optimizer[player].betas[0]) == (2e-4, 0.5)
        assert config.networks[player]._target_.startswith("ganlab.networks.DCGAN")
        assert (config.networks.width, config.networks[player].norm) == (64, "batch")
    assert (config.networks.latent_dim, config.data.batch_size, config.gan.ema_decay) == (100, 64, 0)
    assert config.gan._target_ == "ganlab.NonSaturatingGAN" and not config.regularizer
    assert config.max_images % config.data.train_size == 0 and config.max_images < 50 * 128_000


@pytest.mark.parametrize("pack", [1, 2, 4])
def test_experiment_has_64_packs_per_batch(pack):
    """As in PacGAN's code, whose training images are packs already: batches of 64 of them, 100,000 steps for every pack."""
    config = composed("+experiment=stacked", f"gan.pack={pack}")
    assert config.data.batch_size == 64 * pack
    assert config.max_images == 10_000 * config.data.batch_size == 5 * config.eval_every
