"""Folders of images made by Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ganlab.data import ImageFolder


def make(root, **changes):
    facts = {"channels": 3, "size": 8, "num_classes": 0, "test_fraction": 0.1, "batch_size": 2, "data_dir": "data"}
    return ImageFolder(root=None if root is None else str(root), **{**facts, **changes})


def loaded(root, **changes):
    data = make(root, **changes)
    data.prepare_data()
    data.setup()
    return data


def everything(data):
    return torch.cat([data.train.x, data.test.x]), torch.cat([data.train.y, data.test.y])


def save(path, color=(10, 20, 30), size=(8, 8), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


@pytest.fixture
def zoo(tmp_path):
    """Three classes of 4, 5 and 6 images whose red value is the label and green value the number."""
    for label, (name, n) in enumerate([("ant", 4), ("bee", 5), ("cat", 6)]):
        for i in range(n):
            save(tmp_path / name / f"{i}.png", (label, i, 99))
    save(tmp_path / ".cache" / "thumb.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_subdirectories_are_classes_in_alphabetical_order(zoo):
    data = loaded(zoo, num_classes=3)
    x, y = everything(data)
    assert data.classes == ("ant", "bee", "cat") and x.shape == (15, 3, 8, 8) and x.dtype == torch.uint8
    assert torch.equal(x[:, 0, 0, 0].long(), y) and y.bincount().tolist() == [4, 5, 6]
    assert (x[:, 2] == 99).all() and len(data.test.x) == 2  # 1.5 rounded


def test_without_num_classes_the_same_images_are_unlabeled(zoo):
    data = loaded(zoo)
    x, y = everything(data)
    assert len(x) == 15 and y.dtype == torch.int64 and not y.any() and data.classes == () and data.num_classes == 0


def test_the_split_is_fixed_and_its_share_obeyed(zoo):
    first = loaded(zoo, num_classes=3, test_fraction=0.4)
    torch.manual_seed(7)
    second = loaded(zoo, num_classes=3, test_fraction=0.4)
    assert len(first.test.x) == 6 and first.fingerprint == second.fingerprint
    assert torch.equal(first.test.x, second.test.x)
    rows = {tuple(row) for row in everything(first)[0].flatten(1).tolist()}
    assert len(rows) == 15  # no image in both


@pytest.mark.parametrize("channels, color", [(1, [76]), (2, [76, 255]), (3, [255, 0, 0]), (4, [255, 0, 0, 255])])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_red_in_any_mode_to_any_channels(tmp_path, mode, channels, color):
    for name in "ab":
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (9, 8), (255, 0, 0)).convert(mode).save(path)
    x, _ = everything(loaded(tmp_path, channels=channels))
    assert x.shape == (2, channels, 8, 8) and x[:, :, 3, 5].tolist() == [color] * 2  # 76 = 0.299 · 255


@pytest.mark.parametrize("mode, gray", [("L", 77), ("1", 255), ("LA", 77)])
def test_grey_becomes_color(tmp_path, mode, gray):
    for name in "ab":
        save(tmp_path / f"{name}.png", {"L": 77, "1": 1, "LA": (77, 128)}[mode], mode=mode)
    x, _ = everything(loaded(tmp_path))
    assert (x == gray).all()


@pytest.mark.parametrize("width, height", [(40, 8), (8, 40), (80, 16), (16, 48), (20, 4)])
def test_the_shorter_side_is_resized_and_the_center_kept(tmp_path, width, height):
    for name in "ab":
        Image.effect_noise((width, height), 80).save(tmp_path / f"{name}.png")
    x, _ = everything(loaded(tmp_path, channels=1))
    torchvisions = transforms.Compose(
        [transforms.Resize(8, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(8), transforms.PILToTensor()]
    )
    expected = [torchvisions(Image.open(tmp_path / f"{name}.png")) for name in "ab"]
    first, second = sorted(x.int(), key=lambda image: (image - expected[0].int()).abs().sum())
    assert (first - expected[0].int()).abs().max() <= 1 and (second - expected[1].int()).abs().max() <= 1


def test_downscaling_is_antialiased_and_keeps_orientation(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 200  # finer than the result can show: mean 100, in the upper half only
    stripes[32:] = 0
    for name in "ab":
        Image.fromarray(stripes).save(tmp_path / f"{name}.png")
    x, _ = everything(loaded(tmp_path, channels=1))
    assert (x[:, 0, :3].int() - 100).abs().max() <= 10 and (x[:, 0, 5:] <= 10).all()


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255  # stored white on the right; orientation 6 = turn by 90° clockwise: white below
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", exif=exif, quality=100)
    x, _ = everything(loaded(tmp_path))
    assert (x[:, :, 0] < 20).all() and (x[:, :, -1] > 235).all()


def test_images_lie_at_any_depth_in_any_case(tmp_path):
    save(tmp_path / "a.PNG")
    save(tmp_path / "deep" / "er" / "b.JpEg")
    save(tmp_path / "c.webp")
    save(tmp_path / "._c.webp")  # a Mac's shadow of c.webp
    assert len(everything(loaded(tmp_path))[0]) == 3


def test_two_images_make_one_of_each_split(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.png")
    for fraction in (0.01, 0.99):
        data = loaded(tmp_path, test_fraction=fraction)
        assert len(data.train.x) == len(data.test.x) == 1


def test_root_must_be_given_and_exist(tmp_path):
    with pytest.raises(ValueError, match="data.root is not set: type data.root="):
        loaded(None)
    with pytest.raises(FileNotFoundError, match="data.root=.*/nowhere is not a folder"):
        loaded(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="data.root=.*/file is not a folder"):
        loaded(tmp_path / "file")


@pytest.mark.parametrize("n", [0, 1])
def test_an_empty_folder_is_told(tmp_path, n):
    for i in range(n):
        save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match=rf"data.root=.* holds {n} image\(s\).*\.jpg"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
def test_a_broken_image_is_named(zoo, content):
    broken = zoo / "bee" / "broken.png"
    if content == "truncated":
        Image.effect_noise((64, 64), 50).save(broken)
        content = broken.read_bytes()[:1000]
    broken.write_bytes(content)
    with pytest.raises(OSError, match="bee/broken.png cannot be read as an 8-bit image.*remove it"):
        loaded(zoo, num_classes=3)


def test_sixteen_bits_are_refused_rather_than_clipped(zoo):
    Image.fromarray(np.full((8, 8), 4096, np.uint16)).save(zoo / "bee" / "deep.png")
    with pytest.raises(OSError, match="bee/deep.png.*more than 8 bits"):
        loaded(zoo)


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_num_classes_must_be_the_number_of_subdirectories(zoo, num_classes):
    with pytest.raises(ValueError, match=f"num_classes is {num_classes} .* 3 subdirectories: type data.num_classes=3"):
        loaded(zoo, num_classes=num_classes)


def test_a_class_without_images_is_named(zoo):
    (zoo / "dog").mkdir()
    with pytest.raises(FileNotFoundError, match="dog holds no image"):
        loaded(zoo, num_classes=4)


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, float("nan"), "0.1", True])
def test_test_fraction_is_validated(tmp_path, fraction):
    with pytest.raises(ValueError, match="data.test_fraction must lie between 0 and 1, got"):
        make(tmp_path, test_fraction=fraction)


def test_channels_are_validated(tmp_path):
    with pytest.raises(ValueError, match="data.channels must be 1 to 4 for a folder of images, got 5"):
        make(tmp_path, channels=5)
