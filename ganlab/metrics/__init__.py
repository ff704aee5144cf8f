"""Quality metrics: torchmetrics `Metric`s that compare samples with real data.

Your own metric defines `samples`, their number per evaluation; `setup(datamodule, device)`, which sets `real_scores` (what real
data scores, by name) and `protocol` (a JSON-serializable dict); `update(samples, labels)`; `compute()`, which returns values by
name; `objective`, the name of the value that ranks checkpoints and runs (lower is better); and for `ganlab evaluate` also
`features(samples)` [n, d] and `extractor`, the name of that feature space.
"""

from ganlab.metrics.image_quality import ClassifierQuality, InceptionQuality
from ganlab.metrics.mode_coverage import ToyQuality
from ganlab.metrics.stacked import StackedQuality

__all__ = ["ClassifierQuality", "InceptionQuality", "StackedQuality", "ToyQuality"]
