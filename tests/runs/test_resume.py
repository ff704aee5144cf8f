"""A run that was stopped anywhere and resumed ends bit for bit as the uninterrupted one."""

import contextlib
import copy
import csv
import json
import logging
import math
import os
import random
import re
import shutil
import signal
import sys
import time

import pytest
import small_runs
import torch
from lightning import Callback
from omegaconf import OmegaConf
from small_runs import Killed

from ganlab.callbacks import Evaluation, checkpoints
from ganlab.callbacks.checkpoints import AtomicCheckpointIO, Interrupted
from ganlab.callbacks.loggers import CSV
from ganlab.cli import hydra_app
from ganlab.diagnostics import Monitor
from ganlab.diagnostics.rules import BELOW, RULES
from ganlab.runs import train
from ganlab.runs.resume import config_to_resume, resume_command
from ganlab.runs.run_dir import RunDir, latest_unfinished

SMALL = [*small_runs.SMALL, "max_images=480", "callbacks.sample_grid=null"]  # 12 batches a pass: runs are stopped within one
ARGUMENTS = [override for override in SMALL if not override.startswith("name")]  # keep the default name, which says more
WITH_SAMPLE_GRID = [override for override in SMALL if not override.startswith("callbacks.sample_grid")]
IMAGES = [
    "name=t",
    "logger=csv",
    "trainer=cpu",
    "trainer.log_every_n_steps=7",
    "data.batch_size=16",
    "networks.width=4",
    "metrics=none",
    "max_images=320",
    "eval_every=112",
]
TIMINGS = ("seconds", "training_seconds", "images_per_second", "seconds_before_resume")


def config(folder, *overrides, base=SMALL):
    return small_runs.config(folder, *overrides, base=base)


def start(config):
    return train.train(config)


def resume(folder):
    return train.train(config_to_resume(RunDir(folder)), resume=True)


class Stop(Callback):
    """Ends the run after `batches`."""

    def __init__(self, batches):
        self.left = batches

    def on_train_batch_end(self, *_):
        self.left -= 1
        if self.left == 0:
            raise Killed


def train_and_kill(config, batches):
    """Train for `batches` and stop without saving."""
    config["callbacks"] |= {"stop": {"_target_": f"{__name__}.Stop", "batches": batches}}
    original_build = train.build

    def build(part):
        return Stop(part["batches"]) if part.get("_target_", "").endswith(".Stop") else original_build(part)

    train.build = build
    try:
        with pytest.raises(Killed):
            start(config)
    finally:
        train.build = original_build
    del config["callbacks"]["stop"]
    (train.Path(config["run_dir"]) / "config.yaml").write_text(OmegaConf.to_yaml(config))


