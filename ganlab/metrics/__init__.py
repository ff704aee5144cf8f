"""Quality metrics: torchmetrics `Metric`s that compare samples with real data.

To write your own, define

- `samples`, the number of samples per evaluation;
- `setup(datamodule, device)`, called once; it sets `real_scores`, what real data scores for each name, and `protocol`, a
  JSON-serializable dict;
- `update(samples, labels)` and `compute()`, which returns values by name;
- `objective`, the name of the value that selects the best checkpoint and ranks runs (lower is better);
- for `ganlab evaluate` also `features(samples)` [n, d] and `extractor`, the name of the feature space.
"""

from ganlab.metrics.image_quality import ClassifierQuality, InceptionQuality
from ganlab.metrics.mode_coverage import ToyQuality
from ganlab.metrics.stacked import StackedQuality

__all__ = ["ClassifierQuality", "InceptionQuality", "StackedQuality", "ToyQuality"]
