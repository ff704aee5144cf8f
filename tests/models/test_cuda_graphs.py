"""A replayed step gives the same numbers as an eager one, for every family and regularizer; a CPU recorder stands in for CUDA.

The recorder keeps the operations that reach the CPU, with the tensors they read and wrote, and replays them on the same
memory. Like a CUDA graph it captures nothing of Python and refuses operations that read a value from the device.
"""

import copy
import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from lightning import Callback
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ganlab.networks.labels
import ganlab.regularizers
from ganlab.losses import NonSaturatingGAN, RpGAN
from ganlab.models.adversarial import FINITE_CHECK_EVERY
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels, Marginal
from ganlab.models.cuda_graphs import WARMUP_STEPS, StepGraphs
from ganlab.models.ensemble import Ensemble
from ganlab.networks import DCGANDiscriminator, DCGANGenerator
from ganlab.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    DiffAugment,
    FiniteDifferenceR1,
    FiniteDifferenceR2,
    GradientPenalty,
    InstanceNoise,
    LeCam,
    WeightClipping,
)

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.bincount, aten.lift_fresh}
ADAM = lambda p: torch.optim.Adam(p, 1e-2, (0.5, 0.9))
STEPS = 24


class Recorder(TorchDispatchMode):
    """Stands in for torch.cuda.CUDAGraph."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in WAITS:
            raise RuntimeError(f"{function} is not permitted while a stream is captured")
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recorders(monkeypatch):
    """All that were made; with them `StepGraphs` works on the CPU."""
    made = []

    def recorder():
        made.append(Recorder())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", recorder)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    # torch's own reads the labels' range on a CPU, and does not on a GPU
    monkeypatch.setattr(ganlab.networks.labels, "one_hot", lambda y, n: (y.unsqueeze(-1) == torch.arange(n)).long())
    return made


@pytest.fixture
def train(recorders, monkeypatch, fit):
    """Trains eagerly or by graphs. A CUDA graph runs nothing during capture, so what the recorder ran is undone."""

    def train(gan, batches, recorded, *callbacks):
        @contextmanager
        def graph(recorder, pool, capture_error_mode):
            own = {name: tensor.clone() for name, tensor in [*gan.named_parameters(), *gan.named_buffers()]}
            state = torch.get_rng_state()
            try:
                with recorder:
                    yield
            except RuntimeError as error:
                raise RuntimeError("operation failed due to a previous error during capture") from error
            with torch.no_grad():
                for name, tensor in [*gan.named_parameters(), *gan.named_buffers()]:
                    tensor.copy_(own[name])
            torch.set_rng_state(state)

        monkeypatch.setattr(torch.cuda, "graph", graph)
        start = gan.on_fit_start
        gan.on_fit_start = lambda: (start(), setattr(gan, "_graphs", StepGraphs() if recorded else None))
        fit(gan, batches, *callbacks)
        return gan

    return train


def same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_every_family(train, recorders, family, make_gan, make_batches):
    eager, replayed = (
        train(make_gan(family, optimizer=ADAM, n_critic=2, gradient_clip=0.5), make_batches(STEPS), recorded)
        for recorded in (False, True)
    )
    same(eager, replayed)
    assert len(recorders) == 2  # a step of each network


REGULARIZERS = {
    "gradient penalty": (GradientPenalty(1.0), 2),
    "lazy R1": (R1(1.0, every=4), 3),
    "R2": (R2(1.0), 2),
    "finite differences of R1": (FiniteDifferenceR1(1.0, 0.01), 2),
    "finite differences of R2": (FiniteDifferenceR2(1.0, 0.01), 2),
    "DRAGAN": (DRAGAN(1.0, 0.5), 2),
    "consistency": (Consistency(1.0, InstanceNoise(0.1)), 2),
    "instance noise": (InstanceNoise(0.1), 2),
    "instance noise that fades": (InstanceNoise(0.1, fade=STEPS), 2),
    "LeCam": (LeCam(0.3, start=12), 3),
    "weight clipping": (WeightClipping(0.1), 2),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer(train, recorders, make_gan, make_batches, name):
    regularizer, kinds = REGULARIZERS[name]
    gans = [make_gan(RpGAN, optimizer=ADAM, regularizers={"own": copy.deepcopy(regularizer)}) for _ in range(2)]
    eager, replayed = (train(gan, make_batches(STEPS), recorded) for gan, recorded in zip(gans, (False, True)))
    same(eager, replayed)
    assert len(recorders) == kinds


def test_all_public_regularizers_are_here():
    here = {type(regularizer) for regularizer, _ in REGULARIZERS.values()} | {DiffAugment}
    assert here == {c for c in vars(ganlab.regularizers).values() if isinstance(c, type)} - {ganlab.regularizers.Regularizer}


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "batch", "g_norm": "batch"},
        {"spectral_norm": True},
        {"classes": 3, "conditioning": ClassLabels(3, Batch(3))},
        {"classes": 3, "conditioning": ClassLabels(3, Marginal(3)), "feed": "concat_classes"},
        {"classes": 3, "conditioning": AuxiliaryClassifier(3, 1.0), "feed": "auxiliary_classes"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_every_conditioning_and_norm(train, recorders, make_gan, make_batches, settings):
    eager, replayed = (
        train(make_gan(optimizer=ADAM, **copy.deepcopy(settings)), make_batches(STEPS), recorded) for recorded in (False, True)
    )
    same(eager, replayed)
    assert len(recorders) == 2


def test_images_with_augmentation(train, make_batches):
    def gan():
        torch.manual_seed(0)
        return NonSaturatingGAN(
            DCGANGenerator(4, 3, 8, 4),
            DCGANDiscriminator(3, 8, 4),
            generator_optimizer=ADAM,
            discriminator_optimizer=ADAM,
            regularizers={"own": DiffAugment(color=True, translation=0.2, cutout=0.3, flip=True)},
        )

    batches = make_batches(STEPS // 2, shape=(3, 8, 8))
    same(train(gan(), batches, False), train(gan(), batches, True))


def test_ensemble_draws_each_member_s_latents(train, recorders, make_gan, make_batches):
    def ensemble():
        gans = [make_gan(RpGAN, optimizer=ADAM, seed=seed, regularizers={"own": R1(1.0, every=4)}) for seed in (1, 2)]
        return Ensemble(gans, [1, 2])

    batches = [(torch.stack([x, x.flip(0)]), torch.stack([y, y.flip(0)])) for x, y in make_batches(STEPS)]
    same(train(ensemble(), batches, False), train(ensemble(), batches, True))
    assert len(recorders) == 3


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


class Keeps(NonSaturatingGAN):
    """Keeps a step's autograd graph."""

    def discriminator_loss(self, real_logits, fake_logits):
        self.kept = super().discriminator_loss(real_logits, fake_logits)
        return self.kept


