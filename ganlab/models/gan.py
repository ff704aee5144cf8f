"""The base class of every family: one forward pass, and the terms that D and G minimize."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlab.models import compatibility
from ganlab.models.adversarial import AdversarialModule, OptimizerFactory, SchedulerFactory
from ganlab.models.conditioning import Labels, Unconditional
from ganlab.models.latents import DRAW_SIZE, sample_normal
from ganlab.regularizers import Regularizer, at_least_float32
from ganlab.utils.validation import validate_int, validate_number

# What a subclass of GAN may override: its losses and terms, what it declares about them, and what happens outside the step.
PUBLIC_OVERRIDES = (
    "discriminator_loss", "generator_loss", "discriminator_terms", "generator_terms", "sample_latents",
    "generator_sees_real", "pairs_samples", "requires_labels", "requires_lipschitz", "optimal_logit", "divergence", "family",
    "sample", "sample_in_batches", "generate", "on_save_checkpoint", "get_extra_state", "set_extra_state",
)  # fmt: skip
# Lightning's part of the training step; AdversarialModule and GAN define the rest.
LIGHTNING_STEP = (
    "training_step", "configure_optimizers", "optimizers", "manual_backward", "backward", "transfer_batch_to_device",
    "on_before_batch_transfer", "on_after_batch_transfer", "on_train_batch_start", "on_train_batch_end",
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
)  # fmt: skip


@dataclass(slots=True)
class StepOutputs:
    """One forward pass of a step. Samples are as D gets them: augmented by the regularizers, then packed.

    real, fake: [n, ...]; packed: [n/pack, pack * C, ...]; real_y, fake_y: int64 [n] or [n/pack, pack].
    real_logits, fake_logits: [n] (packed: [n/pack]), float32 or float64; a high logit says "real".
    step: updates of D before this step.
    real_class_logits, fake_class_logits: [n, K] of an auxiliary classifier.
    pack: samples that D gets as one.

    What a step does not have is None.
    """

    real: Tensor
    fake: Tensor
    real_y: Tensor | None
    fake_y: Tensor | None
    real_logits: Tensor | None
    fake_logits: Tensor
    step: int = 0
    real_class_logits: Tensor | None = None
    fake_class_logits: Tensor | None = None
    pack: int = 1


class GAN(AdversarialModule):
    """A generator, a discriminator and their training; a subclass supplies the two losses.

    One convention everywhere: *a high logit says "real"*, and `real` comes before `fake`. A subclass may override what
    `PUBLIC_OVERRIDES` lists, so that every family is trained by the same step; `overridden_internals` names the methods
    outside that list which a class or a user-defined ancestor redefines.

    Args:
        generator: `G(z [n, latent_dim], y=None) -> samples`; has the attribute `latent_dim`.
        discriminator: `D(x, y=None) -> logits [n]`. Where its attribute `one_pass` is true, real and fake share a
            forward pass: for networks that gain speed by it (small ones; convolutions on CPUs lose 15 %) and in which
            no layer mixes the samples of a batch.
        generator_optimizer, discriminator_optimizer: functions from parameters to an optimizer.
        generator_scheduler, discriminator_scheduler: functions from an optimizer to a learning-rate schedule, or None;
            stepped once per update of that network.
        conditioning: which labels real samples and fakes get (`ganlab.models.conditioning`).
        regularizers: `Regularizer`s of the discriminator, by name.
        pack: samples that D gets as one, concatenated along channels (PacGAN, Lin et al. 2018); D takes pack * C
            channels. Samples of a batch that fill no pack are dropped.
        n_critic: updates of the discriminator per update of the generator.
        critic_warmup: WGAN's schedule, 100 updates of D before each of G's first 25 updates and each 500th (Arjovsky et
            al. 2017, the authors' code).
        ema_decay: of the generator's moving average, in [0, 1), warmed up as min(decay, (1+t)/(10+t)); 0: no averaging.
        gradient_clip: largest gradient norm of each network, or None.
        cuda_graphs: on one GPU, replay the step's kernels (`ganlab.models.cuda_graphs`): the same numbers, and small
            networks no longer wait for Python. Python code in your own family or regularizer then runs only at capture;
            put what changes its work from step to step into `Regularizer.graph_key`.

    Raises:
        ValueError: a setting is out of range, or the family needs labels and has none.
        FloatingPointError: a loss or penalty became non-finite while training.
    """

    generator_sees_real = False  # relativistic losses use real logits in G's update, too
    pairs_samples = False  # the loss compares the i-th real sample with the i-th fake: both should have the same label
    requires_labels = False
    requires_lipschitz = False

    overridden_internals: tuple[str, ...] = ()

    # Theory that a family may declare; `ganlab inspect` checks it.
    # optimal_logit(p, q): the optimal D's logit for densities p of real, q of fake; up to a constant if only r - f counts.
    # divergence(p, q): -min_D discriminator_loss for probability vectors [k]; its docstring names it.
    optimal_logit: Callable[..., Tensor] | None = None
    divergence: Callable[..., Tensor] | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        defined = {**vars(AdversarialModule), **vars(GAN)}.items()
        methods = {name for name, value in defined if callable(value) or isinstance(value, property)}
        internals = {n for n in methods.union(LIGHTNING_STEP).difference(PUBLIC_OVERRIDES) if not n.startswith("__")}
        users = [base for base in cls.__mro__ if base not in GAN.__mro__]
        cls.overridden_internals = tuple(sorted(internals & {name for base in users for name in vars(base)}))

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        generator_scheduler: SchedulerFactory | None = None,
        discriminator_scheduler: SchedulerFactory | None = None,
        conditioning: Unconditional | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        pack: int = 1,
        n_critic: int = 1,
        critic_warmup: bool = False,
        ema_decay: float = 0.999,
        gradient_clip: float | None = None,
        cuda_graphs: bool = False,
    ):
        super().__init__()
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.generator_scheduler, self.discriminator_scheduler = generator_scheduler, discriminator_scheduler
        self.n_critic, self.critic_warmup = validate_int("gan.n_critic", n_critic), critic_warmup
        self.ema_decay = validate_number("gan.ema_decay", ema_decay, minimum=0, below=1)
        self.gradient_clip = None if gradient_clip is None else validate_number("gan.gradient_clip", gradient_clip, above=0)
        self.cuda_graphs, self.pack = cuda_graphs, validate_int("gan.pack", pack)
        self.generator, self.discriminator = generator, discriminator
        self.generator_ema = copy.deepcopy(generator).requires_grad_(False)
        self.conditioning = conditioning or Unconditional()
        self.regularizers = nn.ModuleDict(
            {name: validate_regularizer(name, r) for name, r in (regularizers or {}).items() if r is not None}
        )
        compatibility.validate_combination(self)

    # What a family supplies

    @staticmethod
    @abstractmethod
    def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Scalar that D minimizes; logits [n] each."""

    @staticmethod
    @abstractmethod
    def generator_loss(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Scalar that G minimizes; logits [n]; real logits only if `generator_sees_real`."""

    # The terms of each update

    def discriminator_step(self, real, y, z=None):
        outputs = self.forward_pass(real, y, z=z, with_real=True, grad_to_generator=False)
        metrics = {}
        if self.log_next_step:
            metrics = {
                "d/accuracy_real": (outputs.real_logits > 0).float().mean(),
                "d/accuracy_fake": (outputs.fake_logits < 0).float().mean(),
                "d/logit_real": outputs.real_logits.detach().mean(),
                "d/logit_fake": outputs.fake_logits.detach().mean(),
            }
        return self.discriminator_terms(outputs), metrics

    def generator_step(self, real, y, z=None):
        outputs = self.forward_pass(real, y, z=z, with_real=self.generator_sees_real, grad_to_generator=True)
        return self.generator_terms(outputs), {}

    def discriminator_terms(self, outputs: StepOutputs) -> dict[str, Tensor]:
        """What D minimizes the sum of: the loss, the penalties that are due, the conditioning's term; scalars by name."""
        loss = validate_scalar("discriminator_loss", self.discriminator_loss(outputs.real_logits, outputs.fake_logits))
        terms = {"d/loss": loss, **self.penalties(outputs)}
        if (class_loss := self.conditioning.discriminator_term(outputs)) is not None:
            terms["d/class_loss"] = class_loss
        return terms

    def generator_terms(self, outputs: StepOutputs) -> dict[str, Tensor]:
        """What G minimizes the sum of: the loss and the conditioning's term; scalars by name."""
        terms = {"g/loss": validate_scalar("generator_loss", self.generator_loss(outputs.fake_logits, outputs.real_logits))}
        if (class_loss := self.conditioning.generator_term(outputs)) is not None:
            terms["g/class_loss"] = class_loss
        return terms

    def discriminator_objective(self, outputs: StepOutputs) -> Tensor:
        """The sum of D's terms, a scalar."""
        return sum(self.discriminator_terms(outputs).values())

    def generator_objective(self, outputs: StepOutputs) -> Tensor:
        """The sum of G's terms, a scalar."""
        return sum(self.generator_terms(outputs).values())

    def penalties(self, outputs: StepOutputs) -> dict[str, Tensor]:
        """The penalties that are due at this step, in full precision; a lazy one counts `every` times.

        Their gradient then has the same mean over steps whatever `every` is, and SGD's path is the same to first order. Adam
        divides by the root of the mean square, which is larger for rare and large gradients: there, `every` is a setting that
        changes training.
        """
        terms = {}
        with torch.autocast(self.device.type, enabled=False):
            for name, regularizer in self.regularizers.items():
                if outputs.step % regularizer.every:
                    continue
                if (penalty := regularizer.penalty(self.discriminator, outputs)) is not None:
                    terms[f"d/penalty_{name}"] = regularizer.every * validate_scalar(f"regularizer.{name}'s penalty", penalty)
        return terms

    # One forward pass

    def forward_pass(
        self, real: Tensor, y: Tensor | None, *, z: Tensor | None = None, with_real: bool, grad_to_generator: bool
    ) -> StepOutputs:
        """Fakes from latents z [n, latent_dim] (None draws them), and D's logits of them and, if `with_real`, of real."""
        # Lightning keeps one autocast context open for the whole step. Its cache of cast weights would outlive the other
        # network's update, and would give G weights that were cast without a graph.
        torch.clear_autocast_cache()
        real_y, fake_y = self.conditioning.step_labels(y, len(real))
        z = self.sample_latents(len(real)) if z is None else z
        with torch.set_grad_enabled(grad_to_generator):
            fake = self.generator(z, fake_y)
        fake, fake_y = self._augment_and_pack(fake, fake_y)
        real_logits = real_classes = None
        if with_real:
            real, real_y = self._augment_and_pack(real, real_y)
        if with_real and getattr(self.discriminator, "one_pass", False):
            both_y = None if real_y is None else torch.cat([real_y, fake_y])
            logits, classes = self._discriminate(torch.cat([real, fake.to(real.dtype)]), both_y)
            real_logits, fake_logits = logits.chunk(2)
            real_classes, fake_classes = (None, None) if classes is None else classes.chunk(2)
        else:
            if with_real:
                real_logits, real_classes = self._discriminate(real, real_y)
            fake_logits, fake_classes = self._discriminate(fake, fake_y)
        logits = real_logits, fake_logits
        return StepOutputs(real, fake, real_y, fake_y, *logits, self.d_updates, real_classes, fake_classes, self.pack)

    def _augment_and_pack(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Samples and labels as D gets them: augmented, then `pack` of them concatenated."""
        for regularizer in self.regularizers.values():
            x = regularizer.augment(x)
        if self.pack == 1:
            return x, y
        n = len(x) // self.pack
        if n == 0:
            raise ValueError(f"a batch of {len(x)} holds no pack of {self.pack}; raise data.batch_size or lower gan.pack")
        x = x[: n * self.pack].reshape(n, self.pack * x.shape[1], *x.shape[2:])
        return x, None if y is None else y[: n * self.pack].reshape(n, self.pack)

    def _discriminate(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """D's logits [n] and, if the conditioning trains a classifier, class logits [n, K], in float32 or float64."""
        if self.conditioning.auxiliary:
            logits, classes = self.discriminator.forward_with_classes(x, y)
        else:
            logits, classes = self.discriminator(x, y), None
        if logits.shape != (len(x),):
            raise ValueError(f"the discriminator must return one logit per sample, [{len(x)}], got {list(logits.shape)}")
        return at_least_float32(logits), None if classes is None else at_least_float32(classes)

    def sample_latents(self, n: int) -> Tensor:
        """Latents [n, latent_dim] from N(0, I)."""
        return torch.randn(n, self.generator.latent_dim, device=self.device, dtype=self.dtype)

    # What `Ensemble` has, too

    @property
    def template(self) -> GAN:
        return self

    def members(self):
        yield self

    # Use after training

    def sample(
        self, n: int, y: Labels = None, *, seed: int | None = None, truncation: float | None = None, batch_size: int = 500
    ) -> Tensor:
        """Draw samples from the moving average of the generator.

        Args:
            n: number of samples.
            y: labels int [n], or one for all; None draws them from the conditioning's prior.
            seed: of the latents and the drawn labels, which are then the same on every device and for every batch size;
                None draws from torch's global generator.
            truncation: draw latents from N(0, I) truncated to [-truncation, truncation]: fewer modes, more typical samples.
            batch_size: samples per forward pass.

        Returns:
            float32 [n, C, H, W] in [-1, 1] for images, [n, 2] for toys, on the module's device.

        Raises:
            ValueError: n < 1, labels for an unconditional GAN, a label out of range, or truncation <= 0.
        """
        return torch.cat(list(self.sample_in_batches(n, y, seed=seed, truncation=truncation, batch_size=batch_size)))

    def sample_in_batches(
        self,
        n: int,
        y: Labels = None,
        *,
        seed: int | None = None,
        truncation: float | None = None,
        batch_size: int = 500,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Tensor]:
        """The samples of `sample`, at most `batch_size` at a time, in constant memory.

        Of `world_size` processes that split the work, this one makes the samples `rank`, `rank + world_size` ….
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        given = None if y is None else self.conditioning.sample_labels(y, n)
        random = None if seed is None else torch.Generator().manual_seed(seed)
        for first in range(0, n, DRAW_SIZE):
            count = min(DRAW_SIZE, n - first)
            z = sample_normal(count, self.generator.latent_dim, random, truncation)
            labels = self.conditioning.sample_labels(None, count, random) if given is None else given[first : first + count]
            share = slice((rank - first) % world_size, None, world_size)
            z, labels = z[share], None if labels is None else labels[share]
            for start in range(0, len(z), batch_size):
                part = slice(start, start + batch_size)
                yield self.generate(z[part], None if labels is None else labels[part])

    @torch.no_grad()
    def generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples of the moving average of the generator from latents z [n, latent_dim] and labels y [n], in float32."""
        self.generator_ema.eval()
        return self.generator_ema(z.to(self.device, self.dtype), None if y is None else y.to(self.device)).float()


def validate_scalar(hook: str, loss: Tensor) -> Tensor:
    """Return the loss if it is a scalar tensor."""
    if not isinstance(loss, Tensor) or loss.ndim:
        got = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"{hook} must return one number as a tensor, got {got}; take the mean over the samples")
    return loss


def validate_regularizer(name: str, regularizer: Regularizer) -> Regularizer:
    """Return the regularizer if it is one and its base class was initialized."""
    if not isinstance(regularizer, Regularizer) or "every" not in vars(regularizer):
        raise ValueError(
            f"regularizer.{name} must be a ganlab.regularizers.Regularizer whose __init__ calls super().__init__(every), "
            f"got a {type(regularizer).__name__}"
        )
    return regularizer
