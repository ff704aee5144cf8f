"""The Counterfactual and Vanishing callbacks."""

import copy
import csv
import math

import pytest
import torch
from lightning import Callback
from PIL import Image

from ganlab.analysis import generator_gradient_norms, shipped_families
from ganlab.callbacks import Counterfactual, MaxImages, Vanishing
from ganlab.callbacks.vanishing import decades, draw_figure
from ganlab.data import Ring
from ganlab.losses import CGAN, LSGAN, AlphaGAN, NonSaturatingGAN
from ganlab.regularizers import Regularizer


def ring():
    return Ring(num_classes=3, dim=2, std=0.05, batch_size=10, train_size=70, test_size=10, data_seed=0)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


# Counterfactual


def test_counterfactual_logs_every_family(make_gan, fit, memory):
    fit(make_gan(), ring(), Counterfactual(35), MaxImages(100), max_epochs=-1, logger=memory)
    assert [step for step, _ in memory.rows] == [40, 70, 100]
    for _, row in memory.rows:
        assert row.keys() == {f"generator_gradient/{name}" for name in shipped_families()}
        assert all(type(value) is float and value > 0 for value in row.values())
    assert memory.rows[0][1] != memory.rows[1][1]


def test_counterfactual_always_uses_the_same_batch(make_gan, fit, memory):
    """Without learning, its values stay the same."""
    still = make_gan(classes=3, optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    fit(still, ring(), Counterfactual(30), MaxImages(90), max_epochs=-1, logger=memory)
    assert memory.rows[0][1] == memory.rows[1][1] == memory.rows[2][1]


def test_counterfactual_uses_the_runs_own_settings(make_gan, fit, memory):
    rows = {}
    for name, family, settings in (("own", AlphaGAN, {"alpha_g": 0.5}), ("default", NonSaturatingGAN, {})):
        memory.rows.clear()
        gan = make_gan(family, optimizer=lambda p: torch.optim.SGD(p, lr=0.0), **settings)
        fit(gan, ring(), Counterfactual(70), MaxImages(70), max_epochs=-1, logger=memory)
        rows[name] = memory.rows[0][1]
    key = "generator_gradient/AlphaGAN"
    assert rows["own"].pop(key) != pytest.approx(rows["default"].pop(key), rel=0.1)
    assert rows["own"] == rows["default"]


@pytest.mark.parametrize("family", [CGAN], indirect=True)
def test_neither_affects_training(make_gan, fit, family, tmp_path):
    states = []
    watchers = ([], [Counterfactual(20)], [Vanishing([20, 70], 4, 2, str(tmp_path))])
    for callbacks in watchers:
        gan = make_gan(family, norm="batch", g_norm="batch", spectral_norm=True, optimizer=adam)
        fit(gan, ring(), *callbacks, MaxImages(140), max_epochs=-1)
        states.append(gan.state_dict())
    for other in states[1:]:
        assert all(torch.equal(v, other[k]) for k, v in states[0].items() if k != "_extra_state")
        assert states[0]["_extra_state"] == other["_extra_state"]


# Vanishing


@pytest.fixture
def run_vanishing(make_gan, fit, tmp_path):
    """Run the experiment during a small training and return the callback."""

    def run(ages, steps=6, every=4, family=NonSaturatingGAN, images=None, **gan):
        vanishing = Vanishing(ages, steps, every, str(tmp_path))
        gan = make_gan(family, **{"optimizer": adam} | gan)
        fit(gan, ring(), vanishing, MaxImages(images or max(ages)), max_epochs=-1)
        return vanishing

    return run


def test_vanishing_writes_rows_table_and_figure(run_vanishing, tmp_path):
    vanishing = run_vanishing([15, 70], images=90)
    assert [(row["age"], row["images_seen"], row["critic_step"]) for row in vanishing.rows] == [
        (15, 20, 0), (15, 20, 4), (15, 20, 6), (70, 70, 0), (70, 70, 4), (70, 70, 6)
    ]  # fmt: skip
    assert [row["epochs"] for row in vanishing.rows[::3]] == [pytest.approx(2 / 7), 1]
    with (tmp_path / "vanishing.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["age", "images_seen", "epochs", "critic_step", "critic_loss", *shipped_families()]
    for written, row in zip(table, vanishing.rows, strict=True):
        assert {k: float(v) for k, v in written.items()} == pytest.approx(row, rel=1e-5)
    with Image.open(tmp_path / "vanishing.png") as image:
        assert image.width > 1000 and len(set(image.convert("RGB").resize((300, 150)).get_flattened_data())) > 50
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vanishing.csv", "vanishing.png"]
    assert vanishing.seconds > 0


def test_critic_starts_anew_and_trains_with_the_runs_objective(make_gan, fit, tmp_path):
    """Repeated by hand: the generator at this age, the initial D, the run's objective and optimizer."""

    class Keep(Callback):
        def on_train_batch_end(self, trainer, gan, *_):
            if gan.images_seen == 50:
                self.aged = copy.deepcopy(gan.generator)

    first, keep = make_gan(LSGAN, optimizer=adam), Keep()
    vanishing = Vanishing([50], 3, 1, str(tmp_path), seed=9)
    gan = make_gan(LSGAN, optimizer=adam)
    data = ring()
    fit(gan, data, keep, vanishing, MaxImages(70), max_epochs=-1)

    first.generator.load_state_dict(keep.aged.state_dict())
    torch.manual_seed(9)
    batches = iter(data.batches())
    real, y = next(batches)
    z, optimizer = first.sample_latents(10), adam(first.discriminator.parameters())
    for row, (x, _) in zip(vanishing.rows, batches):
        norms = generator_gradient_norms(first, shipped_families(), real, y, z)
        assert {name: row[name] for name in norms} == pytest.approx({k: float(v) for k, v in norms.items()}, rel=1e-5)
        outputs = first.forward_pass(x, None, with_real=True, grad_to_generator=False)
        loss = first.discriminator_objective(outputs)
        assert row["critic_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert vanishing.rows[-1]["critic_loss"] < vanishing.rows[0]["critic_loss"]


def test_schedules_restart_with_the_critic(make_gan, fit, tmp_path):
    steps = []

    class Clock(Regularizer):
        def on_step_start(self, step):
            steps.append(step)

    vanishing = Vanishing([50], 3, 1, str(tmp_path), seed=9)
    fit(make_gan(LSGAN, optimizer=adam, regularizers={"clock": Clock()}), ring(), vanishing, MaxImages(70), max_epochs=-1)
    assert steps == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5] + [0, 1, 2, 3] + [5, 6, 6, 7]


def test_each_age_has_its_own_generator_and_the_same_critic(run_vanishing):
    vanishing = run_vanishing([20, 40], generator_optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    first, second = vanishing.rows[:3], vanishing.rows[3:]
    drop = {"age", "images_seen", "epochs"}
    for a, b in zip(first, second, strict=True):  # G stood still, so the second age repeats the first
        assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}
    vanishing = run_vanishing([20, 40])
    assert vanishing.rows[0]["WGAN"] != vanishing.rows[3]["WGAN"]


def test_only_minimax_vanishes_under_a_winning_critic(make_gan, fit, tmp_path):
    vanishing = Vanishing([10], 400, 400, str(tmp_path))
    gan = make_gan(optimizer=lambda p: torch.optim.Adam(p, lr=0.03))
    with torch.no_grad():
        list(gan.generator.parameters())[-1].copy_(torch.tensor([5.0, -7.0]))  # where G starts
    fit(gan, ring(), vanishing, MaxImages(10), max_epochs=-1)
    assert decades(vanishing.rows, "MinimaxGAN") < -3
    for name in ("NonSaturatingGAN", "LSGAN", "WGAN", "RpGAN"):
        assert decades(vanishing.rows, name) > 0


def test_resumed_run_keeps_rows_and_measures_the_remaining_ages(make_gan, fit, tmp_path):
    whole = Vanishing([20, 60], 3, 3, str(tmp_path))
    fit(make_gan(optimizer=adam), ring(), whole, MaxImages(70), max_epochs=-1)
    part = Vanishing([20, 60], 3, 3, str(tmp_path))
    with pytest.raises(ValueError, match="max_images=40 ends before G is 60 images old"):
        fit(make_gan(optimizer=adam), ring(), part, MaxImages(40), max_epochs=-1)
    trainer = fit(make_gan(optimizer=adam), ring(), part, max_epochs=1, limit_train_batches=4)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert [row["age"] for row in part.rows] == [20, 20]
    resumed = Vanishing([20, 60], 3, 3, str(tmp_path))
    fit(make_gan(optimizer=adam), ring(), resumed, MaxImages(70), ckpt_path=tmp_path / "a.ckpt", max_epochs=-1)
    assert [row["age"] for row in resumed.rows] == [20, 20, 60, 60]
    assert resumed.rows[:2] == whole.rows[:2]
    assert resumed.rows[2]["critic_loss"] != whole.rows[0]["critic_loss"]


def test_invalid_settings_are_refused(make_gan, fit, tmp_path):
    with pytest.raises(ValueError, match="ages must hold at least one age"):
        Vanishing([], 5, 1, "x")
    with pytest.raises(ValueError, match="callbacks.vanishing.ages must be an integer of at least 1, got 0"):
        Vanishing([10, 0], 5, 1, "x")
    with pytest.raises(ValueError, match="callbacks.vanishing.critic_steps must be an integer of at least 1, got 2.5"):
        Vanishing([10], 2.5, 1, "x")
    with pytest.raises(ValueError, match="callbacks.vanishing.every must be an integer of at least 1, got 0"):
        Vanishing([10], 5, 0, "x")
    trained = make_gan()
    fit(trained, ring(), MaxImages(70), max_epochs=-1)
    with pytest.raises(ValueError, match="needs an untrained critic, this one has 7 updates"):
        fit(trained, ring(), Vanishing([10], 2, 1, str(tmp_path)))


def test_decades():
    rows = [{"MinimaxGAN": 2.0, "WGAN": 0.0}, {"MinimaxGAN": 7.0, "WGAN": 1.0}, {"MinimaxGAN": 0.002, "WGAN": 3.0}]
    assert decades(rows, "MinimaxGAN") == pytest.approx(-3)
    assert math.isnan(decades(rows, "WGAN"))


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_figure_of_zeros_and_non_finite_values(value):
    rows = [
        {"age": 5, "images_seen": 8, "epochs": 0.1, "critic_step": step, "critic_loss": 1.0}
        | dict.fromkeys(shipped_families(), value)
        for step in (0, 3)
    ]
    figure = draw_figure(rows)
    figure.savefig("/dev/null", format="png")
    assert len(figure.axes) == 1 and figure.axes[0].get_yscale() == "log"


def test_figure_has_a_panel_per_age_and_all_families(run_vanishing):
    figure = draw_figure(run_vanishing([20, 40, 70]).rows)
    assert [axes.get_title().split(" (")[0] for axes in figure.axes] == [f"G after {n} images" for n in (20, 40, 70)]
    assert all(len(axes.lines) >= len(shipped_families()) for axes in figure.axes)
