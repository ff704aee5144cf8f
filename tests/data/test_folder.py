"""Directories of images made by Pillow."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ganlab.data import ImageFolder
from ganlab.utils.image_folders import count_classes

pytestmark = pytest.mark.filterwarnings("ignore:.*(gray values from|training images too)")


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
    assert (len(first.train.x), len(first.val.x), len(first.test.x)) == (6, 3, 6)
    assert first.fingerprint == second.fingerprint and torch.equal(first.test.x, second.test.x)
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


@pytest.mark.parametrize("mode, gray", [("L", 77), ("1", 255), ("LA", 166)])  # 77 of opacity 128/255 on white
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
    with pytest.raises(ValueError, match="class 'dog' has 0 training, 0 validation and 0 test samples.* remove its directory"):
        loaded(zoo, num_classes=4)


@pytest.mark.parametrize("n, counts", [(3, None), (2, "1 training, 0 validation and 1"), (1, "1 training, 0 validation and 0")])
def test_rare_class_is_kept_whole_or_refused_by_name(tmp_path, n, counts):
    for name, count in (("ant", 17), ("bee", 17), ("cat", n)):
        for i in range(count):
            save(tmp_path / name / f"{i}.png", (i, 200, 99))
    if counts:
        (tmp_path / "cat" / "broken.txt").write_text("no image")
        (tmp_path / "ant" / "0.png").write_bytes(b"broken, but nothing is decoded before the refusal")
        with pytest.raises(ValueError, match=f"class 'cat' has {counts} test samples.*or type data.num_classes=0"):
            loaded(tmp_path, num_classes=3)
    else:
        data = loaded(tmp_path, num_classes=3)
        assert [split.y.bincount().tolist() for split in (data.val, data.test)] == [[2, 2, 1]] * 2
        assert data.train.y.bincount().tolist() == [13, 13, 1]


def tree(root, **splits):
    """root/<split>/<class>/<i>.png, whose red value is the class and green value the number; `splits` has counts per class."""
    start = 0
    for split, counts in splits.items():
        for label, (name, n) in enumerate(counts.items()):
            for i in range(start, start + n):
                save(root / split / name / f"{i}.png", (label, i, 200))
        start += 50
    return root


ZOO = {"ant": 10, "bee": 20}


@pytest.mark.parametrize(
    "splits, sizes, origins",
    [
        ({"train": ZOO, "val": {"ant": 2, "bee": 3}, "test": {"ant": 1, "bee": 4}}, ([10, 20], [2, 3], [1, 4]), (0, 1, 2)),
        ({"training": ZOO, "Validation": {"ant": 2, "bee": 3}}, ([9, 18], [2, 3], [1, 2]), (0, 1, 0)),
        ({"train": ZOO, "test": {"ant": 2, "bee": 3}}, ([9, 18], [1, 2], [2, 3]), (0, 0, 1)),
    ],
)
def test_subdirectories_named_as_splits_are_the_splits(tmp_path, splits, sizes, origins):
    tree(tmp_path, **splits)
    assert count_classes(str(tmp_path)) == 2
    labeled, unlabeled = loaded(tmp_path, num_classes=2), loaded(tmp_path)
    assert labeled.classes == ("ant", "bee")
    for data in (labeled, unlabeled):
        for split, counts, origin in zip((data.train, data.val, data.test), sizes, origins, strict=True):
            assert (split.x[:, 1, 0, 0] // 50 == origin).all()
            assert split.y.bincount().tolist() == (counts if data is labeled else [sum(counts)])
            assert data is unlabeled or torch.equal(split.x[:, 0, 0, 0].long(), split.y)


def test_split_directories_beside_others_are_refused(tmp_path):
    tree(tmp_path, train=ZOO, test=ZOO, extra=ZOO)
    assert count_classes(str(tmp_path)) == 0  # loading says why
    with pytest.raises(ValueError, match="has the subdirectories extra, test, train: keep train, val and test"):
        loaded(tmp_path, num_classes=2)


def test_train_alone_is_a_class(tmp_path):
    tree(tmp_path, car=ZOO, train=ZOO)
    assert count_classes(str(tmp_path)) == 2 and loaded(tmp_path, num_classes=2).classes == ("car", "train")


def test_class_of_another_split_must_be_one_of_train(tmp_path):
    tree(tmp_path, train=ZOO, test={"ant": 2, "bees": 2})
    with pytest.raises(ValueError, match=r"test/bees is no class of the training images \(ant, bee\)"):
        loaded(tmp_path, num_classes=2)


def test_test_images_without_a_class_are_refused(tmp_path):
    tree(tmp_path, train=ZOO)
    save(tmp_path / "test" / "0.png")
    with pytest.raises(ValueError, match=r"1 image\(s\) lie beside the classes of .*/test \(0.png …\): move them into a class"):
        loaded(tmp_path, num_classes=2)
    assert len(loaded(tmp_path).test.x) == 1


def test_split_directory_without_images_is_refused(tmp_path):
    tree(tmp_path, train=ZOO)
    (tmp_path / "test").mkdir()
    for num_classes in (0, 2):
        with pytest.raises(ValueError, match="gives 27 / 3 / 0 images for train / val / test: put images there, or choose"):
            loaded(tmp_path, num_classes=num_classes)


def test_skipped_files_are_counted_and_named(zoo, caplog):
    (zoo / "bee" / "movie.gif").write_bytes(b"")
    with caplog.at_level("INFO"):
        loaded(zoo, num_classes=3)
    (line,) = (record.message for record in caplog.records if "skipped" in record.message)
    assert line == f"{zoo}: 15 images; 3 other file(s) skipped: .cache/thumb.png, bee/movie.gif, notes.txt"


def test_images_larger_than_the_memory_are_refused_before_decoding(zoo, monkeypatch):
    (zoo / "bee" / "0.png").write_bytes(b"broken")
    monkeypatch.setattr("ganlab.data.folder.available_memory", lambda device: 15 * 3 * 64 - 1)
    with pytest.raises(
        ValueError, match="15 images of 3x8x8 take 2,880 bytes of memory but 2,879 are free.*than 8, or use fewer"
    ):
        loaded(zoo)


def test_masks_of_0_and_1_need_their_value_range(tmp_path):
    for i in range(3):
        Image.fromarray((np.random.default_rng(i).random((8, 8)) > 0.5).astype(np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match=r"gray values of 0 and 1 only.*set value_range=\(0, 1\) \(data.value_range=\[0,1\]\)"):
        loaded(tmp_path, channels=1)
    assert everything(loaded(tmp_path, channels=1, value_range=[0, 1]))[0].unique().tolist() == [0, 255]


# transparency

ALPHA = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
COLORS = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
ALPHA[2:4], ALPHA[4:6] = 0, 255


def transparent(mode):
    """An image of the mode whose pixels of alpha 0 have colors, and its RGBA values."""
    if mode in ("RGBA", "LA"):
        return Image.fromarray(np.concatenate([COLORS if mode == "RGBA" else COLORS[..., :1], ALPHA], 2))
    image = Image.fromarray(COLORS)
    if mode == "P":
        image = image.quantize(8)
    image.info["transparency"] = 3 if mode == "P" else tuple(int(v) for v in COLORS[0, 0])
    return image


@pytest.mark.parametrize("background", [255, 0, 90])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_show_the_background(tmp_path, mode, channels, background):
    for name in "abc":
        transparent(mode).save(tmp_path / f"{name}.png")
    rgba = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    assert (alpha == 0).any() and (alpha == 1).any()
    expected = rgba[..., :3] * alpha + background * (1 - alpha)
    if channels == 1:
        expected = expected @ np.array([[0.299], [0.587], [0.114]])
    x, _ = everything(loaded(tmp_path, channels=channels, background=background))
    assert x.shape == (3, channels, 8, 8)
    assert np.abs(x[0].permute(1, 2, 0).numpy() - expected).max() <= 1.5  # rounded twice


@pytest.mark.parametrize("mode, channels", [("LA", 2), ("RGBA", 4)])
@pytest.mark.parametrize("size", [8, 16])
def test_colors_under_alpha_0_are_no_content(tmp_path, mode, channels, size):
    """A visible half of value 60 beside one of alpha 0 and value 255, of which nothing may bleed into the visible one."""
    pixels = np.zeros((size, size, channels), np.uint8)
    pixels[:, : size // 2] = (*[60] * (channels - 1), 255)
    pixels[:, size // 2 :, :-1] = 255
    for name in "abc":
        Image.fromarray(pixels, mode).save(tmp_path / f"{name}.png")
    x, _ = everything(loaded(tmp_path, channels=channels))
    visible = x[:, -1:] > 0
    assert visible.any() and not visible.all()
    colors = x[:, :-1].masked_select(visible)
    assert (colors.int() - 60).abs().max() <= 2 and not x[:, :-1].masked_select(~visible).any()


@pytest.mark.parametrize("background", [-1, 256, 0.5, "white"])
def test_background_is_validated(tmp_path, background):
    with pytest.raises(ValueError, match="data.background must be an integer in 0 … 255, got"):
        make(tmp_path, background=background)


def test_count_classes(zoo, tmp_path):
    assert count_classes(str(zoo)) == 3
    assert count_classes(str(zoo / "bee")) == count_classes(str(zoo / "nowhere")) == count_classes(None) == 0
    (tmp_path / "parent" / "only").mkdir(parents=True)
    assert count_classes(str(tmp_path / "parent")) == 0  # a single subdirectory says nothing about classes


def test_images_beside_the_classes_are_refused_and_hidden_ones_skipped(zoo):
    save(zoo / ".hidden.png")
    assert count_classes(str(zoo)) == 3 and loaded(zoo, num_classes=3).num_classes == 3
    save(zoo / "loose.png")
    assert count_classes(str(zoo)) == 3
    with pytest.raises(ValueError, match=r"1 image\(s\) lie beside the classes of .* \(loose.png …\): move them into a class"):
        loaded(zoo, num_classes=3)
    assert loaded(zoo).num_classes == 0


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
