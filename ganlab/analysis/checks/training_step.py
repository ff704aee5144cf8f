"""Checks of the training step: that it is ganlab's, and that each player's terms are its loss and the penalties."""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlab.analysis.checks.base import CheckFailed, NotApplicable, Noticed, user_location
from ganlab.analysis.checks.loss_functions import clone_for_eval
from ganlab.analysis.checks.penalties import IMAGE_SHAPE, LATE_STEP, LAZY_EVERY, linear_critic, samples
from ganlab.analysis.minimal import Family, LinearCritic, derivative, family_class, minimal_gan
from ganlab.models.adversarial import frozen
from ganlab.models.gan import GAN, StepOutputs
from ganlab.regularizers import Regularizer

LABELS = (0, 1, 2, 0, 0, 3, 1, 0, 4, 0, 2, 0)  # of a batch, modulo the number of classes: some are rarer


class _WeightDecay(Regularizer):
    """weight/2 * ||w||^2 over D's parameters: a penalty that every family can have."""

    weight = 2.0

    def penalty(self, discriminator: nn.Module, outputs: StepOutputs) -> Tensor:
        return self.weight / 2 * sum(p.square().sum() for p in discriminator.parameters())


class _Critic(LinearCritic):
    """A linear critic whose logit has a part of the label, and class logits for an auxiliary classifier."""

    def __init__(self, weight: Tensor, num_classes: int):
        super().__init__(weight)
        self.by_class = nn.Parameter(torch.linspace(-0.3, 0.6, num_classes)) if num_classes else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits = super().forward(x)
        return logits if y is None or self.by_class is None else logits + self.by_class[y].reshape(len(x), -1).sum(1)

    def forward_with_classes(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits = self(x)
        return logits, logits[:, None] * self.by_class


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
        if (class_loss := gan.conditioning.discriminator_term(outputs)) is not None:
            expected["d/class_loss"] = class_loss
        for name, regularizer in gan.regularizers.items():
            penalty = copy.deepcopy(regularizer).penalty(gan.discriminator, outputs) if step % regularizer.every == 0 else None
            expected[f"d/penalty_{name}"] = torch.zeros(()) if penalty is None else regularizer.every * penalty
        _compare(gan, "discriminator", step, expected)


def generator_terms_add_up(family: Family) -> None:
    """Goodfellow et al. 2014, alg. 1: G's loss on fakes, through D."""
    gan = _build(family)
    outputs = _step_outputs(gan, "generator", LATE_STEP)
    expected = {"g/loss": clone_for_eval(gan).generator_loss(outputs.fake_logits, outputs.real_logits)}
    if (class_loss := gan.conditioning.generator_term(outputs)) is not None:
        expected["g/class_loss"] = class_loss
    _compare(gan, "generator", LATE_STEP, expected)


def _build(family: Family) -> GAN:
    """The family on small images with a linear critic, its own regularizers and a lazy weight decay."""
    settings = getattr(family, "keywords", {})
    regularizers = {**(settings.get("regularizers") or {}), "weight_decay": _WeightDecay(LAZY_EVERY)}
    torch.default_generator.manual_seed(5)
    weight = linear_critic((settings.get("pack", 1) * IMAGE_SHAPE[0], *IMAGE_SHAPE[1:]), 0.8).weight.detach()
    classes = 2 if family_class(family).requires_labels else 0
    classes = getattr(settings.get("conditioning"), "num_classes", classes)
    return minimal_gan(partial(family, regularizers=regularizers), _AffineGenerator(), _Critic(weight, classes))


def _step_outputs(gan: GAN, player: str, step: int) -> StepOutputs:
    """What the player sees in step number `step`, the same at each call; the random state is the same afterwards, too."""
    gan.d_updates = step
    gan.on_step_start()
    torch.default_generator.manual_seed(0)
    real, y = samples(IMAGE_SHAPE, 12)[0], torch.tensor(LABELS) % max(gan.conditioning.num_classes, 1)
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
    loss, others = f"{player[0]}/loss", [term for name, term in terms.items() if name not in expected]
    is_in_parts = loss not in terms and bool(others)
    if is_in_parts:
        terms[loss] = sum(others)  # in parts, with names of their own
    weights = list(getattr(gan, player).parameters())
    for name, reference in expected.items():
        term = terms.get(name, torch.zeros(()))
        if not math.isclose(term.item(), reference.item(), rel_tol=1e-3, abs_tol=1e-5):
            hint = "" if name in terms else f" ({method} leaves it out; add your terms to those of super().{method}(outputs))"
            if gan.conditioning.num_classes:
                outputs = _step_outputs(gan, player, step)
                labels = (None if y is None else y.tolist() for y in (outputs.real_y, outputs.fake_y))
                hint += "; with labels {} of real samples and {} of fakes".format(*labels)
                if is_in_parts and name == loss:
                    raise Noticed(
                        f"{player} terms of its own sum to {term.item():.5g}, its loss is {reference.item():.5g}{hint}"
                    )
            raise CheckFailed(f"{name} is {term.item():.5g}, expected {reference.item():.5g}{hint}")
        found, wanted = (torch.cat([g.flatten() for g in derivative(x, *weights)]) for x in (term, reference))
        if not (found - wanted).norm() <= 1e-3 * wanted.norm() + 1e-5:
            raise CheckFailed(
                f"the gradient of {name} by the player's weights has the norm {found.norm():.5g}, expected "
                f"{wanted.norm():.5g}; their cosine is {torch.cosine_similarity(found, wanted, 0):.3f}"
            )


def changes_nothing_else(family: Family) -> None:
    """A term is a number: weights change in the optimizer's step and in `Regularizer.project`, and networks keep their mode."""
    gan = _build(family)
    step = LATE_STEP * math.prod(r.every for r in gan.regularizers.values())
    networks, state = {"D": gan.discriminator, "G": gan.generator}, {name: x.clone() for name, x in gan.named_buffers()}
    before = {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.items()}
    for player in ("discriminator", "generator"):
        _terms(gan, player, step)
        for name, network in networks.items():
            change = f"{player}_terms, or a penalty in it, has a side effect: it "
            if not all(map(torch.equal, before[name], network.parameters())):
                raise CheckFailed(f"{change}changes {name}'s weights; clip or project them in Regularizer.project")
            if not all(module.training for module in network.modules()):
                raise CheckFailed(f"{change}leaves {name} in evaluation mode, and its state stays so for the rest of training")
            if not all(p.requires_grad for p in network.parameters()):
                raise CheckFailed(f"{change}leaves {name}'s weights frozen (requires_grad = False)")

    moved = [name for name, x in gan.named_buffers() if name.count(".") == 0 and not torch.equal(x, state[name])]
    if moved:
        raise Noticed(f"the terms change the GAN's state at each step: {', '.join(moved)}")


def keeps_labels_with_their_side(family: Family) -> None:
    """Mirza & Osindero 2014, eq. 2: D(x, y) of a real sample has its own label, and so has a fake."""
    gan = _build(family)
    if gan.conditioning.num_classes == 0 or gan.pairs_samples:
        raise NotApplicable("there are no labels, or the loss pairs them")
    gradients = []
    for shift in (0, 1):
        outputs = _step_outputs(gan, "discriminator", LATE_STEP)
        outputs.real_y = None if outputs.real_y is None else outputs.real_y.roll(shift, 0)
        gradients.append(derivative(sum(clone_for_eval(gan).discriminator_terms(outputs).values()), outputs.fake_logits)[0])
    if not torch.allclose(*gradients, rtol=1e-4, atol=1e-7):
        raise CheckFailed(
            "the fakes' gradient changes if the real samples' labels are exchanged: fakes are weighted by the labels of the real "
            "batch (real_y for fake_y)"
        )


def draws_fresh_latents(family: Family) -> None:
    """Goodfellow et al. 2014, alg. 1: a new latent for each sample of each step; after training they are from N(0, I)."""
    gan = _build(family)
    torch.default_generator.manual_seed(0)
    first, second = gan.sample_latents(512), gan.sample_latents(512)
    if (first[0] == first[1:]).all() or torch.equal(first, second):
        where = "each sample of a batch" if (first[0] == first[1:]).all() else "each step"
        raise CheckFailed(f"sample_latents gives {where} the same latents, so that G learns few points; draw new, unequal ones")
    if abs(first.mean()) > 0.2 or abs(first.std() - 1) > 0.2:
        raise Noticed(
            f"sample_latents draws latents of mean {first.mean():.3g} and standard deviation {first.std():.3g}; after training "
            "they are drawn from N(0, 1)"
        )


QUESTIONS: dict[str, Callable[[Family], None]] = {
    "training step runs": step_runs,
    "D's terms are its loss and penalties": discriminator_terms_add_up,
    "G's term is its loss": generator_terms_add_up,
    "terms have no side effects": changes_nothing_else,
    "labels stay with their side": keeps_labels_with_their_side,
    "latents are fresh": draws_fresh_latents,
}
