"""Questions to the training step: a few turns under a real Trainer, against gradients worked out beside it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ganlab.gan import GAN, Play
from ganlab.regularizers import Regularizer
from ganlab.theory.bare import Family, bare
from ganlab.theory.conformance.check import Check, NotApplicable, Wrong, examine
from ganlab.theory.conformance.critics import LATE, linear, samples
from ganlab.theory.conformance.penalties import in_settings
from ganlab.theory.conformance.players import twin

SHAPE = (2, 8, 8)
REACH = 0.05  # a step's rate, and its length where the gradient is longer than 1: plain steps on a steep loss overflow
LAZY = 3
PLAYERS = {"d": "discriminator", "g": "generator"}
PAPERS = {
    "training step runs": "Goodfellow et al. 2014, alg. 1: D's turns on fresh fakes, then G's.",
    "one step per turn": "Gulrajani et al. 2017, alg. 1: loss and penalty are one sum and one step. Adam divides by "
    "the gradient's size: with a step of its own for the penalty, lambda nearly cancels.",
    "D's update is its objective's gradient": "Gulrajani et al. 2017, alg. 1: the loss plus lambda times the penalty, "
    "back-propagated once.",
    "G's update is its objective's gradient": "Goodfellow et al. 2014, alg. 1: G's own loss on fresh fakes, through D.",
    "a turn leaves the other player alone": "Goodfellow et al. 2014, alg. 1: one player moves while the other stands.",
    "projection follows D's step": "Arjovsky et al. 2017, alg. 1: weights are clipped after each step of the critic.",
    "lambda scales the update": "Gulrajani et al. 2017, alg. 1: the penalty's share of D's step is lambda times its gradient.",
    "lazy penalty is unbiased": "Karras et al. 2020 (StyleGAN2): a penalty computed on every k-th step counts k times.",
}


def game_checks(family: Family) -> list[Check]:
    """All questions to the training step; where it does not run, the first says so and the others are not asked."""
    turns: list[Turn] = []
    runs = "training step runs"
    checks = [examine(runs, "training_step", PAPERS[runs], lambda: turns.extend(recorded(build(family, {"pull": Pull(2.0)}))))]
    questions = {
        "one step per turn": partial(one_step_per_turn, turns),
        "D's update is its objective's gradient": partial(update_is_the_gradient, turns, "d"),
        "G's update is its objective's gradient": partial(update_is_the_gradient, turns, "g"),
        "a turn leaves the other player alone": partial(other_player_is_left_alone, turns),
        "projection follows D's step": partial(projection_follows, turns, family),
        "lambda scales the update": partial(lambda_scales_the_update, family),
    }
    for name, question in questions.items():
        if turns:
            checks.append(examine(name, "training_step", PAPERS[name], question))
        else:
            checks.append(Check(name, None, "training_step", f"not asked: {runs}", PAPERS[name]))
    lazy = "lazy penalty is unbiased"
    for name, regularizer in own_regularizers(family).items():
        where = in_settings(name, regularizer)
        checks.append(examine(lazy, where, PAPERS[lazy], partial(lazy_is_unbiased, family, name, regularizer)))
    checks.append(examine(lazy, "training_step", PAPERS[lazy], partial(lazy_is_unbiased, family, "pull", Pull(2.0))))
    return checks


class Pull(Regularizer):
    """weight/2 * ||w||^2 over D's parameters: its share of D's step is known, weight * w."""

    def __init__(self, weight: float, every: int = 1):
        super().__init__(every)
        self.weight = weight

    def term(self, discriminator, play):
        return self.weight / 2 * sum(p.square().sum() for p in discriminator.parameters())


class Painter(nn.Module):
    """G(z) = Wz + b in the shape of a sample; it ignores labels."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(5)
        values = torch.Size(SHAPE).numel()
        self.weight = nn.Parameter(0.3 * torch.randn(values, 3, generator=random))
        self.bias = nn.Parameter(0.2 * torch.randn(values, generator=random))

    def forward(self, z, y=None):
        return (z @ self.weight.T + self.bias).view(len(z), *SHAPE)


