"""Image quality: the Fréchet distance between features of generated and of real images (Heusel et al. 2017)."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlab.data import to_float
from ganlab.metrics.classifier import Classifier, load_classifier
from ganlab.metrics.histograms import expected_coverage, expected_kl, kl_divergence, short_count


class FrechetQuality(Metric):
    """What every extractor shares: the reference (N images of the test split), the floor, the check of N.

    N = min(samples, test split, train split), since the floor sets N train images against the reference. Those N are
    spread evenly over their split, which may be sorted. The floor of the distance is therefore a real value, with the
    same bias in N as the model's. A subclass names its `extractor`, builds `self.frechet` and feeds it.
    """

    higher_is_better = False
    full_state_update = False
    extractor: str

    def __init__(self, samples: int, batch_size: int):
        super().__init__()
        if samples < 2:
            raise ValueError(f"metrics.samples must be at least 2, got {samples}")
        if batch_size < 1:
            raise ValueError(f"metrics.batch_size must be at least 1, got {batch_size}")
        self.samples, self.batch_size = samples, batch_size
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    @property
    def objective(self) -> str:
        return f"frechet_{self.extractor}_{short_count(self.samples)}"

    def build(self, datamodule, device: torch.device) -> dict:
        """Set `self.frechet` up; return the extractor's card for the protocol."""
        raise NotImplementedError

    def observe(self, images: Tensor, real: bool) -> Tensor | None:
        """Feed images [n, C, H, W] in [-1, 1] to `self.frechet`; return their classes [n] where the extractor knows."""
        raise NotImplementedError

    def setup(self, datamodule, device) -> None:
        if len(datamodule.shape) != 3:
            data = type(datamodule).__name__
            raise ValueError(f"metrics={self.extractor} needs images, got {data} of shape {datamodule.shape}: use metrics=toy")
        device = torch.device(device)
        self.samples = min(self.samples, len(datamodule.test.x), len(datamodule.train.x))
        card = self.build(datamodule, device)
        self.to(device)
        self.reference = self._observe_split(datamodule.test.x, real=True)
        self._observe_split(datamodule.train.x, real=False)
        self.floor = {self.objective: float(self.frechet.compute())}
        self.reset()
        self.protocol = {
            "metric": "frechet",
            "data": type(datamodule).__name__,
            "fingerprint": datamodule.fingerprint,
            "reference": "test split",
            "samples": self.samples,
            "resolution": list(datamodule.shape),
            "extractor": card,
        }

    @torch.no_grad()
    def _observe_split(self, x: Tensor, real: bool) -> list[Tensor | None]:
        """Each process takes its share, since the states' sum over the processes is what the distance sees."""
        chosen = torch.linspace(0, len(x) - 1, self.samples, dtype=torch.float64).round().long()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            chosen = chosen[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        return [self.observe(to_float(x[i].to(self.device)), real) for i in chosen.split(self.batch_size)]

    @torch.no_grad()
    def update(self, samples: Tensor, labels: Tensor | None = None) -> None:
        for images in samples.split(self.batch_size):
            self.observe(images, real=False)
        self.seen += len(samples)

    def compute(self) -> dict[str, Tensor]:
        if self.seen != self.samples:
            raise ValueError(f"a look needs exactly {self.samples} samples, got {int(self.seen)}")
        return {self.objective: self.frechet.compute()}

    def reset(self) -> None:
        super().reset()
        self.frechet.reset()
