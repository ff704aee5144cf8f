"""scikit-learn's handwritten digits."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ganlab.data.base import Images
from ganlab.data.batches import Split


class Digits(Images):
    """1,797 handwritten digits 1x8x8 shipped with scikit-learn (the test part of UCI's Optical Recognition of Digits).

    Gray values 0 … 16 are scaled to 0 … 255 and rounded. A fixed stratified split: 1,437 for training and
    validation, 360 for test.
    """

    classes = tuple("0123456789")

    def load(self) -> tuple[Split, Split]:
        digits = load_digits()
        x = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        y = torch.from_numpy(digits.target).long()
        train, test = train_test_split(range(len(y)), test_size=360, stratify=y, random_state=0)
        return Split(x[train], y[train]), Split(x[test], y[test])
