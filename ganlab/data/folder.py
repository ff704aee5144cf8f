"""Anyone's own images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.functional import pil_to_tensor

from ganlab.data.base import Images
from ganlab.data.batches import Split

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's name for that many channels


class ImageFolder(Images):
    """Images in `root`, at any depth; hidden files and folders are passed over.

    With `num_classes` > 0 the class of an image is the subdirectory of `root` that it lies in, labels count the
    subdirectories in alphabetical order, and `classes` names them. With 0 all labels are 0 and `classes` is empty.

    An image is turned upright (EXIF), its shorter side resized to `size` (bicubic, antialiased), its center cut out,
    and converted to `channels`: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. All are kept in memory:
    N * channels * size² bytes.

    Args:
        root: the folder.
        test_fraction: share in (0, 1) of the images that makes the test split, by a fixed shuffle.

    Raises on `setup()` FileNotFoundError if there is no root or no image, OSError naming the first file that cannot be
    read, ValueError if `num_classes` is not the number of subdirectories.
    """

    def __init__(self, *, root: str | None, test_fraction: float, **images):
        super().__init__(**images)
        if self.channels not in MODES:
            raise ValueError(f"data.channels must be 1 to 4 for a folder of images, got {self.channels}")
        if type(test_fraction) is not float or not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction must lie between 0 and 1, got {test_fraction!r}")
        self.root, self.test_fraction = root, test_fraction

    def load(self) -> tuple[Split, Split]:
        if self.root is None:
            raise ValueError("data.root is not set: type data.root=/path/to/a/folder/of/images")
        root = Path(str(self.root)).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"data.root={root} is not a folder: type data.root=/path/to/a/folder/of/images")
        folders = self._class_folders(root) if self.num_classes else [root]
        images = [find_images(folder) for folder in folders]
        n = sum(map(len, images))
        if n < 2:
            raise FileNotFoundError(
                f"data.root={root} holds {n} image(s) but training and test need one each: put images "
                f"({', '.join(IMG_EXTENSIONS)}) there"
            )
        if [] in images:
            raise FileNotFoundError(f"{folders[images.index([])]} holds no image: remove it or put images there")
        self.classes = tuple(folder.name for folder in folders) if self.num_classes else ()
        labeled = [(path, label) for label, paths in enumerate(images) for path in paths]
        paths, labels = zip(*labeled, strict=True)
        x, y = torch.empty(n, *self.shape, dtype=torch.uint8), torch.tensor(labels)
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes outside Python's lock
            for row, image in zip(x, pool.map(self._read, paths), strict=True):
                row.copy_(image)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        tests = min(max(round(n * self.test_fraction), 1), n - 1)
        test, train = order[:tests], order[tests:]
        return Split(x[train], y[train]), Split(x[test], y[test])

    def _class_folders(self, root: Path) -> list[Path]:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if len(folders) != self.num_classes:
            raise ValueError(
                f"data.num_classes is {self.num_classes} but {root} has {len(folders)} subdirectories: "
                f"type data.num_classes={len(folders)}"
            )
        return folders

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):  # Pillow would clip to 0..255, mostly to white
                    raise ValueError(f"its mode {image.mode} has more than 8 bits")
                upright = ImageOps.exif_transpose(image).convert(MODES[self.channels])
        except Exception as error:  # noqa: BLE001 - Pillow's plugins raise nearly anything on a broken file
            raise OSError(f"{path} cannot be read as an 8-bit image ({error}): repair, convert or remove it") from None
        return pil_to_tensor(ImageOps.fit(upright, (self.size, self.size), Image.Resampling.BICUBIC))


def find_images(folder: Path) -> list[Path]:
    """The image files below `folder` in a fixed order."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))
