"""An ensemble's members match single runs, for every family, regularizer and setting; no member affects another."""

import copy
import csv
import json
import math

import pytest
import torch

import ganlab
from ganlab.callbacks.train_metrics import median_and_quartiles
from ganlab.data.batches import EnsembleBatches, Split
from ganlab.losses import WGAN, AlphaGAN, MinimaxGAN, NonSaturatingGAN, RpGAN
from ganlab.models.conditioning import AuxiliaryClassifier, Batch, ClassLabels
from ganlab.models.ensemble import Ensemble
from ganlab.networks import DCGANDiscriminator, DCGANGenerator
from ganlab.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    FiniteDifferenceR1,
    FiniteDifferenceR2,
    GradientPenalty,
    InstanceNoise,
    LeCam,
    Regularizer,
    WeightClipping,
)  # fmt: skip

K, N = 2, 6
ADAM = lambda p: torch.optim.Adam(p, 2e-2, (0.5, 0.9), fused=True)
RMSPROP = lambda p: torch.optim.RMSprop(p, 1e-2)


class Pool:
    """Answers every draw with the next numbers of one list, the same for a single run and for all members at once."""

    def __init__(self, seed=3):
        random = torch.Generator().manual_seed(seed)
        self.normal = torch.randn(200_000, generator=random, dtype=torch.float64)
        self.uniform = torch.rand(200_000, generator=random, dtype=torch.float64)
        self.at = 0

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()  # a TorchFunctionMode would take as long again as the training
        for kind, pool in (("randn", self.normal), ("rand", self.uniform)):
            self.patch.setattr(torch, kind, lambda *shape, pool=pool, **_: self.next(pool, torch.Size(shape)))
            self.patch.setattr(torch, f"{kind}_like", lambda x, pool=pool, **_: self.next(pool, x.shape))

    def __exit__(self, *_):
        self.patch.undo()

    def next(self, pool, shape):
        self.at += 1
        start = self.at * 37 % 100_000
        return pool[start : start + shape.numel()].view(shape)


def batches_of(count, shape=(2,), classes=3, members=K):
    random = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn(members, N, *shape, generator=random, dtype=torch.float64) * 0.7 + 0.4
    return [(draw(), torch.randint(classes, (members, N), generator=random)) for _ in range(count)]


def follow(gans, fit, steps=100, shape=(2,), latent=3, tolerance=1e-4, alone=range(K), **settings):
    """Trains an ensemble, and those of its GANs in `alone` one by one, on the same batches, latents and draws; compares all
    weights."""
    ensemble = Ensemble([copy.deepcopy(gan) for gan in gans], list(range(len(gans))))
    batches = batches_of(steps, shape)
    latents = [
        torch.randn(K, N, latent, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3 * steps)
    ]
    start = [p.clone() for p in gans[alone[-1]].parameters()]
    ensemble.validate_vectorizable = lambda batch: None  # it tries both steps, and would use up draws
    draws = iter(latents)
    ensemble.step_latents = lambda real: next(draws)
    with Pool():
        fit(ensemble, batches, precision="64-true", **settings)
    for index in alone:
        gan, own = gans[index], iter(latents)
        gan.step_latents = lambda real, own=own, index=index: next(own)[index]
        with Pool():
            fit(gan, [(x[index], y[index]) for x, y in batches], precision="64-true", **settings)
        assert ensemble.get_extra_state() == gan.get_extra_state()
        found = ensemble.member(index).state_dict()
        for name, value in gan.state_dict().items():
            if name != "_extra_state":
                torch.testing.assert_close(found[name].double(), value.double(), atol=tolerance, rtol=tolerance, msg=name)
    moved = max((a - b).abs().max().item() for a, b in zip(start, gans[alone[-1]].parameters()))
    assert moved > 10 * tolerance
    return ensemble


