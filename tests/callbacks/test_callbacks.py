"""The image budget, periodic callbacks, training metrics, evaluation, checkpoints, pictures and the progress bar."""

import math
import time
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from PIL import Image
from torchmetrics import Metric

from ganlab.callbacks import Checkpoints, Evaluation, MaxImages, Periodic, ProgressBar, SampleGrid, TrainMetrics
from ganlab.callbacks.checkpoints import random_state
from ganlab.callbacks.sample_grid import draw_points
from ganlab.data import Ring, Split, TensorData, to_float, to_uint8
from ganlab.losses import CGAN
from ganlab.models.ensemble import Ensemble


class Points(TensorData):
    """70 labeled points: batches of 7, ten to an epoch."""

    def __init__(self, shape=(2,), size=70):
        value_range = (-0.3, 0.7) if len(shape) == 3 else None
        super().__init__(shape=shape, num_classes=3, batch_size=7, value_range=value_range)
        self.size = size

    def load(self):
        random = torch.Generator().manual_seed(0)
        x = torch.rand(self.size, *self.shape, generator=random) - 0.3
        split = Split(x, torch.randint(3, (self.size,), generator=random))
        return split, split


class RecordsCalls(Periodic):
    """Records `images_seen` at each call."""

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        self.calls = []

    def run(self, trainer, gan):
        self.calls.append(gan.images_seen)


class ScriptedMetric:
    """A metric with given values."""

    samples, objective, real_scores = 11, "distance", {"distance": 0.5}

    def __init__(self, *values):
        self.values, self.seen, self.resets = list(values), [], 0

    def setup(self, datamodule, device, split):
        self.datamodule = datamodule

    def reset(self):
        self.resets += 1

    def update(self, samples, labels=None):
        self.seen.append((samples, labels))

    def compute(self):
        return {"distance": torch.tensor(self.values.pop(0)), "other": torch.tensor(2.0)}


# MaxImages and Periodic


@pytest.mark.parametrize(("images", "stops_at"), [(1, 7), (7, 7), (8, 14), (70, 70), (71, 77), (139, 140), (150, 154)])
def test_max_images_stops_at_the_first_batch_that_reaches_it(make_gan, fit, images, stops_at):
    gan = make_gan()
    fit(gan, Points(), MaxImages(images), max_epochs=-1)
    assert gan.images_seen == stops_at


@pytest.mark.parametrize(
    ("every", "images", "at"),
    [
        (21, 70, [21, 42, 63, 70]),
        (35, 70, [35, 70]),  # not twice at the end
        (70, 70, [70]),
        (1000, 70, [70]),
        (10, 42, [14, 21, 35, 42]),  # the first batch past each multiple of 10
        (3, 28, [7, 14, 21, 28]),  # never more than once a batch
        (50, 154, [56, 105, 154]),
    ],
)
def test_periodic_runs_at_multiples_and_once_at_the_end(make_gan, fit, every, images, at):
    periodic = RecordsCalls(every)
    fit(make_gan(), Points(), periodic, MaxImages(images), max_epochs=-1)
    assert periodic.calls == at
    assert periodic.seconds > 0


def test_periodic_continues_at_the_resumed_count(make_gan, fit, tmp_path):
    gan = make_gan()
    fit(gan, Points(), MaxImages(49), max_epochs=-1).save_checkpoint(tmp_path / "a.ckpt")
    periodic, resumed = RecordsCalls(20), make_gan(seed=4)
    fit(resumed, Points(), periodic, MaxImages(100), ckpt_path=tmp_path / "a.ckpt", max_epochs=-1)
    assert periodic.calls == [63, 84, 105]


@pytest.mark.parametrize("build", [MaxImages, RecordsCalls, lambda n: Checkpoints(n, "x"), lambda n: SampleGrid(n, "x")])
@pytest.mark.parametrize("bad", [0, -5, 1.5, "10", True, None])
def test_invalid_counts_are_refused(build, bad):
    with pytest.raises(ValueError, match=f"(max_images|eval_every) must be an integer of at least 1, got {bad!r}"):
        build(bad)


def test_non_finite_losses_are_found_before_a_call(make_gan, fit):
    """Before any number is drawn from a network, losses since the last check are checked."""
    periodic = RecordsCalls(21)
    gan = make_gan(optimizer=lambda p: torch.optim.SGD(p, lr=math.inf))
    with pytest.raises(FloatingPointError):
        fit(gan, Points(), periodic, MaxImages(70), max_epochs=-1)
    assert periodic.calls == []


