"""Your own images in a directory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ganlab.data.base import Images
from ganlab.data.batches import Split
from ganlab.data.splits import stratified_split
from ganlab.utils.image_folders import IMAGE_SUFFIXES, class_directories
from ganlab.utils.validation import validate_int, validate_number

PIL_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by number of channels


class ImageFolder(Images):
    """Images in the directory `root`, at any depth; hidden files and directories are skipped.

    With `num_classes` > 0 an image's class is the subdirectory of `root` that it lies in; labels count the subdirectories
    in alphabetical order and `classes` has their names. With 0 all labels are 0 and `classes` is empty.

    An image is rotated according to its EXIF data, its shorter side is resized to `size` (bicubic, antialiased), its
    center is cropped, and it is converted to `channels`: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. All images are kept in
    memory: N * channels * size² bytes.

    Args:
        root: the directory.
        val_fraction, test_fraction: shares of the images in these splits, stratified and always the same ones; both in
            (0, 1), together below 1.

    Raises:
        FileNotFoundError: in `setup`, there is no such directory, or no image in it or in a class's directory.
        OSError: in `setup`, an image cannot be read.
        ValueError: in `setup`, `num_classes` is not the number of subdirectories.
    """

    def __init__(self, *, root: str | None, test_fraction: float, val_fraction: float = 0.1, **images):
        super().__init__(**images)
        validate_int("data.channels", self.channels, 1, 4)
        self.root, self.test_fraction = root, validate_number("data.test_fraction", test_fraction, above=0, below=1)
        self.val_fraction = validate_number("data.val_fraction", val_fraction, above=0, below=1)

    def load(self) -> tuple[Split, Split, Split]:
        if self.root is None:
            raise ValueError("data.root is not set: type data.root=/path/to/images")
        root = Path(str(self.root)).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"data.root={root} is not a directory: type data.root=/path/to/images")
        directories = class_directories(root) if self.num_classes else [root]
        if self.num_classes and len(directories) != self.num_classes:
            raise ValueError(
                f"data.num_classes is {self.num_classes} but {root} has {len(directories)} subdirectories: "
                f"type data.num_classes={len(directories)}"
            )
        paths = [find_images(directory) for directory in directories]
        n = sum(map(len, paths))
        if n < 3:
            raise FileNotFoundError(
                f"data.root={root} holds {n} image(s) but training, validation and test need one each: put images "
                f"({', '.join(IMAGE_SUFFIXES)}) there"
            )
        if [] in paths:
            raise FileNotFoundError(
                f"{directories[paths.index([])]} holds no image: remove it, put images there, or type data.num_classes=0 "
                "for unlabeled images"
            )
        self.classes = tuple(directory.name for directory in directories) if self.num_classes else ()
        x = torch.empty(n, *self.shape, dtype=torch.uint8)
        y = torch.tensor([label for label, of_class in enumerate(paths) for _ in of_class])
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes without holding Python's lock
            for row, image in zip(x, pool.map(self._read, sum(paths, [])), strict=True):
                row.copy_(image)
        rest, test = stratified_split(y, round(n * self.test_fraction))
        train, val = (rest[part] for part in stratified_split(y[rest], round(n * self.val_fraction)))
        return Split(x[train], y[train]), Split(x[val], y[val]), Split(x[test], y[test])

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):  # Pillow would clip the values to 0..255
                    raise ValueError(f"its mode {image.mode} has more than 8 bits")
                upright = ImageOps.exif_transpose(image).convert(PIL_MODES[self.channels])
        except Exception as error:  # noqa: BLE001 - Pillow's plugins raise nearly anything on a broken file
            raise OSError(f"{path} cannot be read as an 8-bit image ({error}): repair, convert or remove it") from None
        return pil_to_tensor(ImageOps.fit(upright, (self.size, self.size), Image.Resampling.BICUBIC))


def find_images(directory: Path) -> list[Path]:
    """The image files below `directory`, sorted, without hidden ones."""
    paths = (path for path in directory.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(directory).parts))
