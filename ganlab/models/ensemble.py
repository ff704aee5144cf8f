"""Several seeds of one GAN trained at once, as one batched program."""

import copy
import logging
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.parametrize import is_parametrized

from ganlab.models.adversarial import AdversarialModule
from ganlab.models.gan import GAN
from ganlab.regularizers.base import is_elementwise

log = logging.getLogger(__name__)

STEP_MODULES = ("generator", "discriminator", "regularizers", "conditioning")  # what a step reads and writes
MODULES = (*STEP_MODULES, "generator_ema")
SETTINGS = (  # of the members, which the ensemble's step reads, too
    "generator_optimizer", "discriminator_optimizer", "generator_scheduler", "discriminator_scheduler",
    "n_critic", "critic_warmup", "ema_decay", "gradient_clip", "cuda_graphs",
)  # fmt: skip
# optimizers that update each value by its own gradients alone
ELEMENTWISE_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")


class Ensemble(AdversarialModule):
    """K independent members, each a GAN with its own seed; a step is `GAN`'s, under `torch.func.vmap` over the members.

    Parameters and buffers have a new first axis, the member's; batches are [K, n, ...]. Optimizers work on the stacked
    parameters and must be elementwise (SGD, RMSprop, Adam …). Each member draws its latents from its own generator of
    random numbers, seeded by its seed: different families trained with the same seeds see the same initial weights,
    batches and latents. Regularizers and label priors draw from torch's common generator.

    A member with a non-finite loss or penalty is marked in `failed` [K]; the others train on, unchanged by it.

    Args:
        gans: differ in their weights only; they are copied.
        seeds: one per member.

    Raises:
        ValueError: no members, or their networks cannot be stacked.
        FloatingPointError: every member failed.
    """

    seeds: list[int]
    batch_axis = 1

    def __init__(self, gans: Sequence[GAN], seeds: Sequence[int]):
        if not gans or len(gans) != len(seeds):
            raise ValueError(f"an ensemble needs at least one GAN and a seed for each, got {len(gans)} and {len(seeds)}")
        template = copy.deepcopy(gans[0])
        super().__init__()
        for name in SETTINGS:
            setattr(self, name, getattr(template, name))
        self.seeds = list(seeds)
        for name in MODULES:
            setattr(self, name, stack_modules([getattr(gan, name) for gan in gans]))
        self.register_buffer("failed", torch.zeros(len(gans), dtype=torch.bool))
        self._steps = {name: _Step(template, name) for name in ("discriminator_step", "generator_step")}  # no submodules
        self._elementwise_hooks = {
            (name, hook)
            for name, r in self.regularizers.items()
            for hook in ("on_step_start", "project")
            if is_elementwise(r, hook)
        }
        self._random: list[torch.Generator] = []
        self._latents_ahead: list[Tensor] = []  # of the next steps
        self._resumed: list[Tensor] = []  # the generators' states in the checkpoint

    @property
    def template(self) -> GAN:
        """The GAN whose code every member runs; its own weights mean nothing."""
        return self._steps["generator_step"].gan

    @property
    def family(self) -> str:
        return self.template.family

    # The two steps

    def discriminator_step(self, real, y, z=None):
        return self._vectorized("discriminator_step", real, y, z)

    def generator_step(self, real, y, z=None):
        return self._vectorized("generator_step", real, y, z)

    def _vectorized(self, name: str, real: Tensor, y: Tensor | None, z: Tensor | None):
        """A step of the template on every member's tensors; terms and metrics are [K]."""
        z = self.sample_latents(real.shape[1]) if z is None else z
        step = self._steps[name]
        step.gan.d_updates, step.gan.log_next_step = self.d_updates, self.log_next_step

        def one_member(state, real, y, z):
            return functional_call(step, state, (real, y, z), tie_weights=False)

        state = {f"gan.{part}.{name}": t for part in STEP_MODULES for name, t in named_tensors(getattr(self, part))}
        return vmap(one_member, in_dims=(0, 0, None if y is None else 0, 0), randomness="different")(state, real, y, z)

    def step_latents(self, real):
        return self.sample_latents(real.shape[1])

    def sample_latents(self, n: int) -> Tensor:
        """Latents [K, n, latent_dim] from N(0, I)."""
        if not self._random:
            self._random = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]
            for random, state in zip(self._random, self._resumed):
                random.set_state(state.cpu())
        if not self._latents_ahead or self._latents_ahead[0].shape[1] != n:
            dim = self.template.generator.latent_dim
            shape = steps_ahead(self.device, n * dim), n, dim
            draws = [torch.randn(shape, generator=random, device=self.device, dtype=self.dtype) for random in self._random]
            self._latents_ahead = [*torch.stack(draws, 1)]
        return self._latents_ahead.pop(0).to(self.device)

    # What acts on the stacked tensors outside the two steps

    def on_step_start(self):
        for name, regularizer in self.regularizers.items():
            if (name, "on_step_start") in self._elementwise_hooks:
                regularizer.on_step_start(self.d_updates)
            else:
                single = self.template.regularizers[name]
                for _ in self._each_member((regularizer, single)):
                    single.on_step_start(self.d_updates)

    def project_discriminator(self):
        for name, regularizer in self.regularizers.items():
            if (name, "project") in self._elementwise_hooks:
                regularizer.project(self.discriminator)
            else:
                single, discriminator = self.template.regularizers[name], self.template.discriminator
                for _ in self._each_member((regularizer, single), (self.discriminator, discriminator)):
                    single.project(discriminator)

    def _each_member(self, *pairs: tuple[nn.Module, nn.Module]) -> Iterator[None]:
        """For each member, copy its tensors from stacked into single modules, and back after the loop's body.

        A user's hook sees one member at a time, and finds the same Python attributes for each.
        """
        attributes = [(single, dict(vars(single))) for _, single in pairs]
        for k in range(len(self.seeds)):
            for single, before in attributes:
                vars(single).clear()
                vars(single).update(before)
            for stacked, single in pairs:
                copy_member(k, stacked, single)
            yield
            for stacked, single in pairs:
                copy_member(k, stacked, single, back=True)

    def gradient_norm(self, gradients):
        return torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()

    def clip_gradients_to_norm(self, parameters, norm):
        factor = (self.gradient_clip / (norm + 1e-6)).clamp(max=1)
        for p in parameters:
            p.grad.mul_(factor.view(-1, *[1] * (p.ndim - 1)))

    def handle_non_finite(self, terms, values):
        """Mark the members with a non-finite term as failed; raise if none is left."""
        finite = values.isfinite()
        new = ~finite.all(0) & ~self.failed
        if not new.any():
            return
        self.failed |= new
        for k in new.nonzero().flatten().tolist()[:5]:
            first = int((~finite[:, k]).nonzero()[0])
            d_updates, name, _ = terms[first]
            log.warning(f"seed {self.seeds[k]} failed: {name} became {values[first, k]:g} at discriminator update {d_updates}")
        if self.failed.all():
            raise FloatingPointError(
                f"all {len(self.seeds)} seeds failed by discriminator update {terms[-1][0]}; lower the learning rates, or "
                "regularize the discriminator (regularizer=r1)"
            )

    # Setup, and what a checkpoint holds

    def configure_optimizers(self):
        optimizers, schedulers = super().configure_optimizers()
        for name in (type(optimizer).__name__ for optimizer in optimizers):
            if name not in ELEMENTWISE_OPTIMIZERS:
                raise ValueError(
                    f"{name} may mix the members of an ensemble; use one of {', '.join(ELEMENTWISE_OPTIMIZERS)}, or train "
                    "one run per seed: -m seed=1,2,3"
                )
        return optimizers, schedulers

    def on_fit_start(self):
        if self.trainer.world_size > 1:
            raise ValueError(
                f"an ensemble trains on one device, got {self.trainer.world_size} processes; use trainer.devices=1"
            )
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f"trainer.precision={self.trainer.precision} scales all members' losses by one factor, so that an overflow "
                "in one member would skip the others' steps; use bf16-mixed or 32-true"
            )
        self.template.to(device=self.device, dtype=self.dtype)
        super().on_fit_start()

    def on_train_batch_start(self, batch, batch_idx):
        if self.d_updates == 0 and self.g_updates == 0 and not self._pending_checks:
            self.validate_vectorizable(batch)

    def validate_vectorizable(self, batch) -> None:
        """Try both steps and restore everything, so that what vmap cannot run is refused in words before training."""
        for module in (*self.generator.modules(), *self.discriminator.modules()):
            if is_parametrized(module):
                (parametrization, *_), *_ = module.parametrizations.values()
                raise ValueError(
                    f"an ensemble cannot stack {type(module).__name__} with {type(parametrization).__name__.strip('_')}, "
                    "which writes into its own buffers; leave out regularizer=sn, or train one run per seed: -m seed=1,2,3"
                )
        real, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        self.conditioning.validate_labels(y)
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        try:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                for step in (self.discriminator_step, self.generator_step):
                    self.on_step_start()
                    terms, _ = step(real, y)
                    trained = [p for p in self.parameters() if p.requires_grad]
                    torch.autograd.grad(sum(terms.values()).sum(), trained, allow_unused=True)
        except torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except RuntimeError as error:
            raise ValueError(
                f"{self.family} with these networks and regularizers cannot be trained as one batched program "
                f"({str(error).strip().splitlines()[0]}); train one run per seed: -m seed=1,2,3"
            ) from error
        self._random, self._latents_ahead = [], []
        with torch.no_grad():
            for name, buffer in self.named_buffers():
                buffer.copy_(buffers[name])

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        checkpoint["ganlab"]["seeds"] = self.seeds
        checkpoint["latents"] = [random.get_state() for random in self._random]
        checkpoint["latents_ahead"] = self._latents_ahead

    def on_load_checkpoint(self, checkpoint):
        self._resumed, self._latents_ahead = checkpoint["latents"], checkpoint.get("latents_ahead", [])

    # Use after training

    def member(self, k: int) -> GAN:
        """The k-th member as an ordinary GAN."""
        gan = copy.deepcopy(self.template)
        for name in MODULES:
            copy_member(k, getattr(self, name), getattr(gan, name))
        gan.set_extra_state(self.get_extra_state())
        return gan.to(self.device)

    def members(self):
        for k, failed in enumerate(self.failed.tolist()):
            yield None if failed else self.member(k)

    def sample(self, n, y=None, *, seed=None, truncation=None, batch_size=500):
        """Samples [K, n, ...], from the same latents for all members."""
        settings = {"seed": seed, "truncation": truncation, "batch_size": batch_size}
        return torch.stack([self.member(k).sample(n, y, **settings) for k in range(len(self.seeds))])


