"""A data set of one's own."""

import numpy as np
import pytest
import torch

from ganlab.data import Split, TensorData

X, Y = torch.zeros(6, 2), torch.zeros(6, dtype=torch.int64)


class Mine(TensorData):
    def __init__(self, split):
        super().__init__(shape=(2,), num_classes=0, batch_size=3)
        self.split = split

    def load(self):
        return self.split, self.split


def test_a_split_is_taken_as_it_is():
    data = Mine(Split(X, Y))
    data.setup()
    assert data.train.x is X and data.test.y is Y


@pytest.mark.parametrize(
    ("split", "got"),
    [
        ((X, Y), "tuple"),
        (Split(X.double(), Y), r"torch.float64 \[6, 2\] and torch.int64 \[6\]"),
        (Split(X, None), r"torch.float32 \[6, 2\] and None"),
        (Split(X, Y.float()), r"torch.float32 \[6, 2\] and torch.float32 \[6\]"),
        (Split(X, Y[:5]), r"torch.float32 \[6, 2\] and torch.int64 \[5\]"),
        (Split(np.zeros((6, 2)), Y), r"float64 \[6, 2\] and torch.int64 \[6\]"),
    ],
)
def test_what_is_no_split_is_refused_in_a_sentence(split, got):
    with pytest.raises(ValueError, match=rf"Mine.load\(\) must return two ganlab.data.Split.*, got {got}$"):
        Mine(split).setup()
