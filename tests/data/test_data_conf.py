"""conf/data/*.yaml: each file builds its class with the published settings."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

import ganlab.data

CONF = Path(__file__).parents[2] / "conf" / "data"
FILES = {
    "ring": ganlab.data.Ring,
    "grid": ganlab.data.Grid,
    "digits": ganlab.data.Digits,
    "mnist": ganlab.data.MNIST,
    "fashion_mnist": ganlab.data.FashionMNIST,
    "cifar10": ganlab.data.CIFAR10,
    "folder": ganlab.data.ImageFolder,
    "stacked_mnist": ganlab.data.StackedMNIST,
    "stacked_fashion": ganlab.data.StackedFashionMNIST,
    "stacked_digits": ganlab.data.StackedDigits,
}


def build(name, *overrides):
    facts = OmegaConf.load(CONF / f"{name}.yaml")
    facts.pop("defaults", None)  # they belong to the composed config
    config = OmegaConf.merge({"data_dir": "here", "data": facts}, OmegaConf.from_dotlist([*overrides]))
    return instantiate(config.data)


def test_every_file_is_listed():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(FILES)


@pytest.mark.parametrize("name, cls", FILES.items())
def test_file_builds_its_class(name, cls):
    data = build(name)
    assert type(data) is cls and len(data.shape) in (1, 3)
    if isinstance(data, ganlab.data.Images):
        assert data.data_dir == Path("here")


def test_published_settings():
    ring, grid = build("ring"), build("grid")
    assert (ring.num_classes, ring.std, grid.num_classes, grid.std) == (8, 0.01, 25, 0.05)
    assert (ring.train_size, ring.test_size) == (grid.train_size, grid.test_size) == (50_000, 25_000)
    assert ring.val_size == grid.val_size == 25_000 and build("stacked_mnist").val_size == 26_000
    sizes = {"digits": 360, "mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5_000}
    assert {name: build(name).val_size for name in sizes} == sizes
    assert build("digits").shape == (1, 8, 8) and build("cifar10").shape == (3, 32, 32)


def test_num_classes_sets_the_number_of_modes():
    assert build("ring", "data.num_classes=12").centers.shape == (12, 2)
    assert build("grid", "data.num_classes=9").centers.shape == (9, 2)


@pytest.mark.parametrize("name", FILES)
def test_batch_size_0_is_rejected(name):
    with pytest.raises(Exception, match="data.batch_size must be an integer of at least 1, got 0"):
        build(name, "data.batch_size=0")
