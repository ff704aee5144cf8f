"""The base class of the discriminators: packed inputs, and how a label enters D."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as apply_spectral_norm

from ganlab.networks.labels import append_labels, require_labels
from ganlab.utils.validation import validate_int


def packed_inputs(channels: int, concat_classes: int, pack: int) -> int:
    """Input channels of a D that gets `pack` samples as one, with their one-hot labels (PacGAN, Lin et al. 2018)."""
    return validate_int("a discriminator's pack (gan.pack)", pack) * (channels + concat_classes)


class Discriminator(nn.Module):
    """x [n, pack * channels, ...] and labels int64 [n], or [n, pack] if packed -> logits [n].

    Labels enter as constant input channels (`concat_classes`; Mirza & Osindero 2014), by projection (`projection_classes`;
    Miyato & Koyama 2018, eq. 3), or not at all: an auxiliary classifier can predict them instead (`auxiliary_classes`;
    AC-GAN, Odena et al. 2017).

    Args:
        body: inputs with their label channels -> features [n, features].

    Raises:
        ValueError: an auxiliary classifier of packed samples, which may have several labels; missing labels, or a number
            of labels that differs from the number of samples.
    """

    def __init__(
        self,
        body: nn.Module,
        features: int,
        spectral_norm: bool,
        pack: int,
        concat_classes: int,
        projection_classes: int,
        auxiliary_classes: int,
    ):
        super().__init__()
        if auxiliary_classes and pack > 1:
            raise ValueError(f"an auxiliary classifier classifies single samples, got gan.pack={pack}; use gan.pack=1")
        self.pack, self.concat_classes, self.auxiliary_classes = pack, concat_classes, auxiliary_classes
        self.num_classes = max(concat_classes, projection_classes, auxiliary_classes)
        wrap = apply_spectral_norm if spectral_norm else nn.Identity()
        self.body, self.head = body, Head(features, projection_classes, spectral_norm)
        self.auxiliary = wrap(nn.Linear(features, auxiliary_classes)) if auxiliary_classes else None

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Features [n, features] for the logit and the class logits."""
        if y is not None and y.numel() != (n := self.pack * len(x)):
            raise ValueError(f"{len(x)} inputs of {self.pack} samples each need {n} labels, got {list(y.shape)}")
        return self.body(append_labels(x, y, self.concat_classes))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.head(self.features(x, y), y)

    def forward_with_classes(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [n], and the auxiliary classifier's class logits [n, auxiliary_classes].

        Raises:
            ValueError: this discriminator has no auxiliary classifier.
        """
        if self.auxiliary is None:
            raise ValueError("this discriminator has no auxiliary classifier (auxiliary_classes=0); use conditioning=ac")
        h = self.features(x, y)
        return self.head(h, y), self.auxiliary(h)


class Head(nn.Module):
    """Features h [n, features] -> logits [n]: <w, h> + b, plus <e_y, h> by projection; packed labels add their e_y."""

    def __init__(self, features: int, projection_classes: int, spectral_norm: bool):
        super().__init__()
        wrap = apply_spectral_norm if spectral_norm else nn.Identity()
        self.linear = wrap(nn.Linear(features, 1))
        self.embedding = wrap(nn.Embedding(projection_classes, features)) if projection_classes else None
        if self.embedding is not None and not spectral_norm:
            nn.init.normal_(self.embedding.weight, std=features**-0.5)  # logits of order 1, as the linear part's

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        logits = self.linear(h).squeeze(1)
        if self.embedding is None:
            return logits
        rows = self.embedding(require_labels(y, self.embedding.num_embeddings).view(len(h), -1)).sum(1)
        return logits + (rows * h).sum(1)
