"""Data sets in memory as LightningDataModules."""

from ganlab.data.base import Images, TensorData, to_float, to_uint8
from ganlab.data.batches import Batches, Split
from ganlab.data.cifar10 import CIFAR10
from ganlab.data.digits import Digits
from ganlab.data.folder import ImageFolder
from ganlab.data.mnist import MNIST, FashionMNIST
from ganlab.data.stacked import Stacked, StackedDigits, StackedFashionMNIST, StackedMNIST
from ganlab.data.toy import GaussianMixture, Grid, Ring

__all__ = [
    "CIFAR10", "MNIST", "Batches", "Digits", "FashionMNIST", "GaussianMixture", "Grid", "ImageFolder", "Images", "Ring",
    "Split", "Stacked", "StackedDigits", "StackedFashionMNIST", "StackedMNIST", "TensorData", "to_float", "to_uint8",
]  # fmt: skip
