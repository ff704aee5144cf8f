"""What each verdict means, which numbers are its evidence, and which overrides to try that the run does not follow already."""

from collections.abc import Sequence

from torch.optim import Optimizer

from ganlab.losses import WGAN, NonSaturatingGAN, RpGAN
from ganlab.models.gan import GAN
from ganlab.regularizers import R1, R2, DiffAugment, GradientPenalty, InstanceNoise, is_spectrally_normalized


class Message:
    """`meaning`: two sentences. `evidence`: names of numbers. `suggestions`: (what, override to type)."""

    def __init__(self, meaning: str, evidence: Sequence[str], *suggestions: tuple[str, str]):
        self.meaning, self.evidence, self.suggestions = meaning, evidence, suggestions


AGAINST_DIVERGENCE = (
    ("lower learning rates", "optimizer=adam"),
    ("gradient clipping", "gan.gradient_clip=1"),
    ("a penalty on D's gradient", "'regularizer=[r1]'"),
)
MESSAGES = {
    "VANISHING_GRADIENT": Message(
        "D tells real from fake, but hardly any gradient reaches G. G's updates are noise from here on.",
        ("loss_slope", "saturated", "gradient_ratio", "auc"),
        ("a loss that does not saturate", "loss=ns"),
        ("a relativistic loss", "loss=rpgan"),
        ("a penalty that keeps D from winning", "'regularizer=[r1]'"),
    ),
    "MODE_COLLAPSE": Message(
        "G generates few different samples, far fewer than the data has. More training rarely brings the others back.",
        ("effective_modes", "modes_kept", "spacing", "diversity"),
        ("a relativistic loss with both gradient penalties", "loss=r3gan"),
        ("let D see two samples at once", "gan.pack=2"),
        ("a lower learning rate of G", "optimizer.generator.lr=1e-4"),
    ),
    "MODE_DROPPING": Message(
        "At least one mode of the data is missing or nearly so; `modes_kept` is the share of those that are present. "
        "Fréchet distance and precision can look good all the same.",
        ("rarest_mode", "modes_kept", "effective_modes"),
        ("let D see two samples at once", "gan.pack=2"),
        ("a relativistic loss", "loss=rpgan"),
        ("a penalty on real samples", "'regularizer=[r1]'"),
    ),
    "OSCILLATION": Message(
        "G's samples keep moving from mode to mode. G and D chase each other instead of converging; early in a run this can "
        "pass.",
        ("mode_turnover", "drift", "displacement", "distance_ratio"),
        ("a penalty with local convergence guarantees", "'regularizer=[r1]'"),
        ("no momentum", "optimizer=adam_no_momentum"),
        ("lower learning rates", "optimizer=adam"),
    ),
    "DISCRIMINATOR_WON": Message(
        "D tells real from fake nearly always, and the samples stay far from the data. G no longer improves.",
        ("auc", "energy_distance", "distance_ratio"),
        ("a penalty that slows D down", "'regularizer=[r1]'"),
        ("a lower learning rate of D", "optimizer.discriminator.lr=1e-4"),
        ("augmentation of all that D sees, for images", "'regularizer=[diffaugment]'"),
    ),
    "GENERATOR_WON": Message(
        "D tells real from fake no better than a coin toss, though the samples are far from the data. G learns nothing: D is "
        "too weak, too slow, or trained wrongly.",
        ("auc", "energy_distance", "nn_accuracy"),
        ("more steps of D", "gan.n_critic=5"),
        ("a higher learning rate of D", "optimizer.discriminator.lr=2e-3"),
        ("a loss with a gradient penalty", "loss=wgan_gp"),
    ),
    "CRITIC_NOT_LIPSCHITZ": Message(
        "The critic's gradient norm between real and fake samples is far above the bound that this loss requires. The loss is "
        "no Wasserstein distance then, and the logits tend to explode.",
        ("d_slope", "d_slope_max", "d_singular_value"),
        ("a gradient penalty", "loss=wgan_gp"),
        ("a stronger one, for any loss", "'regularizer=[gp]' regularizer.gp.weight=100"),
        ("spectral norm", "'regularizer=[sn]'"),
    ),
    "EXPLODING": Message(
        "Logits or samples have grown far beyond the range of losses and data. Usually a loss becomes non-finite next.",
        ("logit_max", "sample_max", "d_weight_norm", "d_slope_max"),
        *AGAINST_DIVERGENCE,
    ),
    "NON_FINITE": Message(
        "A loss or a penalty became inf or nan, and everything after it is lost. The last checkpoint is from before.",
        ("logit_max", "d_weight_norm", "g_grad_norm"),
        *AGAINST_DIVERGENCE,
    ),
    "MEMORIZING": Message(
        "Samples lie nearer to the training set than held-out data does: G copies training samples. Metrics that compare with "
        "the training data reward this.",
        ("memorization",),
        ("augmentation of all that D sees, for images", "'regularizer=[diffaugment]'"),
        ("noise on all that D sees", "'regularizer=[instance_noise]'"),
        ("a shorter run", "max_images=100_000"),
    ),
    "HEALTHY": Message(
        "No failure that ganlab can detect is in sight. This says nothing about quality: compare the metrics with those of "
        "real data.",
        ("auc", "energy_distance", "effective_modes", "mode_turnover"),
    ),
}


def verdict_text(name: str, entry: dict, members: int = 1) -> str:
    """A history entry in full: `verdict_line`, then the meaning and the suggestions, a line each."""
    if not entry["active"] or name == "HEALTHY":
        return verdict_line(name, entry, members)
    message = MESSAGES[name]
    suggested = [f"try {override}   {what}" for what, override in message.suggestions if override in entry["suggestions"]]
    return "\n                     ".join([verdict_line(name, entry, members), message.meaning, *suggested])


def verdict_line(name: str, entry: dict, members: int = 1) -> str:
    """A history entry in one line: the verdict, the seeds concerned, since when, and the evidence."""
    if not entry["active"]:
        return f"no longer {name}"
    concerned = ""
    if seeds := entry.get("seeds"):
        listed = ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
        concerned = f" in {len(seeds)} of {members} seeds ({listed})"
    since = "" if name == "HEALTHY" else f", since {entry['since']:,} images"
    values = ", ".join(f"{number} {value:.3g}" for number, value in entry["evidence"].items())
    return f"{name}{concerned}{since}: {values}"


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
