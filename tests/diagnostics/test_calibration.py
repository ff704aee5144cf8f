"""The calibration: planted failures, truths, the choice of thresholds, and error rates."""

import json
from dataclasses import replace

import pytest
import torch
from calibration import planted, settings
from calibration.collect import collect, result_file
from calibration.tables import error_rates, mistakes, write_tables
from calibration.thresholds import best_thresholds, score
from calibration.truth import Outcome, outcomes, shares, truth, turnover

from ganlab.diagnostics.rules import FAILURES, VERDICTS, load_thresholds

SETTINGS = settings.all_settings()


def test_halves_share_no_settings_or_seeds_and_plant_every_failure():
    halves = {half: [s for s in SETTINGS if s.half == half] for half in ("fit", "test")}
    assert len(SETTINGS) == len({s.name for s in SETTINGS}) == sum(map(len, halves.values()))
    assert not set(settings.SEEDS["fit"]) & set(settings.SEEDS["test"])
    assert sum(len(settings.SEEDS[s.half]) for s in SETTINGS) >= 200
    for half in halves.values():
        # oscillation and dropping also come about by themselves, and are measured
        assert set(FAILURES) - {s.planted for s in half} <= {"OSCILLATION"} and sum(s.planted is None for s in half) >= 8


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.half} {setting.name}")
def test_every_setting_builds(setting, tmp_path):
    data = setting.data(str(tmp_path))
    data.setup()
    gan = setting.gan(data, 3)
    y = data.train.y[:4]
    assert gan.sample(4, y if setting.labels else None, seed=1).shape == (4, *data.shape)
    real = data.on_after_batch_transfer((data.train.x[:4], y), 0)[0]
    assert all(term.ndim == 0 for term in gan.discriminator_step(real, y)[0].values())


def test_planted_networks_fail_as_described():
    z = torch.randn(500, 3)
    few = planted.FewLatents(3, (2,), [8], bounded=False)(z)
    one = planted.OneLatent(3, (2,), [8], bounded=False)(z)
    assert len(few.unique(dim=0)) == 8 and len(one.unique(dim=0)) == 1
    saturated = planted.Saturated(3, (2,), [8], bounded=True)
    saturated(z).sum().backward()
    assert max(p.grad.abs().max() for p in saturated.parameters()) < 1e-4
    train = torch.randn(40, 2)
    mlp = planted.MLPGenerator(3, (2,), [8], bounded=False)
    distance = torch.cdist(planted.Copier(mlp, train, 1.0, 0.0)(z), train).amin(1)
    assert distance.max() < 1e-3
    distance = torch.cdist(planted.Copier(mlp, train, 0.3, 0.0)(z), train).amin(1)
    assert 0.22 < (distance < 1e-3).float().mean() < 0.38


@pytest.mark.parametrize("family", [planted.NoisyLabels, planted.NoisyHinge])
def test_noisy_labels_are_minimized_by_constant_logits(family):
    real, fake = torch.tensor([1.0, -0.3]), torch.tensor([0.2, 0.9])
    assert family.discriminator_loss(real, fake) == pytest.approx(float(family.discriminator_loss(fake, real)))
    assert family.discriminator_loss(0 * real, 0 * fake) <= family.discriminator_loss(real, fake)


def test_lacking_data_hides_modes_from_training_only():
    data = settings.RING(data_dir="", lacks=(1, 4))
    data.setup()
    data.seeds = [1, 2]
    batches = iter(data.train_dataloader())
    seen = {int(y) for _ in range(30) for y in next(batches)[1].flatten()}
    assert seen == {0, 2, 3, 5, 6, 7} and set(data.train.y.tolist()) == set(range(8))


