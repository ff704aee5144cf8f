"""A few turns of the training step under a real Trainer, written down beside gradients that were worked out apart from it."""

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

from ganlab.analysis.checks.check import CheckFailed
from ganlab.analysis.checks.critics import IMAGES, linear, samples
from ganlab.analysis.checks.players import clone_for_eval
from ganlab.analysis.minimal import Family, minimal_gan
from ganlab.models.gan import GAN, StepOutputs
from ganlab.regularizers import Regularizer

REACH = 0.05  # a step's rate, and its length where the gradient is longer than 1: plain steps on a steep loss overflow


class Pull(Regularizer):
    """weight/2 * ||w||^2 over D's parameters: its share of D's step is known, weight * w."""

    def __init__(self, weight: float, every: int = 1):
        super().__init__(every)
        self.weight = weight

    def penalty(self, discriminator, outputs):
        return self.weight / 2 * sum(p.square().sum() for p in discriminator.parameters())


class Painter(nn.Module):
    """G(z) = Wz + b in the shape of a sample; it ignores labels."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(5)
        values = torch.Size(IMAGES).numel()
        self.weight = nn.Parameter(0.3 * torch.randn(values, 3, generator=random))
        self.bias = nn.Parameter(0.2 * torch.randn(values, generator=random))

    def forward(self, z, y=None):
        return (z @ self.weight.T + self.bias).view(len(z), *IMAGES)


def own_regularizers(family: Family) -> dict[str, Regularizer]:
    regularizers = getattr(family, "keywords", {}).get("regularizers") or {}
    return {name: r for name, r in regularizers.items() if r is not None}


def build(family: Family, more: dict[str, Regularizer] | None = None, **settings) -> GAN:
    """The family on small images with a linear critic, its own regularizers and some more, two turns of D per G's."""
    settings = {"regularizers": own_regularizers(family) | (more or {})} | settings
    pack = getattr(family, "keywords", {}).get("pack", 1)
    gan = minimal_gan(partial(family, **settings), Painter(), linear((pack * IMAGES[0], *IMAGES[1:]), 0.8))
    gan.n_critic, gan.critic_warmup, gan.gradient_clip = 2, False, None
    return gan


def batch(gan: GAN) -> tuple[Tensor, Tensor]:
    return samples(IMAGES, 12)[0], torch.arange(12) % max(gan.conditioning.num_classes, 1)


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
    """Wraps a GAN's `forward_pass` and listens to its optimizers."""

    def __init__(self, gan: GAN):
        self.gan, self.turns, self._play = gan, [], gan.forward_pass
        gan.forward_pass = self.forward_pass
        gan.discriminator_optimizer = partial(Listening, recorder=self, player="d")
        gan.generator_optimizer = partial(Listening, recorder=self, player="g")

    def forward_pass(self, *args, **settings) -> StepOutputs:
        self.close()
        outputs = self._play(*args, **settings)
        state, expected = torch.get_rng_state(), {}
        if outputs.real_logits is not None:
            expected["d"] = self.discriminators_gradient(outputs)
            torch.set_rng_state(state)  # the step will draw what its reference drew
        if outputs.fake.requires_grad and (outputs.real_logits is not None or not self.gan.generator_sees_real):
            expected["g"] = self.generators_gradient(outputs)
            torch.set_rng_state(state)
        self.turns.append(Turn(State.of(self.gan), expected))
        return outputs

    def discriminators_gradient(self, outputs: StepOutputs) -> list[Tensor]:
        """Of the family's loss + every * term of each regularizer that is due, on copies."""
        critic = copy.deepcopy(self.gan.discriminator).requires_grad_(True)
        real, fake = outputs.real, outputs.fake.detach()
        logits = {"real_logits": critic(real, outputs.real_y), "fake_logits": critic(fake, outputs.fake_y)}
        outputs = replace(outputs, fake=fake, **logits)
        objective = clone_for_eval(self.gan).discriminator_loss(outputs.real_logits, outputs.fake_logits)
        for regularizer in self.gan.regularizers.values():
            if outputs.turn % regularizer.every == 0:
                term = copy.deepcopy(regularizer).penalty(critic, outputs)
                objective = objective if term is None else objective + regularizer.every * term
        return list(torch.autograd.grad(objective, list(critic.parameters()), materialize_grads=True))

    def generators_gradient(self, outputs: StepOutputs) -> list[Tensor]:
        """Of the family's loss, through a copy of D, down to G's weights."""
        critic = copy.deepcopy(self.gan.discriminator)
        fake = outputs.fake.detach().requires_grad_()
        real = critic(outputs.real, outputs.real_y).detach() if self.gan.generator_sees_real else None
        loss = clone_for_eval(self.gan).generator_loss(critic(fake, outputs.fake_y), real)
        (by_fake,) = torch.autograd.grad(loss, fake, materialize_grads=True)
        weights = list(self.gan.generator.parameters())
        return list(torch.autograd.grad(outputs.fake, weights, by_fake, retain_graph=True, materialize_grads=True))

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
        raise CheckFailed("never calls `forward_pass`; only the two losses are meant to be overridden")
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