# TrainMetrics


ROW = {
    "d/loss", "d/accuracy_real", "d/accuracy_fake", "d/logit_real", "d/logit_fake", "d/grad_norm",
    "d/lr", "g/loss", "g/grad_norm", "g/lr", "d_updates", "g_updates", "seconds", "images_per_second",
}  # fmt: skip


@pytest.mark.parametrize(
    ("n_critic", "every", "at"),
    [
        (1, 4, [7, 35, 63, 91, 119]),
        (3, 4, [21, 42, 63, 105, 126]),
        (5, 4, [35, 70, 105, 140]),
        (2, 7, [14, 56, 112]),
        (1, 0, []),
    ],
)
def test_each_row_holds_a_step_of_both_networks(make_gan, fit, n_critic, every, at, memory):
    fit(
        make_gan(n_critic=n_critic),
        Points(),
        TrainMetrics(),
        MaxImages(140),
        max_epochs=-1,
        log_every_n_steps=every,
        logger=memory,
    )
    assert [step for step, _ in memory.rows] == at
    for step, row in memory.rows:
        assert row.keys() == ROW
        assert row["d_updates"] == step // 7 and row["g_updates"] == step // 7 // n_critic
        assert row["images_per_second"] > 0
        assert all(type(v) in (int, float) and math.isfinite(v) for v in row.values())


def test_learning_rates_of_both_networks_are_logged_after_their_step(make_gan, fit, memory):
    """Halved after each of D's 5 updates, and after each of G's 2 to a tenth."""
    gan = make_gan(
        n_critic=2,
        discriminator_scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        generator_scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.1),
    )
    fit(gan, Points(), TrainMetrics(), MaxImages(35), max_epochs=-1, log_every_n_steps=1, logger=memory)
    assert [(step, row["d/lr"], row["g/lr"]) for step, row in memory.rows] == [
        (14, pytest.approx(0.1 / 4), pytest.approx(0.01)),
        (28, pytest.approx(0.1 / 16), pytest.approx(0.001)),
    ]