def own_regularizers(family: Family) -> dict[str, Regularizer]:
    regularizers = getattr(family, "keywords", {}).get("regularizers") or {}
    return {name: r for name, r in regularizers.items() if r is not None}


def build(family: Family, more: dict[str, Regularizer] | None = None, **settings) -> GAN:
    """The family on small images with a linear critic, its own regularizers and some more, two turns of D per G's."""
    settings = {"regularizers": own_regularizers(family) | (more or {})} | settings
    pack = getattr(family, "keywords", {}).get("pack", 1)
    gan = bare(partial(family, **settings), Painter(), linear((pack * SHAPE[0], *SHAPE[1:]), 0.8))
    gan.n_critic, gan.critic_warmup, gan.gradient_clip = 2, False, None
    return gan


def batch(gan: GAN) -> tuple[Tensor, Tensor]:
    return samples(SHAPE, 12)[0], torch.arange(12) % max(gan.conditioning.num_classes, 1)


# What happened


@dataclass
class State:
    """Both players at one moment: parameters and their gradients, by "d" and "g"."""

    weights: dict[str, list[Tensor]]
    gradients: dict[str, list[Tensor | None]]

    @classmethod
    def of(cls, gan: GAN) -> State:
        players = {"d": list(gan.discriminator.parameters()), "g": list(gan.generator.parameters())}
        return cls(
            {k: [p.detach().clone() for p in ps] for k, ps in players.items()},
            {k: [None if p.grad is None else p.grad.clone() for p in ps] for k, ps in players.items()},
        )


@dataclass
class Turn:
    """What one play should have led to, and what it led to."""

    before: State
    expected: dict[str, list[Tensor]]  # the objective's gradient, for whom this play has what it needs
    steps: list[tuple[str, State]] = field(default_factory=list)  # who stepped, and both players right after
    stepped_critic: nn.Module | None = None  # D right after its step, before any projection
    after: State | None = None

    @property
    def player(self) -> str | None:
        return self.steps[0][0] if self.steps else None

    def rate(self, player: str) -> float:
        """Of all of the player's steps in this turn."""
        return REACH / max(1.0, get_total_norm(self.expected.get(player, [])).item())

    def change(self, player: str, after: State) -> Tensor:
        """The player's move since the turn began, over -rate: the gradient, if it was one plain step."""
        pairs = zip(self.before.weights[player], after.weights[player])
        return torch.cat([(b - a).flatten() / self.rate(player) for b, a in pairs])


class Recorder:
    """Wraps a GAN's `play` and listens to its optimisers."""

    def __init__(self, gan: GAN):
        self.gan, self.turns, self._play = gan, [], gan.play
        gan.play = self.play
        gan.discriminator_optimizer = partial(Listening, recorder=self, player="d")
        gan.generator_optimizer = partial(Listening, recorder=self, player="g")

    def play(self, *args, **settings) -> Play:
        self.close()
        play = self._play(*args, **settings)
        state, expected = torch.get_rng_state(), {}
        if play.real_logits is not None:
            expected["d"] = self.discriminators_gradient(play)
            torch.set_rng_state(state)  # the step will draw what its reference drew
        if play.fake.requires_grad and (play.real_logits is not None or not self.gan.generator_sees_real):
            expected["g"] = self.generators_gradient(play)
            torch.set_rng_state(state)
        self.turns.append(Turn(State.of(self.gan), expected))
        return play

    def discriminators_gradient(self, play: Play) -> list[Tensor]:
        """Of the family's loss + every * term of each regularizer that is due, on copies."""
        critic = copy.deepcopy(self.gan.discriminator).requires_grad_(True)
        real, fake = play.real, play.fake.detach()
        logits = {"real_logits": critic(real, play.real_y), "fake_logits": critic(fake, play.fake_y)}
        play = replace(play, fake=fake, **logits)
        objective = twin(self.gan).discriminator_loss(play.real_logits, play.fake_logits)
        for regularizer in self.gan.regularizers.values():
            if play.turn % regularizer.every == 0:
                term = copy.deepcopy(regularizer).term(critic, play)
                objective = objective if term is None else objective + regularizer.every * term
        return list(torch.autograd.grad(objective, list(critic.parameters()), materialize_grads=True))

    def generators_gradient(self, play: Play) -> list[Tensor]:
        """Of the family's loss, through a copy of D, down to G's weights."""
        critic = copy.deepcopy(self.gan.discriminator)
        fake = play.fake.detach().requires_grad_()
        real = critic(play.real, play.real_y).detach() if self.gan.generator_sees_real else None
        loss = twin(self.gan).generator_loss(critic(fake, play.fake_y), real)
        (by_fake,) = torch.autograd.grad(loss, fake, materialize_grads=True)
        weights = list(self.gan.generator.parameters())
        return list(torch.autograd.grad(play.fake, weights, by_fake, retain_graph=True, materialize_grads=True))

    def stepped(self, player: str) -> None:
        if self.turns:
            self.turns[-1].steps.append((player, State.of(self.gan)))
            if player == "d":
                self.turns[-1].stepped_critic = copy.deepcopy(self.gan.discriminator)

    def close(self) -> None:
        """The turn is over: the next one begins, or the batch ends."""
        if self.turns and self.turns[-1].after is None:
            self.turns[-1].after = State.of(self.gan)


