"""Your own images in a directory."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ganlab.data.base import Images
from ganlab.data.batches import Split, is_first_process
from ganlab.data.splits import stratified_split
from ganlab.data.validation import validate_classes
from ganlab.utils.image_folders import IMAGE_SUFFIXES, find_images, split_directories, subdirectories
from ganlab.utils.memory import available_memory
from ganlab.utils.progress import TerminalProgress
from ganlab.utils.validation import validate_int, validate_number

PIL_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by number of channels

log = logging.getLogger(__name__)


class ImageFolder(Images):
    """Images in the directory `root`, at any depth; other files and hidden ones are skipped, and counted in the log.

    With `num_classes` > 0 an image's class is the subdirectory of `root` that it lies in; labels count the subdirectories
    in alphabetical order and `classes` has their names. With 0 all labels are 0 and `classes` is empty.

    Subdirectories `train`, `val` and `test` of `root` are the splits, with the same classes below each. A split that is not
    there is split off the training images, stratified and always the same: every class of three images or more is in all.

    An image is rotated according to its EXIF data, its shorter side is resized to `size` (bicubic, antialiased), its
    center is cropped, and it is converted to `channels`: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. Transparent pixels show the
    `background` in 1 or 3 channels; with 2 or 4 a pixel of alpha 0 is 0 in all channels. All images are kept in memory:
    N * channels * size² bytes.

    Args:
        root: the directory.
        val_fraction, test_fraction: shares of the images in these splits, in (0, 1).
        background: gray value behind transparent pixels, in 0 … 255.

    Raises:
        FileNotFoundError: in `setup`, there is no such directory, or it holds fewer than three images.
        OSError: in `setup`, an image cannot be read.
        ValueError: in `setup`, `num_classes` is not the number of subdirectories, a class has no image in a split, an image
            lies in no class, or the images do not fit into the free memory.
    """

    rare_class_remedy = "add images of it, remove its directory, or type data.num_classes=0 for unlabeled images"

    def __init__(self, *, root: str | None, test_fraction: float, val_fraction: float = 0.1, background: int = 255, **images):
        super().__init__(**images)
        validate_int("data.channels", self.channels, 1, 4)
        self.root, self.background = root, validate_int("data.background", background, 0, 255)
        self.test_fraction = validate_number("data.test_fraction", test_fraction, above=0, below=1)
        self.val_fraction = validate_number("data.val_fraction", val_fraction, above=0, below=1 - test_fraction)

    def load(self) -> tuple[Split, Split, Split]:
        if self.root is None:
            raise ValueError("data.root is not set: type data.root=/path/to/images")
        root = Path(str(self.root)).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"data.root={root} is not a directory: type data.root=/path/to/images")
        directories = split_directories(root)
        self.classes = self._class_names(directories["train"])
        found = {name: self._find(directory) for name, directory in directories.items()}
        if is_first_process():
            log_skipped_files(root, {path for paths, _ in found.values() for path in paths})
        splits = self._divide(root, found)
        labels = [y for _, y in splits]
        validate_classes(labels, self.num_classes, self.classes, self.rare_class_remedy)  # before images are decoded
        n = sum(map(len, labels))
        self._validate_memory(n)
        with TerminalProgress("images", n, enabled=is_first_process()) as progress, ThreadPoolExecutor() as pool:
            train, val, test = (self._decode(*split, pool, progress) for split in splits)
        return train, val, test

    def _class_names(self, directory: Path) -> tuple[str, ...]:
        if not self.num_classes:
            return ()
        classes = subdirectories(directory)
        if len(classes) != self.num_classes:
            raise ValueError(
                f"data.num_classes is {self.num_classes} but {directory} has {len(classes)} subdirectories: "
                f"type data.num_classes={len(classes)}"
            )
        return tuple(path.name for path in classes)

    def _find(self, directory: Path) -> tuple[list[Path], Tensor]:
        """The images of a split, or of all, and their labels; refuses images that lie in no class of train."""
        if not self.num_classes:
            paths = find_images(directory)
            return paths, torch.zeros(len(paths), dtype=torch.int64)
        if loose := find_images(directory, "*"):
            raise ValueError(
                f"{len(loose):,} image(s) lie beside the classes of {directory} ({loose[0].name} …): move them into a class, or "
                "type data.num_classes=0 for unlabeled images"
            )
        for path in subdirectories(directory):
            if path.name not in self.classes:
                raise ValueError(f"{path} is no class of the training images ({', '.join(self.classes)}): rename or remove it")
        by_class = [find_images(directory / name) for name in self.classes]
        return sum(by_class, []), torch.tensor([label for label, paths in enumerate(by_class) for _ in paths]).long()

    def _divide(self, root: Path, found: dict[str, tuple[list[Path], Tensor]]) -> list[tuple[list[Path], Tensor]]:
        """Images and labels of train, val and test; what was not found is split off the training images."""
        if (n := sum(len(paths) for paths, _ in found.values())) < 3:
            raise FileNotFoundError(
                f"data.root={root} holds {n} image(s) but training, validation and test need one each: put images "
                f"({', '.join(IMAGE_SUFFIXES)}) there"
            )
        paths, y = found["train"]
        n = len(paths)
        for name, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if name not in found and n:
                rest, part = stratified_split(y, min(round(n * fraction), len(y)))
                found[name] = [paths[i] for i in part], y[part]
                paths, y = [paths[i] for i in rest], y[rest]
        splits = [(paths, y), *(found.get(name, ([], y)) for name in ("val", "test"))]
        if [] in (paths for paths, _ in splits):
            counts = " / ".join(str(len(paths)) for paths, _ in splits)
            raise ValueError(
                f"data.root={root} gives {counts} images for train / val / test: put images there, or choose "
                f"data.val_fraction and data.test_fraction anew, now {self.val_fraction:g} and {self.test_fraction:g}"
            )
        return splits

    def _validate_memory(self, n: int) -> None:
        needed, free = n * math.prod(self.shape), available_memory(torch.device("cpu"))
        if free is not None and needed > free:
            raise ValueError(
                f"{n:,} images of {'x'.join(map(str, self.shape))} take {needed:,} bytes of memory but {free:,} are free: "
                f"type a smaller data.size than {self.size}, or use fewer images"
            )

    def _decode(self, paths: list[Path], y: Tensor, pool: ThreadPoolExecutor, progress: TerminalProgress) -> Split:
        x = torch.empty(len(paths), *self.shape, dtype=torch.uint8)
        for row, image in zip(x, pool.map(self._read, paths), strict=True):  # Pillow works without holding Python's lock
            row.copy_(image)
            progress.advance()
        return Split(x, y)

    def _read(self, path: Path) -> Tensor:
        mode = PIL_MODES[self.channels]
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):  # Pillow would clip the values to 0..255
                    raise ValueError(f"its mode {image.mode} has more than 8 bits")
                upright = ImageOps.exif_transpose(image)
                if "A" not in mode and upright.has_transparency_data:
                    canvas = Image.new("RGBA", upright.size, (self.background,) * 3 + (255,))
                    upright = Image.alpha_composite(canvas, upright.convert("RGBA"))
                upright = upright.convert(mode)
        except Exception as error:  # noqa: BLE001 - Pillow's plugins raise nearly anything on a broken file
            raise OSError(f"{path} cannot be read as an 8-bit image ({error}): repair, convert or remove it") from None
        x = pil_to_tensor(ImageOps.fit(upright, (self.size, self.size), Image.Resampling.BICUBIC))
        return x * (x[-1:] > 0) if "A" in mode else x  # what hides under alpha 0 is no content


def log_skipped_files(root: Path, images: set[Path]) -> None:
    """Log how many files of `root` are not among the images, with the first names."""
    skipped = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path not in images)
    if skipped:
        names = ", ".join(skipped[:3]) + (", …" if len(skipped) > 3 else "")
        log.info(f"{root}: {len(images):,} images; {len(skipped):,} other file(s) skipped: {names}")