def test_member_matches_single_run_for_every_family(family, make_gan, fit):
    classes = 3 if family.requires_labels else 0
    conditioning = {"conditioning": ClassLabels(3, Batch(3))} if classes else {}
    gans = [make_gan(family, seed=s, optimizer=ADAM, classes=classes, **conditioning) for s in range(K)]
    follow(gans, fit, alone=[0])


REGULARIZERS = {
    "r1": lambda: R1(1.0),
    "r2": lambda: R2(0.5, every=2),
    "r1_approx": lambda: FiniteDifferenceR1(1.0, 0.1),
    "r2_approx": lambda: FiniteDifferenceR2(1.0, 0.1),
    "gp": lambda: GradientPenalty(2.0),
    "gp_one_sided": lambda: GradientPenalty(2.0, one_sided=True),
    "gp_zero": lambda: GradientPenalty(2.0, center=0.0),
    "dragan": lambda: DRAGAN(2.0, 0.5),
    "lecam": lambda: LeCam(0.5, start=10),
    "clip": lambda: WeightClipping(0.1),
    "instance_noise": lambda: InstanceNoise(0.3, fade=70),
    "consistency": lambda: Consistency(1.0, InstanceNoise(0.2)),
}


@pytest.mark.parametrize("name", [*REGULARIZERS, "own_project", "own_on_step_start"])
def test_member_matches_single_run_for_every_regularizer(name, make_gan, fit):
    make = {**REGULARIZERS, "own_project": NormedProjection, "own_on_step_start": StatefulSchedule}[name]
    gans = [make_gan(WGAN, seed=s, optimizer=RMSPROP, regularizers={name: make()}) for s in range(K)]
    follow(gans, fit, alone=[1])