def result(**changes):
    """One healthy member on a toy with four modes."""
    row = {
        "averaged": [[250, 250, 250, 250, 900]],
        "current": [[250, 250, 250, 250, 900]],
        "loss_slope": [0.5],
        "logit_max": [2.0],
        "sample_max": [1.0],
    }
    base = {
        "setting": "s",
        "half": "test",
        "planted": None,
        "lipschitz": True,
        "constrained": True,
        "labels": False,
        "images": False,
    }
    base |= {"seeds": [1], "failed": [False], "rows": [], "truth": [row, row], "frechet": None}
    measured = {name: changes.pop(name) for name in list(changes) if name in row}
    return base | {"truth": [row | measured] * 2} | changes


TRUTHS = [
    ({}, "HEALTHY", True),
    ({"averaged": [[1000, 0, 0, 0, 900]]}, "MODE_COLLAPSE", True),
    ({"averaged": [[500, 500, 0, 0, 900]]}, "MODE_COLLAPSE", False),  # half of them is dropping
    ({"averaged": [[500, 500, 0, 0, 900]]}, "MODE_DROPPING", True),
    ({"averaged": [[310, 310, 310, 70, 900]]}, "MODE_DROPPING", None),
    ({"averaged": [[310, 310, 310, 70, 900]]}, "HEALTHY", None),
    ({"averaged": [[250, 250, 250, 250, 100]]}, "HEALTHY", None),  # all modes, poor samples: not learned yet
    ({"planted": "DISCRIMINATOR_WON"}, "DISCRIMINATOR_WON", True),
    ({"planted": "DISCRIMINATOR_WON"}, "HEALTHY", False),
    ({"planted": "DISCRIMINATOR_WON"}, "GENERATOR_WON", False),
    ({"loss_slope": [1e-4]}, "VANISHING_GRADIENT", True),
    ({"loss_slope": [0.01]}, "VANISHING_GRADIENT", None),
    ({"logit_max": [2000.0]}, "EXPLODING", True),
    ({"sample_max": [11.0]}, "EXPLODING", True),
    ({"logit_max": [500.0]}, "EXPLODING", None),
    ({"constrained": False}, "CRITIC_NOT_LIPSCHITZ", None),
    ({"failed": [True]}, "NON_FINITE", True),
    ({"failed": [True]}, "HEALTHY", False),
    ({"labels": True}, "OSCILLATION", None),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "verdict", "expected"), TRUTHS)
def test_truth(changes, verdict, expected):
    assert truth(result(**dict(changes)), 0)[verdict] is expected


def test_turnover_is_mean_total_variation():
    assert turnover([[10, 0], [0, 10], [0, 20]]) == 0.5
    assert turnover([[1, 1], [3, 1]]) == pytest.approx(0.25)
    moving = result()
    moving["truth"] = [
        moving["truth"][0] | {"current": [[1000, 0, 0, 0, 0]]},
        moving["truth"][0] | {"current": [[0, 1000, 0, 0, 0]]},
    ]
    assert truth(moving, 0)["OSCILLATION"] is True and truth(moving, 0)["HEALTHY"] is False


def test_good_images_have_at_most_ten_times_the_real_frechet_distance():
    images = result(images=True, frechet=[4.0, 0.41])
    assert shares(images, 0)[1] and not shares(images | {"frechet": [4.2, 0.41]}, 0)[1]


HEALTHY_NUMBERS = {"auc": 0.6, "energy_distance": 0.001, "loss_slope": 0.5, "g_grad_norm": 1.0, "d_grad_norm": 1.0, "effective_modes": 1.0, "spacing": 0.8,
        "rarest_mode": 0.8, "mode_turnover": 0.05, "d_slope": 1.0, "logit_max": 2.0, "sample_max": 1.0, "memorization": 0.5}  # fmt: skip


def runs(verdict, true, **numbers):
    """A run of 14 checks for each value."""
    many = max(len(values) for values in numbers.values())
    rows = [[HEALTHY_NUMBERS | {name: values[k] for name, values in numbers.items()}] * 14 for k in range(many)]
    known = dict.fromkeys(VERDICTS) | {verdict: true, "HEALTHY": not true}
    return [Outcome("s", "fit", k, None, True, False, rows[k], dict(known)) for k in range(many)]


