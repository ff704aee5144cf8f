"""Two players taking turns: clocks, optimizers, the moving average, and the watch for numbers that are not finite."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

import ganlab
from ganlab.models import compatibility
from ganlab.models.cuda_graphs import Graphs

Optimizers = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Schedulers = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

CHECK_EVERY = 32  # turns between two looks for non-finite values: each look waits for the device


class AdversarialModule(LightningModule, ABC):
    """D's turn on each batch, G's after `n_critic` of them. A subclass has the players and says what they minimize:
    `GAN` is one game, `Ensemble` many at once.

    Clocks (saved with every checkpoint; plain integers, since reading a tensor would wait for the device):
    `images_seen` (real images shown to D, all processes together; each copy of an ensemble sees as many),
    `d_updates`, `g_updates`, `d_steps_since_g`.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_ema: nn.Module
    regularizers: nn.ModuleDict
    conditioning: nn.Module
    seeds: list[int] | None = None  # of an ensemble's copies

    def __init__(
        self,
        *,
        generator_optimizer: Optimizers,
        discriminator_optimizer: Optimizers,
        generator_scheduler: Schedulers | None,
        discriminator_scheduler: Schedulers | None,
        n_critic: int,
        critic_warmup: bool,
        ema_decay: float,
        gradient_clip: float | None,
        cuda_graphs: bool,
    ):
        super().__init__()
        self.automatic_optimization = False
        if isinstance(n_critic, bool) or not isinstance(n_critic, int) or n_critic < 1:
            raise ValueError(f"gan.n_critic must be an integer of at least 1, got {n_critic!r}")
        if not isinstance(ema_decay, (int, float)) or not 0 <= ema_decay < 1:
            raise ValueError(f"gan.ema_decay must be in [0, 1) (0: no averaging), got {ema_decay!r}")
        if gradient_clip is not None and not (isinstance(gradient_clip, (int, float)) and gradient_clip > 0):
            raise ValueError(f"gan.gradient_clip must be above 0, or null for none, got {gradient_clip!r}")
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.generator_scheduler, self.discriminator_scheduler = generator_scheduler, discriminator_scheduler
        self.n_critic, self.critic_warmup = n_critic, critic_warmup
        self.ema_decay, self.gradient_clip = ema_decay, gradient_clip
        self.cuda_graphs, self._graphs = cuda_graphs, None
        self.run_config: dict | None = None  # the composed experiment, so that a checkpoint can be loaded by itself
        self.images_seen = self.d_updates = self.g_updates = self.d_steps_since_g = 0
        self.log_next_step = False  # a callback asks the next turns for numbers that cost something
        self.step_metrics: dict[str, Tensor] = {}
        self._pending_checks: list[tuple[int, dict[str, Tensor]]] = []

    @property
    def family(self) -> str:
        """The name of the loss's class."""
        return type(self).__name__

    @abstractmethod
    def discriminator_step(
        self, real: Tensor, y: Tensor | None, z: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms that D minimizes the sum of, on fresh fakes; and, if somebody is `log_next_step`, more numbers."""

    @abstractmethod
    def generator_step(
        self, real: Tensor, y: Tensor | None, z: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms that G minimizes the sum of, on fresh fakes; and more numbers."""

    @abstractmethod
    def members(self) -> Iterator[AdversarialModule | None]:
        """The games one by one, each with a moving average of its own; None for one that failed."""

    @abstractmethod
    def sample(
        self,
        n: int,
        y: Tensor | int | None = None,
        *,
        seed: int | None = None,
        truncation: float | None = None,
        batch_size: int = 500,
    ) -> Tensor:
        """Samples from the moving average of the generator."""

    # The step

    def training_step(self, batch, batch_idx: int = 0) -> None:
        """D's turn on this batch, and after its last due turn G's."""
        real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self.conditioning.validate_labels(y)
        self._update_discriminator(real, y)
        if self.d_steps_since_g >= self.current_n_critic():
            self._update_generator(real, y)
        self.images_seen += self.images_in(real) * self.trainer.world_size
        if len(self._pending_checks) >= CHECK_EVERY:
            self.check_finite()

    @staticmethod
    def images_in(real: Tensor) -> int:
        return len(real)

    def current_n_critic(self) -> int:
        """D's turns before G's next one."""
        if self.critic_warmup and (self.g_updates < 25 or self.g_updates % 500 == 0):
            return 100
        return self.n_critic

    def _update_discriminator(self, real: Tensor, y: Tensor | None) -> None:
        self._update("d", 0, self.discriminator_step, real, y)
        for regularizer in self.regularizers.values():
            regularizer.project(self.discriminator)
        self.d_updates += 1
        self.d_steps_since_g += 1

    def _update_generator(self, real: Tensor, y: Tensor | None) -> None:
        with frozen(self.discriminator):
            self._update("g", 1, self.generator_step, real, y)
        self.g_updates += 1
        self.d_steps_since_g = 0
        self._update_ema()

    def _update(self, player: str, index: int, turn: Callable, real: Tensor, y: Tensor | None) -> None:
        optimizer = self.optimizers()[index]
        self.on_step_start()
        batch = real, y, self.step_latents(real)

        def with_gradients(*batch: Tensor | None) -> dict[str, Tensor]:
            optimizer.zero_grad()
            terms, seen = turn(*batch)
            with torch.autocast(self.device.type, enabled=False):  # double backward must not be cast a second time
                # an ensemble has a loss per copy, and no copy hears another's
                self.manual_backward(sum(terms.values()).sum())
            terms = {name: term.detach() for name, term in terms.items()}
            if self.log_next_step:
                self.step_metrics |= terms | seen
            return terms

        if self._graphs is None or self.log_next_step:
            terms = with_gradients(*batch)
        else:
            terms_due = [r.graph_key(self.d_updates) for r in self.regularizers.values()] if player == "d" else []
            kind = (player, *terms_due)
            learning = [p for group in optimizer.param_groups for p in group["params"]]
            terms = self._graphs.forward_pass(kind, with_gradients, learning, *batch)
        self.queue_finite_check(terms)
        self._player = player
        optimizer.step()
        if (scheduler := self._schedulers[player]) is not None:
            scheduler.step()

    def on_step_start(self) -> None:
        """To what changes with it."""
        for regularizer in self.regularizers.values():
            regularizer.on_step_start(self.d_updates)

    def step_latents(self, real: Tensor) -> Tensor | None:
        """Latents for a step on this batch that must be drawn outside CUDA graphs; None: the forward pass draws them."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.log_next_step and self.gradient_clip is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # Lightning leaves this to fused optimizers, which do it inside their step
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = self.gradient_norm([p.grad for p in parameters])
        if self.log_next_step:
            self.step_metrics[f"{self._player}/grad_norm"] = norm
        if self.gradient_clip is not None:
            self.clip(parameters, norm)

    def gradient_norm(self, gradients: list[Tensor]) -> Tensor:
        return get_total_norm(gradients)

    def clip(self, parameters: list[nn.Parameter], norm: Tensor) -> None:
        clip_grads_with_norm_(parameters, self.gradient_clip, norm)

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.ema_decay, (1 + self.g_updates) / (10 + self.g_updates))
        torch._foreach_lerp_(*self._ema_pairs[0], weight=1 - decay)
        if self._ema_pairs[1][0]:
            torch._foreach_copy_(*self._ema_pairs[1])

    def queue_finite_check(self, terms: dict[str, Tensor]) -> None:
        """These are looked at in the next check."""
        self._pending_checks.append((self.d_updates, {name: term.detach() for name, term in terms.items()}))

    def check_finite(self) -> None:
        """Raise at the first loss or penalty since the last check that is not finite."""
        turns, self._pending_checks = self._pending_checks, []
        terms = [(step, name, value) for step, values in turns for name, value in values.items()]
        if terms:
            self.handle_non_finite(terms, torch.stack([value for *_, value in terms]))

    def handle_non_finite(self, terms: list[tuple[int, str, Tensor]], values: Tensor) -> None:
        for (step, name, _), value in zip(terms, values.tolist()):
            if not math.isfinite(value):
                if step == 0:
                    raise FloatingPointError(
                        f"{name} is {value} on the first batch; look at the loss with python -m ganlab inspect, and at the data"
                    )
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
        if self.device.type == "cpu":  # Lightning's wish, for which optimizers would load NVML anew in every step
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        ema, g = self.generator_ema, self.generator
        self._ema_pairs = (
            (list(ema.parameters()), list(g.parameters())),
            (list(ema.buffers()), list(g.buffers())),
        )
        if self.cuda_graphs:
            if self.device.type != "cuda" or self.trainer.world_size > 1:
                raise ValueError(
                    f"gan.cuda_graphs=true needs one GPU, got {self.trainer.world_size} process(es) on "
                    f"{self.device.type.upper()}; leave it out"
                )
            self._graphs = Graphs()
        compatibility.validate_at_fit_start(self, self.trainer)
        if (labels := getattr(getattr(self.trainer.datamodule, "train", None), "y", None)) is not None:
            self.conditioning.fit_prior(labels)
        if self.trainer.world_size > 1:  # the same seed everywhere made equal weights; noise must differ
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_end(self) -> None:
        self._graphs = None  # they know the weights by address, and Lightning now moves these to the CPU
        self.check_finite()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["ganlab"] = {"version": ganlab.__version__, "config": self.run_config}

    def get_extra_state(self) -> dict[str, int]:
        return {k: getattr(self, k) for k in ("images_seen", "d_updates", "g_updates", "d_steps_since_g")}

    def set_extra_state(self, state: dict[str, int]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


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
