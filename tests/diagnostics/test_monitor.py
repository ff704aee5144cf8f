"""The monitor in a run: when it checks, what it logs, when it stops the run, and that training is not affected."""

import json
import logging
import math

import pytest
import torch
from lightning.pytorch.loggers import Logger, WandbLogger

from ganlab.callbacks import MaxImages
from ganlab.data import Ring
from ganlab.diagnostics import Monitor
from ganlab.diagnostics.rules import BELOW, RULES, VERDICTS, WARM_UP
from ganlab.models.ensemble import Ensemble

BATCH, NEVER = 20, 10**9


def adam(parameters):
    return torch.optim.Adam(parameters, 1e-3, (0.5, 0.999))


class MemoryLogger(Logger):
    """Keeps its rows."""

    name, version = "memory", None

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass


def ring():
    return Ring(num_classes=8, dim=2, std=0.02, batch_size=BATCH, train_size=400, test_size=300, data_seed=0)


def forced(*verdicts, members=1, only=None):
    """Thresholds by which these verdicts always hold (of an ensemble for the members `only`), and no others ever."""

    def limit(verdict, side):
        holds = torch.tensor([verdict in verdicts and (only is None or k in only) for k in range(members)])
        return torch.where(holds == (side == BELOW), math.inf, -math.inf)

    return {
        verdict: {number: limit(verdict, side) for part in rule for number, side in part} for verdict, rule in RULES.items()
    }


@pytest.fixture
def monitored(make_gan, fit):
    """Train for some steps under a monitor; (monitor, gan)."""

    def run(steps, *, every=1, seeds=None, thresholds=None, logger=False, memorization_every=NEVER, **settings):
        monitor = Monitor(every, memorization_every, **settings)
        if thresholds is not None:
            monitor.thresholds = thresholds
        data, gan = ring(), make_gan(optimizer=adam)
        if seeds:
            data.seeds = seeds
            gan = Ensemble([make_gan(optimizer=adam, seed=seed) for seed in seeds], seeds)
        fit(gan, data, monitor, MaxImages(steps * BATCH), max_epochs=-1, logger=logger)
        return monitor, gan

    return run


def test_checks_come_every_n_updates_of_d_and_at_the_end(monitored):
    memory = MemoryLogger()
    monitored(10, every=3, logger=memory, memorization_every=100)
    assert [step for step, _ in memory.rows] == [60, 120, 180, 200]
    first, last = memory.rows[0][1], memory.rows[-1][1]
    assert {"probe/auc", "probe/d_slope", "probe/effective_modes", "verdict/mode_collapse", "verdict/healthy"} <= first.keys()
    assert "probe/drift" not in first and "probe/drift" in last
    assert ["probe/memorization" in row for _, row in memory.rows] == [False, True, False, True]
    assert all(row[f"verdict/{name.lower()}"] in (0, 1) for _, row in memory.rows for name in VERDICTS)


def test_memorization_counts_until_it_is_measured_again(monitored):
    """It is measured every 20 checks, twice as many as there are rows, and logged only then."""
    memory = MemoryLogger()
    monitor, _ = monitored(30, logger=memory, memorization_every=400, thresholds=forced("MEMORIZING"))
    assert [i for i, (_, row) in enumerate(memory.rows) if "probe/memorization" in row] == [19, 29]
    assert [row["verdict/memorizing"] for _, row in memory.rows] == [0.0] * 19 + [1.0] * 11