def state(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def differences(a, b, path=""):
    """Where two nested states differ; wall-clock times are left out."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            yield f"{path}: {a.keys() ^ b.keys()}"
        for key in a.keys() & b.keys():
            if key not in TIMINGS and key != "config":
                yield from differences(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            yield f"{path}: {len(a)} and {len(b)}"
        for i, pair in enumerate(zip(a, b)):
            yield from differences(*pair, f"{path}[{i}]")
    elif isinstance(a, torch.Tensor):
        if not torch.equal(a.nan_to_num(7), b.nan_to_num(7)):
            yield path
    elif a != b and not (a != a and b != b):
        yield f"{path}: {a} and {b}"


def table(path):
    with path.open() as file:
        return [{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(file)]


def assert_same(uninterrupted, resumed):
    assert list(differences(state(uninterrupted), state(resumed))) == []
    for name in ("metrics.csv", "seeds.csv", "vanishing.csv"):
        assert (uninterrupted / name).exists() == (resumed / name).exists()
        if (uninterrupted / name).exists():
            assert table(uninterrupted / name) == table(resumed / name)
    names = [sorted(path.name for path in folder.rglob("*.png")) for folder in (uninterrupted, resumed)]
    assert names[0] == names[1] and all(
        (uninterrupted / "samples" / n).read_bytes() == (resumed / "samples" / n).read_bytes() for n in names[0] if n[0] == "0"
    )


CASES = {
    "ns": ["loss=ns"],
    "cgan": ["loss=cgan"],
    "rpgan": ["loss=rpgan"],  # G sees real samples
    "wgan": ["loss=wgan"],  # RMSprop, five steps of D per step of G, weight clipping
    "wgan_gp": ["loss=wgan_gp"],
    "dragan": ["loss=dragan"],
    "r3gan": ["loss=r3gan"],
    "n_critic": ["gan.n_critic=3", "trainer.log_every_n_steps=19"],  # a row waits for G at the checkpoint
    "warmup": ["loss=wgan", "gan.critic_warmup=true"],
    "lazy": ["regularizer=[r1,r2]", "regularizer.r1.every=4", "regularizer.r2.every=3"],
    "lecam": ["regularizer=[lecam]", "regularizer.lecam.start=5"],
    "noise": ["regularizer=[instance_noise]", "regularizer.instance_noise.fade=50"],
    "spectral": ["networks.discriminator.spectral_norm=true"],
    "batch norm": ["networks.generator.norm=batch"],
    "labels": ["conditioning=labels", "label_prior=marginal"],
    "schedule": [
        "+gan.generator_scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
        "+gan.generator_scheduler._partial_=true",
        "+gan.generator_scheduler.T_max=60",
    ],
    "ensemble": ["seeds=2"],
    "ensemble of wgan_gp": ["seeds=2", "loss=wgan_gp"],
    "images": ["data=digits", "regularizer=[diffaugment]"],
    "more monitors": [  # one measures in the batch of the checkpoint
        "monitor=[verdicts,counterfactual,vanishing]",
        "callbacks.vanishing={ages: [320, 480], critic_steps: 2, every: 1}",
    ],
}
BASES = dict.fromkeys(("ns", "labels", "ensemble"), WITH_SAMPLE_GRID) | {"images": IMAGES}


@pytest.mark.parametrize("case", CASES)
def test_resume_is_bit_identical(tmp_path, case):
    base = BASES.get(case, SMALL)
    uninterrupted, resumed = (config(tmp_path / name, *CASES[case], base=base) for name in ("uninterrupted", "resumed"))
    start(uninterrupted)
    train_and_kill(resumed, 2 * resumed["max_images"] // (3 * resumed["data"]["batch_size"]) + 3)
    assert list((tmp_path / "resumed").rglob("last.ckpt")), "no checkpoint to resume from"
    resume(tmp_path / "resumed")
    assert_same(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_resume_before_the_first_checkpoint_starts_again(tmp_path):
    start(config(tmp_path / "uninterrupted"))
    train_and_kill(config(tmp_path / "resumed"), 9)
    assert not (tmp_path / "resumed" / "checkpoints").exists()
    resume(tmp_path / "resumed")
    assert_same(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_start_removes_the_summary_of_a_refused_start(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text('{"status": "refused"}')
    train_and_kill(config(tmp_path / "a"), 9)
    assert RunDir(tmp_path / "a").status == "unfinished"


def test_resume_prints_images_seen_and_metrics(tmp_path, cli, monkeypatch):
    train_and_kill(config(tmp_path / "a"), 23)
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a new process; pytest adds its handlers
    code, printed = cli(f"resume={tmp_path / 'a'}")
    assert code == 0 and f"in D, in {tmp_path / 'a'}, from 320 images on\n" in printed
    assert "        480 images   modes_50 " in printed


def test_moved_run_resumes_in_its_new_directory(tmp_path):
    start(config(tmp_path / "uninterrupted"))
    train_and_kill(config(tmp_path / "first"), 23)
    (tmp_path / "first").rename(tmp_path / "second")
    resume(tmp_path / "second")
    assert_same(tmp_path / "uninterrupted", tmp_path / "second")
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("end", [None, "MODE_COLLAPSE"])
def test_resume_after_the_last_evaluation_repeats_no_row(tmp_path, monkeypatch, end):
    """Nor does it continue to train if a verdict had stopped it."""

    def limit(verdict, side):  # a number always crosses it, or never
        return math.inf if (verdict == end) == (side == BELOW) else -math.inf

    build = train.build

    def with_thresholds(part):
        built = build(part)
        if isinstance(built, Monitor):
            built.thresholds = {
                v: {n: limit(v, side) for conditions in rule for n, side in conditions} for v, rule in RULES.items()
            }
        return built

    monkeypatch.setattr(train, "build", with_thresholds)
    overrides = ["monitor.every=3", "monitor.on_verdict=stop"]
    start(config(tmp_path / "uninterrupted", *overrides))
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train, "summarize", lambda *_, **__: 1 / 0)
        start(config(tmp_path / "resumed", *overrides))
    resume(tmp_path / "resumed")
    assert_same(tmp_path / "uninterrupted", tmp_path / "resumed")
    summaries = [RunDir(tmp_path / name).read_summary() for name in ("uninterrupted", "resumed")]
    assert [summary["ended_by"] for summary in summaries] == [end, end]


def test_resume_after_sigkill_at_random_times(tmp_path):
    """Also while checkpoints and tables are written. Each run is killed once or twice and resumed from what is there."""
    uninterrupted = config(tmp_path / "uninterrupted", "eval_every=96")
    started = time.monotonic()
    assert in_a_child(lambda: start(uninterrupted)) == 0
    duration = time.monotonic() - started
    random_times = random.Random(1)
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        signal_number = in_a_child(
            lambda: start(config(folder, "eval_every=96")), kill_after=random_times.uniform(0.05, 1) * duration
        )
        for resumption in range(2):
            if not signal_number or RunDir(folder).is_complete:  # killed when everything was written
                signal_number = 0
            elif (folder / "config.yaml").exists():
                kill_after = random_times.uniform(0.1, 1) * duration if resumption == 0 else None
                signal_number = in_a_child(lambda: resume(folder), kill_after)
            else:
                signal_number = in_a_child(lambda: start(config(folder, "eval_every=96")))
        assert signal_number == 0
        assert_same(tmp_path / "uninterrupted", folder)


def in_a_child(call, kill_after=None):
    """Call it in a child process; returns 0, or the signal that ended the process."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
            try:
                call()
                os._exit(0)
            except BaseException:
                logging.exception("the child failed")
                os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def train_and_signal(config, at, number, monkeypatch):
    """Train and send this process a signal in the batch that ends at `at` images."""

    class SendSignal(Callback):
        def on_train_batch_end(self, trainer, gan, *_):
            if gan.images_seen == at:
                os.kill(os.getpid(), number)

    build = train.build
    config["callbacks"] = {"signal": {"_target_": "SendSignal"}} | config["callbacks"]
    monkeypatch.setattr(train, "build", lambda part: SendSignal() if part.get("_target_") == "SendSignal" else build(part))
    with pytest.raises(Interrupted, match=f"at {at} images") as stop:
        start(config)
    assert stop.value.signal == number
    folder = train.Path(config["run_dir"])
    assert RunDir(folder).status == "interrupted"
    del config["callbacks"]["signal"]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_signal_saves_a_checkpoint_and_stops(tmp_path, number, monkeypatch):
    start(config(tmp_path / "uninterrupted"))
    before = signal.getsignal(number)
    train_and_signal(config(tmp_path / "resumed"), 272, number, monkeypatch)  # where no evaluation is due
    assert signal.getsignal(number) is before
    resume(tmp_path / "resumed")
    assert_same(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_signal_in_the_last_batch_keeps_the_last_evaluation(tmp_path, monkeypatch):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    start(config(uninterrupted, "eval_every=200"))
    train_and_signal(config(resumed, "eval_every=200"), 480, signal.SIGTERM, monkeypatch)
    resume(resumed)
    assert table(uninterrupted / "metrics.csv") == table(resumed / "metrics.csv")
    assert (
        list(differences(state(uninterrupted)["state_dict"], state(resumed)["state_dict"])) == []
    )  # Lightning's counters differ
    assert RunDir(uninterrupted).read_summary()["quality"] == RunDir(resumed).read_summary()["quality"]


def test_damaged_row_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("images_seen,x\n5,1\n7\n8\0,\n,\n12,3\n")
    CSV(str(tmp_path)).drop_rows_after(10)
    assert table(tmp_path / "metrics.csv") == [{"images_seen": "5", "x": "1"}]


def raise_keyboard_interrupt(*_, **__):
    raise KeyboardInterrupt


def test_interruption_outside_training_is_one_sentence(cli, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    for part, name, message in (
        (Evaluation, "setup", "ganlab: train was interrupted; python -m ganlab resume="),
        (hydra_app, "validate_types", "ganlab: train was interrupted"),
        (train, "print_summary", "ganlab: train was interrupted after it was complete; its results are in "),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, raise_keyboard_interrupt)
            code, out = cli(*ARGUMENTS, f"hydra.run.dir={name}")
        assert code == 1 and out.count("ganlab: ") == 1 and message in out and "Traceback" not in out
    signal.signal(signal.SIGINT, before)  # which Lightning ignores from then on


def test_ctrl_c_after_training_finishes_the_run_and_ends_the_sweep(tmp_path, cli, monkeypatch):
    save = checkpoints.Checkpoints.run

    def save_and_interrupt(self, trainer, gan):
        save(self, trainer, gan)
        if gan.images_seen == 480:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoints.Checkpoints, "run", save_and_interrupt)
    code, out = cli("-m", "seed=1,2", *ARGUMENTS, "eval_every=200", "hydra.sweep.dir=a")  # the last evaluation follows training
    assert code == 1 and "ganlab: train was interrupted" in out
    (checkpoint,) = (tmp_path / "a").rglob("checkpoints/last.ckpt")
    assert RunDir(checkpoint.parents[1]).status == "finished"


def test_interruption_while_loggers_start_leaves_a_resumable_run(tmp_path, monkeypatch):
    monkeypatch.setattr(CSV, "log_hyperparams", raise_keyboard_interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(config(tmp_path / "a"))
    monkeypatch.undo()
    resume(tmp_path / "a")
    assert RunDir(tmp_path / "a").is_complete


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 27648 vs 27544"), "the disk may be full"),
        (RuntimeError("basic_ios::clear: iostream error"), "the disk may be full"),
    ],
)
def test_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch, error, message):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"good": 1}, path)

    def write_half(content, to):
        train.Path(to).write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints.torch, "save", write_half)
    with pytest.raises(OSError, match=rf"last.ckpt cannot be written .*{message}\); the previous one is kept"):
        AtomicCheckpointIO().save_checkpoint({"good": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"good": 1} and list(tmp_path.iterdir()) == [path]


def test_run_directory_belongs_to_one_run_and_one_process(tmp_path):
    first = config(tmp_path / "a")
    start(first)
    with pytest.raises(ValueError, match=r"holds a run already; continue it \(python -m ganlab resume=.*a\)"):
        start(first)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with RunDir(tmp_path / "b").lock(resume=False):
            os.write(writer, b"!")
            time.sleep(60)
    os.read(reader, 1)
    with pytest.raises(ValueError, match="another process trains in .*b; wait for it"):
        start(config(tmp_path / "b"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    start(config(tmp_path / "b"))  # a dead process holds no lock


def test_refused_run_keeps_the_summary_of_the_finished_one(cli, tmp_path):
    arguments = [*ARGUMENTS, f"hydra.run.dir={tmp_path / 'a'}"]
    assert cli(*arguments)[0] == 0
    before = (tmp_path / "a" / "summary.json").read_bytes()
    command = (tmp_path / "a" / "command.yaml").read_text()
    code, out = cli(*arguments, "loss=wgan")
    assert code == 1 and "holds a run already" in out and "choose another directory with hydra.run.dir=DIR" in out
    assert (tmp_path / "a" / "summary.json").read_bytes() == before
    assert (tmp_path / "a" / "command.yaml").read_text() == command


def test_locked_run_directory_is_left_unchanged(cli, tmp_path):
    with RunDir(tmp_path / "a").lock(resume=False):
        code, out = cli(*ARGUMENTS, "hydra.run.dir=a")
    assert code == 1 and "a; wait for it, or choose another directory" in out
    assert not (tmp_path / "a" / "command.yaml").exists()


def test_run_dir_other_than_hydra_s_is_refused(cli, tmp_path):
    code, out = cli(*SMALL, f"run_dir={tmp_path / 'mine'}", "hydra.run.dir=a")
    assert code == 1 and "run_dir is the directory that Hydra makes, got" in out and "with hydra.run.dir=DIR" in out
    assert not (tmp_path / "mine").exists()


def test_ensemble_resumes_with_less_free_memory(tmp_path, monkeypatch):
    start(config(tmp_path / "uninterrupted", "seeds=3"))
    train_and_kill(config(tmp_path / "resumed", "seeds=3"), 23)
    monkeypatch.setattr(train, "available_memory", lambda device: 1)
    resume(tmp_path / "resumed")
    assert_same(tmp_path / "uninterrupted", tmp_path / "resumed")


def test_seeds_beyond_memory_are_refused_with_the_sweep_that_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "memory_per_member", lambda gan, datamodule: 2**20)
    monkeypatch.setattr(train, "available_memory", lambda device: 5 * 2**20)
    with pytest.raises(ValueError, match=r"10 seeds of about 1.0 MiB .* 5 MiB .*: -m seeds=4 seed=1,5, and the rest"):
        start(config(tmp_path / "a", "seeds=10"))
    assert not (tmp_path / "a" / "config.yaml").exists()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_invalid_number_of_seeds_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=f"seeds must be an integer of at least 1, got {bad}"):
        start(config(tmp_path, "seeds=2") | {"seeds": bad})


def test_latest_unfinished_includes_a_run_that_a_full_disk_ended(tmp_path, monkeypatch):
    for name, error in (("full", "OSError"), ("infinite", "FloatingPointError")):
        (folder := tmp_path / "outputs" / name).mkdir(parents=True)
        (folder / "config.yaml").write_text("{}")
        (folder / "summary.json").write_text(json.dumps({"status": "failed", "error_type": error}))
    monkeypatch.chdir(tmp_path)
    assert latest_unfinished().path.name == "full"


def test_latest_unfinished_ignores_files_of_wandb_and_damaged_summaries(tmp_path, monkeypatch):
    """W&B writes its own config.yaml below a run."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "run_dir: x"), ("done", "run_dir: x"), ("done/wandb/run-1/files", "wandb_version: 1")):
        (folder := tmp_path / "outputs" / name).mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
    (tmp_path / "outputs" / "done" / "summary.json").write_text('{"status": "finished"}')
    for summary in ("", "[]", "{}"):
        (tmp_path / "outputs" / "a" / "summary.json").write_text(summary)
        assert latest_unfinished().path.name == "a"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.yaml", "a: [", "config.yaml cannot be read"),
        ("config.yaml", "\0", "config.yaml cannot be read"),
        ("config.yaml", "", "is of no run of ganlab"),
        ("config.yaml", "run_dir: a", "is of no run of ganlab"),
        ("command.yaml", "{: [", "config.yaml is of no run of ganlab"),  # it is not needed
        ("multirun.yaml", "", "is of no sweep"),
        ("multirun.yaml", "- 1", "is of no sweep"),
    ],
)
def test_resume_refuses_files_that_are_no_run_s(tmp_path, cli, name, text, message):
    """A power cut may leave files empty."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("a: 1")
    (tmp_path / "a" / name).write_text(text)
    code, out = cli("resume=a")
    assert code == 1 and out.count("ganlab: ") == 1 and message in out and "Traceback" not in out


def test_finished_missing_and_damaged_runs_are_not_resumed(tmp_path, cli):
    start(config(tmp_path / "done"))
    code, out = cli(f"resume={tmp_path / 'done'}")
    assert code == 1 and "done is finished, there is nothing to continue" in out
    code, out = cli(f"resume={tmp_path / 'nowhere'}")
    assert code == 1 and "nowhere holds no run (no config.yaml) and no sweep" in out
    code, out = cli("resume=latest")
    assert code == 1 and "there is no run at or below ./outputs; train first" in out
    train_and_kill(config(tmp_path / "damaged"), 23)
    last = tmp_path / "damaged" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    code, out = cli(f"resume={tmp_path / 'damaged'}")
    assert code == 1 and "last.ckpt is" in out and "is not whole" in out


def test_resume_builds_no_untrusted_class(tmp_path, cli):
    train_and_kill(config(tmp_path / "a"), 23)
    path = tmp_path / "a" / "config.yaml"
    malicious = OmegaConf.load(path)
    malicious.callbacks.evil = {"_target_": "os.system", "command": f"touch {tmp_path / 'owned'}"}
    path.write_text(OmegaConf.to_yaml(malicious))
    code, out = cli(f"resume={tmp_path / 'a'}")
    assert code == 1 and "os.system, which is not ganlab's" in out and not (tmp_path / "owned").exists()


@pytest.fixture
def owned(tmp_path, monkeypatch):
    """The file that an untrusted module writes when it is imported."""
    (untrusted := tmp_path / "untrusted").mkdir()
    for module in ("evil", "wandb", "yaml", "torch"):
        (untrusted / f"{module}.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass C: pass")
        if module in ("evil", "wandb"):
            monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path / "owned"


def test_resume_imports_nothing_from_the_recorded_directory(tmp_path, cli, owned):
    train_and_kill(config(tmp_path / "a"), 23)
    (tmp_path / "a" / "command.yaml").write_text(f"cwd: {tmp_path / 'untrusted'}")
    code, out = cli(f"resume={tmp_path / 'a'}")
    assert code == 0 and not owned.exists(), out
    assert str(tmp_path / "untrusted") not in sys.path


def test_resuming_a_sweep_builds_no_untrusted_class(tmp_path, cli, owned):
    assert cli("-m", *ARGUMENTS, "seed=1,2", "max_images=16", "hydra.sweep.dir=sweep")[0] == 0
    shutil.rmtree(sorted((tmp_path / "sweep").glob("*/summary.json"))[-1].parent)
    multirun = OmegaConf.load(path := tmp_path / "sweep" / "multirun.yaml")
    multirun.hydra.runtime.cwd = str(tmp_path / "untrusted")
    for override, trust in (
        ("+callbacks.evil={_target_: evil.C}", "evil"),
        ("+callbacks.evil._target_=evil.C", "evil"),
        ("hydra.callbacks.evil={_target_: evil.C}", "hydra.callbacks.evil"),
        ("hydra.launcher.setup=[touch owned]", "hydra.launcher.setup"),
    ):
        malicious = copy.deepcopy(multirun)
        malicious.hydra.overrides["hydra" if override.startswith("hydra") else "task"].append(override)
        OmegaConf.save(malicious, path)
        code, out = cli("resume=sweep")
        assert code == 1 and f"add trust={trust}" in out and not owned.exists(), out


def test_resuming_a_sweep_lists_all_untrusted_modules(tmp_path, cli, monkeypatch):
    """Those of a --config-dir, of its presets, and of the overrides."""
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "my.yaml").write_text("# @package gan\n_target_: my_gan.MyGAN\n")
    (tmp_path / "my_gan.py").write_text("from ganlab import NonSaturatingGAN\nclass MyGAN(NonSaturatingGAN): pass")
    (tmp_path / "mine.py").write_text("from lightning import Callback\nclass Quiet(Callback): pass")
    overrides = ["loss=my", "seed=1,2", "max_images=16", "+callbacks.mine={_target_: mine.Quiet}"]
    assert cli("-m", "--config-dir=conf", *ARGUMENTS, *overrides, "hydra.sweep.dir=sweep")[0] == 0
    removed = sorted((tmp_path / "sweep").glob("*/summary.json"))[-1]
    removed.unlink()
    code, out = cli("resume=sweep")
    (names,) = re.findall(r"add trust=(\S+)", out)
    assert code == 1 and sorted(names.split(",")) == sorted([str(tmp_path / "conf"), "mine"])
    code, out = cli("resume=sweep", f"trust={names}")
    assert code == 0 and json.loads(removed.read_text())["status"] == "finished", out


