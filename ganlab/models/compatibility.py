"""Check that the parts of a GAN go together: raise ValueError where they cannot, warn where they are known to fail."""

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from ganlab.models.conditioning import Batch
from ganlab.regularizers import is_spectrally_normalized


def validate_combination(gan) -> None:
    """Raise ValueError where a part needs what another lacks; warn of combinations that are known to fail."""
    name = type(gan).__name__
    conditioning, discriminator = gan.conditioning, gan.discriminator
    if gan.requires_labels and not conditioning.num_classes:
        raise ValueError(f"{name} needs labels and has none; add conditioning=labels (or conditioning=concat)")
    for role, network in (("generator", gan.generator), ("discriminator", discriminator)):
        built_for = getattr(network, "num_classes", conditioning.num_classes)
        if built_for != conditioning.num_classes:
            raise ValueError(
                f"the {role} was built for {built_for} classes and the conditioning has {conditioning.num_classes}; "
                "choose both with conditioning=none, labels, concat, cbn or ac"
            )
    if (built_for := getattr(discriminator, "pack", gan.pack)) != gan.pack:
        raise ValueError(f"the discriminator was built for packs of {built_for} and gan.pack is {gan.pack}; set gan.pack")
    if conditioning.auxiliary and gan.pack > 1:
        raise ValueError(
            f"an auxiliary classifier classifies single samples, not packs of {gan.pack}; "
            "use gan.pack=1, or conditioning=labels or concat"
        )
    if getattr(discriminator, "auxiliary_classes", 0) and not conditioning.auxiliary:
        raise ValueError("the discriminator has an auxiliary classifier that nothing trains; choose both with conditioning=ac")
    has_classifier = getattr(discriminator, "auxiliary_classes", hasattr(discriminator, "forward_with_classes"))
    if conditioning.auxiliary and not has_classifier:
        raise ValueError("an auxiliary classifier needs a discriminator with one; choose both with conditioning=ac")

    lipschitz = any(r.lipschitz for r in gan.regularizers.values()) or is_spectrally_normalized(discriminator)
    if gan.requires_lipschitz and not lipschitz:
        rank_zero_warn(
            f"{name} without a Lipschitz constraint measures no Wasserstein distance and tends to explode; "
            "add regularizer=clip, regularizer=gp or regularizer=sn"
        )
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in discriminator.modules()):
        reasons = [n for n, r in gan.regularizers.items() if r.per_sample] + [name] * gan.generator_sees_real
        if reasons:
            rank_zero_warn(
                f"batch norm in the discriminator makes each logit depend on the whole batch and does not go with "
                f"{', '.join(reasons)}; use networks.discriminator.norm=none (or layer)"
            )


def validate_at_fit_start(gan, trainer) -> None:
    """The same for what depends on data, precision and the trained parameters."""
    if trainer.precision in ("bf16-true", "16-true"):
        raise ValueError(
            f"trainer.precision={trainer.precision} rounds weights so coarsely that updates of the moving average vanish; "
            "use trainer.precision=bf16-mixed"
        )
    template = gan.template
    trained = {id(p) for network in (template.generator, template.discriminator) for p in network.parameters()}
    if untrained := [name for name, p in template.named_parameters() if p.requires_grad and id(p) not in trained]:
        rank_zero_warn(
            f"nothing trains {', '.join(untrained)} of {gan.family}, since neither network holds it; put it into the "
            "discriminator or the generator, or use register_buffer for what is not trained"
        )
    shape = getattr(trainer.datamodule, "shape", None)
    lazy = [n for n, r in gan.regularizers.items() if r.per_sample and r.every > 1]
    if lazy and shape is not None and len(shape) == 1:
        rank_zero_warn(
            f"lazy penalties ({', '.join(lazy)}) are reported to fail on 2-D toys (R3GAN, Huang et al. 2024); "
            f"use regularizer.{lazy[0]}.every=1"
        )
    prior = getattr(template.conditioning, "prior", None)
    if template.pairs_samples and prior is not None and not isinstance(prior, Batch):
        rank_zero_warn(
            f"{gan.family} compares each fake with one real sample, which has another label where the labels of fakes are drawn "
            f"({type(prior).__name__}); R3GAN pairs equal labels: use label_prior=batch"
        )
    if trainer.precision == "16-mixed":
        rank_zero_warn(
            "fp16 is reported to cripple GAN training where bf16 is fine (R3GAN, Huang et al. 2024); "
            "use trainer.precision=bf16-mixed"
        )
