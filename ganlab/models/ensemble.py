"""Many seeds of one family trained at once, as one batched program."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.parametrize import is_parametrized

from ganlab.models.adversarial import AdversarialModule
from ganlab.models.gan import GAN

log = logging.getLogger(__name__)

PLAYING = ("generator", "discriminator", "regularizers", "conditioning")  # what a turn reads and writes
# what these do to a number depends on its own gradients alone
ELEMENTWISE = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")
PARTS = (*PLAYING, "generator_ema")


class Ensemble(AdversarialModule):
    """K independent copies of one GAN. Each turn is that of `GAN`, with `torch.func.vmap` over the copies.

    Every parameter and buffer of the parts has one more axis in front, the copy's; batches are [K, n, ...]. Optimizers
    work on the stacked parameters: elementwise ones (SGD, RMSprop, Adam …) treat each copy as if it were alone. Each copy
    draws its latents from a generator of its own, seeded by its seed: families that are trained with the same seeds see the
    same initial weights, batches and latents, whatever else is trained beside them. What regularizers and label priors
    draw comes from torch's common generator.

    A copy whose loss or penalty is not finite is marked in `failed` [K]; the others go on.

    Args:
        copies: GANs that differ in their weights only; they are copied and not changed.
        seeds: one per copy; they name the copies.

    Raises:
        ValueError: no copies, or their networks cannot be stacked.
        FloatingPointError: every copy failed.
    """

    def __init__(self, copies: Sequence[GAN], seeds: Sequence[int]):
        if not copies or len(copies) != len(seeds):
            raise ValueError(f"an ensemble needs a seed per copy and at least one, got {len(copies)} and {len(seeds)}")
        one = copy.deepcopy(copies[0])
        super().__init__(
            generator_optimizer=one.generator_optimizer,
            discriminator_optimizer=one.discriminator_optimizer,
            generator_scheduler=one.generator_scheduler,
            discriminator_scheduler=one.discriminator_scheduler,
            n_critic=one.n_critic,
            critic_warmup=one.critic_warmup,
            ema_decay=one.ema_decay,
            gradient_clip=one.gradient_clip,
            cuda_graphs=one.cuda_graphs,
        )
        self.seeds = list(seeds)
        for part in PARTS:
            setattr(self, part, stacked([getattr(gan, part) for gan in copies]))
        self.register_buffer("failed", torch.zeros(len(copies), dtype=torch.bool))
        self._turns = {name: _Turn(one, name) for name in ("discriminator_step", "generator_step")}
        one.discriminator.vectorized = True
        self._random: list[torch.Generator] = []
        self._ahead: list[Tensor] = []  # latents of the next turns
        self._resumed: list[Tensor] = []  # the generators' states when the checkpoint was written

    @property
    def template(self) -> GAN:
        """The GAN whose code all copies run; its own weights mean nothing."""
        return self._turns["generator_step"].gan

    @property
    def family(self) -> str:
        return self.template.family

    @staticmethod
    def images_in(real: Tensor) -> int:
        return real.shape[1]

    # The turns

    def discriminator_step(self, real, y, z=None):
        return self._vectorized("discriminator_step", real, y, z)

    def generator_step(self, real, y, z=None):
        return self._vectorized("generator_step", real, y, z)

    def _vectorized(self, name: str, real: Tensor, y: Tensor | None, z: Tensor | None):
        z = self.sample_latents(real.shape[1]) if z is None else z
        one, turn = self.template, self._turns[name]
        one.d_updates, one.log_next_step = self.d_updates, self.log_next_step

        def of_one_copy(state, real, y, z):
            return functional_call(turn, state, (real, y, z), tie_weights=False)

        state = {f"gan.{part}.{name}": tensor for part in PLAYING for name, tensor in tensors(getattr(self, part))}
        return vmap(of_one_copy, in_dims=(0, 0, None if y is None else 0, 0), randomness="different")(state, real, y, z)

    def step_latents(self, real):
        return self.sample_latents(real.shape[1])

    def sample_latents(self, n: int) -> Tensor:
        """Latents [K, n, latent_dim] from N(0, I)."""
        if not self._random:
            self._random = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]
            for random, state in zip(self._random, self._resumed):
                random.set_state(state.cpu())
        if not self._ahead or self._ahead[0].shape[1] != n:
            dim = self.template.generator.latent_dim
            shape = turns_ahead(self.device, n * dim), n, dim
            kind = {"device": self.device, "dtype": self.dtype}
            self._ahead = [*torch.stack([torch.randn(shape, generator=random, **kind) for random in self._random], 1)]
        return self._ahead.pop(0).to(self.device)

    def gradient_norm(self, gradients):
        """[K]."""
        return torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()

    def clip(self, parameters, norm):
        factor = (self.gradient_clip / (norm + 1e-6)).clamp(max=1)
        for p in parameters:
            p.grad.mul_(factor.view(-1, *[1] * (p.ndim - 1)))

    def handle_non_finite(self, terms, values):
        """Marks the copies with a term that is not finite."""
        finite = values.isfinite()
        new = ~finite.all(0) & ~self.failed
        if not new.any():
            return
        self.failed |= new
        for copy_index in new.nonzero().flatten().tolist()[:5]:
            first = int((~finite[:, copy_index]).nonzero()[0])
            step, name, _ = terms[first]
            log.warning(
                f"seed {self.seeds[copy_index]} failed: {name} became {values[first, copy_index]:g} at D's update {step}"
            )
        if self.failed.all():
            raise FloatingPointError(
                f"all {len(self.seeds)} seeds failed by discriminator update {terms[-1][0]}; lower the learning rates, or "
                "regularize the discriminator (regularizer=r1)"
            )

    # Lightning's hooks

    def configure_optimizers(self):
        optimizers, schedulers = super().configure_optimizers()
        for name in (type(optimizer).__name__ for optimizer in optimizers):
            if name not in ELEMENTWISE:
                raise ValueError(
                    f"{name} may mix the copies of an ensemble; use one of {', '.join(ELEMENTWISE)}, or train one run per "
                    "seed: -m seed=1,2,3"
                )
        return optimizers, schedulers

    def on_fit_start(self):
        if self.trainer.world_size > 1:
            raise ValueError(
                f"an ensemble trains on one device, got {self.trainer.world_size} processes; use trainer.devices=1"
            )
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"trainer.precision={self.trainer.precision} scales all copies' losses by one factor, so that one copy's "
                "overflow would stop the others; use bf16-mixed or 32-true"
            )
        self.template.to(device=self.device, dtype=self.dtype)
        super().on_fit_start()

    def on_train_batch_start(self, batch, batch_idx):
        if self.d_updates == 0 and self.g_updates == 0 and not self._pending_checks:
            self.refuse_what_cannot_be_stacked(batch)

    def refuse_what_cannot_be_stacked(self, batch) -> None:
        """A turn of each player on copies of everything, so that a refusal comes in words and before anything moved."""
        for module in (*self.generator.modules(), *self.discriminator.modules()):
            if is_parametrized(module):
                raise ValueError(
                    f"an ensemble cannot stack {type(module).__name__} with {_parametrization(module)}, which writes into "
                    "its own buffers; leave out regularizer=sn, or train one run per seed: -m seed=1,2,3"
                )
        real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self.conditioning.validate_labels(y)
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        try:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                for turn in (self.discriminator_step, self.generator_step):
                    terms, _ = turn(real, y)
                    learning = [p for p in self.parameters() if p.requires_grad]
                    torch.autograd.grad(sum(terms.values()).sum(), learning, allow_unused=True)
        except torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except RuntimeError as error:
            raise ValueError(
                f"{self.family} with these networks and regularizers cannot be trained as one batched program "
                f"({str(error).strip().splitlines()[0]}); train one run per seed: -m seed=1,2,3"
            ) from error
        self._random, self._ahead = [], []  # begin again
        with torch.no_grad():
            for name, buffer in self.named_buffers():
                buffer.copy_(buffers[name])

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        checkpoint["ganlab"]["seeds"] = self.seeds
        checkpoint["latents"] = [random.get_state() for random in self._random]
        checkpoint["latents_ahead"] = self._ahead

    def on_load_checkpoint(self, checkpoint):
        self._resumed, self._ahead = checkpoint["latents"], checkpoint.get("latents_ahead", [])

    # Use after training

    def member(self, index: int) -> GAN:
        """One copy as an ordinary GAN."""
        gan = copy.deepcopy(self.template)
        gan.discriminator.vectorized = False
        for part in PARTS:
            own = dict(tensors(getattr(gan, part)))
            with torch.no_grad():
                for name, tensor in tensors(getattr(self, part)):
                    own[name].copy_(tensor[index])
        gan.set_extra_state(self.get_extra_state())
        return gan.to(self.device)

    def members(self):
        for index, failed in enumerate(self.failed.tolist()):
            yield None if failed else self.member(index)

    def sample(self, n, y=None, *, seed=None, truncation=None, batch_size=500):
        """[K, n, ...], from the same latents for all copies."""
        how = {"seed": seed, "truncation": truncation, "batch_size": batch_size}
        return torch.stack([self.member(k).sample(n, y, **how) for k in range(len(self.seeds))])


class _Turn(nn.Module):
    """A GAN's turn as a module's forward, which is what `functional_call` calls."""

    def __init__(self, gan: GAN, name: str):
        super().__init__()
        self.gan, self.name = gan, name

    def forward(self, real: Tensor, y: Tensor | None, z: Tensor):
        return getattr(self.gan, self.name)(real, y, z)


def turns_ahead(device: torch.device, numbers: int) -> int:
    """How many turns' latents, of so many numbers a copy, are drawn at once: on a GPU a launch per copy in each turn would
    cost as much as the turn. At most 256 KiB a copy, or one turn's.
    """
    return 1 if device.type == "cpu" else max(1, 2**16 // numbers)


def tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def stacked(modules: Sequence[nn.Module]) -> nn.Module:
    """One module whose parameters and buffers are those of all, stacked along a new first axis."""
    whole = copy.deepcopy(modules[0])
    for path, part in whole.named_modules():
        parts = [module.get_submodule(path) for module in modules]
        for name, parameter in part._parameters.items():
            if parameter is not None:
                together = torch.stack([getattr(p, name).detach() for p in parts])
                part._parameters[name] = nn.Parameter(together, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.stack([getattr(p, name) for p in parts])
    return whole


def _parametrization(module: nn.Module) -> str:
    (first, *_) = module.parametrizations.values()
    return type(first[0]).__name__.strip("_")