def test_threshold_separates_failing_from_healthy_runs():
    failing = runs("MODE_DROPPING", True, rarest_mode=[0.0, 0.02, 0.05, 0.08])
    healthy = runs("MODE_DROPPING", False, rarest_mode=[0.2, 0.25, 0.4, 0.9])
    assert 0.08 <= best_thresholds("MODE_DROPPING", failing + healthy)["rarest_mode"] < 0.2


def test_a_false_alarm_costs_more_than_a_detection():
    failing = runs("MODE_DROPPING", True, rarest_mode=[0.01, 0.02, 0.03, 0.28])
    healthy = runs("MODE_DROPPING", False, rarest_mode=[0.1, 0.5, 0.6, 0.7])
    assert best_thresholds("MODE_DROPPING", failing + healthy)["rarest_mode"] < 0.1


def test_thresholds_need_true_and_false_runs():
    with pytest.raises(ValueError, match="MODE_DROPPING must be true in some runs and false in others"):
        best_thresholds("MODE_DROPPING", runs("MODE_DROPPING", True, rarest_mode=[0.1]))


def test_false_alarms_at_the_end_cost_most():
    held = torch.zeros(2, 6, dtype=torch.bool)
    held[:, 1:3] = True
    ran = [Outcome("s", "fit", k, None, False, False, [{}] * 6) for k in range(2)]
    old = torch.zeros(6, dtype=torch.bool)
    assert score(held, torch.tensor([True, False]), ran, old, 2) == -0.5  # gone by the end, and an alarm in the other
    assert score(held, torch.tensor([True, False]), ran, old, 3) == 0  # never stood
    assert score(held, torch.tensor([True, False]), ran, torch.arange(6) < 3, 2) == 0  # too young
    held[0] = True
    assert score(held, torch.tensor([True, False]), ran, old, 3) == 1
    assert score(held, torch.tensor([False, True]), ran, old, 3) == -2.5


def test_error_rates_and_mistakes(tmp_path):
    failing = runs("MODE_DROPPING", True, rarest_mode=[0.0, 0.0, 0.9])
    healthy = runs("MODE_DROPPING", False, rarest_mode=[0.9, 0.9, 0.9, 0.0])
    thresholds = load_thresholds()
    row = next(row for row in error_rates(failing + healthy, thresholds) if row["verdict"] == "MODE_DROPPING")
    assert (row["true runs"], row["other runs"], row["healthy runs"]) == (3, 4, 4)
    assert row["detected"] == pytest.approx(2 / 3) and row["false alarms at the end"] == row["false alarms ever"] == 0.25
    assert row["detected low"] < 2 / 3 < row["detected high"]
    mistaken = mistakes(failing + healthy, thresholds)
    assert "- MODE_DROPPING missed in 1 runs of *s*" in mistaken and "- MODE_DROPPING false alarm in 1 runs of *s*" in mistaken
    write_tables(tmp_path, error_rates(failing + healthy, thresholds), mistaken, "About.")
    assert "| `MODE_DROPPING` | 66.7 % [20.8, 93.9] of 3 |" in (tmp_path / "calibration.md").read_text()
    assert (tmp_path / "calibration.csv").read_text().startswith("verdict,true runs,detected")


def test_collect_writes_rows_and_truth(tmp_path, monkeypatch):
    monkeypatch.setattr("calibration.collect.EVERY", 5)
    monkeypatch.setitem(settings.SEEDS, "test", range(4, 6))
    setting = replace(next(s for s in SETTINGS if s.name == "one latent, ring"), steps=20)
    collect(setting, tmp_path, str(tmp_path))
    first, second = outcomes(json.loads(result_file(setting, tmp_path).read_text()))
    assert (first.seed, second.seed, first.planted, first.failed) == (4, 5, "MODE_COLLAPSE", False)
    assert len(first.rows) == 4 and "drift" in first.rows[-1] and "memorization" in first.rows[-1]
    assert first.truth["MODE_COLLAPSE"] is True and first.rows[-1]["spacing"] == pytest.approx(0, abs=1e-3)
