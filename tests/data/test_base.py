"""Subclasses of TensorData."""

import numpy as np
import pytest
import torch

from ganlab.data import Split, TensorData

X, Y = torch.zeros(6, 2), torch.zeros(6, dtype=torch.int64)


class MyData(TensorData):
    def __init__(self, split):
        super().__init__(shape=(2,), num_classes=0, batch_size=3)
        self.split = split

    def load(self):
        return self.split, self.split, self.split


def test_valid_splits_are_used_as_they_are():
    data = MyData(Split(X, Y))
    data.setup()
    assert data.train.x is X and data.test.y is Y


@pytest.mark.parametrize(
    ("split", "got"),
    [
        ((X, Y), "tuple"),
        (Split(X.double(), Y), r"torch.float64 \[6, 2\] and torch.int64 \[6\]"),
        (Split(X.byte(), Y), r"torch.uint8 \[6, 2\] and torch.int64 \[6\]"),
        (Split(X, None), r"torch.float32 \[6, 2\] and None"),
        (Split(X, Y.float()), r"torch.float32 \[6, 2\] and torch.float32 \[6\]"),
        (Split(X, Y[:5]), r"torch.float32 \[6, 2\] and torch.int64 \[5\]"),
        (Split(np.zeros((6, 2)), Y), r"float64 \[6, 2\] and torch.int64 \[6\]"),
    ],
)
def test_invalid_splits_are_rejected(split, got):
    with pytest.raises(
        ValueError, match=rf"MyData.load\(\) must return \(train, test\) or .*each a ganlab.data.Split.*, got {got}$"
    ):
        MyData(split).setup()
