"""Directories of images made by Pillow."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ganlab.data import ImageFolder
from ganlab.utils.image_folders import count_classes


def make(root, **changes):
    facts = {"channels": 3, "size": 8, "num_classes": 0, "test_fraction": 0.1, "batch_size": 2, "data_dir": "data"}
    return ImageFolder(root=None if root is None else str(root), **{**facts, **changes})


def loaded(root, **changes):
    data = make(root, **changes)
    data.prepare_data()
    data.setup()
    return data


def everything(data):
    splits = data.train, data.val, data.test
    return torch.cat([split.x for split in splits]), torch.cat([split.y for split in splits])


def save(path, color=(10, 20, 30), size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


@pytest.fixture
def zoo(tmp_path):
    """Three classes of 4, 5 and 6 images whose red value is the label and green value the number."""
    root = tmp_path / "zoo"
    for label, (name, n) in enumerate([("ant", 4), ("bee", 5), ("cat", 6)]):
        for i in range(n):
            save(root / name / f"{i}.png", (label, i, 99))
    save(root / ".cache" / "thumb.png")
    (root / "notes.txt").write_text("no image")
    return root


def test_subdirectories_are_classes_in_alphabetical_order(zoo):
    data = loaded(zoo, num_classes=3)
    x, y = everything(data)
    assert data.classes == ("ant", "bee", "cat") and x.shape == (15, 3, 8, 8) and x.dtype == torch.uint8
    assert torch.equal(x[:, 0, 0, 0].long(), y) and y.bincount().tolist() == [4, 5, 6]
    assert (x[:, 2] == 99).all()
    for split in (data.val, data.test):  # 1.5 images, but every class has one
        assert split.y.tolist() == [0, 1, 2] and split.x.shape == (3, 3, 8, 8)


def test_images_are_unlabeled_with_0_classes(zoo):
    data = loaded(zoo)
    x, y = everything(data)
    assert len(x) == 15 and y.dtype == torch.int64 and not y.any() and data.classes == () and data.num_classes == 0


def test_split_is_fixed_and_has_the_test_fraction(zoo):
    first = loaded(zoo, num_classes=3, test_fraction=0.4, val_fraction=0.2)
    torch.manual_seed(7)
    second = loaded(zoo, num_classes=3, test_fraction=0.4, val_fraction=0.2)
    assert [len(split.x) for split in (first.train, first.val, first.test)] == [
        6,
        3,
        6,
    ] and first.fingerprint == second.fingerprint
    assert torch.equal(first.test.x, second.test.x)
    rows = {tuple(row) for row in everything(first)[0].flatten(1).tolist()}
    assert len(rows) == 15  # no image in both


@pytest.mark.parametrize("channels, color", [(1, [76]), (2, [76, 255]), (3, [255, 0, 0]), (4, [255, 0, 0, 255])])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_any_mode_converts_to_any_channels(tmp_path, mode, channels, color):
    for name in "abc":
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (9, 8), (255, 0, 0)).convert(mode).save(path)
    x, _ = everything(loaded(tmp_path, channels=channels))
    assert x.shape == (3, channels, 8, 8) and x[:, :, 3, 5].tolist() == [color] * 3  # 76 = 0.299 · 255


@pytest.mark.parametrize("mode, gray", [("L", 77), ("1", 255), ("LA", 77)])
def test_gray_images_convert_to_rgb(tmp_path, mode, gray):
    for name in "abc":
        save(tmp_path / f"{name}.png", {"L": 77, "1": 1, "LA": (77, 128)}[mode], mode=mode)
    x, _ = everything(loaded(tmp_path))
    assert (x == gray).all()


@pytest.mark.parametrize("width, height", [(40, 8), (8, 40), (80, 16), (16, 48), (20, 4)])
def test_resize_and_center_crop_match_torchvision(tmp_path, width, height):
    for name in "abc":
        Image.effect_noise((width, height), 80).save(tmp_path / f"{name}.png")
    x, _ = everything(loaded(tmp_path, channels=1))
    torchvisions = transforms.Compose(
        [transforms.Resize(8, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(8), transforms.PILToTensor()]
    )
    expected = [torchvisions(Image.open(tmp_path / f"{name}.png")).int() for name in "abc"]
    for image in expected:
        assert min((other - image).abs().max() for other in x.int()) <= 1


def test_downscaling_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 200  # finer than the result can show: mean 100, in the upper half only
    stripes[32:] = 0
    for name in "abc":
        Image.fromarray(stripes).save(tmp_path / f"{name}.png")
    x, _ = everything(loaded(tmp_path, channels=1))
    assert (x[:, 0, :3].int() - 100).abs().max() <= 10 and (x[:, 0, 5:] <= 10).all()


def test_exif_rotation_is_applied(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255  # stored white on the right; orientation 6 = turn by 90° clockwise: white below
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "abc":
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", exif=exif, quality=100)
    x, _ = everything(loaded(tmp_path))
    assert (x[:, :, 0] < 20).all() and (x[:, :, -1] > 235).all()


def test_images_at_any_depth_with_any_suffix_case(tmp_path):
    save(tmp_path / "a.PNG")
    save(tmp_path / "deep" / "er" / "b.JpEg")
    save(tmp_path / "c.webp")
    save(tmp_path / "._c.webp")  # a Mac's shadow of c.webp
    assert len(everything(loaded(tmp_path))[0]) == 3


def test_three_images_are_split_into_one_each(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png")
    for fraction in (0.01, 0.49):
        data = loaded(tmp_path, test_fraction=fraction, val_fraction=fraction)
        assert len(data.train.x) == len(data.val.x) == len(data.test.x) == 1


def test_root_must_be_an_existing_directory(tmp_path):
    with pytest.raises(ValueError, match="data.root is not set: type data.root="):
        loaded(None)
    with pytest.raises(FileNotFoundError, match="data.root=.*/nowhere is not a directory"):
        loaded(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="data.root=.*/file is not a directory"):
        loaded(tmp_path / "file")


@pytest.mark.parametrize("n", [0, 1, 2])
def test_directory_without_images_is_rejected(tmp_path, n):
    for i in range(n):
        save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match=rf"data.root=.* holds {n} image\(s\).*\.jpg"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
def test_broken_image_is_named(zoo, content):
    broken = zoo / "bee" / "broken.png"
    if content == "truncated":
        Image.effect_noise((64, 64), 50).save(broken)
        content = broken.read_bytes()[:1000]
    broken.write_bytes(content)
    with pytest.raises(OSError, match="bee/broken.png cannot be read as an 8-bit image.*remove it"):
        loaded(zoo, num_classes=3)


def test_16_bit_images_are_rejected(zoo):
    Image.fromarray(np.full((8, 8), 4096, np.uint16)).save(zoo / "bee" / "deep.png")
    with pytest.raises(OSError, match="bee/deep.png.*more than 8 bits"):
        loaded(zoo)


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_num_classes_must_be_the_number_of_subdirectories(zoo, num_classes):
    with pytest.raises(ValueError, match=f"num_classes is {num_classes} .* 3 subdirectories: type data.num_classes=3"):
        loaded(zoo, num_classes=num_classes)


def test_class_without_images_is_named(zoo):
    (zoo / "dog").mkdir()
    with pytest.raises(FileNotFoundError, match="dog holds no image"):
        loaded(zoo, num_classes=4)


def test_count_classes(zoo, tmp_path):
    assert count_classes(str(zoo)) == 3
    assert count_classes(str(zoo / "bee")) == count_classes(str(zoo / "nowhere")) == count_classes(None) == 0
    (tmp_path / "parent" / "only").mkdir(parents=True)
    assert count_classes(str(tmp_path / "parent")) == 0  # a single subdirectory says nothing about classes
    save(zoo / "loose.png")
    assert count_classes(str(zoo)) == 0  # loose.png has no class


def test_conditional_gan_trains_on_class_directories(cli, zoo):
    words = ["loss=cgan", "data=folder", f"data.root={zoo}", "data.size=8", "data.batch_size=4", "networks.width=4"]
    words += ["metrics=none", "max_images=16", "eval_every=16", "trainer=cpu", "logger=csv", "hydra.run.dir=run"]
    assert cli(*words)[0] == 0
    with open("run/config.yaml") as file:
        assert "num_classes: 3" in file.read()
    with open("run/metrics.csv") as file:
        assert list(csv.DictReader(file))


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, float("nan"), "0.1", True])
def test_test_fraction_is_validated(tmp_path, fraction):
    with pytest.raises(ValueError, match="data.test_fraction must be a number above 0 and below 1, got"):
        make(tmp_path, test_fraction=fraction)


def test_channels_are_validated(tmp_path):
    with pytest.raises(ValueError, match="data.channels must be an integer in 1 … 4, got 5"):
        make(tmp_path, channels=5)
