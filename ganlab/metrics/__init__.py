"""Quality metrics: torchmetrics `Metric`s that hold samples against real data, with the floor beside each number."""

from ganlab.metrics.modes import ToyQuality
from ganlab.metrics.quality import ClassifierQuality, InceptionQuality
from ganlab.metrics.stacked import StackedQuality

__all__ = ["ClassifierQuality", "InceptionQuality", "StackedQuality", "ToyQuality"]
