import torch
from torch import Tensor
from torch.nn.functional import pad

from ganlab.regularizers.base import Regularizer
from ganlab.utils.validation import validate_number


class DiffAugment(Regularizer):
    """Differentiable augmentation of D's images, real and fake, drawn per image (DiffAugment, Zhao et al. 2020).

    R1, R2 and the gradient penalties are then taken at the augmented images, with respect to them. R3GAN and StyleGAN2-ADA
    take the gradient with respect to the raw images, through the augmentation, which gives other values: pixels that are
    cut out or shifted away do not count there, and a change of contrast scales the gradient.

    Args:
        color: brightness + U(-0.5, 0.5), saturation * U(0, 2), contrast * U(0.5, 1.5), on images in [-1, 1].
        translation: largest shift as a share of the side, filled with 0; 0 for none.
        cutout: side of a square set to 0, as a share of the image's side; 0 for none.
        flip: mirror half of the images left to right; wrong where it changes the class (digits).

    Raises:
        ValueError: the samples are not images [n, C, H, W], or a share is outside [0, 1).
    """

    def __init__(self, color: bool, translation: float, cutout: float, flip: bool = False):
        super().__init__()
        for name, share in (("translation", translation), ("cutout", cutout)):
            validate_number(f"an augmentation's `{name}`", share, minimum=0, below=1)
        self.color, self.translation, self.cutout, self.flip = color, translation, cutout, flip

    def augment(self, x):
        if x.ndim != 4:
            raise ValueError(
                f"this augmentation is for images [n, C, H, W], got samples {list(x.shape)}; "
                "for points take regularizer=instance_noise"
            )
        if self.flip:
            x = torch.where(_uniform(x) < 0.5, x, x.flip(3))
        if self.color:
            x = x + _uniform(x) - 0.5
            x = torch.lerp(x.mean(1, keepdim=True), x, 2 * _uniform(x))
            x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, 0.5 + _uniform(x))
        if self.translation:
            x = _translate(x, self.translation)
        if self.cutout:
            x = _cut_out(x, self.cutout)
        return x


def _uniform(x: Tensor) -> Tensor:
    """U(0, 1) per image, [n, 1, 1, 1]."""
    return torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def _translate(x: Tensor, share: float) -> Tensor:
    n, _, height, width = x.shape
    padding = [int(side * share + 0.5) for side in (height, width)]
    rows = _window(n, height, padding[0], x.device)[:, :, None]
    columns = _window(n, width, padding[1], x.device)[:, None, :]
    x = pad(x, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1)
    return x[torch.arange(n, device=x.device)[:, None, None], rows, columns].permute(0, 3, 1, 2)


def _window(n: int, side: int, padding: int, device) -> Tensor:
    """Random windows into a side padded on both ends: indices [n, side]."""
    return torch.randint(2 * padding + 1, (n, 1), device=device) + torch.arange(side, device=device)


def _cut_out(x: Tensor, share: float) -> Tensor:
    holes = [_hole(len(x), side, int(side * share + 0.5), x.device) for side in x.shape[2:]]
    return x * ~(holes[0][:, None, :, None] & holes[1][:, None, None, :])


def _hole(n: int, side: int, length: int, device) -> Tensor:
    """Booleans [n, side], true on `length` pixels around a uniform center, less where they reach over the edge."""
    start = torch.randint(side + 1 - length % 2, (n, 1), device=device) - length // 2
    pixels = torch.arange(side, device=device)
    return (pixels >= start) & (pixels < start + length)