class _Step(nn.Module):
    """A GAN's step as a module's forward, which `functional_call` needs."""

    def __init__(self, gan: GAN, name: str):
        super().__init__()
        self.gan, self.name = gan, name

    def forward(self, real: Tensor, y: Tensor | None, z: Tensor):
        return getattr(self.gan, self.name)(real, y, z)


def steps_ahead(device: torch.device, size: int) -> int:
    """How many steps' latents, of `size` values per member, are drawn at once.

    On a GPU one launch per member and step would cost as much as the step: there, at most 256 KiB per member.
    """
    return 1 if device.type == "cpu" else max(1, 2**16 // size)


def named_tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def stack_modules(modules: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first module with the parameters and buffers of all modules, stacked along a new first axis."""
    stacked = copy.deepcopy(modules[0])
    for path, submodule in stacked.named_modules():
        submodules = [module.get_submodule(path) for module in modules]
        for tensors in (submodule._parameters, submodule._buffers):
            for name, first in tensors.items():
                if first is not None:
                    values = torch.stack([getattr(m, name).detach() for m in submodules])
                    tensors[name] = nn.Parameter(values, first.requires_grad) if isinstance(first, nn.Parameter) else values
    return stacked


@torch.no_grad()
def copy_member(k: int, stacked: nn.Module, single: nn.Module, *, back: bool = False) -> None:
    """Copy the k-th member's tensors from a stacked module into a single one, or back."""
    tensors = dict(named_tensors(single))
    for name, rows in named_tensors(stacked):
        source, target = (tensors[name], rows[k]) if back else (rows[k], tensors[name])
        target.copy_(source)
