"""The settings of the calibration: planted failures and ordinary training, in two halves without common settings or seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from calibration import planted
from ganlab import losses
from ganlab.data import TensorData, to_float
from ganlab.models.conditioning import ClassLabels
from ganlab.models.gan import GAN
from ganlab.networks import MLPDiscriminator, MLPGenerator
from ganlab.regularizers import R1, R2, GradientPenalty

BATCH, WIDTH = 64, 64
SEEDS = {"fit": range(1, 9), "test": range(201, 209)}  # 101 to 108 were used while the rules were designed


@dataclass(frozen=True)
class Setting:
    """A GAN that is trained with several seeds. `planted`: the failure that it has by construction, or None."""

    name: str
    half: str
    planted: str | None
    data: Callable[[str], TensorData]
    family: Callable[..., GAN] = losses.NonSaturatingGAN
    steps: int = 800
    lr: tuple[float, float] = (2e-3, 2e-3)  # of G, of D
    betas: tuple[float, float] = (0.5, 0.999)
    optimizer: str = "Adam"
    regularizers: dict = field(default_factory=dict)
    n_critic: int = 1
    generator: Callable = MLPGenerator
    critic: tuple[int, ...] = (WIDTH,) * 2
    latent: int | None = None
    labels: bool = False
    copied: tuple[float, float] | None = None  # share and noise of `planted.Copier`

    def gan(self, data: TensorData, seed: int) -> GAN:
        torch.manual_seed(seed)
        images = len(data.shape) == 3
        classes = data.num_classes if self.labels else 0
        latent = self.latent or (16 if images else 2)
        bounded = images or self.generator is planted.Saturated
        generator = self.generator(latent, data.shape, [WIDTH] * 2, bounded=bounded, num_classes=classes)
        if self.copied:
            x = data.train.x
            generator = planted.Copier(generator, to_float(x) if images else x, *self.copied)
        feed = {"projection_classes": classes} if classes else {}
        discriminator = MLPDiscriminator(data.shape, list(self.critic), **feed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*without a Lipschitz constraint.*")
            return self.family(
                generator,
                discriminator,
                generator_optimizer=partial(self._optimizer, lr=self.lr[0]),
                discriminator_optimizer=partial(self._optimizer, lr=self.lr[1]),
                conditioning=ClassLabels(classes) if classes else None,
                regularizers={name: make() for name, make in self.regularizers.items()},
                n_critic=self.n_critic,
                ema_decay=0.99,
            )

    def _optimizer(self, parameters, lr: float):
        if self.optimizer == "Adam":
            return torch.optim.Adam(parameters, lr, self.betas, fused=True)
        return getattr(torch.optim, self.optimizer)(parameters, lr)


def toy(kind, modes: int, std: float, data_dir: str, lacks: tuple[int, ...] = ()) -> TensorData:
    data = kind(dim=2, num_classes=modes, std=std, batch_size=BATCH, train_size=6000, test_size=4000, data_seed=0)
    data.lacks = lacks
    return data


def digits(data_dir: str, lacks: tuple[int, ...] = ()) -> TensorData:
    data = planted.LackingDigits(channels=1, size=8, num_classes=10, batch_size=BATCH, data_dir=data_dir)
    data.lacks = lacks
    return data


RING, RING_12 = partial(toy, planted.LackingRing, 8, 0.05), partial(toy, planted.LackingRing, 12, 0.04)
RING_THIN, GRID = partial(toy, planted.LackingRing, 8, 0.02), partial(toy, planted.LackingGrid, 9, 0.15)
r1, strong_r1, r2 = partial(R1, 0.1), partial(R1, 1.0), partial(R2, 0.1)
gp, no_gp = partial(GradientPenalty, 0.1), partial(GradientPenalty, 1e-5)
one_sided = partial(GradientPenalty, 1.0, one_sided=True)
LONG = 1200  # updates of D


def all_settings() -> list[Setting]:
    return [*fit_settings(), *test_settings()]


def fit_settings() -> list[Setting]:
    new = partial(Setting, half="fit", planted=None)
    adam_gp = {"betas": (0.0, 0.9), "steps": LONG}
    return [
        # ordinary training
        new("ns, ring", data=RING, steps=LONG),
        new("rpgan + r1 r2, thin ring", data=RING_THIN, family=losses.RpGAN, regularizers={"r1": r1, "r2": r2}, steps=LONG),
        new("ls, grid", data=GRID, family=losses.LSGAN, steps=LONG),
        new("wgan-gp, ring", data=RING, family=losses.WGAN, regularizers={"gp": gp}, n_critic=2, **adam_gp),
        new("ns + r1, digits", data=digits, regularizers={"r1": r1}, steps=LONG),
        new("cgan + r1, digits", data=digits, family=losses.CGAN, labels=True, regularizers={"r1": strong_r1}, steps=LONG),
        # may fail without a planted failure
        new("minimax, momentum 0.9, ring", data=RING, family=losses.MinimaxGAN, betas=(0.9, 0.999), lr=(4e-3, 4e-3), steps=LONG),
        new("ns, quick G, grid", data=GRID, lr=(8e-3, 1e-3), steps=LONG),
        new("ns, high rates, digits", data=digits, lr=(1e-2, 1e-2), steps=LONG),
        # planted failures
        new("two latents, ring", planted="MODE_COLLAPSE", data=RING, generator=planted.FewLatents, latent=1),
        new("one latent a label, digits", planted="MODE_COLLAPSE", data=digits, family=losses.CGAN, labels=True, generator=planted.OneLatent),
        new("2 of 8 modes unseen, ring", planted="MODE_DROPPING", data=partial(RING, lacks=(1, 4)), steps=LONG),
        new("2 of 10 classes unseen, digits", planted="MODE_DROPPING", data=partial(digits, lacks=(0, 7)), regularizers={"r1": r1}, steps=LONG),
        new("hinge, high rates, ring", data=RING, family=losses.HingeGAN, lr=(2e-2, 2e-2), steps=LONG),
        new("frozen G, ring", planted="DISCRIMINATOR_WON", data=RING, lr=(0.0, 2e-3)),
        new("slow G, digits", planted="DISCRIMINATOR_WON", data=digits, lr=(1e-7, 2e-3)),
        new("frozen D, ring", planted="GENERATOR_WON", data=RING, lr=(2e-3, 0.0)),
        new("random labels, digits", planted="GENERATOR_WON", data=digits, family=planted.NoisyLabels),
        new("minimax, quick D, ring", planted="VANISHING_GRADIENT", data=RING, family=losses.MinimaxGAN, lr=(1e-6, 2e-3), n_critic=5),
        new("saturated G, digits", planted="VANISHING_GRADIENT", data=digits, generator=planted.Saturated),
        new("wgan unconstrained, ring", planted="CRITIC_NOT_LIPSCHITZ", data=RING, family=losses.WGAN),
        new("wgan-gp of weight 1e-5, grid", planted="CRITIC_NOT_LIPSCHITZ", data=GRID, family=losses.WGAN, regularizers={"gp": no_gp}, n_critic=2),
        new("ns, rates of 0.1, ring", planted="EXPLODING", data=RING, lr=(0.1, 0.1)),
        new("ls, rates of 0.05, digits", planted="EXPLODING", data=digits, family=losses.LSGAN, lr=(0.05, 0.05)),
        new("SGD of rate 1e8, ring", planted="NON_FINITE", data=RING, optimizer="SGD", lr=(1e8, 1e8), family=losses.LSGAN),
        new("copies, digits", planted="MEMORIZING", data=digits, copied=(1.0, 0.0)),
        new("half of them copies, digits", planted="MEMORIZING", data=digits, copied=(0.6, 0.01)),
    ]  # fmt: skip


def test_settings() -> list[Setting]:
    new = partial(Setting, half="test", planted=None)
    adam_gp = {"betas": (0.0, 0.9), "steps": LONG}
    return [
        new("hinge, grid", data=GRID, family=losses.HingeGAN, steps=LONG),
        new("ragan, ring", data=RING, family=losses.RaGAN, steps=LONG),
        new("minimax + r1, 12 modes", data=RING_12, family=losses.MinimaxGAN, regularizers={"r1": r1}, steps=LONG),
        new("wgan-gp one-sided, grid", data=GRID, family=losses.WGAN, regularizers={"gp": one_sided}, n_critic=2, **adam_gp),
        new("ls + r1, digits", data=digits, family=losses.LSGAN, regularizers={"r1": r1}, steps=LONG),
        new("rpgan + r1, digits", data=digits, family=losses.RpGAN, regularizers={"r1": strong_r1}, steps=LONG),
        new("conditional hinge + r1, digits", data=digits, family=losses.HingeGAN, labels=True, regularizers={"r1": strong_r1}, steps=LONG),
        new("ns, momentum 0.9, thin ring", data=RING_THIN, betas=(0.9, 0.999), lr=(4e-3, 4e-3), steps=LONG),
        new("minimax, quick G, ring", data=RING, family=losses.MinimaxGAN, lr=(8e-3, 1e-3), steps=LONG),
        new("hinge, high rates, digits", data=digits, family=losses.HingeGAN, lr=(1e-2, 1e-2), steps=LONG),
        new("four latents, grid", planted="MODE_COLLAPSE", data=GRID, generator=planted.FewLatents, latent=2),
        new("eight latents, digits", planted="MODE_COLLAPSE", data=digits, generator=planted.FewLatents, latent=3),
        new("one latent, ring", planted="MODE_COLLAPSE", data=RING, family=losses.LSGAN, generator=planted.OneLatent),
        new("3 of 9 modes unseen, grid", planted="MODE_DROPPING", data=partial(GRID, lacks=(0, 4, 7)), family=losses.LSGAN, steps=LONG),
        new("1 of 10 classes unseen, digits", planted="MODE_DROPPING", data=partial(digits, lacks=(6,)), regularizers={"r1": r1}, steps=LONG),
        new("minimax, high rates, grid", data=GRID, family=losses.MinimaxGAN, lr=(2e-2, 2e-2), steps=LONG),
        new("frozen G, hinge, grid", planted="DISCRIMINATOR_WON", data=GRID, family=losses.HingeGAN, lr=(0.0, 2e-3)),
        new("slow G, ls, digits", planted="DISCRIMINATOR_WON", data=digits, family=losses.LSGAN, lr=(1e-6, 2e-3)),
        new("frozen D, digits", planted="GENERATOR_WON", data=digits, lr=(2e-3, 0.0)),
        new("random labels, hinge, grid", planted="GENERATOR_WON", data=GRID, family=planted.NoisyHinge),
        new("minimax, quick D, digits", planted="VANISHING_GRADIENT", data=digits, family=losses.MinimaxGAN, lr=(1e-6, 2e-3), n_critic=5),
        new("saturated G, ring", planted="VANISHING_GRADIENT", data=RING, generator=planted.Saturated, family=losses.HingeGAN),
        new("wgan unconstrained, digits", planted="CRITIC_NOT_LIPSCHITZ", data=digits, family=losses.WGAN),
        new("wgan-gp of weight 1e-4, ring", planted="CRITIC_NOT_LIPSCHITZ", data=RING, family=losses.WGAN, regularizers={"gp": partial(GradientPenalty, 1e-4)}, n_critic=2),
        new("hinge, rates of 0.1, grid", planted="EXPLODING", data=GRID, family=losses.HingeGAN, lr=(0.1, 0.1)),
        new("ns, rates of 0.05, digits", planted="EXPLODING", data=digits, lr=(0.05, 0.05)),
        new("SGD of rate 1e9, grid", planted="NON_FINITE", data=GRID, optimizer="SGD", lr=(1e9, 1e9), family=losses.LSGAN),
        new("copies with noise, digits", planted="MEMORIZING", data=digits, copied=(1.0, 0.02)),
        new("copies in seven of ten, hinge, digits", planted="MEMORIZING", data=digits, family=losses.HingeGAN, copied=(0.7, 0.0)),
    ]  # fmt: skip
