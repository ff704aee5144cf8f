"""Class subdirectories of a directory of images."""

from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def class_directories(root: Path) -> list[Path]:
    """The subdirectories of `root` in alphabetical order, without hidden ones."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def count_classes(root: str | None) -> int:
    """The number of class subdirectories of `root`.

    0 (unlabeled) if there are fewer than two, if images lie in `root` itself, or if there is no such directory.
    """
    directory = Path(str(root)).expanduser()
    if root is None or not directory.is_dir() or any(path.suffix.lower() in IMAGE_SUFFIXES for path in directory.iterdir()):
        return 0
    classes = len(class_directories(directory))
    return classes if classes > 1 else 0
