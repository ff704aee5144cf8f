"""What each verdict means, what it rests on, and what to try."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """`meaning`: two sentences. `shows`: the numbers that are its evidence. `tries`: (what, override to type)."""

    meaning: str
    shows: tuple[str, ...]
    tries: tuple[tuple[str, str], ...] = ()


WORDS = {
    "VANISHING_GRADIENT": Words(
        "D tells real from fake, and almost nothing of what it knows reaches G. G's updates are noise from here on.",
        ("signal", "saturated", "reach", "pairs"),
        (
            ("a loss that does not saturate", "loss=ns"),
            ("or one whose slope never dies", "loss=rpgan"),
            ("a penalty that keeps D from winning", "'regularizer=[r1]'"),
        ),
    ),
    "MODE_COLLAPSE": Words(
        "G makes few different samples, far fewer than the data holds. More training rarely brings the others back.",
        ("effective", "kept", "spacing", "diversity"),
        (
            ("pairs of real and fake, and both gradient penalties", "loss=r3gan"),
            ("let D judge two samples at once", "gan.pack=2"),
            ("a slower generator", "optimizer.generator.lr=1e-4"),
        ),
    ),
    "MODE_DROPPING": Words(
        "At least one of the data's modes is missing or nearly so; `kept` is the share of those that are there. "
        "Fréchet distance and precision can look good all the same.",
        ("rarest", "kept", "effective"),
        (
            ("let D judge two samples at once", "gan.pack=2"),
            ("a relativistic loss", "loss=rpgan"),
            ("a penalty on real samples", "'regularizer=[r1]'"),
        ),
    ),
    "OSCILLATION": Words(
        "G's samples keep moving from mode to mode between looks. The players chase each other instead of converging; early in "
        "a run this can pass.",
        ("turnover", "drift", "stride", "progress"),
        (
            ("a penalty that makes the game converge locally", "'regularizer=[r1]'"),
            ("no momentum", "optimizer=adam_no_momentum"),
            ("lower rates", "optimizer=adam"),
        ),
    ),
    "DISCRIMINATOR_WON": Words(
        "D orders nearly every pair of a real and a fake sample rightly, and the samples stay far from the data. G has "
        "stopped catching up.",
        ("pairs", "distance", "progress"),
        (
            ("a penalty that slows D down", "'regularizer=[r1]'"),
            ("a slower D", "optimizer.discriminator.lr=1e-4"),
            ("augmentation of all that D sees, for images", "'regularizer=[diffaugment]'"),
        ),
    ),
    "GENERATOR_WON": Words(
        "D orders pairs of real and fake samples no better than by tossing a coin, though the samples are far from the data. "
        "G is taught nothing: D is too weak, too slow, or misled.",
        ("pairs", "distance", "told_apart"),
        (
            ("more turns for D", "gan.n_critic=5"),
            ("a quicker D", "optimizer.discriminator.lr=2e-3"),
            ("a loss whose penalty lets D go further", "loss=wgan_gp"),
        ),
    ),
    "CRITIC_NOT_LIPSCHITZ": Words(
        "The critic's slope between real and fake samples is far above the bound that this loss needs. Its loss is no "
        "Wasserstein distance, and its logits tend to explode.",
        ("slope", "slope_max", "d_singular"),
        (
            ("a gradient penalty", "loss=wgan_gp"),
            ("the same for another loss, stronger", "'regularizer=[gp]' regularizer.gp.weight=100"),
            ("spectral norm", "'regularizer=[sn]'"),
        ),
    ),
    "EXPLODING": Words(
        "Logits or samples have grown far beyond the sizes that data and losses have. Numbers that are not finite usually come "
        "next.",
        ("logit_size", "size", "d_weights", "slope_max"),
        (
            ("lower rates", "optimizer=adam"),
            ("clipped gradients", "gan.gradient_clip=1"),
            ("a penalty on D's slope", "'regularizer=[r1]'"),
        ),
    ),
    "NON_FINITE": Words(
        "A loss or a penalty stopped being a number, and everything after it is lost. The last checkpoint is from before.",
        ("logit_size", "d_weights", "g_gradient"),
        (
            ("lower rates", "optimizer=adam"),
            ("clipped gradients", "gan.gradient_clip=1"),
            ("a penalty on D's slope", "'regularizer=[r1]'"),
        ),
    ),
    "MEMORIZING": Words(
        "Samples lie nearer to the training set than held-out data does: G repeats what it was shown. Distances to the training "
        "data reward this.",
        ("nearer",),
        (
            ("augmentation of all that D sees, for images", "'regularizer=[diffaugment]'"),
            ("noise on all that D sees", "'regularizer=[instance_noise]'"),
            ("a shorter run", "max_images=100_000"),
        ),
    ),
    "HEALTHY": Words(
        "None of the failures that ganlab knows is in sight. That is no proof of quality: compare it with that of real data.",
        ("pairs", "distance", "effective", "turnover"),
    ),
}