def test_resume_command_is_quoted_and_names_untrusted_modules(tmp_path):
    (folder := tmp_path / "a run").mkdir()
    assert resume_command(RunDir(folder)) == f"python -m ganlab 'resume={folder}'"
    classes = [
        {"_target_": name} for name in ("ganlab.GAN", "torch.optim.Adam", "lightning.Trainer", "mine.A", "other.B", "mine.C")
    ]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({"parts": classes}))
    assert resume_command(RunDir(folder)) == f"python -m ganlab 'resume={folder}' trust=mine,other"


def test_resume_appends_to_the_log(tmp_path, cli, monkeypatch):
    assert cli(*ARGUMENTS, "hydra.run.dir=run")[0] == 0
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been killed just before
    log = (tmp_path / "run" / "ganlab.log").read_text()
    assert log.count("weights in G") == 1
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # another process, without Hydra's
    assert cli("resume=run")[0] == 0
    appended = (tmp_path / "run" / "ganlab.log").read_text().removeprefix(log)
    assert re.fullmatch(r"\[[\d :,-]+\]\[ganlab\.runs\.train\]\[INFO\] - .* weights in G.*, from 480 images on\n", appended)


def test_resuming_a_sweep_runs_only_missing_jobs(tmp_path, cli, monkeypatch):
    """Of four jobs one finished, one was killed before its summary, one had a non-finite loss, and one never started."""
    (folder := tmp_path / "Zoë's runs (a, b=1)").mkdir()  # Hydra reads it only in quotes
    monkeypatch.chdir(folder)
    assert cli("-m", *ARGUMENTS, "seed=1,2,3,4", "hydra.sweep.dir=sweep")[0] == 0
    jobs = sorted(path.parent for path in (folder / "sweep").rglob("summary.json"))
    assert len(jobs) == 4
    uninterrupted = {job.name: state(job) for job in jobs}
    finished, killed, infinite, missing = jobs
    (killed / "summary.json").unlink()
    summary = {"name": "x", "status": "failed", "error": "d/loss became nan", "error_type": "FloatingPointError"}
    (infinite / "summary.json").write_text(json.dumps(summary))
    for path in sorted(missing.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    missing.rmdir()
    times = {job: (job / "checkpoints" / "last.ckpt").stat().st_mtime_ns for job in (finished, infinite)}
    code, out = cli("resume=sweep")
    assert code == 1 and "1 of 4 jobs failed" in out and "d/loss became nan" in out
    assert all((job / "checkpoints" / "last.ckpt").stat().st_mtime_ns == at for job, at in times.items())
    for job in (killed, missing):
        assert list(differences(uninterrupted[job.name], state(job))) == []
        assert json.loads((job / "summary.json").read_text())["status"] == "finished"
