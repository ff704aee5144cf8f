"""Quality metrics: torchmetrics `Metric`s that hold samples against real data, with the floor beside each number.

One of your own has `samples` (how many a look makes), `setup(datamodule, device)`, `update(samples, labels)` and a `compute()`
that returns numbers by name; `objective`, the name of the one that ranks (lower is better); and from `setup` on `floor`, what real
data scores, by name, and `protocol`, a dict that JSON can hold. `evaluate` also asks for `features(samples)` [n, d] and `extractor`.
"""

from ganlab.metrics.image_quality import ClassifierQuality, InceptionQuality
from ganlab.metrics.mode_coverage import ToyQuality
from ganlab.metrics.stacked import StackedQuality

__all__ = ["ClassifierQuality", "InceptionQuality", "StackedQuality", "ToyQuality"]
