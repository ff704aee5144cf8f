"""Checks of what a data set loads: types, values, labels and classes. Each refusal is one sentence with the way out."""

import math
from collections.abc import Sequence

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ganlab.data.batches import Split

MIN_CONTRAST = 128  # gray levels between the darkest and the brightest training pixel, without a warning
POINT_SCALES = 0.01, 100  # root mean squares of points, without a warning: networks start at a scale of 1
MAX_COPIES = 0.01  # share of held-out images that are training images, without a warning

IMAGE_TYPES = torch.uint8, torch.float32, torch.float64, torch.float16

ValueRange = tuple[float, float]


def validate_value_range(value_range: Sequence[float] | None, shape: tuple[int, ...]) -> ValueRange | None:
    """(low, high) as floats, or None."""
    if value_range is None:
        return None
    if len(shape) != 3:
        raise ValueError(f"value_range is for images (C, H, W), got the shape {shape}: leave it out, points stay as they are")
    numbers = [float(v) for v in value_range if isinstance(v, (int, float))]
    if len(numbers) != 2 or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise ValueError(
            f"value_range must be two numbers (low, high), low < high, the values of black and white, got {value_range!r}"
        )
    return numbers[0], numbers[1]


def validate_split(source: str, split: object, shape: tuple[int, ...], value_range: ValueRange | None) -> Split:
    """The split, its images (samples of a `shape` (C, H, W)) as uint8.

    Raises:
        ValueError: `split` is no `Split` of the documented types and lengths, it is empty, a label is negative, a value is
            nan or infinite, images are floats without a `value_range`, or values lie outside of it.
    """
    is_image = len(shape) == 3
    types = IMAGE_TYPES if is_image else (torch.float32,)
    if not isinstance(split, Split) or not _has_types(split, types):
        parts: tuple = split if isinstance(split, Split) else (type(split).__name__,)
        got = " and ".join(f"{part.dtype} {list(part.shape)}" if hasattr(part, "dtype") else str(part) for part in parts)
        raise ValueError(
            f"{source} must return (train, test) or (train, val, test), each a ganlab.data.Split(x, y) of samples x (uint8 "
            f"images or float32 points) and labels y (int64 [N], zeros where there are none), got {got}"
        )
    x, y = split
    if not len(y):
        raise ValueError(f"{source} returned an empty split: each needs at least one sample")
    if y.min() < 0:
        raise ValueError(f"{source} returned the label {int(y.min())}: labels are 0 … num_classes - 1")
    if not isinstance(x, Tensor):  # stacks of images that are checked themselves
        return Split(x, y)
    if x.is_floating_point() and not (finite := x.flatten(1).isfinite().all(1)).all():
        raise ValueError(f"{source} returned nan or inf, first in sample {int(finite.int().argmin())}: remove or repair it")
    if is_image and (x.is_floating_point() or value_range):
        x = _to_gray_levels(source, x, value_range)
    return Split(x, y)


def _has_types(split: Split, types: tuple[torch.dtype, ...]) -> bool:
    x_type, y_type = (getattr(part, "dtype", None) for part in split)
    return x_type in types and y_type == torch.int64 and split.y.shape == split.x.shape[:1]


def _to_gray_levels(source: str, x: Tensor, value_range: ValueRange | None) -> Tensor:
    """Images as uint8, low … high mapped to 0 … 255 and rounded."""
    darkest, brightest = (float(value) for value in x.float().aminmax())
    values = f"{x.dtype} images with values from {darkest:.5g} to {brightest:.5g}"
    if value_range is None:
        usual = (0, 255) if max(-darkest, brightest) > 1 else (-1, 1) if darkest < 0 else (0, 1)
        raise ValueError(
            f"{source} returned {values}: return uint8 images of 0 … 255, or pass value_range=(low, high), the values of black "
            f"and white, to super().__init__, such as value_range={usual}"
        )
    low, high = value_range
    half_level = (high - low) / 510
    if darkest < low - half_level or brightest > high + half_level:
        raise ValueError(f"{source} returned {values}, outside value_range=({low:g}, {high:g}): correct one of them")
    return x.float().sub(low).mul_(255 / (high - low)).round_().clamp_(0, 255).to(torch.uint8)


def validate_shape(source: str, splits: Sequence[Split], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless samples have the shape; names the mend for a missing or a last channel axis."""
    for got in (tuple(split.x.shape[1:]) for split in splits):
        if got != shape:
            mends = {(1, *got): ": add a channel axis with x.unsqueeze(1)", (*got[-1:], *got[:-1]): ": use x.movedim(-1, 1)"}
            raise ValueError(f"{source} returned samples of shape {got}, not {shape}" + mends.get(shape, ""))


def validate_labels(y: Tensor, num_classes: int) -> None:
    """Raise ValueError if a label y [N] is none of 0 … num_classes - 1, or not 0 where there are no classes."""
    low, high = int(y.min()), int(y.max())
    if high < max(num_classes, 1):
        return
    if low == 1 and high == num_classes:
        raise ValueError(f"labels are 1 … {high} but must be 0 … {high - 1}: subtract 1 from them")
    raise ValueError(f"data.num_classes is {num_classes} but labels reach {high}: type data.num_classes={high + 1}")


def validate_classes(labels: Sequence[Tensor], num_classes: int, names: Sequence[str], remedy: str) -> None:
    """Raise ValueError if a class is missing in one of the labels of (train, val, test).

    D or G would never see the class, or no number would measure it.
    """
    counts = torch.stack([torch.bincount(y, minlength=num_classes) for y in labels])
    missing = (counts == 0).any(0).nonzero().flatten().tolist()
    if not missing:
        return
    train, val, test = counts[:, missing[0]].tolist()
    name = repr(names[missing[0]]) if names else missing[0]
    others = f" ({len(missing) - 1} more of {num_classes} classes are missing in a split)" if len(missing) > 1 else ""
    if int(min(y.min() for y in labels)) == 1:
        remedy = "labels count from 0, so subtract 1 from yours"
    raise ValueError(
        f"class {name} has {train} training, {val} validation and {test} test samples, but needs one in each{others}: {remedy}"
    )


def validate_values(train: Tensor, val: Tensor, test: Tensor) -> None:
    """Raise ValueError for images of 0 and 1 only; warn of other values, or of copies, that look like a mistake."""
    if train.dtype != torch.uint8:
        scale = float(train.double().square().mean().sqrt())
        if not POINT_SCALES[0] <= scale <= POINT_SCALES[1]:
            rank_zero_warn(
                f"the training points have a root mean square of {scale:.3g}; scale them to about 1, as networks expect"
            )
        return
    if 1 in (int(images.max()) for images in (train, val, test)):
        raise ValueError(
            "the images have gray values of 0 and 1 only, of 0 … 255, black on black: multiply them by 255, or set "
            "value_range=(0, 1) (data.value_range=[0,1])"
        )
    low, high = (int(value) for value in train.aminmax())
    levels = f"the training images have gray values from {low} to {high} of 0 … 255"
    if high - low < MIN_CONTRAST:
        rank_zero_warn(f"{levels}; unless that is meant, scale them, or set value_range to (black, white)")
    known = {hash(image.tobytes()) for image in train.numpy()}
    for name, images in (("validation", val), ("test", test)):
        copies = sum(hash(image.tobytes()) in known for image in images.numpy())
        if copies > MAX_COPIES * len(images):
            rank_zero_warn(f"{copies:,} of {len(images):,} {name} images are training images too: they measure nothing new")
