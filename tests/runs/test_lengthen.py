"""A run that ended short of its length goes on, and every run can be made longer."""

import json

import pytest
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping
from small_runs import QUIET, Killed, Stop, assert_same_weights, config, images_seen, table

from ganlab.diagnostics import Monitor
from ganlab.metrics import ToyQuality
from ganlab.runs import train
from ganlab.runs.resume import config_to_resume, matches_saved_config
from ganlab.runs.run_dir import RunDir, latest_unfinished

CASES = {
    "ns": ["monitor=[verdicts]", "monitor.every=4"],
    "wgan_gp with labels": ["loss=wgan_gp", "conditioning=labels"],
    "ensemble": ["seeds=2"],
    "n_critic": ["gan.n_critic=3"],
    "not at an evaluation": ["eval_every=144"],
    "not at a batch": ["max_images=250", "eval_every=144"],
}


def resume(folder, max_images=None):
    return train.train(config_to_resume(RunDir(folder), max_images=max_images), resume=True)


@pytest.mark.parametrize("case", CASES)
def test_lengthened_run_is_the_long_run(tmp_path, case):
    """But for what the short one measured at its end: its last check, and an evaluation that the long one has not."""
    short = config(tmp_path / "short", *CASES[case])
    long = config(tmp_path / "long", *CASES[case], "max_images=640")
    train.train(long)
    train.train(short)
    end = images_seen(tmp_path / "short")
    result = resume(tmp_path / "short", 640)
    assert_same_weights(tmp_path / "long", tmp_path / "short")
    assert RunDir(tmp_path / "short").read_config() == long | {"run_dir": str(tmp_path / "short")} | {
        "callbacks": relocated(long["callbacks"], tmp_path), "logger": relocated(long["logger"], tmp_path),
        "trainer": relocated(long["trainer"], tmp_path),
    }  # fmt: skip
    assert result.summary["ended_by"] is None and result.summary["counters"]["images_seen"] == 640
    rows, expected = table(tmp_path / "short"), table(tmp_path / "long")
    assert [row for row in rows if int(row["images_seen"]) < end] == [row for row in expected if int(row["images_seen"]) < end]
    after = [row for row in rows if int(row["images_seen"]) > end]
    assert without_verdicts(after) == without_verdicts([row for row in expected if int(row["images_seen"]) > end])
    at_end = [row for row in rows if int(row["images_seen"]) == end]
    assert all(any(row.items() <= other.items() for other in at_end) for row in expected if int(row["images_seen"]) == end)
    if case == "ensemble":
        assert [line.split(",")[3] for line in (tmp_path / "short" / "seeds.csv").read_text().splitlines()[1:]] == (
            ["training"] * 6 + ["finished"] * 2
        )


def relocated(part, folder):
    return json.loads(json.dumps(part).replace(str(folder / "long"), str(folder / "short")))


def without_verdicts(rows):
    """The last check of the short run stays among the checks that verdicts are drawn from."""
    kept = [{k: v for k, v in row.items() if not k.startswith(("verdict/", "probe/memorization"))} for row in rows]
    return [row for row in kept if len(row) > 1]


def test_lengthened_run_that_is_killed_resumes_at_its_new_length(tmp_path, own):
    train.train(config(tmp_path / "long", "max_images=640"))
    train.train(config(tmp_path / "short"))
    settings = config_to_resume(RunDir(tmp_path / "short"), max_images=640)
    with pytest.raises(Killed):
        train.train(settings | {"callbacks": {"stop": own(Stop(528))} | settings["callbacks"]}, resume=True)
    RunDir(tmp_path / "short").write_config(settings)  # without the callback
    resume(tmp_path / "short")
    assert_same_weights(tmp_path / "long", tmp_path / "short")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train.train(config(folder))
    return RunDir(folder)


def test_finished_run_says_how_to_lengthen_it(finished):
    with pytest.raises(
        ValueError, match=r"is finished, there is nothing to continue; .* resume=.*run max_images=NUMBER lengthens it$"
    ):
        config_to_resume(finished)
    for shorter in (100, 320):
        with pytest.raises(ValueError, match=rf"has seen 320 images already, got max_images={shorter}; give more$"):
            config_to_resume(finished, max_images=shorter)


def test_run_without_a_checkpoint_or_with_a_non_finite_loss_is_not_lengthened(tmp_path):
    run = RunDir(tmp_path / "a")
    train.train(config(run.path, "max_images=16"))
    summary = run.read_summary()
    run.last_checkpoint.unlink()
    with pytest.raises(ValueError, match="has no checkpoints/last.ckpt to go on from; start a new run of 640 images"):
        config_to_resume(run, max_images=640)
    run.write_summary(summary | {"status": "failed", "error_type": "FloatingPointError"})
    with pytest.raises(ValueError, match="is failed, there is nothing to continue; start a new run$"):
        config_to_resume(run, max_images=640)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seed=2", "a resumed run keeps its settings, got seed=2; only max_images= (and trust=) can be given"),
        ("optimizer.generator.lr=1", "a resumed run keeps its settings, got optimizer.generator.lr=1; only max_images="),
        ("max_image=9", "perhaps max_images"),
        ("max_images=0", "max_images must be an integer of at least 1, got 0"),
    ],
)
def test_only_the_length_of_a_resumed_run_can_change(cli, word, sentence):
    code, out = cli("resume=latest", word)
    assert code == 1 and sentence in out


