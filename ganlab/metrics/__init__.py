"""Quality metrics: torchmetrics `Metric`s that compare samples with real data.

A metric of your own is a torchmetrics `Metric` with
    samples: their number per evaluation.
    setup(datamodule, device, split): of the split "val" (in training) or "test" as the reference, sets `real_scores` (what real data scores, by name) and `protocol` (a JSON-serializable dict).
    update(samples, labels), compute(): values by name.
    objective: the name of the value that ranks checkpoints and runs; lower is better.
    features(samples) -> [n, d], extractor: for `ganlab evaluate`, features and the name of their space.
"""

from ganlab.metrics.image_quality import ClassifierQuality, InceptionQuality
from ganlab.metrics.mode_coverage import ToyQuality
from ganlab.metrics.stacked import StackedQuality

__all__ = ["ClassifierQuality", "InceptionQuality", "StackedQuality", "ToyQuality"]
