"""The base class: one alternating step for every loss."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

import ganlab
from ganlab import misfits
from ganlab.conditioning import Unconditional
from ganlab.regularizers import Regularizer, at_least_float32

Optimizers = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Schedulers = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

CHECK_EVERY = 32  # terms between two looks for non-finite values: each look waits for the device


@dataclass(slots=True)
class Play:
    """What one turn sees, as D sees it: augmented by the regularizers, then packed.

    Samples [n, ...] (packed: [n/pack, pack·C, ...]), logits [n] in float32 or better, labels int64 [n] or
    [n/pack, pack]; high logit = "real". `turn`: D's updates before this one. Class logits [n, K] come from an
    auxiliary classifier. What a turn does not have is None.
    """

    real: Tensor
    fake: Tensor
    real_y: Tensor | None
    fake_y: Tensor | None
    real_logits: Tensor | None
    fake_logits: Tensor
    turn: int = 0
    real_class_logits: Tensor | None = None
    fake_class_logits: Tensor | None = None


class GAN(LightningModule, ABC):
    """Two networks and the rule by which they take turns; a subclass supplies the two losses.

    One convention everywhere: *a high logit says "real"*, and `real` comes before `fake`. Only
    `discriminator_loss` and `generator_loss` are meant to be overridden, so that every family
    is trained by the same step.

    Args:
        generator: `G(z [n, latent_dim], y=None) -> samples`; has the attribute `latent_dim`.
        discriminator: `D(x, y=None) -> logits [n]`. Where its attribute `one_pass` is true, real and fake share a
            forward pass: for networks that gain by it (small ones do, convolutions on CPUs lose 15 %) and in
            which no layer mixes the samples of a batch.
        generator_optimizer, discriminator_optimizer: functions from parameters to an optimiser.
        generator_scheduler, discriminator_scheduler: functions from an optimiser to a learning-rate
            schedule, or None; stepped once per update of that player.
        conditioning: which labels samples wear (`ganlab.conditioning`).
        regularizers: named `Regularizer`s that act on the discriminator.
        pack: samples that D judges together, concatenated along channels (PacGAN, Lin et al. 2018); D takes pack·C
            channels. What is left over in a batch is dropped.
        n_critic: turns of the discriminator per turn of the generator.
        critic_warmup: WGAN's schedule, 100 critic turns for the first 25 generator turns and for every
            500th (Arjovsky et al. 2017, the authors' code).
        ema_decay: of the generator's moving average, in [0, 1), warmed up as min(decay, (1+t)/(10+t)).
        gradient_clip: largest gradient norm of each player, or None.

    Clocks (saved with every checkpoint; plain integers, since reading a tensor would wait for the device):
    `images_seen` (real images shown to D, all processes together), `d_updates`, `g_updates`.

    Raises:
        ValueError: a setting is out of range, or the family needs labels and has none.
        FloatingPointError: a loss or penalty became non-finite while training.
    """

    generator_sees_real = False  # relativistic families compare with real logits in G's turn, too
    requires_labels = False
    requires_lipschitz = False

    # Theory that a family may declare and `ganlab inspect` holds it to:
    optimal_logit = None  # (p, q) -> D's best logit where real has density p and fake q, up to a constant if only r - f counts
    divergence = None  # (p, q) -> -min_D discriminator_loss for probability vectors [k]; its docstring is its name

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizers,
        discriminator_optimizer: Optimizers,
        generator_scheduler: Schedulers | None = None,
        discriminator_scheduler: Schedulers | None = None,
        conditioning: Unconditional | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        pack: int = 1,
        n_critic: int = 1,
        critic_warmup: bool = False,
        ema_decay: float = 0.999,
        gradient_clip: float | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        for name, value in (("n_critic", n_critic), ("pack", pack)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"gan.{name} must be an integer of at least 1, got {value!r}")
        if not isinstance(ema_decay, (int, float)) or not 0 <= ema_decay < 1:
            raise ValueError(f"gan.ema_decay must be in [0, 1) (0: no averaging), got {ema_decay!r}")
        if gradient_clip is not None and not (isinstance(gradient_clip, (int, float)) and gradient_clip > 0):
            raise ValueError(f"gan.gradient_clip must be above 0, or null for none, got {gradient_clip!r}")
        self.generator = generator
        self.discriminator = discriminator
        self.generator_ema = copy.deepcopy(generator).requires_grad_(False)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.generator_scheduler, self.discriminator_scheduler = generator_scheduler, discriminator_scheduler
        self.conditioning = conditioning or Unconditional()
        self.regularizers = nn.ModuleDict({name: r for name, r in (regularizers or {}).items() if r is not None})
        self.pack = pack
        self.n_critic, self.critic_warmup = n_critic, critic_warmup
        self.ema_decay, self.gradient_clip = ema_decay, gradient_clip
        self.run_config: dict | None = None  # the composed experiment, so that a checkpoint can be loaded by itself
        self.images_seen = self.d_updates = self.g_updates = self.turns_since_g = 0
        self.observing = False  # a callback asks the next turns for numbers that cost something
        self.observed: dict[str, Tensor] = {}
        self._unchecked: list[tuple[int, str, Tensor]] = []
        misfits.refuse(self)

    # What a family supplies

    @staticmethod
    @abstractmethod
    def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Scalar that D minimises; logits [n] each."""

    @staticmethod
    @abstractmethod
    def generator_loss(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Scalar that G minimises; logits [n]; real logits only if `generator_sees_real`."""

    # The step

    def training_step(self, batch, batch_idx: int = 0) -> None:
        """D's turn on this batch, and after its last due turn G's."""
        real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self._d_turn(real, y)
        if self.turns_since_g >= self.critic_turns():
            self._g_turn(real, y)
        self.images_seen += len(real) * self.trainer.world_size
        if len(self._unchecked) >= CHECK_EVERY:
            self.check_finite()

    def critic_turns(self) -> int:
        """D's turns before G's next one."""
        if self.critic_warmup and (self.g_updates < 25 or self.g_updates % 500 == 0):
            return 100
        return self.n_critic

    def _d_turn(self, real: Tensor, y: Tensor | None) -> None:
        play = self.play(real, y, with_real=True, grad_to_generator=False)
        if self.observing:
            self.observed |= {
                "d/accuracy_real": (play.real_logits > 0).float().mean(),
                "d/accuracy_fake": (play.fake_logits < 0).float().mean(),
                "d/logit_real": play.real_logits.detach().mean(),
                "d/logit_fake": play.fake_logits.detach().mean(),
            }
        self._update("d", 0, self.discriminator_objective(play))
        for regularizer in self.regularizers.values():
            regularizer.project(self.discriminator)
        self.d_updates += 1
        self.turns_since_g += 1

    def _g_turn(self, real: Tensor, y: Tensor | None) -> None:
        with frozen(self.discriminator):
            play = self.play(real, y, with_real=self.generator_sees_real, grad_to_generator=True)
            self._update("g", 1, self.generator_objective(play))
        self.g_updates += 1
        self.turns_since_g = 0
        self._update_ema()

    def discriminator_objective(self, play: Play) -> Tensor:
        """What D's turn minimises: the family's loss, the regularizers that are due, the conditioning's own term."""
        return self._sum(
            ("d/loss", self.discriminator_loss(play.real_logits, play.fake_logits)),
            ("d/penalty", self.penalty(play)),
            ("d/class_loss", self.conditioning.discriminator_term(play)),
        )

    def generator_objective(self, play: Play) -> Tensor:
        """What G's turn minimises: the family's loss, and the conditioning's own term."""
        return self._sum(
            ("g/loss", self.generator_loss(play.fake_logits, play.real_logits)),
            ("g/class_loss", self.conditioning.generator_term(play)),
        )

    def _sum(self, *terms: tuple[str, Tensor | None]) -> Tensor:
        """The terms that there are, each noted for the check and, if somebody looks, for the log."""
        terms = [(name, term) for name, term in terms if term is not None]
        self._unchecked += [(self.d_updates, name, term.detach()) for name, term in terms if name != "d/penalty"]
        if self.observing:
            self.observed |= {name: term.detach() for name, term in terms}
        return sum(term for _, term in terms)

    def play(self, real: Tensor, y: Tensor | None, *, with_real: bool, grad_to_generator: bool) -> Play:
        """Fresh fakes and what D says of them, and of the real samples if `with_real`."""
        # Lightning keeps one autocast context open for the whole step; its cache of cast weights would
        # outlive the other player's update, and would hand G weights that were cast without a graph.
        torch.clear_autocast_cache()
        real_y, fake_y = self.conditioning.labels(y, len(real))
        with torch.set_grad_enabled(grad_to_generator):
            fake = self.generator(self.noise(len(real)), fake_y)
        fake, fake_y = self._shown(fake, fake_y)
        real_logits = real_classes = None
        if with_real:
            real, real_y = self._shown(real, real_y)
        if with_real and getattr(self.discriminator, "one_pass", False):
            both_y = None if real_y is None else torch.cat([real_y, fake_y])
            logits, classes = self._judge(torch.cat([real, fake.to(real.dtype)]), both_y)
            real_logits, fake_logits = logits.chunk(2)
            real_classes, fake_classes = (None, None) if classes is None else classes.chunk(2)
        else:
            if with_real:
                real_logits, real_classes = self._judge(real, real_y)
            fake_logits, fake_classes = self._judge(fake, fake_y)
        return Play(
            real, fake, real_y, fake_y, real_logits, fake_logits, self.d_updates, real_classes, fake_classes
        )

    def _shown(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Samples as D sees them: augmented, then `pack` of them as one."""
        for regularizer in self.regularizers.values():
            x = regularizer.augment(x)
        if self.pack == 1:
            return x, y
        n = len(x) // self.pack
        if n == 0:
            raise ValueError(f"a batch of {len(x)} holds no pack of {self.pack}; raise data.batch_size or lower gan.pack")
        x = x[: n * self.pack].reshape(n, self.pack * x.shape[1], *x.shape[2:])
        return x, None if y is None else y[: n * self.pack].reshape(n, self.pack)

    def _judge(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits [n] and, if the conditioning has a classifier, class logits [n, K], in float32 or better."""
        classes = None
        if self.conditioning.auxiliary:
            logits, classes = self.discriminator.judge(x, y)
            classes = at_least_float32(classes)
        else:
            logits = self.discriminator(x, y)
        if logits.shape != (len(x),):
            raise ValueError(
                f"the discriminator must return one logit per sample, [{len(x)}], got {list(logits.shape)}"
            )
        return at_least_float32(logits), classes

    def noise(self, n: int) -> Tensor:
        """Latents [n, latent_dim] from N(0, I)."""
        return torch.randn(n, self.generator.latent_dim, device=self.device, dtype=self.dtype)

    def penalty(self, play: Play) -> Tensor | None:
        """Sum of the regularizers' terms that are due, in float32 or better; a lazy one counts `every` times."""
        total = None
        with torch.autocast(self.device.type, enabled=False):
            for name, regularizer in self.regularizers.items():
                if play.turn % regularizer.every == 0:
                    term = regularizer.term(self.discriminator, play)
                    if term is not None:
                        self._unchecked.append((self.d_updates, f"penalty {name}", term.detach()))
                        total = regularizer.every * term + (0.0 if total is None else total)
        return total

    def _update(self, player: str, index: int, loss: Tensor) -> None:
        optimizer = self.optimizers()[index]
        optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=False):  # double backward must not be cast a second time
            self.manual_backward(loss)
        self._player = player
        optimizer.step()
        if (scheduler := self._schedulers[player]) is not None:
            scheduler.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.observing and self.gradient_clip is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # Lightning leaves this to fused optimisers, which do it inside their step
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self.observing:
            self.observed[f"{self._player}/grad_norm"] = norm
        if self.gradient_clip is not None:
            clip_grads_with_norm_(parameters, self.gradient_clip, norm)

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.ema_decay, (1 + self.g_updates) / (10 + self.g_updates))
        torch._foreach_lerp_(*self._ema_pairs[0], weight=1 - decay)
        if self._ema_pairs[1][0]:
            torch._foreach_copy_(*self._ema_pairs[1])

    def check_finite(self) -> None:
        """Raise at the first loss or penalty since the last check that is not finite."""
        if not self._unchecked:
            return
        terms, self._unchecked = self._unchecked, []
        values = torch.stack([value for *_, value in terms]).tolist()
        for (step, name, _), value in zip(terms, values):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} became {value} at discriminator update {step}; lower the learning rates, or regularize "
                    "the discriminator (regularizer=r1)"
                )

    # Lightning's hooks

    def configure_optimizers(self):
        d = self.discriminator_optimizer(self.discriminator.parameters())
        g = self.generator_optimizer(self.generator.parameters())
        self._schedulers = {
            "d": self.discriminator_scheduler and self.discriminator_scheduler(d),
            "g": self.generator_scheduler and self.generator_scheduler(g),
        }
        return [d, g], [s for s in self._schedulers.values() if s is not None]

    def on_fit_start(self) -> None:
        ema, g = self.generator_ema, self.generator
        self._ema_pairs = (
            (list(ema.parameters()), list(g.parameters())),
            (list(ema.buffers()), list(g.buffers())),
        )
        misfits.warn_at_start(self, self.trainer)
        if (labels := getattr(getattr(self.trainer.datamodule, "train", None), "y", None)) is not None:
            self.conditioning.learn(labels)
        if self.trainer.world_size > 1:  # the same seed everywhere made equal weights; noise must differ
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_end(self) -> None:
        self.check_finite()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["ganlab"] = {"version": ganlab.__version__, "config": self.run_config}

    def get_extra_state(self) -> dict[str, int]:
        return {k: getattr(self, k) for k in ("images_seen", "d_updates", "g_updates", "turns_since_g")}

    def set_extra_state(self, state: dict[str, int]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    # Use after training

    @torch.no_grad()
    def sample(
        self, n: int, y: Tensor | int | None = None, *, seed: int | None = None, batch_size: int = 500
    ) -> Tensor:
        """Samples from the moving average of the generator.

        Args:
            n: how many.
            y: labels int [n] or one for all; None draws them from the conditioning's prior.
            seed: makes the latents (and drawn labels) the same on every device and call; None uses torch's own state.
            batch_size: computed at a time, so that memory does not grow with n.

        Returns:
            float32 [n, C, H, W] in [-1, 1] for images, [n, 2] for toys, on the module's device.

        Raises:
            ValueError: n < 1, labels for an unconditional GAN, or a label out of range.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        random = None if seed is None else torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.generator.latent_dim, generator=random).to(self.device)
        y = self.conditioning.checked(y, n, random)
        self.generator_ema.eval()
        parts = []
        for start in range(0, n, batch_size):
            part = slice(start, start + batch_size)
            parts.append(self.generator_ema(z[part], None if y is None else y[part].to(self.device)).float())
        return torch.cat(parts)


@contextmanager
def frozen(module: nn.Module):
    """The module's parameters ask for no gradients: G's turn pays nothing for D's."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