@pytest.mark.parametrize("family", [RpGAN, Keeps])
@pytest.mark.parametrize("members", [1, 2])
def test_no_autograd_graph_outlives_its_step(make_gan, make_batches, fit, no_collector, family, members):
    """While a graph lives, autograd adds gradients up in the stream in which it was made, and CUDA refuses to record that."""
    regularizers = {"r1": R1(1.0), "gp": GradientPenalty(1.0), "lecam": LeCam(0.3, start=0)}
    gans = [make_gan(family, seed=seed, regularizers=regularizers) for seed in range(members)]
    gan = gans[0] if members == 1 else Ensemble(gans, range(members))
    alive = []

    class Marks(Callback):
        def on_before_backward(self, trainer, gan, loss):
            for p in gan.discriminator.parameters():
                if p.requires_grad:
                    get_gradient_edge(p).node.metadata["seen"] = True

        def on_train_batch_end(self, trainer, gan, *batch):
            alive.extend("seen" in get_gradient_edge(p).node.metadata for p in gan.discriminator.parameters())

    batches = [
        batch if members == 1 else (torch.stack([batch[0]] * 2), torch.stack([batch[1]] * 2)) for batch in make_batches(3)
    ]
    fit(gan, batches, Marks())
    assert any(alive) == (family is Keeps)


class Watch(Callback):
    """Logs every fifth step, and keeps every step's terms."""

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        gan.log_next_step = batch_idx % 5 == 0

    def on_train_batch_end(self, trainer, gan, *batch):
        self.terms = [terms for _, terms in gan._pending_checks]


def test_eager_steps_between_replays_and_queued_terms(train, recorders, make_gan, make_batches):
    watches = Watch(), Watch()
    batches = make_batches(FINITE_CHECK_EVERY // 2 - 1)
    gans = [train(make_gan(optimizer=ADAM), batches, watch is watches[1], watch) for watch in watches]
    same(*gans)
    assert len(recorders) == 2 and gans[0].step_metrics.keys() == gans[1].step_metrics.keys()
    assert (
        watches[0].terms == watches[1].terms
        and len({float(*terms.values()) for terms in watches[1].terms}) > FINITE_CHECK_EVERY // 2
    )


def test_graphs_of_a_failed_run_are_freed_first(recorders, no_collector):
    class Left:
        pass

    left = Left()
    left.itself, gone = left, weakref.ref(left)
    del left
    StepGraphs()
    assert gone() is None


class Waits(NonSaturatingGAN):
    """Reads a value from the device in every step."""

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return NonSaturatingGAN.generator_loss(fake_logits) * (2 if fake_logits.mean() > 0 else 1)


def test_a_step_that_reads_from_the_device_is_refused(train, make_gan, make_batches):
    with pytest.raises(ValueError, match=r"cannot become a CUDA graph \(aten.*not permitted.*gan.cuda_graphs"):
        train(make_gan(Waits), make_batches(STEPS), True)


def test_the_first_steps_are_not_captured(train, recorders, make_gan, make_batches):
    train(make_gan(), make_batches(WARMUP_STEPS), True)
    assert not recorders


def test_cuda_graphs_without_a_gpu_are_refused(make_gan, make_batches, fit):
    with pytest.raises(ValueError, match="needs one GPU, got 1 process.es. on CPU"):
        fit(make_gan(cuda_graphs=True), make_batches(1))
