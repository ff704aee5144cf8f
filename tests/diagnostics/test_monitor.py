"""The monitor in a run: when it looks, what it logs and tells, when it stops, and that training does not notice."""

import json
import logging
import math

import pytest
import torch
from lightning.pytorch.loggers import Logger

from ganlab.callbacks import MaxImages
from ganlab.data import Ring
from ganlab.diagnostics import Monitor
from ganlab.diagnostics.monitor import WandbLogger
from ganlab.diagnostics.rules import VERDICTS
from ganlab.models.ensemble import Ensemble

ADAM = lambda p: torch.optim.Adam(p, 1e-3, (0.5, 0.999))


class Memory(Logger):
    name, version = "memory", None

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass


def ring():
    return Ring(num_classes=8, dim=2, std=0.02, batch_size=20, train_size=400, test_size=300, data_seed=0)


def watched(make_gan, fit, steps, *, every=3, copies=0, optimizer=ADAM, logger=False, memory=10**9, **settings):
    """A run under the monitor; (monitor, trainer, gan)."""
    monitor = Monitor(every, memory, **settings)
    data, gan = ring(), make_gan(optimizer=optimizer)
    if copies:
        data.seeds = list(range(1, copies + 1))
        gan = Ensemble([make_gan(optimizer=optimizer, seed=seed) for seed in data.seeds], data.seeds)
    trainer = fit(gan, data, monitor, MaxImages(steps * 20), max_epochs=-1, logger=logger)
    return monitor, trainer, gan


@pytest.fixture
def sees(monkeypatch):
    """Makes the rules find given verdicts from a number of looks on."""

    def set_to(*names, after=1, copies=1, only=None):
        held, looked = torch.tensor([only is None or k in only for k in range(copies)]), []

        def evaluate_rules(numbers, lipschitz_wanted, limits):
            looked.append(1)
            return {name: held & torch.tensor(name in names and len(looked) >= after) for name in VERDICTS[:-2]}

        monkeypatch.setattr("ganlab.diagnostics.monitor.evaluate_rules", evaluate_rules)
        monkeypatch.setattr("ganlab.diagnostics.history.WARM_UP", 1)

    return set_to


def test_it_looks_every_so_many_updates_of_d_and_at_the_end(make_gan, fit):
    memory = Memory()
    watched(make_gan, fit, 10, every=3, logger=memory, memory=100)
    assert [step for step, _ in memory.rows] == [60, 120, 180, 200]
    first, last = memory.rows[0][1], memory.rows[-1][1]
    assert {"probe/pairs", "probe/slope", "probe/effective", "verdict/mode_collapse", "verdict/healthy"} <= first.keys()
    assert "probe/drift" not in first and "probe/drift" in last
    assert ["probe/nearer" in row for _, row in memory.rows] == [False, True, False, True]
    assert all(row[f"verdict/{name.lower()}"] in (0, 1) for _, row in memory.rows for name in VERDICTS)


def test_what_is_measured_seldom_stands_until_it_is_again(make_gan, fit, monkeypatch):
    """Here every 20 looks, twice as many as are remembered; but it is logged only where it was measured."""
    asked, memory = [], Memory()

    def evaluate_rules(numbers, *rest):
        asked.append(float(numbers["nearer"]) if "nearer" in numbers else None)
        return {name: torch.tensor([False]) for name in VERDICTS[:-2]}

    measured = iter([0.9, 0.4])
    monkeypatch.setattr("ganlab.diagnostics.monitor.evaluate_rules", evaluate_rules)
    monkeypatch.setattr("ganlab.diagnostics.monitor.of_the_memory", lambda *_: torch.tensor([next(measured)]))
    watched(make_gan, fit, 35, every=1, logger=memory, memory=400)
    assert asked[:19] == [None] * 19 and asked[19:] == pytest.approx([0.9] * 15 + [0.4])
    assert [i for i, (_, row) in enumerate(memory.rows) if "probe/nearer" in row] == [19, 34]  # the end is looked at once


@pytest.mark.parametrize("copies", [0, 2])
def test_training_does_not_notice(make_gan, fit, copies):
    plain = make_gan(optimizer=ADAM, seed=1)
    data = ring()
    if copies:
        data.seeds = [1, 2]
        plain = Ensemble([make_gan(optimizer=ADAM, seed=seed) for seed in data.seeds], data.seeds)
        _, _, gan = watched(make_gan, fit, 8, every=2, copies=2)
    else:
        monitor, data_2 = Monitor(2, 50), ring()
        gan = make_gan(optimizer=ADAM, seed=1)
        torch.manual_seed(3)  # draws the first pass's order
        fit(gan, data_2, monitor, MaxImages(160), max_epochs=-1)
    torch.manual_seed(3)
    fit(plain, data, MaxImages(160), max_epochs=-1)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), gan.parameters(), strict=True))


def test_a_verdict_is_told_once_with_what_to_try_and_kept_for_the_summary(make_gan, fit, sees, caplog):
    sees("MODE_COLLAPSE", after=2)
    with caplog.at_level(logging.INFO, "ganlab.diagnostics.monitor"):
        monitor, _, _ = watched(make_gan, fit, 18)
    told = [record for record in caplog.records if "MODE_COLLAPSE" in record.getMessage()]
    assert len(told) == 1 and told[0].levelno == logging.WARNING
    assert "MODE_COLLAPSE, since 120 images: effective" in told[0].getMessage() and "try gan.pack=2" in told[0].getMessage()
    verdicts = monitor.verdicts
    assert verdicts["current"] == ["MODE_COLLAPSE"] and monitor.stopped_by is None
    (entry,) = verdicts["history"]
    assert (entry["images_seen"], entry["since"], entry["active"]) == (180, 120, True)
    assert json.loads(json.dumps(verdicts)) == verdicts


