"""Checks of the training step: that it is ganlab's, and that each player's terms are its loss and the penalties."""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, user_location
from ganlab.analysis.checks.loss_functions import clone_for_eval
from ganlab.analysis.checks.penalties import IMAGE_SHAPE, LATE_STEP, LAZY_EVERY, linear_critic, samples
from ganlab.analysis.minimal import Family, derivative, family_class, minimal_gan
from ganlab.models.adversarial import frozen
from ganlab.models.gan import GAN, StepOutputs
from ganlab.regularizers import Regularizer


class _WeightDecay(Regularizer):
    """weight/2 * ||w||^2 over D's parameters: a penalty that every family can have."""

    weight = 2.0

    def penalty(self, discriminator: nn.Module, outputs: StepOutputs) -> Tensor:
        return self.weight / 2 * sum(p.square().sum() for p in discriminator.parameters())


class _AffineGenerator(nn.Linear):
    """G(z) = Wz + b in the shape of an image; labels are ignored."""

    latent_dim = 3

    def __init__(self):
        super().__init__(self.latent_dim, math.prod(IMAGE_SHAPE))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z).unflatten(1, IMAGE_SHAPE)


def step_is_ganlabs(family: Family) -> None:
    """Goodfellow et al. 2014 and Gulrajani et al. 2017, alg. 1: on fresh fakes, each player in turn descends its loss; loss
    and lambda times penalty are one sum and one step (in an Adam step of its own lambda nearly cancels)."""
    # ganlab's tests hold its own step to the papers; they say nothing about a step that a subclass changes.
    kind = family_class(family)
    if not kind.overridden_internals:
        return
    methods = []
    for name in kind.overridden_internals:
        owner = next(base for base in kind.__mro__ if name in vars(base))
        methods.append(f"{owner.__name__}.{name} ({user_location(getattr(owner, name)) or 'defined elsewhere'})")
    raise CheckFailed(
        f"overrides {', '.join(methods)}, so that the step is no longer ganlab's; override discriminator_loss, "
        "generator_loss, discriminator_terms or generator_terms instead, or write a Regularizer"
    )


def step_runs(family: Family) -> None:
    """Goodfellow et al. 2014, alg. 1: both players follow their gradients."""
    # One update's gradients for each player, and D's projections.
    gan = _build(family)
    _backward(gan, "discriminator")
    for regularizer in gan.regularizers.values():
        regularizer.project(gan.discriminator)
    with frozen(gan.discriminator):
        _backward(gan, "generator")


def _backward(gan: GAN, player: str) -> None:
    total = sum(_terms(gan, player, LATE_STEP).values())
    if not total.requires_grad:
        raise CheckFailed(f"the sum of the {player}'s terms has no gradient by its weights: something is detached")
    total.backward()


def discriminator_terms_add_up(family: Family) -> None:
    """Gulrajani et al. 2017, alg. 1: the loss plus lambda times the penalty. Karras et al. 2020 (StyleGAN2): a penalty
    computed on every k-th step counts k times."""
    for step in (LATE_STEP, LATE_STEP + 1):  # a step with the lazy penalty, and one without
        gan = _build(family)
        outputs = _step_outputs(gan, "discriminator", step)
        expected = {"d/loss": clone_for_eval(gan).discriminator_loss(outputs.real_logits, outputs.fake_logits)}
        for name, regularizer in gan.regularizers.items():
            penalty = copy.deepcopy(regularizer).penalty(gan.discriminator, outputs) if step % regularizer.every == 0 else None
            expected[f"d/penalty_{name}"] = torch.zeros(()) if penalty is None else regularizer.every * penalty
        _compare(gan, "discriminator", step, expected)


def generator_terms_add_up(family: Family) -> None:
    """Goodfellow et al. 2014, alg. 1: G's loss on fakes, through D."""
    gan = _build(family)
    outputs = _step_outputs(gan, "generator", LATE_STEP)
    expected = {"g/loss": clone_for_eval(gan).generator_loss(outputs.fake_logits, outputs.real_logits)}
    _compare(gan, "generator", LATE_STEP, expected)


def _build(family: Family) -> GAN:
    """The family on small images with a linear critic, its own regularizers and a lazy weight decay."""
    settings = getattr(family, "keywords", {})
    regularizers = {**(settings.get("regularizers") or {}), "weight_decay": _WeightDecay(LAZY_EVERY)}
    torch.default_generator.manual_seed(5)
    critic = linear_critic((settings.get("pack", 1) * IMAGE_SHAPE[0], *IMAGE_SHAPE[1:]), 0.8)
    return minimal_gan(partial(family, regularizers=regularizers), _AffineGenerator(), critic)


def _step_outputs(gan: GAN, player: str, step: int) -> StepOutputs:
    """What the player sees in step number `step`, the same at each call; the random state is the same afterwards, too."""
    gan.d_updates = step
    gan.on_step_start()
    torch.default_generator.manual_seed(0)
    real, y = samples(IMAGE_SHAPE, 12)[0], torch.arange(12) % max(gan.conditioning.num_classes, 1)
    with_real = player == "discriminator" or gan.generator_sees_real
    outputs = gan.forward_pass(real, y, with_real=with_real, grad_to_generator=player == "generator")
    torch.default_generator.manual_seed(1)
    return outputs


def _terms(gan: GAN, player: str, step: int) -> dict[str, Tensor]:
    outputs = _step_outputs(gan, player, step)
    clone = clone_for_eval(gan)
    return clone.discriminator_terms(outputs) if player == "discriminator" else clone.generator_terms(outputs)


def _compare(gan: GAN, player: str, step: int, expected: dict[str, Tensor]) -> None:
    """Raise CheckFailed at the first expected term whose value or gradient differs; further terms are the family's own."""
    terms, method = _terms(gan, player, step), f"{player}_terms"
    weights = list(getattr(gan, player).parameters())
    for name, reference in expected.items():
        term = terms.get(name, torch.zeros(()))
        if not math.isclose(term.item(), reference.item(), rel_tol=1e-3, abs_tol=1e-5):
            hint = "" if name in terms else f" ({method} leaves it out; add your terms to those of super().{method}(outputs))"
            raise CheckFailed(f"{name} is {term.item():.5g}, expected {reference.item():.5g}{hint}")
        found, wanted = (torch.cat([g.flatten() for g in derivative(x, *weights)]) for x in (term, reference))
        if not (found - wanted).norm() <= 1e-3 * wanted.norm() + 1e-5:
            raise CheckFailed(
                f"the gradient of {name} by the player's weights has the norm {found.norm():.5g}, expected "
                f"{wanted.norm():.5g}; their cosine is {torch.cosine_similarity(found, wanted, 0):.3f}"
            )


QUESTIONS: dict[str, Callable[[Family], None]] = {
    "training step runs": step_runs,
    "D's terms are its loss and penalties": discriminator_terms_add_up,
    "G's term is its loss": generator_terms_add_up,
}