@pytest.mark.parametrize("seeds", [None, [1, 2]])
def test_training_is_not_affected(make_gan, fit, seeds):
    states = []
    for callbacks in ([], [Monitor(2, 50)]):
        data, gan = ring(), make_gan(optimizer=adam, seed=1)
        if seeds:
            data.seeds = seeds
            gan = Ensemble([make_gan(optimizer=adam, seed=seed) for seed in seeds], seeds)
        torch.manual_seed(3)
        fit(gan, data, *callbacks, MaxImages(8 * BATCH), max_epochs=-1)
        states.append(list(gan.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize(("action", "level"), [("log", logging.INFO), ("warn", logging.WARNING)])
def test_a_new_verdict_is_logged_once_with_suggestions_and_kept(monitored, caplog, action, level):
    with caplog.at_level(logging.INFO, "ganlab.diagnostics.monitor"):
        monitor, _ = monitored(30, every=3, thresholds=forced("MODE_COLLAPSE"), on_verdict=action)
    (record,) = [record for record in caplog.records if "MODE_COLLAPSE" in record.getMessage()]
    assert record.levelno == level and "try gan.pack=2" in record.getMessage()
    assert "MODE_COLLAPSE, since 60 images: effective_modes" in record.getMessage()
    verdicts = monitor.verdicts
    assert verdicts["current"] == ["MODE_COLLAPSE"] and monitor.stopped_by is None
    (entry,) = verdicts["history"]
    assert (entry["images_seen"], entry["since"], entry["active"]) == (WARM_UP * 60, 60, True)
    assert json.loads(json.dumps(verdicts)) == verdicts


def test_a_withdrawn_verdict_is_logged(make_gan, fit, caplog):
    monitor = Monitor(1, NEVER)
    monitor.thresholds = forced("OSCILLATION")

    class CalmsDown(MaxImages):
        def on_train_batch_end(self, trainer, gan, *rest):
            super().on_train_batch_end(trainer, gan, *rest)
            if gan.d_updates == WARM_UP + 2:
                monitor.thresholds = forced()

    with caplog.at_level(logging.INFO, "ganlab.diagnostics.monitor"):
        fit(make_gan(optimizer=adam), ring(), CalmsDown(16 * BATCH), monitor, max_epochs=-1)
    logged = [(record.levelno, record.getMessage()) for record in caplog.records if "OSCILL" in record.getMessage()]
    assert [level for level, _ in logged] == [logging.WARNING, logging.INFO] and "no longer OSCILLATION" in logged[1][1]
    entries = [entry["active"] for entry in monitor.verdicts["history"] if entry["verdict"] == "OSCILLATION"]
    assert entries == [True, False]


@pytest.mark.parametrize("on_verdict", ["stop", {"mode_collapse": "stop", "default": "log"}])
def test_stop_ends_the_run(monitored, on_verdict):
    monitor, gan = monitored(60, thresholds=forced("MODE_COLLAPSE"), on_verdict=on_verdict)
    assert gan.d_updates == WARM_UP and monitor.stopped_by == "MODE_COLLAPSE"


def test_stop_for_one_verdict_does_not_apply_to_others(monitored):
    monitor, gan = monitored(15, thresholds=forced("OSCILLATION"), on_verdict={"mode_collapse": "stop"})
    assert gan.d_updates == 15 and monitor.verdicts["current"] == ["OSCILLATION"]


def test_an_ensemble_has_verdicts_by_member_and_stops_when_all_have_failed(monitored):
    memory, seeds = MemoryLogger(), [1, 2]
    some = forced("MODE_COLLAPSE", members=2, only=[1])
    monitor, gan = monitored(12, seeds=seeds, thresholds=some, on_verdict="stop", logger=memory)
    assert gan.d_updates == 12 and monitor.verdicts["seeds"] == {"MODE_COLLAPSE": [2], "HEALTHY": [1]}
    assert memory.rows[-1][1]["verdict/mode_collapse"] == 0.5 and "probe/auc_q1" in memory.rows[-1][1]
    monitor, gan = monitored(60, seeds=seeds, thresholds=forced("MODE_COLLAPSE", members=2), on_verdict="stop")
    assert gan.d_updates == WARM_UP and monitor.stopped_by == "MODE_COLLAPSE"


def test_a_non_finite_loss_is_a_verdict(make_gan, fit):
    monitor = Monitor(2, NEVER)
    gan = make_gan(optimizer=lambda p: torch.optim.SGD(p, lr=math.inf))
    with pytest.raises(FloatingPointError):
        fit(gan, ring(), monitor, MaxImages(2000), max_epochs=-1)
    assert monitor.verdicts["current"] == ["NON_FINITE"]


class WandbStub(WandbLogger):
    """Keeps its alerts."""

    name, version, save_dir = "wandb", None, None

    def __init__(self):
        Logger.__init__(self)
        self.alerts = []

    @property
    def experiment(self):
        class Run:
            name = "my run"
            alert = staticmethod(lambda title, text: self.alerts.append((title, text)))

        return Run

    def log_metrics(self, metrics, step=None):
        pass

    log_hyperparams = finalize = after_save_checkpoint = log_metrics


def test_wandb_is_alerted_unless_the_action_is_log(monitored):
    wandb = WandbStub()
    monitored(10, thresholds=forced("MODE_COLLAPSE"), logger=wandb)
    ((title, text),) = wandb.alerts
    assert title == "MODE_COLLAPSE (my run)" and "try gan.pack=2" in text
    wandb = WandbStub()
    monitored(10, thresholds=forced("MODE_COLLAPSE"), logger=wandb, on_verdict="log")
    assert wandb.alerts == []


@pytest.mark.parametrize("seeds", [None, [1, 2]])
def test_a_resumed_run_continues_its_checks(make_gan, fit, tmp_path, seeds):
    def run(images, memory, monitor, **resume):
        data, gan = ring(), make_gan(optimizer=adam, seed=1)
        if seeds:
            data.seeds = seeds
            gan = Ensemble([make_gan(optimizer=adam, seed=seed) for seed in seeds], seeds)
        return fit(gan, data, monitor, MaxImages(images), max_epochs=-1, logger=memory, **resume)

    memory = MemoryLogger()
    run(400, MemoryLogger(), whole := Monitor(3, 120))
    run(260, MemoryLogger(), Monitor(3, 120)).save_checkpoint(tmp_path / "a.ckpt")
    run(400, memory, resumed := Monitor(3, 120), ckpt_path=tmp_path / "a.ckpt")
    assert [step for step, _ in memory.rows] == [300, 360, 400]
    assert resumed.checks == whole.checks + 1  # the last check of the first session
    assert "probe/drift" in memory.rows[0][1]


@pytest.mark.parametrize("bad", [0, -1, 2.5, "x"])
def test_every_must_be_a_positive_integer(bad):
    with pytest.raises(ValueError, match="monitor.every must be an integer of at least 1"):
        Monitor(bad, 100)