def test_row_matches_the_networks_before_the_step(make_gan, make_batches, fit, memory):
    """On one batch, worked out again from the networks before the step."""
    gan = make_gan(norm="none", optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    batches = make_batches(1, size=40)
    torch.manual_seed(5)
    with torch.no_grad():
        r, f = gan.discriminator(batches[0][0]), gan.discriminator(gan.generator(torch.randn(40, 3)))
    g_f = gan.discriminator(gan.generator(torch.randn(40, 3)))
    g_loss = torch.log1p(torch.exp(-g_f)).mean()
    g_norm = torch.cat([g.flatten() for g in torch.autograd.grad(g_loss, list(gan.generator.parameters()))]).norm()
    fit(gan, batches, TrainMetrics(), logger=memory)
    ((step, row),) = memory.rows
    assert step == 40
    assert row["d/logit_real"] == pytest.approx(r.mean().item(), abs=1e-6)
    assert row["d/logit_fake"] == pytest.approx(f.mean().item(), abs=1e-6)
    assert row["d/logit_real"] != pytest.approx(row["d/logit_fake"], abs=1e-3)
    assert row["d/accuracy_real"] == pytest.approx((r > 0).float().mean().item())
    assert row["d/accuracy_fake"] == pytest.approx((f < 0).float().mean().item())
    assert row["d/loss"] == pytest.approx(
        (torch.log1p(torch.exp(-r)).mean() + torch.log1p(torch.exp(f)).mean()).item(), rel=1e-5
    )
    assert row["g/loss"] == pytest.approx(g_loss.item(), rel=1e-5)
    assert row["g/grad_norm"] == pytest.approx(g_norm.item(), rel=1e-4)
    assert "d/penalty" not in row  # nothing is penalized


def test_train_metrics_do_not_affect_training(make_gan, fit, memory):
    states = []
    for callbacks, logger in (([], False), ([TrainMetrics()], memory)):
        gan = make_gan(n_critic=2)
        fit(gan, Points(), *callbacks, MaxImages(140), max_epochs=-1, log_every_n_steps=1, logger=logger)
        states.append(list(gan.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_training_seconds_leave_out_periodic_callbacks_only(make_gan, fit, monkeypatch):
    """By a clock of which every batch takes 1 s, waiting for the device 3 s, and a periodic callback 10 s."""
    now = 0.0

    def advance(seconds):
        nonlocal now
        now += seconds

    class Batches(Callback):
        def on_train_batch_start(self, *_):
            advance(1)

    class Slow(RecordsCalls):
        def run(self, trainer, gan):
            super().run(trainer, gan)
            advance(10)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    gan, train_metrics, slow = make_gan(), TrainMetrics(), Slow(28)
    monkeypatch.setattr(gan, "check_finite", lambda: advance(3))
    fit(gan, Points(), train_metrics, Batches(), slow, MaxImages(63), max_epochs=-1)
    assert slow.calls == [28, 56, 63] and slow.seconds == 3 * 10
    assert train_metrics.training_seconds == 9 * 1 + 2 * 3  # up to the last batch; the third wait comes after it


# Evaluation


@pytest.mark.parametrize("classes", [0, 3])
def test_evaluation_uses_the_averaged_generator_and_fixed_latents(make_gan, fit, classes, memory):
    metric = ScriptedMetric(3.0, 1.0, 2.0)
    gan = make_gan(classes=classes)
    datamodule = Points()
    fit(gan, datamodule, Evaluation(metric, 35), MaxImages(77), max_epochs=-1, logger=memory)
    assert metric.datamodule is datamodule and metric.resets == 3
    assert [s.shape for s, _ in metric.seen] == [(11, 2)] * 3
    labels = [y for _, y in metric.seen]
    if classes:
        assert torch.equal(labels[0], labels[2]) and set(labels[0].tolist()) == {0, 1, 2}
    else:
        assert labels == [None] * 3
    last = metric.seen[-1][0]
    assert torch.equal(last, gan.sample(11, labels[-1], seed=0))
    assert not torch.equal(metric.seen[0][0], last)
    assert memory.rows == [
        (35, {"quality/distance": 3.0, "quality/other": 2.0, "quality/distance_real": 0.5}),
        (70, {"quality/distance": 1.0, "quality/other": 2.0, "quality/distance_real": 0.5}),
        (77, {"quality/distance": 2.0, "quality/other": 2.0, "quality/distance_real": 0.5}),
    ]


class Size(Metric):
    """What ganlab/metrics/__init__.py asks of a metric, and no more."""

    objective = "size_40"

    def __init__(self):
        super().__init__()
        self.samples = 40
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def setup(self, datamodule, device, split):
        self.to(device)
        self.real_scores, self.protocol = (
            {"size_40": float(datamodule.test.x.norm(dim=1).mean())},
            {"metric": "size", "samples": 40},
        )

    def update(self, samples, labels):
        self.total += samples.norm(dim=1).sum()

    def compute(self):
        return {"size_40": self.total / self.samples}


def test_evaluation_accepts_a_user_metric(make_gan, fit, memory):
    evaluation = Evaluation(Size(), every=35)
    fit(make_gan(), Points(), evaluation, MaxImages(70), max_epochs=-1, logger=memory)
    rows = [row for _, row in memory.rows if "quality/size_40" in row]
    assert len(rows) == 2 and evaluation.best == min(row["quality/size_40"] for row in rows)
    assert rows[0]["quality/size_40_real"] == evaluation.metric.real_scores["size_40"]


def break_generator(gan, members=(slice(None),)):
    """Nan in one weight of the moving average alone, so that all losses stay finite."""
    with torch.no_grad():
        for member in members:
            next(gan.generator_ema.parameters())[member].view(-1)[0] = math.nan


class BreakAt(RecordsCalls):
    def __init__(self, images, *members):
        super().__init__(images)
        self.members = members

    def run(self, trainer, gan):
        super().run(trainer, gan)
        break_generator(gan, self.members or (slice(None),))


def test_samples_that_are_not_finite_end_the_run(make_gan, fit, tmp_path):
    evaluation = Evaluation(ScriptedMetric(3.0, 2.0), 35)
    callbacks = BreakAt(49), evaluation, Checkpoints(35, str(tmp_path))
    message = "^the generator's samples are not finite at 70 images; lower the learning rates, or regularize"
    with pytest.raises(FloatingPointError, match=message):
        fit(make_gan(), Points(), *callbacks, MaxImages(140), max_epochs=-1)
    assert evaluation.metric.values == [2.0] and images_of(tmp_path / "checkpoints" / "last.ckpt") == 35


def test_members_whose_samples_are_not_finite_fail(make_gan, fit, caplog):
    ensemble, data = Ensemble([make_gan(seed=s) for s in range(3)], [4, 5, 6]), Points()
    data.seeds = ensemble.seeds
    evaluation = Evaluation(ScriptedMetric(*[3.0] * 7), 35)
    with caplog.at_level("WARNING"):
        fit(ensemble, data, BreakAt(49, 1), evaluation, MaxImages(105), max_epochs=-1)
    assert ensemble.failed.tolist() == [False, True, False] and evaluation.by_member[1] is None
    assert [values is None for values in evaluation.by_member] == [False, True, False]
    assert "seed 5 failed: the generator's samples are not finite at 70 images" in caplog.text
    ensemble = Ensemble([make_gan(seed=s) for s in range(2)], [4, 5])
    data.seeds = ensemble.seeds
    with pytest.raises(FloatingPointError, match="^all 2 seeds failed by 35 images; lower the learning rates"):
        fit(ensemble, data, BreakAt(7, 0, 1), Evaluation(ScriptedMetric(), 35), MaxImages(105), max_epochs=-1)


def test_evaluation_sees_saved_images_with_the_labels_of_the_validation_split(make_gan, fit):
    metric, data = ScriptedMetric(1.0), Points((1, 4, 4))
    gan = make_gan(CGAN, shape=(1, 4, 4))
    with torch.no_grad():
        gan.generator_ema.to(torch.float32)
        for p in gan.generator.parameters():
            p.mul_(20)
    fit(gan, data, Evaluation(metric, 1000), MaxImages(7), max_epochs=-1)
    ((samples, labels),) = metric.seen
    assert samples.abs().max() <= 1 and torch.equal(samples, to_float(to_uint8(samples)))
    assert (labels.bincount(minlength=3) - 11 * data.val.y.bincount(minlength=3) / len(data.val.y)).abs().max() < 1
    assert not torch.equal(labels.bincount(minlength=3), torch.tensor([4, 4, 3])), "not uniform"


def test_evaluation_keeps_the_best_objective(make_gan, fit):
    evaluation = Evaluation(ScriptedMetric(3.0, 1.0, 2.0), 35)
    fit(make_gan(), Points(), evaluation, MaxImages(77), max_epochs=-1)
    assert (evaluation.best, evaluation.improved, evaluation.latest["quality/distance"]) == (1.0, False, 2.0)
    assert evaluation.objective == "quality/distance"


@pytest.mark.parametrize("family", [CGAN], indirect=True)
def test_evaluation_grids_and_checkpoints_do_not_affect_training(make_gan, fit, family, tmp_path):
    """Parameters and buffers bit-identical with and without evaluation, grids and checkpoints."""
    states = []
    for every in (None, 14, 70):
        folder = str(tmp_path / str(every))
        watchers = (
            [Evaluation(ScriptedMetric(*range(20)), every), SampleGrid(every, folder), Checkpoints(every, folder)]
            if every
            else []
        )
        gan = make_gan(family, shape=(1, 4, 4), g_norm="batch", optimizer=torch.optim.Adam)
        fit(gan, Points((1, 4, 4)), *watchers, MaxImages(140), max_epochs=-1)
        states.append(gan.state_dict())
    for other in states[1:]:
        assert all(torch.equal(v, other[k]) for k, v in states[0].items() if k != "_extra_state")


# Checkpoints


def images_of(path):
    return torch.load(path, weights_only=True)["state_dict"]["_extra_state"]["images_seen"]


@pytest.mark.parametrize(
    ("values", "best"), [((3.0, 1.0, 2.0), 70), ((1.0, 2.0, 3.0), 35), ((3.0, 2.0, 1.0), 77), ((2.0, 2.0, 2.0), 35)]
)
def test_last_and_best_checkpoints(make_gan, fit, tmp_path, values, best):
    fit(
        make_gan(),
        Points(),
        Evaluation(ScriptedMetric(*values), 35),
        Checkpoints(35, str(tmp_path)),
        MaxImages(77),
        max_epochs=-1,
    )
    assert images_of(tmp_path / "checkpoints" / "last.ckpt") == 77
    assert images_of(tmp_path / "checkpoints" / "best.ckpt") == best


def test_best_checkpoint_is_the_evaluated_one_with_a_longer_period(make_gan, fit, tmp_path):
    evaluation = Evaluation(ScriptedMetric(1.0, 2.0, 3.0), 35)
    fit(make_gan(), Points(), evaluation, Checkpoints(7, str(tmp_path)), MaxImages(77), max_epochs=-1)
    assert images_of(tmp_path / "checkpoints" / "best.ckpt") == 35


def test_processes_that_join_at_a_resume_do_not_repeat_another_ones_numbers(tmp_path):
    """Of a checkpoint of two processes, the third has no state, and must not take that of the first."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(random_state())
    torch.manual_seed(3)
    drawn = []
    for rank in range(3):
        callback = Checkpoints(35, str(tmp_path))
        callback.on_load_checkpoint(None, None, {"random_states": states})
        with torch.random.fork_rng([]):
            callback.on_train_start(SimpleNamespace(global_rank=rank), SimpleNamespace(images_seen=0))
            drawn.append(float(torch.rand(())))
        callback.teardown(None, None, "fit")
    assert drawn == [float(torch.rand((), generator=torch.Generator().manual_seed(seed))) for seed in (1, 2, 3)]


def test_without_evaluation_there_is_no_best_checkpoint(make_gan, fit, tmp_path):
    fit(make_gan(), Points(), Checkpoints(35, str(tmp_path)), MaxImages(70), max_epochs=-1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_best_objective_survives_a_resume(make_gan, fit, tmp_path):
    def run(*values, images, **resume):
        evaluation = Evaluation(ScriptedMetric(*values), 35)
        fit(make_gan(), Points(), evaluation, Checkpoints(35, str(tmp_path)), MaxImages(images), max_epochs=-1, **resume)
        return evaluation

    run(1.0, images=35)
    evaluation = run(2.0, images=70, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert evaluation.best == 1.0 and not evaluation.improved
    assert images_of(tmp_path / "checkpoints" / "best.ckpt") == 35


# Pictures and the progress bar


@pytest.mark.parametrize(("classes", "columns"), [(0, 10), (3, 3)])
def test_image_grid_has_a_column_per_class(make_gan, fit, tmp_path, classes, columns):
    gan = make_gan(classes=classes, shape=(1, 8, 8))
    fit(gan, Points((1, 8, 8)), SampleGrid(35, str(tmp_path), rows=2), MaxImages(70), max_epochs=-1)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["0000000035.png", "0000000070.png"]
    assert (tmp_path / "samples.png").read_bytes() == (tmp_path / "samples" / "0000000070.png").read_bytes()
    with Image.open(tmp_path / "samples.png") as image:
        assert image.size == (columns * 58 + 2, 2 * 58 + 2)  # 8 pixels shown seven-fold, and lines of 2


RING = Ring(num_classes=8, dim=2, std=0.01, batch_size=50, train_size=100, test_size=50, data_seed=0)


@pytest.mark.parametrize("data", [RING, Points()], ids=["of known modes", "of no known modes"])
def test_point_grid_with_and_without_known_modes(make_gan, fit, tmp_path, data):
    fit(make_gan(), data, SampleGrid(1000, str(tmp_path)), MaxImages(100), max_epochs=-1)
    with Image.open(tmp_path / "samples.png") as image:
        assert image.size == (550, 550)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_with_and_without_rows_on_terminals_only(make_gan, fit, capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    for callbacks in ([TrainMetrics(), ProgressBar(140)], [ProgressBar(140)]):
        fit(make_gan(n_critic=3), Points(), *callbacks, MaxImages(140), max_epochs=-1, log_every_n_steps=50)
        assert ("100%" in capsys.readouterr().out) == terminal


@pytest.mark.parametrize("seeds, rows, columns", [(1, 1, 1), (2, 1, 2), (5, 2, 3), (10, 3, 4)])
def test_points_of_several_seeds_have_no_empty_row(tmp_path, seeds, rows, columns):
    data = Ring(dim=2, num_classes=8, std=0.02, batch_size=4, train_size=8, test_size=8, data_seed=0)
    data.setup()
    draw_points(tmp_path / "points.png", data, [data.test.x] * seeds, 100, [f"seed {n}" for n in range(seeds)])
    width, height = Image.open(tmp_path / "points.png").size
    assert height / width == pytest.approx(rows / columns, abs=0.06)
