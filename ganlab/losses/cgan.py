from ganlab.losses.non_saturating import NonSaturatingGAN


class CGAN(NonSaturatingGAN):
    """Conditional GAN (Mirza & Osindero 2014, eq. 2): the non-saturating loss on D(x, y) and G(z, y).

    It only *requires* labels: `conditioning=labels` makes any other family conditional. It fails like the non-saturating
    GAN, and G can ignore y where D does (see `quality/label_agreement_…`).
    """

    requires_labels = True