class Listening(torch.optim.SGD):
    """Gradient descent at the turn's rate that reports its steps."""

    def __init__(self, parameters, recorder: Recorder, player: str):
        super().__init__(parameters, lr=REACH)
        self.recorder, self.player = recorder, player

    def step(self, closure=None):
        if self.recorder.turns:
            self.param_groups[0]["lr"] = self.recorder.turns[-1].rate(self.player)
        loss = super().step(closure)
        self.recorder.stepped(self.player)
        return loss


def recorded(gan: GAN, batches: int = 4) -> list[Turn]:
    """The turns of a GAN on a few batches under a Trainer."""
    recorder = Recorder(gan)
    torch.default_generator.manual_seed(0)
    with quiet():
        trainer = Trainer(
            callbacks=LambdaCallback(on_train_batch_end=lambda *_: recorder.close()),
            plugins=LightningEnvironment(),  # one process, wherever this runs
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(gan, Batches(batch(gan), batches))
    if not recorder.turns:
        raise Wrong("never calls `play`; only the two losses are meant to be overridden")
    return recorder.turns


class Batches:
    """The same batch several times, as Lightning wants it."""

    def __init__(self, batch, count: int):
        self.batch, self.count = batch, count

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter([self.batch] * self.count)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning announces its hardware and warns of what is meant here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# What should have happened


def one_step_per_turn(turns: list[Turn]) -> None:
    for turn in turns:
        who = [player for player, _ in turn.steps]
        if not who:
            raise Wrong("plays a turn in which no optimiser steps")
        if len(who) > 1:
            names = " and ".join(f"{PLAYERS[p]}'s {who.count(p)} times" for p in dict.fromkeys(who))
            raise Wrong(f"steps the {names} in one turn; add loss and penalty, and step once")
    for player, name in PLAYERS.items():
        if all(turn.player != player for turn in turns):
            raise Wrong(f"never steps the {name}'s optimiser")


def update_is_the_gradient(turns: list[Turn], player: str) -> None:
    mine = [turn for turn in turns if turn.player == player]
    if not mine:
        raise NotApplicable(f"the {PLAYERS[player]}'s optimiser never steps")
    for turn in mine:
        if player not in turn.expected:
            raise Wrong(f"plays the {PLAYERS[player]}'s turn without what its loss needs")
        expected = torch.cat([g.flatten() for g in turn.expected[player]])
        found = turn.change(player, turn.steps[-1][1])
        if (found - expected).norm() <= 1e-3 * expected.norm() + 1e-5:
            continue
        if not found.any():
            raise Wrong(f"the {PLAYERS[player]} does not move: its loss is never back-propagated")
        cosine = torch.nn.functional.cosine_similarity(found, expected, 0).item()
        raise Wrong(
            f"moves the {PLAYERS[player]} by {found.norm():.4g} times the learning rate, where the gradient of its "
            f"objective is {expected.norm():.4g} long; the cosine between them is {cosine:.3f}"
        )


def other_player_is_left_alone(turns: list[Turn]) -> None:
    for turn in turns:
        if turn.player is None:
            continue
        other = "g" if turn.player == "d" else "d"
        who = f"in the {PLAYERS[turn.player]}'s turn the {PLAYERS[other]}"
        if not all(torch.equal(a, b) for a, b in zip(turn.before.weights[other], turn.after.weights[other])):
            raise Wrong(f"{who}'s weights move")
        for before, after in zip(turn.before.gradients[other], turn.after.gradients[other]):
            if after is not None and after.any() and (before is None or not torch.equal(before, after)):
                raise Wrong(f"{who} is given gradients; detach the fakes, or freeze D")


def projection_follows(turns: list[Turn], family: Family) -> None:
    projecting = [r for r in own_regularizers(family).values() if type(r).project is not Regularizer.project]
    if not projecting:
        raise NotApplicable("no regularizer projects D's weights")
    for turn in turns:
        if turn.stepped_critic is None:
            continue
        for regularizer in projecting:
            copy.deepcopy(regularizer).project(turn.stepped_critic)
        for found, expected in zip(turn.after.weights["d"], turn.stepped_critic.parameters()):
            if not torch.allclose(found, expected, rtol=1e-5, atol=1e-7):
                raise Wrong(
                    f"leaves D's weights up to {found.abs().max():.4g} after its turn, where the projection gives "
                    f"{expected.abs().max():.4g}"
                )


def lambda_scales_the_update(family: Family) -> None:
    """D's first turn with lambda = 1 and 3, all else equal: the difference is 2 w, whatever the loss."""
    moves = []
    for weight in (1.0, 3.0):
        turn = recorded(build(family, regularizers={"pull": Pull(weight)}), batches=1)[0]
        moves.append(turn.change("d", turn.after))
    expected = 2 * torch.cat([w.flatten() for w in turn.before.weights["d"]])
    share = float((moves[1] - moves[0]) @ expected / (expected @ expected))
    if abs(share - 1) > 0.05:
        raise Wrong(
            f"lambda does not scale the penalty's share of D's step: from lambda = 1 to 3 it grows by {share:.2f} "
            "times what it should"
        )


def lazy_is_unbiased(family: Family, name: str, regularizer: Regularizer) -> None:
    """The penalty's mean over `every` turns, all else equal, for every = 1 and 3."""
    means = []
    for every in (1, LAZY):
        lazy = copy.deepcopy(regularizer)
        lazy.every = every
        start = LATE - LATE % LAZY
        means.append(sum(penalty_at(turn, family, {name: lazy}) for turn in range(start, start + every)) / every)
    if abs(means[0]) + abs(means[1]) < 1e-6:
        raise NotApplicable("it adds no term to D's loss, or one of 0")
    if abs(means[0] - means[1]) > 1e-3 * abs(means[0]) + 1e-5:
        ratio = means[1] / means[0] if means[0] else float("inf")
        raise Wrong(
            f"with every = {LAZY} its mean over {LAZY} turns is {means[1]:.5g}, {ratio:.3g} times the {means[0]:.5g} "
            "of every = 1; computed on every k-th turn, it must count k times"
        )


def penalty_at(turn: int, family: Family, regularizers: dict[str, Regularizer]) -> float:
    """What the regularizers, and copies of them at each call, add to D's objective on a fixed play."""
    gan = build(family, regularizers=regularizers)
    gan.d_updates = turn
    torch.default_generator.manual_seed(0)
    play = gan.play(*batch(gan), with_real=True, grad_to_generator=False)
    torch.default_generator.manual_seed(1)
    objective = float(twin(gan).discriminator_objective(play))
    torch.default_generator.manual_seed(1)  # a loss that draws random numbers draws them first
    return objective - float(gan.discriminator_loss(play.real_logits, play.fake_logits))