@pytest.mark.parametrize(
    "settings",
    [
        {"n_critic": 3},
        {"gradient_clip": 0.05},
        {"ema_decay": 0.5},
        {"g_norm": "batch"},
        {"norm": "layer"},
        {"classes": 3, "conditioning": ClassLabels(3, Batch(3))},
        {"feed": "concat_classes", "classes": 3, "conditioning": ClassLabels(3, Batch(3)), "regularizers": {"r1": R1(1.0)}},
        {"classes": 3, "feed": "auxiliary_classes", "conditioning": AuxiliaryClassifier(3, 0.7, Batch(3))},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_member_matches_single_run_for_every_setting(settings, make_gan, fit):
    settings = {k: copy.deepcopy(v) for k, v in settings.items()}
    follow([make_gan(seed=s, optimizer=ADAM, **settings) for s in range(K)], fit, steps=40)


def test_member_matches_single_run_with_convolutions(fit):
    gans = []
    for seed in range(K):
        torch.manual_seed(seed)
        networks = DCGANGenerator(3, 1, 8, 4), DCGANDiscriminator(1, 8, 4)
        gans.append(
            AlphaGAN(
                *networks, alpha_d=0.7, generator_optimizer=ADAM, discriminator_optimizer=ADAM, regularizers={"r1": R1(0.2)}
            )
        )
    follow(gans, fit, steps=20, shape=(1, 8, 8))


class NormedProjection(Regularizer):
    @torch.no_grad()
    def project(self, discriminator):
        for p in discriminator.parameters():
            p.div_(p.norm())
            p.data = p.data * 2


class StatefulSchedule(Regularizer):
    """A buffer that `penalty` feeds and `on_step_start` normalizes, beside a plain attribute."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = 0.0, 0
        self.register_buffer("state", torch.ones(4))

    def on_step_start(self, step):
        self.calls += 1
        self.weight = 0.1 * step + 0.01 * self.calls
        self.state.div_(self.state.norm())

    def penalty(self, discriminator, outputs):
        self.state.add_(outputs.fake_logits.detach().square().mean())
        return self.weight * self.state.sum() * outputs.real_logits.square().mean()


class BatchNormalized(Regularizer):
    def augment(self, x):
        return x / x.std()


class WeightedTerms(AuxiliaryClassifier):
    """Weighs the classification losses by a running mean of D's."""

    def __init__(self):
        super().__init__(3, 0.7, Batch(3))
        self.register_buffer("mean", torch.ones(()))

    def discriminator_term(self, outputs):
        term = super().discriminator_term(outputs)
        self.mean.lerp_(term.detach(), 0.1)
        return term / self.mean


class CenteredLoss(NonSaturatingGAN):
    def discriminator_terms(self, outputs):
        terms = super().discriminator_terms(outputs)
        return terms | {"d/center": (outputs.real_logits.mean() + outputs.fake_logits.mean()).square()}

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return ((fake_logits - fake_logits.mean()) / fake_logits.std()).square().mean() - fake_logits.mean()


HOOKS = {
    "none": {},
    "penalty": {"regularizers": {"gp": GradientPenalty(2.0), "lecam": LeCam(0.5, start=2)}},
    "project": {"regularizers": {"own": NormedProjection()}},
    "project elementwise": {"regularizers": {"clip": WeightClipping(0.1)}},
    "on_step_start": {"regularizers": {"own": StatefulSchedule()}},
    "augment": {"regularizers": {"own": BatchNormalized()}},
    "conditioning": {"classes": 3, "feed": "auxiliary_classes", "conditioning": WeightedTerms()},
    "loss": {"family": CenteredLoss},
    "clip": {"gradient_clip": 0.05},
}


@pytest.mark.parametrize("wrecked", [0, 2])
@pytest.mark.parametrize("value", [math.nan, 1e30])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_wrecked_member_leaves_the_others_bitwise_unchanged(make_gan, fit, hook, value, wrecked):
    results = []
    for wreck in (False, True):
        gans = [make_gan(seed=s, optimizer=ADAM, **copy.deepcopy(HOOKS[hook])) for s in range(3)]
        if wreck:
            for p in gans[wrecked].discriminator.parameters():
                p.data.fill_(value)
        ensemble = Ensemble(gans, [10, 11, 12])
        fit(ensemble, [(x.float(), y) for x, y in batches_of(8, members=3)])
        results.append(ensemble)
    assert not results[0].failed.any()
    if hook != "project" or math.isnan(value):  # a projection can mend huge weights
        assert results[1].failed.tolist() == [k == wrecked for k in range(3)]
        assert [gan is None for gan in results[1].members()] == [k == wrecked for k in range(3)]
    for k in {0, 1, 2} - {wrecked}:
        expected, state = (ensemble.member(k).state_dict() for ensemble in results)
        assert all(torch.equal(value, state[name]) for name, value in expected.items() if name != "_extra_state")


def test_training_stops_when_every_member_failed(make_gan, fit):
    ensemble = Ensemble([make_gan(seed=s) for s in range(K)], [1, 2])
    batches = [(x.float() * math.nan, y) for x, y in batches_of(3)]
    with pytest.raises(FloatingPointError, match="all 2 seeds failed by discriminator update"):
        fit(ensemble, batches)


def test_families_with_the_same_seeds_are_paired(make_gan, fit):
    """Paired design: initial weights, latents and batches depend on the seeds alone, not on the loss or its penalty."""
    seen = []
    for family, regularizers in ((MinimaxGAN, None), (RpGAN, {"gp": GradientPenalty(1.0)})):
        ensemble = Ensemble([make_gan(family, seed=s, regularizers=regularizers) for s in range(K)], [4, 5])
        split = Split(torch.arange(40.0)[:, None] * torch.ones(2), torch.zeros(40, dtype=torch.long))
        batches = EnsembleBatches(split, N, [4, 5])
        weights = [p.detach().clone() for p in ensemble.generator.parameters()]
        latents, draw = [], ensemble.step_latents
        ensemble.step_latents = lambda real, latents=latents, draw=draw: latents.append(draw(real)) or latents[-1]
        shown = list(batches)
        fit(ensemble, shown)
        seen.append((weights, latents, [x for x, _ in shown]))
    for first, second in zip(*seen):
        assert len(first) == len(second) > 1
        assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_batches_of_an_ensemble_are_permutations_of_the_data():
    split = Split(torch.arange(20).view(20, 1), torch.arange(20))
    batches = EnsembleBatches(split, 5, [1, 2, 3])
    first, second = list(batches.iter_batches(0)), list(batches.iter_batches(1))
    assert len(first) == len(batches) == 4 and first[0][0].shape == (3, 5, 1)
    orders = [torch.cat([y for _, y in part], 1) for part in (first, second)]
    assert all(row.sort().values.tolist() == list(range(20)) for order in orders for row in order)
    assert len({tuple(row.tolist()) for order in orders for row in order}) == 6  # one for each member and pass
    assert all(torch.equal(x.squeeze(-1), y) for x, y in first)
    again = list(EnsembleBatches(split, 5, [2]))
    assert all(torch.equal(a[1][0], b[1][1]) for a, b in zip(again, first))  # follows from its seed alone


def test_what_vmap_cannot_run_is_refused_with_the_reason(make_gan, fit):
    ensemble = Ensemble([make_gan(seed=s, spectral_norm=True) for s in range(K)], [1, 2])
    with pytest.raises(ValueError, match="cannot stack .* with SpectralNorm.*-m seed=1,2,3"):
        fit(ensemble, batches_of(1))

    class Sorting(NonSaturatingGAN):
        @staticmethod
        def generator_loss(fake_logits, real_logits=None):
            return fake_logits.mean() if fake_logits.mean() > 0 else -fake_logits.mean()

    with pytest.raises(ValueError, match="Sorting with these networks.*one batched program"):
        fit(Ensemble([make_gan(Sorting, seed=s) for s in range(K)], [1, 2]), [(x.float(), y) for x, y in batches_of(1)])
    with pytest.raises(ValueError, match="at least one GAN and a seed for each"):
        Ensemble([], [])


def test_out_of_memory_is_not_refused_as_unstackable(make_gan, fit, monkeypatch):
    """Out of memory is handled elsewhere: by fewer members at once."""
    ensemble = Ensemble([make_gan(seed=s) for s in range(K)], [1, 2])

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ensemble, "discriminator_step", full)
    with pytest.raises(torch.OutOfMemoryError):
        fit(ensemble, batches_of(1))


def test_an_optimizer_that_mixes_members_is_refused(make_gan, fit):
    ensemble = Ensemble([make_gan(seed=s, optimizer=torch.optim.Adafactor) for s in range(K)], [1, 2])
    with pytest.raises(ValueError, match="Adafactor may mix the members"):
        fit(ensemble, batches_of(1))


def test_numbers_are_logged_as_medians_and_quartiles(make_gan, fit):
    ensemble = Ensemble([make_gan(seed=s) for s in range(3)], [1, 2, 3])
    ensemble.log_next_step = True
    x = torch.randn(3, N, 2)
    terms, seen = ensemble.discriminator_step(x, None, torch.zeros(3, N, 3))
    assert terms["d/loss"].shape == (3,) and seen["d/logit_real"].shape == (3,)
    values = terms["d/loss"].detach()
    row = median_and_quartiles("d/loss", values)
    assert row["d/loss"] == pytest.approx(values.median().item())
    assert row["d/loss_q1"] <= row["d/loss"] <= row["d/loss_q3"]
    assert median_and_quartiles("x", torch.tensor([math.inf, math.inf, 1.0, math.nan]))["x"] == math.inf
    assert median_and_quartiles("x", torch.tensor([9.0, 1.0]))["x"] == 5
    assert median_and_quartiles("x", torch.tensor(2.0)) == {"x": 2.0}


def test_seeds_from_the_command_line_and_members_from_the_checkpoint(cli, tmp_path):
    short = ["+experiment=ring", "max_images=1280", "eval_every=640", "logger=csv", "trainer=cpu", "callbacks.sample_grid=null"]
    code, printed = cli(*short, "seed=5", "seeds=3")
    assert code == 0, printed
    (run,) = (tmp_path / "outputs").iterdir()
    assert {p.name for p in run.iterdir()} >= {"seeds.csv", "summary.json", "config.yaml"}
    rows = list(csv.DictReader((run / "seeds.csv").open()))
    assert [(row["images_seen"], row["seed"]) for row in rows] == [(n, s) for n in ("640", "1280") for s in "567"]
    assert [row["status"] for row in rows] == ["training"] * 3 + ["finished"] * 3
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seeds"] == [5, 6, 7] and summary["failed_seeds"] == [] and summary["status"] == "finished"
    last = [float(row["quality/kl_with_off_mode_2500"]) for row in rows[3:]]
    assert summary["quality"]["quality/kl_with_off_mode_2500"] == pytest.approx(sorted(last)[1])
    gan = ganlab.load(run, seed=6)
    assert gan.images_seen == 1280 and gan.sample(4, seed=1).shape == (4, 2)
    assert not torch.equal(gan.sample(4, seed=1), ganlab.load(run).sample(4, seed=1))
    with pytest.raises(ValueError, match="has the seeds 5 … 7, got 9"):
        ganlab.load(run, seed=9)
    for bad in ("seeds=0", "seeds=1.5", "seeds=many"):
        code, printed = cli(*short, bad)
        assert code == 1 and "seeds must be an integer" in printed


BAD_SEED = """
import math

import torch
from ganlab import NonSaturatingGAN


class BadSeed(NonSaturatingGAN):
    def __init__(self, *networks, **settings):
        super().__init__(*networks, **settings)
        if torch.initial_seed() == 2:
            with torch.no_grad():
                settings["discriminator"].head.linear.bias.fill_(math.nan)
"""


def test_a_failed_member_does_not_end_the_others(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text(BAD_SEED)
    short = ["+experiment=ring", "max_images=1280", "eval_every=640", "logger=csv", "trainer=cpu", "callbacks.sample_grid=null"]
    code, printed = cli(*short, "gan._target_=my_gan.BadSeed", "seeds=3")
    assert code == 0, printed
    (run,) = (tmp_path / "outputs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seeds"] == [1, 2, 3] and summary["failed_seeds"] == [2]
    final = {row["seed"]: row["status"] for row in csv.DictReader((run / "seeds.csv").open())}
    assert final == {"1": "finished", "2": "failed", "3": "finished"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["monitor=[counterfactual]"], "need a single GAN, got an ensemble of 2; use -m seed=1,2,3"),
        (["monitor=[vanishing]"], "need a single GAN, got an ensemble of 2; use -m seed=1,2,3"),
    ],
)
def test_monitors_of_one_gan_refuse_an_ensemble(cli, overrides, says):
    code, printed = cli("+experiment=ring", "max_images=1280", "logger=csv", "trainer=cpu", "seeds=2", *overrides)
    assert code == 1 and says in printed


def test_latents_depend_on_the_member_s_seed_alone(make_gan):
    drawn = [Ensemble([make_gan(seed=s) for s in seeds], seeds).sample_latents(4) for seeds in ([1, 2, 3], [3])]
    assert torch.equal(drawn[0][2], drawn[1][0]) and not torch.equal(drawn[0][0], drawn[0][1])


def test_latents_drawn_ahead_resume_exactly(make_gan, monkeypatch):
    monkeypatch.setattr(ganlab.models.ensemble, "steps_ahead", lambda device, numbers: 4)  # as on a GPU
    whole, resumed = (Ensemble([make_gan(seed=s) for s in range(K)], [1, 2]) for _ in range(2))
    before, checkpoint = [whole.sample_latents(5) for _ in range(6)], {}
    whole.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint | {"latents_ahead": [z.clone() for z in checkpoint["latents_ahead"]]})
    after = [(whole.sample_latents(5), resumed.sample_latents(5)) for _ in range(7)]
    assert all(torch.equal(one, other) for one, other in after)
    seen = [*before, *(one for one, _ in after)]
    assert len({float(z.sum()) for z in seen}) == 13 and whole.sample_latents(3).shape == (K, 3, 3)
