"""Lightning's own tools in a run: `self.log`, its callbacks, its trainer's arguments."""

import os
import signal

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from small_runs import AnyLogger, Killed, Stop, assert_same_weights, config, table

from ganlab.metrics import ToyQuality
from ganlab.runs import train
from ganlab.runs.run_dir import RunDir
from ganlab.utils.errors import Interrupted

SCHEDULE = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "_partial_": True, "gamma": 0.9}


class LogsToo(Callback):
    """A user's callback that logs in both ways, with Lightning's step."""

    def on_train_batch_end(self, trainer, gan, *_):
        self.log("my/double", 2.0 * gan.d_updates)
        if gan.d_updates % 6 == 0:
            for logger in trainer.loggers:
                logger.log_metrics({"my/direct": 3.0 * gan.d_updates}, step=trainer.global_step)


def logging_config(folder, own, logger):
    settings = config(folder, "logger=[csv,wandb]", "trainer.log_every_n_steps=4", "max_images=480")
    settings["logger"]["mine"] = own(logger)
    settings["gan"] |= {"_target_": "small_runs.LoggingGAN", "generator_scheduler": SCHEDULE}
    settings["callbacks"] = {"mine": own(LogsToo), "rates": own(LearningRateMonitor)} | settings["callbacks"]
    return settings


@pytest.fixture
def uninterrupted(tmp_path, own, fake_wandb):
    logger = AnyLogger()
    train.train(logging_config(tmp_path / "uninterrupted", own, logger))
    return tmp_path / "uninterrupted", logger.rows, list(fake_wandb.rows), fake_wandb.dropped


def test_every_logger_gets_images_seen(uninterrupted):
    folder, rows, wandb_rows, dropped = uninterrupted
    assert dropped == 0
    logged = [(int(row["images_seen"]), row) for row in table(folder)]
    for steps in (rows, wandb_rows, logged):
        assert [at for at, row in steps if "my/updates" in row] == [64, 128, 192, 256, 320, 384, 448, 480]
        assert all(float(row["my/updates"]) == at / 16 for at, row in steps if "my/updates" in row)
        assert all(float(row["my/double"]) == at / 8 for at, row in steps if "my/double" in row)
        assert [(at, float(row["my/direct"])) for at, row in steps if "my/direct" in row] == [
            (96 * k, 18.0 * k) for k in range(1, 6)
        ]
        rates = [(at, float(row["lr-Adam-1"]), float(row["lr-Adam"])) for at, row in steps if "lr-Adam" in row]
        assert [at for at, *_ in rates] == [48, 112, 176, 240, 304, 368, 432]  # at the start of every fourth batch
        for at, constant, falling in rates:
            assert falling == pytest.approx(constant * 0.9 ** (at / 16), rel=1e-5)
        assert not any("epoch" in row for _, row in steps)
    assert all(row.get("epoch") is None and at == int(row["images_seen"]) for at, row in logged)


@pytest.mark.parametrize("end", ["kill", "SIGTERM"])
def test_resumed_run_logs_the_same_rows(tmp_path, own, fake_wandb, uninterrupted, end):
    folder, rows, wandb_rows, _ = uninterrupted
    fake_wandb.rows.clear()
    first, second = AnyLogger(), AnyLogger()
    settings = logging_config(tmp_path / "resumed", own, first)
    before = dict(settings["callbacks"])
    if end == "kill":
        stop, error = Stop(384), Killed
    else:  # in a batch that `self.log` logs after the callbacks
        stop, error = Signals(256), Interrupted
    settings["callbacks"] = {"stop": own(stop)} | before
    with pytest.raises(error):
        train.train(settings)
    settings["callbacks"], settings["logger"]["mine"] = before, own(second)
    run = RunDir(tmp_path / "resumed")
    run.write_config(settings)
    train.train(settings, resume=True)
    assert_same_weights(folder, run.path)
    assert table(run.path) == table(folder)
    assert fake_wandb.dropped == (0 if end != "kill" else fake_wandb.dropped)
    at_resume = 320 if end == "kill" else 256
    seen = [row for row in first.rows if row[0] <= at_resume] + [row for row in second.rows if row[0] > at_resume]
    assert without_times(seen) == without_times(rows)
    assert {at for at, _ in fake_wandb.rows} == {at for at, _ in wandb_rows}


def without_times(rows):
    return [(at, {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}) for at, row in rows]


class Signals(Callback):
    def __init__(self, at):
        self.at = at

    def on_train_batch_end(self, trainer, gan, *_):
        if gan.images_seen == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


# What acts on evaluations

OBJECTIVE = "quality/kl_with_off_mode_50"


@pytest.fixture
def scores(monkeypatch):
    """The objective of the evaluations to come."""
    values = []
    monkeypatch.setattr(ToyQuality, "compute", lambda self: {self.objective: values.pop(0), "modes_50": 1.0})
    return values


def every_32(folder, **callbacks):
    settings = config(folder, "eval_every=32")
    settings["callbacks"] = callbacks | settings["callbacks"]
    return settings


