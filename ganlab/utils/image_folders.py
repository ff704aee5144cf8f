"""Where the images of a directory lie: splits, classes and files."""

from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def subdirectories(root: Path) -> list[Path]:
    """The subdirectories of `root` in alphabetical order, without hidden ones."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def split_directories(root: Path) -> dict[str, Path]:
    """The subdirectories of `root` that are splits, by "train", "val" and "test"; {"train": root} if it is not divided.

    It is divided if it has a subdirectory `train` (or `training`), and `test` or `val` (or `valid`, `validation`).

    Raises:
        ValueError: there are other subdirectories beside these, or two for one split.
    """
    directories = subdirectories(root)
    found = {SPLITS[path.name.lower()]: path for path in directories if path.name.lower() in SPLITS}
    if "train" not in found or len(found) < 2:
        return {"train": root}
    if len(found) < len(directories):
        names = ", ".join(path.name for path in directories)
        raise ValueError(f"{root} has the subdirectories {names}: keep train, val and test, and move the others elsewhere")
    return found


def count_classes(root: str | None) -> int:
    """The number of class subdirectories of `root`, or of its `train`; 0 (unlabeled) if there are fewer than two.

    0 also for what `ImageFolder` refuses: no such directory, or other subdirectories beside the splits.
    """
    directory = Path(str(root)).expanduser()
    if root is None or not directory.is_dir():
        return 0
    try:
        classes = len(subdirectories(split_directories(directory)["train"]))
    except ValueError:
        return 0
    return classes if classes > 1 else 0


def find_images(directory: Path, pattern: str = "**/*") -> list[Path]:
    """The image files below `directory` that match the pattern, sorted, without hidden ones."""
    paths = (path for path in directory.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(directory).parts))
