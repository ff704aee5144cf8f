"""What a run can do without never costs it: pictures, tables, loggers and the monitor are switched off when they fail."""

import json
import logging
from collections import Counter

import pytest
import torch
from lightning import Callback
from small_runs import SMALL, AnyLogger, assert_same_weights, config, images_seen

from ganlab.callbacks import Counterfactual, Evaluation, MaxImages, ProgressBar, SampleGrid, SeedTable, TrainMetrics, Vanishing
from ganlab.callbacks.loggers import Wandb
from ganlab.data import Split, TensorData
from ganlab.diagnostics import Monitor
from ganlab.runs import train
from ganlab.runs.resume import config_to_resume
from ganlab.runs.run_dir import RunDir

ALL = [*SMALL, "monitor=[verdicts,counterfactual,vanishing]", "monitor.every=4", "monitor.on_verdict=log"]
ALL += ["callbacks.vanishing={ages: [160], critic_steps: 2, every: 1}"]
EXTRAS = (Counterfactual, Monitor, ProgressBar, SampleGrid, Vanishing)  # SeedTable: of ensembles
HOOKS = ("on_train_start", "on_train_batch_end", "on_train_end", "state_dict", "setup", "teardown", "on_after_backward")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Directories of a run and of an ensemble in which nothing fails."""
    folder = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    train.train(config(folder / "single"))
    train.train(config(folder / "ensemble", "seeds=2"))
    return folder


def warnings_in(caplog):
    """Those of ganlab: W&B's threads log errors, too, also of an earlier run."""
    records = (record for record in caplog.records if record.name.startswith("ganlab"))
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


def broken(*_, **__):
    raise RuntimeError("it broke")


def test_conf_offers_no_other_extra():
    offered = {c["_target_"].rpartition(".")[2] for c in config("x", base=ALL)["callbacks"].values() if c}
    required = {"TrainMetrics", "Evaluation", "Checkpoints", "MaxImages"}
    assert offered == required | {c.__name__ for c in (*EXTRAS, SeedTable)}


@pytest.mark.parametrize("hook", [*HOOKS, "run"])
def test_failing_extras_change_nothing(tmp_path, undisturbed, monkeypatch, caplog, hook):
    """Each at once, at each hook: the weights and the status are as without them, and each says so once."""
    failing = [c for c in EXTRAS if hook != "run" or hasattr(c, "run")]
    for extra in failing:
        monkeypatch.setattr(extra, hook, broken)
    result = train.train(config(tmp_path / "a", base=ALL))
    assert_same_weights(undisturbed / "single", tmp_path / "a")
    assert result.summary["status"] == "finished" and result.summary["quality"]
    keys = {"counterfactual", "verdicts", "progress", "sample_grid", "vanishing"} - ({"progress"} if hook == "run" else set())
    told = Counter(text for text in warnings_in(caplog) if "it broke" in text)
    assert told == {
        f"callbacks.{key} failed and is switched off (RuntimeError: it broke); the run goes on without it": 1 for key in keys
    }
    if hook != "teardown":  # after the summary
        assert result.summary["switched_off"] == {f"callbacks.{key}": "RuntimeError: it broke" for key in keys}


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_batch_end", "on_train_end", "state_dict", "run"])
def test_failing_seed_table_changes_nothing(tmp_path, undisturbed, monkeypatch, hook):
    monkeypatch.setattr(SeedTable, hook, broken)
    result = train.train(config(tmp_path / "a", "seeds=2"))
    assert_same_weights(undisturbed / "ensemble", tmp_path / "a")
    assert result.summary["status"] == "finished"
    assert result.summary["switched_off"] == {"callbacks.seed_table": "RuntimeError: it broke"}


LOGGER_HOOKS = ["log_metrics", "log_hyperparams", "save", "finalize", "log_graph", "experiment"]


@pytest.mark.parametrize("hook", LOGGER_HOOKS)
def test_failing_loggers_change_nothing(tmp_path, undisturbed, monkeypatch, caplog, own, fake_wandb, hook):
    for logger in (AnyLogger, Wandb):
        monkeypatch.setattr(logger, hook, property(broken) if hook == "experiment" else broken)
    settings = config(tmp_path / "a", "logger=[csv,wandb]")
    settings["logger"]["mine"] = own(AnyLogger)
    result = train.train(settings)
    assert_same_weights(undisturbed / "single", tmp_path / "a")
    assert result.summary["status"] == "finished"
    told = Counter(text for text in warnings_in(caplog) if "it broke" in text)
    assert told == {
        f"logger.{key} failed and is switched off (RuntimeError: it broke); the run goes on without it": 1
        for key in ("wandb", "mine")
    }
    assert (tmp_path / "a" / "metrics.csv").read_text().count("\n") == (
        (undisturbed / "single" / "metrics.csv").read_text().count("\n")
    )