@pytest.mark.parametrize("at_epoch_end", [None, False, True])
def test_early_stopping_stops_at_an_evaluation(tmp_path, scores, own, at_epoch_end):
    """Two evaluations in a row were no better than the third; also if the run was killed between them."""
    scores[:] = [5.0, 4.0, 3.0, 3.5, 3.6]
    early = {"monitor": OBJECTIVE, "patience": 2, "check_on_train_epoch_end": at_epoch_end}
    result = train.train(every_32(tmp_path / "a", early=own(EarlyStopping, **early)))
    assert result.summary["counters"]["images_seen"] == 160 and scores == []
    assert (result.summary["status"], result.summary["ended_by"]) == ("finished", f"EarlyStopping on {OBJECTIVE}")

    scores[:] = [5.0, 4.0, 3.0, 3.5, 3.6]
    settings = every_32(tmp_path / "b", early=own(EarlyStopping, **early))
    with pytest.raises(Killed):
        train.train(settings | {"callbacks": {"stop": own(Stop(144))} | settings["callbacks"]})
    train.train(settings, resume=True)
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert RunDir(tmp_path / "b").read_summary()["ended_by"] == f"EarlyStopping on {OBJECTIVE}"


def test_early_stopping_does_not_end_a_run_before_its_first_evaluation(tmp_path, scores, own):
    """Lightning looks for the value when training ends, too."""
    scores[:] = [2.0]
    settings = every_32(tmp_path / "a", early=own(EarlyStopping, monitor=OBJECTIVE))
    settings["callbacks"]["evaluation"]["every"] = 1000
    assert train.train(settings).summary["ended_by"] is None and scores == []


def test_model_checkpoint_keeps_the_best_evaluations(tmp_path, scores, own):
    scores[:] = [5.0, 2.0, 4.0, 3.0, 6.0, 7.0, 8.0, 9.0, 9.5, 9.6]
    keep = own(ModelCheckpoint, monitor=OBJECTIVE, save_top_k=2, filename="{step}", auto_insert_metric_name=False)
    train.train(every_32(tmp_path / "a", keep=keep))
    kept = sorted(path for path in (tmp_path / "a" / "checkpoints").glob("*.ckpt") if path.stem not in ("last", "best"))
    seen = [torch.load(path, weights_only=True)["state_dict"]["_extra_state"]["images_seen"] for path in kept]
    assert sorted(seen) == [64, 128]
    assert not list(tmp_path.glob("*.ckpt")) and len(list(tmp_path.iterdir())) == 1  # all within the run's directory


@pytest.mark.parametrize("seeds", [None, 2])
def test_reduce_on_plateau_steps_with_the_objective(tmp_path, scores, own, seeds):
    """The second of two evaluations without an improvement divides the learning rate by 10."""
    values = [5.0, 4.0, 4.5, 4.6, 4.7, 3.0, 3.1, 3.2, 3.3, 3.4]
    settings = every_32(tmp_path / "a") | {"seeds": seeds}
    settings["trainer"]["log_every_n_steps"] = 1
    plateau = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True, "patience": 1, "factor": 0.1}
    settings["gan"]["generator_scheduler"] = plateau
    scores[:] = [value for value in values for _ in range(seeds or 1)]
    train.train(settings)
    rates = {
        int(row["images_seen"]): (float(row["g/lr"]), float(row["d/lr"])) for row in table(tmp_path / "a") if "g/lr" in row
    }
    for at, power in ((16, 0), (112, 0), (128, 0), (144, 1), (192, 1), (256, 1), (272, 2), (320, 2)):
        assert rates[at] == (pytest.approx(1e-3 * 0.1**power), 1e-3), at

    settings = every_32(tmp_path / "b") | {"seeds": seeds}
    settings["trainer"]["log_every_n_steps"] = 1
    settings["gan"]["generator_scheduler"] = plateau
    scores[:] = [value for value in values for _ in range(seeds or 1)]
    with pytest.raises(Killed):
        train.train(settings | {"callbacks": {"stop": own(Stop(112))} | settings["callbacks"]})
    train.train(settings, resume=True)
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_value_that_is_not_measured_is_refused_at_the_start(tmp_path, own):
    with pytest.raises(
        ValueError, match="EarlyStopping monitors quality/fid, which is not measured; give monitor= one of quality/m"
    ):
        train.train(every_32(tmp_path / "a", early=own(EarlyStopping, monitor="quality/fid")))
    for part in ("EarlyStopping", "gan.discriminator_scheduler=ReduceLROnPlateau"):
        settings = every_32(tmp_path / "b")
        settings["callbacks"]["evaluation"] = None
        if part == "EarlyStopping":
            settings["callbacks"]["early"] = own(EarlyStopping, monitor=OBJECTIVE)
        else:
            settings["gan"]["discriminator_scheduler"] = {
                "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True,
            }  # fmt: skip
        with pytest.raises(ValueError, match=rf"^{part} acts on evaluations, and metrics=none evaluates nothing"):
            train.train(settings)
    assert list(tmp_path.iterdir()) == []