def test_lengthening_on_the_command_line(cli, tmp_path):
    arguments = [word for word in QUIET if not word.startswith("name")]
    assert cli(*arguments, "max_images=32", "hydra.run.dir=run")[0] == 0
    code, out = cli("resume=run", "max_images=64")
    run = RunDir(tmp_path / "run")
    assert code == 0 and images_seen(run.path) == 64 and run.read_config()["max_images"] == 64, out
    assert run.read_command().overrides.count("max_images=64") == 1 and "max_images=32" not in run.read_command().overrides
    assert run.read_command().presets["data"] == "ring"
    assert cli("-m", *arguments, "max_images=32", "seed=1,2", "hydra.sweep.dir=sweep")[0] == 0
    code, out = cli("resume=sweep", "max_images=64")
    assert code == 1 and "max_images= lengthens a run" in out and "is a sweep" in out
    job = next((tmp_path / "sweep").glob("*/config.yaml")).parent
    before = RunDir(job).read_config()
    assert cli(f"resume={job}", "max_images=64")[0] == 0
    assert matches_saved_config(RunDir(job), before) and not matches_saved_config(RunDir(job), before | {"seed": 3})
    assert not matches_saved_config(RunDir(job), before | {"max_images": 128})


# Runs that ended short of max_images


class StopsAt(Callback):
    def __init__(self, at):
        self.at = at

    def on_train_batch_end(self, trainer, gan, *_):
        trainer.should_stop |= gan.images_seen == self.at


ENDS = {
    "steps": (["+trainer.max_steps=10"], "trainer.max_steps=10", 80),
    "time": (["+trainer.max_time={microseconds: 1}"], "trainer.max_time=", None),
    "fast_dev_run": (["+trainer.fast_dev_run=2"], "trainer.fast_dev_run=2", 16),
    "callback": ([], "a callback", 96),
}


@pytest.mark.parametrize("end", ENDS)
def test_run_that_ended_early_goes_on(tmp_path, monkeypatch, own, end):
    overrides, ended_by, at = ENDS[end]
    train.train(config(tmp_path / "whole"))
    settings = config(tmp_path / "outputs" / "a", *overrides)
    if end == "callback":
        settings["callbacks"]["stop"] = own(StopsAt(96))
    summary = train.train(settings).summary
    run = RunDir(tmp_path / "outputs" / "a")
    assert summary["status"] == "finished" and summary["ended_by"].startswith(ended_by)
    assert at in (None, images_seen(run.path))
    monkeypatch.chdir(tmp_path)
    assert latest_unfinished().path.name == "a"
    going_on = config_to_resume(run, ["own"]) if end != "callback" else settings
    assert train.train(going_on, resume=True).summary["ended_by"] is None
    assert_same_weights(tmp_path / "whole", run.path)
    if end != "callback":
        assert matches_saved_config(run, config(run.path, *overrides))
    with pytest.raises(ValueError, match="all 1 runs"):
        latest_unfinished()


def test_run_that_early_stopping_ended_is_asked_again(tmp_path, monkeypatch, own):
    values = [1.0, 2.0, 0.5, 3.0, 4.0]
    monkeypatch.setattr(ToyQuality, "compute", lambda self: {self.objective: values.pop(0)})
    settings = config(tmp_path / "a", "eval_every=32")
    settings["callbacks"]["early"] = own(EarlyStopping, monitor="quality/kl_with_off_mode_50", patience=1)
    assert train.train(settings).summary["counters"]["images_seen"] == 64
    assert train.train(settings, resume=True).summary["counters"]["images_seen"] == 128  # better once, then worse
    assert values == [4.0]


def test_verdict_that_ended_a_run_then_warns(tmp_path, monkeypatch):
    """It would end it again at the next check; another verdict still may."""
    monkeypatch.setattr("ganlab.diagnostics.monitor.evaluate_rules", lambda *_: {})
    update = Monitor._update_verdicts

    def collapsed(self, trainer, gan, failed):
        update(self, trainer, gan, failed)
        self.history.active["MODE_COLLAPSE"] = failed.new_ones(1, dtype=bool)

    monkeypatch.setattr(Monitor, "_update_verdicts", collapsed)
    overrides = [
        "monitor=[verdicts]",
        "monitor.every=4",
        "monitor.on_verdict.mode_collapse=stop",
        "monitor.on_verdict.exploding=stop",
    ]
    train.train(config(tmp_path / "whole"))
    settings = config(tmp_path / "a", *overrides)
    summary = train.train(settings).summary
    assert (summary["ended_by"], summary["counters"]["images_seen"]) == ("MODE_COLLAPSE", 64)
    going_on = config_to_resume(RunDir(tmp_path / "a"))
    actions = going_on["callbacks"]["verdicts"]["on_verdict"]
    assert (actions["mode_collapse"], actions["exploding"]) == ("warn", "stop")
    assert train.train(going_on, resume=True).summary["ended_by"] is None
    assert_same_weights(tmp_path / "whole", tmp_path / "a")
    run = RunDir(tmp_path / "a")
    assert matches_saved_config(run, settings)  # so that its sweep does not refuse it
    assert not matches_saved_config(run, config(run.path, *overrides, "monitor.on_verdict.default=log"))
    assert not matches_saved_config(run, config(run.path))


# Settings under which G is never trained


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (["gan.n_critic=21"], 21),
        (["gan.n_critic=20"], None),  # in the last batch
        (["gan.critic_warmup=true"], 100),
        (["gan.critic_warmup=true", "max_images=1600"], None),
    ],
)
def test_generator_that_is_never_updated_is_told_at_the_start(tmp_path, caplog, overrides, first):
    summary = train.train(config(tmp_path / "a", *overrides)).summary
    assert summary["counters"]["g_updates"] == (0 if first else 1)
    told = [r.getMessage() for r in caplog.records if "the generator will not be trained" in r.getMessage()]
    assert len(told) == (first is not None)
    if first:
        assert f"with update {first} of the discriminator, after {16 * first:,} images, and max_images=320; raise" in told[0]