def test_failing_report_and_summary_change_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(train, "print_summary", broken)
    result = train.train(config(tmp_path / "a", "max_images=32"), on_finish=broken)
    assert result.summary["status"] == RunDir(tmp_path / "a").status == "finished"
    assert [text.partition(" failed (RuntimeError: it broke)")[0] for text in warnings_in(caplog)] == [
        "the report for the loggers", "the summary in the terminal",
    ]  # fmt: skip


class Columns(TensorData):
    """Rows of a table."""

    def __init__(self, shape):
        super().__init__(shape=tuple(shape), num_classes=0, batch_size=16, value_range=(0, 1) if len(shape) == 3 else None)

    def load(self):
        x = torch.rand(64, *self.shape, generator=torch.Generator().manual_seed(0))
        return Split(x, torch.zeros(64, dtype=torch.int64)), Split(x, torch.zeros(64, dtype=torch.int64))


@pytest.mark.parametrize(("shape", "draws"), [((7,), False), ((1, 64), False), ((5, 8, 8), True), ((2,), True)])
def test_shape_without_a_picture_is_told_once(tmp_path, caplog, own, shape, draws):
    settings = config(tmp_path / "a", "monitor=[]", "max_images=64", "eval_every=16", base=SMALL)
    settings["callbacks"]["evaluation"] = None
    settings["data"] = own(Columns, shape=list(shape))
    for network in ("generator", "discriminator"):
        settings["gan"][network] |= {"shape": list(shape)}
    result = train.train(settings)
    assert result.summary["status"] == "finished" and (tmp_path / "a" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "a" / "samples.png").is_file() == draws
    reason = f"it draws images (C, H, W) and points (2,), and the samples have the shape {shape}"
    told = f"callbacks.sample_grid failed and is switched off ({reason}); the run goes on without it"
    assert warnings_in(caplog) == ([] if draws else [told])


# What is no extra ends the run, after it is saved


class Fails(Callback):
    """A user's callback that fails at a hook, once `at` images were seen."""

    def __init__(self, hook, at):
        def fail(trainer, gan, *_):
            if gan.images_seen >= at:
                raise RuntimeError("it broke")

        setattr(self, hook, fail)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end", "on_train_end"])
def test_failing_callback_loses_no_training(tmp_path, undisturbed, own, hook):
    settings = config(tmp_path / "a", "eval_every=200")  # the last checkpoint is written after training
    settings["callbacks"]["mine"] = own(Fails, hook=hook, at=240)
    with pytest.raises(RuntimeError, match="it broke"):
        train.train(settings)
    run = RunDir(tmp_path / "a")
    assert run.status == "failed" and not run.is_complete
    seen = images_seen(tmp_path / "a")
    assert seen == (240 if hook == "on_train_batch_end" else 320)
    del settings["callbacks"]["mine"]
    run.write_config(settings)
    train.train(config_to_resume(run), resume=True)
    assert_same_weights(undisturbed / "single", tmp_path / "a")


@pytest.mark.parametrize("part", [Evaluation, TrainMetrics, MaxImages])
def test_failing_measurement_ends_the_run_after_saving_it(tmp_path, undisturbed, monkeypatch, part):
    """A metric that failed is measured when the run is resumed."""
    hook = part.on_train_batch_end

    def fail_once(self, trainer, gan, *rest):
        if gan.images_seen >= 160:
            monkeypatch.undo()
            if part is Evaluation:
                monkeypatch.setattr(self.metric, "compute", broken)
            else:
                broken()
        hook(self, trainer, gan, *rest)

    monkeypatch.setattr(part, "on_train_batch_end", fail_once)
    with pytest.raises(RuntimeError, match="it broke"):
        train.train(config(tmp_path / "a"))
    run = RunDir(tmp_path / "a")
    assert run.status == "failed" and images_seen(run.path) == 160
    monkeypatch.undo()
    train.train(config_to_resume(run), resume=True)
    assert_same_weights(undisturbed / "single", run.path)
    evaluated = [line for line in run.metrics_file.read_text().splitlines()[1:] if line.split(",")[0] in ("160", "176")]
    assert len(evaluated) >= 1 and json.loads(run.summary_file.read_text())["quality"]


def test_failure_within_a_step_keeps_the_previous_checkpoint(tmp_path, own):
    """D was updated and G was not: no state to continue from."""
    settings = config(tmp_path / "a")
    settings["callbacks"]["mine"] = own(Fails, hook="on_before_optimizer_step", at=208)
    with pytest.raises(RuntimeError, match="it broke"):
        train.train(settings)
    assert images_seen(tmp_path / "a") == 160
