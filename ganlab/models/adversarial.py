"""The alternating training step of D and G: optimizers, the generator's moving average, finite checks, checkpoint state."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import ReduceLROnPlateau

import ganlab
from ganlab.models import compatibility
from ganlab.models.conditioning import Labels
from ganlab.models.cuda_graphs import StepGraphs, Terms
from ganlab.utils.random import mix_seeds

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

NETWORKS = ("d", "g")  # in the order of their optimizers; also the prefixes of what is logged
FINITE_CHECK_EVERY = 32  # updates between two checks for non-finite terms: each check waits for the device


class AdversarialModule(LightningModule, ABC):
    """Train a discriminator D and a generator G by alternating updates: `n_critic` updates of D, then one of G.

    Every batch is used for one update of D; after the last of the `n_critic` it is used for G's update too. Subclasses hold
    the networks and the settings (those of `GAN`) and define the terms that each update minimizes: `GAN` for one pair of
    networks, `Ensemble` for several seeds at once.

    Counters, saved with every checkpoint (plain integers: reading a tensor would wait for the device):
        images_seen: real images used for training by all processes together; in an ensemble, by each member.
        d_updates, g_updates: optimizer steps of D and of G.
        d_steps_since_g: updates of D since G's last one.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_ema: nn.Module
    regularizers: nn.ModuleDict
    conditioning: nn.Module
    seeds: list[int] | None = None  # of an ensemble's members
    batch_axis = 0  # of a batch's samples

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.run_config: dict | None = None  # the composed config, so that a checkpoint can be loaded by itself
        self.images_seen = self.d_updates = self.g_updates = self.d_steps_since_g = 0
        self.log_next_step = False  # set by a callback; the next step then fills step_metrics
        self.step_metrics: dict[str, Tensor] = {}
        self._pending_checks: list[tuple[int, Terms]] = []
        self._graphs: StepGraphs | None = None

    @property
    def family(self) -> str:
        """The name of the loss's class."""
        return type(self).__name__

    @property
    @abstractmethod
    def template(self) -> AdversarialModule:
        """The GAN whose code and settings every member runs: a GAN itself."""

    @abstractmethod
    def members(self) -> Iterator[AdversarialModule | None]:
        """The trained GANs one by one, each with its own moving average; None for a failed one."""

    @abstractmethod
    def discriminator_step(self, real: Tensor, y: Tensor | None, z: Tensor | None = None) -> tuple[Terms, dict[str, Tensor]]:
        """The terms of D's update on a batch and fakes from latents z (None draws them); metrics if `log_next_step`."""

    @abstractmethod
    def generator_step(self, real: Tensor, y: Tensor | None, z: Tensor | None = None) -> tuple[Terms, dict[str, Tensor]]:
        """The terms of G's update, and metrics."""

    @abstractmethod
    def sample(
        self, n: int, y: Labels = None, *, seed: int | None = None, truncation: float | None = None, batch_size: int = 500
    ) -> Tensor:
        """n samples from the moving average of the generator."""

    # The training step

    def training_step(self, batch, batch_idx: int = 0) -> None:
        """Update D on this batch, and G if D has had its `n_critic` updates."""
        real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self.conditioning.validate_labels(y)
        self._update("d", self.discriminator_step, real, y)
        self.project_discriminator()
        self.d_updates += 1
        self.d_steps_since_g += 1
        if self.d_steps_since_g >= self.current_n_critic():
            with frozen(self.discriminator):
                self._update("g", self.generator_step, real, y)
            self.g_updates += 1
            self.d_steps_since_g = 0
            self._update_ema()
        self.images_seen += real.shape[self.batch_axis] * self.trainer.world_size
        if len(self._pending_checks) >= FINITE_CHECK_EVERY:
            self.check_finite()

    def _update(self, network: str, step: Callable, real: Tensor, y: Tensor | None) -> None:
        """One optimizer step of a network on the gradient of its terms' sum."""
        optimizer = self.optimizers()[NETWORKS.index(network)]
        self.on_step_start()
        inputs = real, y, self.step_latents(real)
        backward = partial(self._backward, step, optimizer)
        if self._graphs is None or self.log_next_step:
            terms = backward(*inputs)
        else:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            terms = self._graphs.run(self._graph_key(network), backward, parameters, *inputs)
        self.queue_finite_check(terms)
        optimizer.step()
        if (scheduler := self._schedulers[network]) is not None and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def _backward(self, step: Callable, optimizer: torch.optim.Optimizer, *inputs: Tensor | None) -> Terms:
        """Leave the gradient of the terms' sum in the parameters; return the terms."""
        optimizer.zero_grad()
        terms, metrics = step(*inputs)
        with torch.autocast(self.device.type, enabled=False):  # so that a double backward is not cast a second time
            self.manual_backward(sum(terms.values()).sum())  # members' terms [K] depend on their own weights alone
        terms = {name: term.detach() for name, term in terms.items()}
        if self.log_next_step:
            self.step_metrics |= terms | metrics
        return terms

    def _graph_key(self, network: str) -> tuple:
        """What distinguishes the updates that cannot share a CUDA graph: the network, and which penalties are due."""
        due = [r.graph_key(self.d_updates) for r in self.template.regularizers.values()] if network == "d" else []
        return network, *due

    def current_n_critic(self) -> int:
        """Updates of D before G's next one."""
        if self.critic_warmup and (self.g_updates < 25 or self.g_updates % 500 == 0):
            return 100
        return self.n_critic

    def on_step_start(self) -> None:
        """Tell the regularizers the number of updates that D has had."""
        for regularizer in self.regularizers.values():
            regularizer.on_step_start(self.d_updates)

    def project_discriminator(self) -> None:
        """Apply the regularizers' projections to D's weights."""
        for regularizer in self.regularizers.values():
            regularizer.project(self.discriminator)

    def step_latents(self, real: Tensor) -> Tensor | None:
        """Latents of a step that must be drawn outside CUDA graphs; None: the forward pass draws them."""

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.ema_decay, (1 + self.g_updates) / (10 + self.g_updates))
        torch._foreach_lerp_(*self._ema_parameters, weight=1 - decay)
        if self._ema_buffers[0]:
            torch._foreach_copy_(*self._ema_buffers)

    # Gradient norms and clipping

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.log_next_step and self.gradient_clip is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # Lightning leaves this to fused optimizers, which do it inside their step
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = self.gradient_norm([p.grad for p in parameters])
        if self.log_next_step:
            network = NETWORKS[self.trainer.optimizers.index(optimizer)]
            self.step_metrics[f"{network}/grad_norm"] = norm
        if self.gradient_clip is not None:
            self.clip_gradients_to_norm(parameters, norm)

    def gradient_norm(self, gradients: list[Tensor]) -> Tensor:
        """L2 norm of all gradients together: a scalar, or [K] in an ensemble."""
        return get_total_norm(gradients)

    def clip_gradients_to_norm(self, parameters: list[nn.Parameter], norm: Tensor) -> None:
        """Scale the gradients, whose norm is given, down to `gradient_clip`."""
        clip_grads_with_norm_(parameters, self.gradient_clip, norm)

    # Checks for non-finite terms

    def queue_finite_check(self, terms: Terms) -> None:
        """Keep the terms for the next `check_finite`."""
        self._pending_checks.append((self.d_updates, {name: term.detach() for name, term in terms.items()}))

    def check_finite(self) -> None:
        """Raise FloatingPointError at the first non-finite term since the last check."""
        checks, self._pending_checks = self._pending_checks, []
        terms = [(d_updates, name, value) for d_updates, values in checks for name, value in values.items()]
        if terms:
            self.handle_non_finite(terms, torch.stack([value for *_, value in terms]))

    def handle_non_finite(self, terms: list[tuple[int, str, Tensor]], values: Tensor) -> None:
        for (d_updates, name, _), value in zip(terms, values.tolist()):
            if not math.isfinite(value):
                if d_updates == 0:
                    raise FloatingPointError(
                        f"{name} is {value} on the first batch; look at the loss with python -m ganlab inspect, and at the data"
                    )
                raise FloatingPointError(
                    f"{name} became {value} at discriminator update {d_updates}; lower the learning rates, or regularize "
                    "the discriminator (regularizer=r1)"
                )

    # Setup, and what a checkpoint holds

    def configure_optimizers(self):
        d = self.discriminator_optimizer(self.discriminator.parameters())
        g = self.generator_optimizer(self.generator.parameters())
        self._schedulers = {
            "d": self.discriminator_scheduler and self.discriminator_scheduler(d),
            "g": self.generator_scheduler and self.generator_scheduler(g),
        }
        return [d, g], [{"scheduler": s, "interval": "step"} for s in self._schedulers.values() if s is not None]

    def on_evaluation(self, objective: float) -> None:
        """Step the schedules that wait for a better value, `ReduceLROnPlateau`; the others step with their network."""
        for scheduler in self._schedulers.values():
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(objective)

    def on_fit_start(self) -> None:
        if self.device.type == "cpu":  # set by Lightning; optimizers would load NVML anew in every step
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        ema, g = self.generator_ema, self.generator
        self._ema_parameters = list(ema.parameters()), list(g.parameters())
        self._ema_buffers = list(ema.buffers()), list(g.buffers())
        if self.cuda_graphs:
            if self.device.type != "cuda" or self.trainer.world_size > 1:
                raise ValueError(
                    f"gan.cuda_graphs=true needs one GPU, got {self.trainer.world_size} process(es) on "
                    f"{self.device.type.upper()}; leave it out"
                )
            self._graphs = StepGraphs()
        compatibility.validate_at_fit_start(self, self.trainer)
        if (labels := getattr(getattr(self.trainer.datamodule, "train", None), "y", None)) is not None:
            self.conditioning.fit_prior(labels)
        if self.trainer.world_size > 1:  # equal seeds made equal weights; latents must differ
            torch.manual_seed(mix_seeds(torch.initial_seed(), self.global_rank))

    def on_train_end(self) -> None:
        self._graphs = None  # they hold the weights' addresses, and Lightning now moves the weights to the CPU
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
    """Compute no gradients for the module's parameters: G's update does not pay for D's."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
