"""The base class of quality metrics, and how their values are named."""

from collections.abc import Mapping

from torch import Tensor
from torchmetrics import Metric

from ganlab.data import TensorData
from ganlab.metrics.sampling import SAMPLING_PROTOCOL
from ganlab.utils.validation import validate_int


def format_count(n: int) -> str:
    """The sample count in a metric's name: 10000 -> '10k', 2500 -> '2500'."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)


class QualityMetric(Metric):
    """Scores of `samples` generated samples, under names that end with their number.

    A subclass names its `extractor`, and in `ranked_by` the score whose value is the objective.
    """

    higher_is_better = False
    full_state_update = False
    extractor: str
    ranked_by: str

    def __init__(self, samples: int, minimum: int = 1):
        super().__init__()
        self.samples = validate_int("metrics.samples", samples, minimum)

    @property
    def objective(self) -> str:
        return f"{self.ranked_by}_{format_count(self.samples)}"

    def append_count(self, scores: Mapping[str, Tensor | float]) -> dict:
        """Scores under names that end with the sample count: `modes` -> `modes_2500`."""
        return {f"{name}_{format_count(self.samples)}": value for name, value in scores.items()}

    def base_protocol(self, metric: str, datamodule: TensorData) -> dict:
        """The part of a protocol that all quality metrics share."""
        data = type(datamodule).__name__
        facts = {"metric": metric, "data": data, "fingerprint": datamodule.fingerprint, "samples": self.samples}
        return facts | SAMPLING_PROTOCOL

    def validate_count(self, count: Tensor) -> None:
        """Raise ValueError unless an evaluation has seen as many samples as the values' names say."""
        if count != self.samples:
            raise ValueError(f"an evaluation needs {self.samples} samples, got {int(count)}")
