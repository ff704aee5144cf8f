"""The conditional GAN."""

from __future__ import annotations

from ganlab.losses.non_saturating import NonSaturatingGAN


class CGAN(NonSaturatingGAN):
    """Conditional GAN (Mirza & Osindero 2014, eq. 2): the non-saturating loss on D(x, y) and G(z, y).

    It only *requires* labels: any other family is conditional by `conditioning=labels`. It fails like its
    parent, and can ignore y where D does (watch `quality/label_agreement_…`).
    """

    requires_labels = True