@pytest.mark.parametrize(("action", "level"), [("log", logging.INFO), ("warn", logging.WARNING)])
def test_a_verdict_that_goes_is_told_too(make_gan, fit, sees, caplog, monkeypatch, action, level):
    sees("OSCILLATION")
    monitor = Monitor(3, 10**9, action)

    class Calms(MaxImages):
        def on_train_batch_end(self, trainer, gan, *rest):
            super().on_train_batch_end(trainer, gan, *rest)
            if gan.d_updates == 8:
                sees()

    with caplog.at_level(logging.INFO, "ganlab.diagnostics.monitor"):
        fit(make_gan(optimizer=ADAM), ring(), Calms(20 * 24), monitor, max_epochs=-1)
    told = [
        (r.levelno, r.getMessage().split("images   ")[1].split(",")[0]) for r in caplog.records if "OSCILL" in r.getMessage()
    ]
    assert told == [(level, "OSCILLATION"), (logging.INFO, "no longer OSCILLATION")]
    assert [entry["active"] for entry in monitor.verdicts["history"] if entry["verdict"] == "OSCILLATION"] == [
        True,
        False,
    ]


@pytest.mark.parametrize("on_verdict", ["stop", {"mode_collapse": "stop", "default": "log"}])
def test_stop_ends_the_run(make_gan, fit, sees, on_verdict):
    sees("MODE_COLLAPSE", after=2)
    monitor, _, gan = watched(make_gan, fit, 60, on_verdict=on_verdict)
    assert gan.d_updates == 9 and monitor.stopped_by == "MODE_COLLAPSE"


def test_stop_for_one_verdict_is_none_for_others(make_gan, fit, sees):
    sees("OSCILLATION", after=2)
    monitor, _, gan = watched(make_gan, fit, 15, on_verdict={"mode_collapse": "stop"})
    assert gan.d_updates == 15 and monitor.verdicts["current"] == ["OSCILLATION"]


def test_an_ensemble_is_judged_copy_by_copy_and_stops_when_all_have_failed(make_gan, fit, sees):
    sees("MODE_COLLAPSE", copies=2, only=[1])
    memory = Memory()
    monitor, _, gan = watched(make_gan, fit, 12, copies=2, on_verdict="stop", logger=memory)
    assert gan.d_updates == 12 and monitor.verdicts["seeds"] == {"MODE_COLLAPSE": [2], "HEALTHY": [1]}
    assert memory.rows[-1][1]["verdict/mode_collapse"] == 0.5 and "probe/pairs_q1" in memory.rows[-1][1]
    sees("MODE_COLLAPSE", copies=2)
    monitor, _, gan = watched(make_gan, fit, 60, copies=2, on_verdict="stop")
    assert gan.d_updates == 6 and monitor.stopped_by == "MODE_COLLAPSE"


def test_a_loss_that_is_no_number_is_a_verdict_too(make_gan, fit):
    monitor = Monitor(2, 10**9)
    gan = make_gan(optimizer=lambda p: torch.optim.SGD(p, lr=math.inf))
    with pytest.raises(FloatingPointError) as raised:
        fit(gan, ring(), monitor, MaxImages(2000), max_epochs=-1)
    assert raised.value.verdicts["current"] == ["NON_FINITE"] == monitor.verdicts["current"]


def test_w_and_b_is_alerted(make_gan, fit, sees, monkeypatch):
    alerts = []

    class Run:
        name = "my run"

        def alert(self, title, text):
            alerts.append((title, text))

    class Stub(WandbLogger):
        def __init__(self):
            Logger.__init__(self)

        name, version, experiment, save_dir = "wandb", None, Run(), None

        def log_metrics(self, metrics, step=None):
            pass

        def log_hyperparams(self, *args, **kwargs):
            pass

        def finalize(self, status):
            pass

        def after_save_checkpoint(self, callback):
            pass

    sees("MODE_COLLAPSE")
    watched(make_gan, fit, 18, logger=Stub())
    ((title, text),) = alerts
    assert title == "MODE_COLLAPSE (my run)" and "try gan.pack=2" in text
    alerts.clear()
    watched(make_gan, fit, 18, logger=Stub(), on_verdict="log")
    assert alerts == []


@pytest.mark.parametrize("copies", [0, 2])
def test_a_resumed_run_is_judged_as_if_it_had_never_stopped(make_gan, fit, tmp_path, copies):
    def run(images, memory, monitor, **resume):
        data = ring()
        gan = make_gan(optimizer=ADAM, seed=1)
        if copies:
            data.seeds = [1, 2]
            gan = Ensemble([make_gan(optimizer=ADAM, seed=seed) for seed in data.seeds], data.seeds)
        return fit(gan, data, monitor, MaxImages(images), max_epochs=-1, logger=memory, **resume)

    whole, first, second = Memory(), Memory(), Memory()
    run(400, whole, monitor := Monitor(3, 120))
    run(260, first, Monitor(3, 120)).save_checkpoint(tmp_path / "a.ckpt")
    run(400, second, resumed := Monitor(3, 120), ckpt_path=tmp_path / "a.ckpt")
    assert [step for step, _ in second.rows] == [300, 360, 400]
    assert resumed.looks == monitor.looks + 1  # the look at the end of the first session
    assert "probe/drift" in second.rows[0][1]


@pytest.mark.parametrize("bad", [0, -1, 2.5, "x"])
def test_cadence_is_checked(bad):
    with pytest.raises(ValueError, match="monitor.every must be an integer of at least 1"):
        Monitor(bad, 100)
