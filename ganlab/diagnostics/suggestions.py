"""Leave out the suggestions that a run follows already, or cannot follow."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer

from ganlab.diagnostics.messages import MESSAGES
from ganlab.losses import WGAN, NonSaturatingGAN, RpGAN
from ganlab.models.gan import GAN
from ganlab.regularizers import R1, R2, DiffAugment, GradientPenalty, InstanceNoise, is_spectrally_normalized


def new_suggestions(verdict: str, gan: GAN, optimizers: Sequence[Optimizer], images: bool) -> list[str]:
    """The verdict's suggested overrides that would change this run.

    Args:
        optimizers: of D and of G.
        images: whether the data are images; otherwise points.
    """
    applied = applied_suggestions(gan, optimizers, images)
    return [override for _, override in MESSAGES[verdict].suggestions if not applied[override]]


def applied_suggestions(gan: GAN, optimizers: Sequence[Optimizer], images: bool) -> dict[str, bool]:
    """Suggested override -> whether the run has it or something stronger, or cannot have it."""
    d, g = (optimizer.param_groups[0] for optimizer in optimizers)

    def has(kind: type) -> bool:
        return any(isinstance(regularizer, kind) for regularizer in gan.regularizers.values())

    penalty_weights = [r.weight for r in gan.regularizers.values() if isinstance(r, GradientPenalty)]
    return {
        "loss=ns": isinstance(gan, NonSaturatingGAN),
        "loss=rpgan": isinstance(gan, RpGAN),
        "loss=r3gan": isinstance(gan, RpGAN) and has(R1) and has(R2),
        "loss=wgan_gp": isinstance(gan, WGAN) and bool(penalty_weights),
        "'regularizer=[r1]'": has(R1),
        "'regularizer=[gp]' regularizer.gp.weight=100": max(penalty_weights, default=0) >= 100,
        "'regularizer=[sn]'": is_spectrally_normalized(gan.discriminator),
        "'regularizer=[diffaugment]'": has(DiffAugment) or not images,
        "'regularizer=[instance_noise]'": has(InstanceNoise),
        "gan.pack=2": gan.pack >= 2,
        "gan.n_critic=5": gan.n_critic >= 5,
        "gan.gradient_clip=1": gan.gradient_clip is not None and gan.gradient_clip <= 1,
        "optimizer=adam": max(g["lr"], d["lr"]) <= 2e-4,
        "optimizer=adam_no_momentum": "betas" in d and d["betas"][0] == 0,
        "optimizer.generator.lr=1e-4": g["lr"] <= 1e-4,
        "optimizer.discriminator.lr=1e-4": d["lr"] <= 1e-4,
        "optimizer.discriminator.lr=2e-3": d["lr"] >= 2e-3,
        "max_images=100_000": False,
    }
