"""Regularizers of D: penalties (added to its loss), projections (after its update), augmentations (of its inputs)."""

from ganlab.regularizers.augmentation import DiffAugment
from ganlab.regularizers.base import Regularizer, at_least_float32, elementwise, is_spectrally_normalized
from ganlab.regularizers.consistency import Consistency
from ganlab.regularizers.finite_difference import FiniteDifferenceR1, FiniteDifferenceR2
from ganlab.regularizers.gradient_penalty import DRAGAN, R1, R2, GradientPenalty, squared_gradient_norm
from ganlab.regularizers.instance_noise import InstanceNoise
from ganlab.regularizers.lecam import LeCam
from ganlab.regularizers.weight_clipping import WeightClipping

__all__ = [
    "DRAGAN", "R1", "R2", "Consistency", "DiffAugment", "FiniteDifferenceR1", "FiniteDifferenceR2", "GradientPenalty",
    "InstanceNoise", "LeCam", "Regularizer", "WeightClipping", "at_least_float32", "elementwise",
    "is_spectrally_normalized", "squared_gradient_norm",
]  # fmt: skip
