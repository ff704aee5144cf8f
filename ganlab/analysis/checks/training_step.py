"""Checks of the training step: that it is ganlab's, and that each player's terms are its loss and the penalties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, user_location
from ganlab.analysis.checks.loss_functions import clone_for_eval
from ganlab.analysis.checks.penalty_inputs import IMAGE_SHAPE, LATE_STEP, LAZY_EVERY, linear_critic, samples
from ganlab.analysis.minimal import Family, family_class, minimal_gan
from ganlab.models.adversarial import frozen
from ganlab.models.gan import GAN, StepOutputs
from ganlab.regularizers import Regularizer


class _WeightDecay(Regularizer):
    """weight/2 * ||w||^2 over D's parameters: a penalty that every family can have, on every third step."""

    def __init__(self, weight: float):
        super().__init__(LAZY_EVERY)
        self.weight = weight

    def penalty(self, discriminator: nn.Module, outputs: StepOutputs) -> Tensor:
        return self.weight / 2 * sum(p.square().sum() for p in discriminator.parameters())


class _AffineGenerator(nn.Module):
    """G(z) = Wz + b in the shape of an image; labels are ignored."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(0.3 * torch.randn(math.prod(IMAGE_SHAPE), 3, generator=random))
        self.bias = nn.Parameter(0.2 * torch.randn(math.prod(IMAGE_SHAPE), generator=random))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return (z @ self.weight.T + self.bias).view(len(z), *IMAGE_SHAPE)


def family_regularizers(family: Family) -> dict[str, Regularizer]:
    regularizers = getattr(family, "keywords", {}).get("regularizers") or {}
    return {name: r for name, r in regularizers.items() if r is not None}


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
    _backward(_discriminator_terms(gan, LATE_STEP), "discriminator")
    for regularizer in gan.regularizers.values():
        regularizer.project(gan.discriminator)
    with frozen(gan.discriminator):
        _backward(_generator_terms(gan, LATE_STEP), "generator")


def _backward(terms: dict[str, Tensor], player: str) -> None:
    total = sum(terms.values())
    if not total.requires_grad:
        raise CheckFailed(f"the sum of the {player}'s terms has no gradient by its weights: something is detached")
    total.backward()


def discriminator_terms_add_up(family: Family) -> None:
    """Gulrajani et al. 2017, alg. 1: the loss plus lambda times the penalty. Karras et al. 2020 (StyleGAN2): a penalty
    computed on every k-th step counts k times."""
    for step in (LATE_STEP, LATE_STEP + 1):  # a step with the lazy penalty, and one without
        gan = _build(family)
        outputs = _step_outputs(gan, step, with_real=True, grad_to_generator=False)
        expected = {"d/loss": clone_for_eval(gan).discriminator_loss(outputs.real_logits, outputs.fake_logits)}
        for name, regularizer in gan.regularizers.items():
            penalty = copy.deepcopy(regularizer).penalty(gan.discriminator, outputs) if step % regularizer.every == 0 else None
            expected[f"d/penalty_{name}"] = torch.zeros(()) if penalty is None else regularizer.every * penalty
        _compare(_discriminator_terms(gan, step), expected, gan.discriminator.parameters(), "discriminator_terms")


def generator_terms_add_up(family: Family) -> None:
    """Goodfellow et al. 2014, alg. 1: G's loss on fakes, through D."""
    gan = _build(family)
    outputs = _step_outputs(gan, LATE_STEP, with_real=gan.generator_sees_real, grad_to_generator=True)
    expected = {"g/loss": clone_for_eval(gan).generator_loss(outputs.fake_logits, outputs.real_logits)}
    _compare(_generator_terms(gan, LATE_STEP), expected, gan.generator.parameters(), "generator_terms")


def _build(family: Family) -> GAN:
    """The family on small images with a linear critic, its own regularizers and a lazy weight decay."""
    pack = getattr(family, "keywords", {}).get("pack", 1)
    regularizers = {**family_regularizers(family), "weight_decay": _WeightDecay(2.0)}
    critic = linear_critic((pack * IMAGE_SHAPE[0], *IMAGE_SHAPE[1:]), 0.8)
    return minimal_gan(partial(family, regularizers=regularizers), _AffineGenerator(), critic)


def _step_outputs(gan: GAN, step: int, *, with_real: bool, grad_to_generator: bool) -> StepOutputs:
    """What step number `step` sees, the same at each call; the random state is the same afterwards, too."""
    gan.d_updates = step
    gan.on_step_start()
    torch.default_generator.manual_seed(0)
    real, y = samples(IMAGE_SHAPE, 12)[0], torch.arange(12) % max(gan.conditioning.num_classes, 1)
    outputs = gan.forward_pass(real, y, with_real=with_real, grad_to_generator=grad_to_generator)
    torch.default_generator.manual_seed(1)
    return outputs


def _discriminator_terms(gan: GAN, step: int) -> dict[str, Tensor]:
    outputs = _step_outputs(gan, step, with_real=True, grad_to_generator=False)
    return clone_for_eval(gan).discriminator_terms(outputs)


def _generator_terms(gan: GAN, step: int) -> dict[str, Tensor]:
    outputs = _step_outputs(gan, step, with_real=gan.generator_sees_real, grad_to_generator=True)
    return clone_for_eval(gan).generator_terms(outputs)


def _compare(terms: dict[str, Tensor], expected: dict[str, Tensor], weights: Iterable[nn.Parameter], method: str) -> None:
    """Raise CheckFailed at the first expected term whose value or gradient differs; further terms are the family's own."""
    weights = list(weights)
    for name, reference in expected.items():
        term = terms.get(name, torch.zeros(()))
        if not math.isclose(term.item(), reference.item(), rel_tol=1e-3, abs_tol=1e-5):
            hint = "" if name in terms else f" ({method} leaves it out; add your terms to those of super().{method}(outputs))"
            raise CheckFailed(f"{name} is {term.item():.5g}, expected {reference.item():.5g}{hint}")
        found, wanted = (_gradient(x, weights) for x in (term, reference))
        if not (found - wanted).norm() <= 1e-3 * wanted.norm() + 1e-5:
            raise CheckFailed(
                f"the gradient of {name} by the player's weights has the norm {found.norm():.5g}, expected "
                f"{wanted.norm():.5g}; their cosine is {torch.cosine_similarity(found, wanted, 0):.3f}"
            )


def _gradient(term: Tensor, weights: list[nn.Parameter]) -> Tensor:
    if not term.requires_grad:
        return torch.zeros(sum(w.numel() for w in weights))
    gradients = torch.autograd.grad(term, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
    return torch.cat([g.flatten() for g in gradients])


QUESTIONS: dict[str, Callable[..., object]] = {
    "training step runs": step_runs,
    "D's terms are its loss and penalties": discriminator_terms_add_up,
    "G's term is its loss": generator_terms_add_up,
}
REQUIRED = ("training step runs",)
