"""A run that was stopped, anywhere, ends as the one that never was."""

import contextlib
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
from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback
from omegaconf import OmegaConf

from ganlab.callbacks import Evaluation, checkpoints
from ganlab.callbacks.checkpoints import AtomicCheckpointIO, Interrupted
from ganlab.callbacks.loggers import CSV
from ganlab.cli import hydra_app
from ganlab.config.paths import conf_folder
from ganlab.diagnostics import Monitor
from ganlab.diagnostics.rules import BELOW, RULES
from ganlab.runs import train
from ganlab.runs.resume import config_to_resume, resume_command
from ganlab.runs.run_dir import RunDir, latest_unfinished

SMALL = [
    "name=t",
    "logger=csv",
    "trainer=cpu",
    "trainer.log_every_n_steps=7",
    "data=ring",
    "data.train_size=200",  # 12 batches a pass, so that stops lie in the middle of one
    "data.test_size=50",
    "data.batch_size=16",
    "networks.hidden=[8,8]",
    "metrics.samples=50",
    "max_images=480",
    "eval_every=160",
    "callbacks.sample_grid=null",  # drawing points takes most of the time of a run this short
]
WORDS = [word for word in SMALL if not word.startswith("name")]  # on a command line, where the name says more
WITH_PICTURES = [word for word in SMALL if not word.startswith("callbacks.sample_grid")]
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
CLOCKS = ("seconds", "training_seconds", "images_per_second", "seconds_before_resume")


@cache
def composed(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", [*overrides, "run_dir=???"])


def config(folder, *overrides, base=SMALL):
    found = OmegaConf.merge(composed(*base, *overrides), {"run_dir": str(folder)})
    return OmegaConf.to_container(found, resolve=True, throw_on_missing=True)


def start(config):
    return train.train(config)


def again(folder):
    return train.train(config_to_resume(RunDir(folder)), resume=True)


class Stop(Callback):
    """Ends the run after `batches` as a kill would: nothing is saved any more."""

    def __init__(self, batches):
        self.left = batches

    def on_train_batch_end(self, *_):
        self.left -= 1
        if self.left == 0:
            raise KeyError("killed")


def stopped(config, batches):
    """The run, killed after so many batches."""
    config["callbacks"] |= {"stop": {"_target_": f"{__name__}.Stop", "batches": batches}}
    real = train.build

    def build(part):
        return Stop(part["batches"]) if part.get("_target_", "").endswith(".Stop") else real(part)

    train.build = build
    try:
        with pytest.raises(KeyError):
            start(config)
    finally:
        train.build = real
    del config["callbacks"]["stop"]
    (folder := train.Path(config["run_dir"]) / "config.yaml").write_text(OmegaConf.to_yaml(config))
    assert folder.exists()


def state(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def differences(a, b, path=""):
    """Where two nested states differ; clocks on the wall are left out."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            yield f"{path}: {a.keys() ^ b.keys()}"
        for key in a.keys() & b.keys():
            if key not in CLOCKS and key != "config":
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
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def assert_same(whole, resumed):
    assert list(differences(state(whole), state(resumed))) == []
    for name in ("metrics.csv", "seeds.csv", "vanishing.csv"):
        assert (whole / name).exists() == (resumed / name).exists()
        if (whole / name).exists():
            assert table(whole / name) == table(resumed / name)
    names = [sorted(path.name for path in folder.rglob("*.png")) for folder in (whole, resumed)]
    assert names[0] == names[1] and all(
        (whole / "samples" / n).read_bytes() == (resumed / "samples" / n).read_bytes() for n in names[0] if n[0] == "0"
    )


LOSSES = sorted(path.stem for path in (train.Path(conf_folder()) / "loss").glob("*.yaml"))
MORE = {
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
    "ensemble": ["seeds=3"],
    "ensemble of wgan_gp": ["seeds=2", "loss=wgan_gp"],
    "images": ["data=digits", "regularizer=[diffaugment]"],
    "more monitors": [  # one measures in the batch of the checkpoint
        "monitor=[verdicts,counterfactual,vanishing]",
        "callbacks.vanishing={ages: [320, 480], critic_steps: 2, every: 1}",
    ],
}


CASES = {loss: [f"loss={loss}"] for loss in LOSSES} | MORE
BASES = dict.fromkeys(("ns", "labels", "ensemble"), WITH_PICTURES) | {"images": IMAGES}


@pytest.mark.parametrize("case", CASES)
def test_resumed_is_bit_identical(tmp_path, case):
    base = BASES.get(case, SMALL)
    whole, resumed = (config(tmp_path / name, *CASES[case], base=base) for name in ("whole", "resumed"))
    start(whole)
    stopped(resumed, 2 * resumed["max_images"] // (3 * resumed["data"]["batch_size"]) + 3)
    assert list((tmp_path / "resumed").rglob("last.ckpt")), "there is something to go on from"
    again(tmp_path / "resumed")
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path):
    start(config(tmp_path / "whole"))
    stopped(config(tmp_path / "resumed"), 9)
    assert not (tmp_path / "resumed" / "checkpoints").exists()
    again(tmp_path / "resumed")
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def test_a_killed_run_keeps_no_summary_of_an_earlier_start(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text('{"status": "refused"}')
    stopped(config(tmp_path / "a"), 9)
    assert RunDir(tmp_path / "a").status == "interrupted"


def test_a_resumed_run_says_where_it_goes_on_and_what_it_sees(tmp_path, cli, monkeypatch):
    stopped(config(tmp_path / "a"), 23)
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a process of its own; pytest has some
    code, printed = cli(f"resume={tmp_path / 'a'}")
    assert code == 0 and f"in D, in {tmp_path / 'a'}, from 320 images on\n" in printed
    assert "        480 images   modes_50 " in printed


def test_a_run_that_has_moved_goes_on_where_it_is(tmp_path):
    start(config(tmp_path / "whole"))
    stopped(config(tmp_path / "first"), 23)
    (tmp_path / "first").rename(tmp_path / "second")
    again(tmp_path / "second")
    assert_same(tmp_path / "whole", tmp_path / "second")
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("end", [None, "MODE_COLLAPSE"])
def test_a_run_killed_after_its_last_look_has_no_row_twice(tmp_path, monkeypatch, end):
    """Nor does it train on where a verdict had stopped it."""

    def limit(verdict, side):  # which a number always crosses, or never
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
    words = ["monitor.every=3", "monitor.on_verdict=stop"]
    start(config(tmp_path / "whole", *words))
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train, "summarize", lambda *_, **__: 1 / 0)
        start(config(tmp_path / "resumed", *words))
    again(tmp_path / "resumed")
    assert_same(tmp_path / "whole", tmp_path / "resumed")
    told = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "resumed")]
    assert [one["ended_by"] for one in told] == [end, end]


def test_sigkill_anywhere(tmp_path):
    """At random moments, while checkpoints and tables are written too; each life goes on from what the last one left."""
    whole = config(tmp_path / "whole", "eval_every=96")
    began = time.monotonic()
    assert in_a_child(lambda: start(whole)) == 0
    length = time.monotonic() - began
    draw = random.Random(1)
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        died = in_a_child(lambda: start(config(folder, "eval_every=96")), kill_after=draw.uniform(0.05, 1) * length)
        for life in range(2):
            if not died or RunDir(folder).is_complete:  # killed when everything was written
                died = 0
            elif (folder / "config.yaml").exists():
                died = in_a_child(lambda: again(folder), kill_after=draw.uniform(0.1, 1) * length if life == 0 else None)
            else:
                died = in_a_child(lambda: start(config(folder, "eval_every=96")))
        assert died == 0
        assert_same(tmp_path / "whole", folder)


def in_a_child(call, kill_after=None):
    """Runs it in a process of its own; returns 0, or the signal that ended it."""
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


def asked_to_stop(ours, at, number, monkeypatch):
    """The run, sent a signal in the batch that ends at so many images."""

    class Ask(Callback):
        def on_train_batch_end(self, trainer, gan, *_):
            if gan.images_seen == at:
                os.kill(os.getpid(), number)

    build = train.build
    ours["callbacks"] = {"ask": {"_target_": "Ask"}} | ours["callbacks"]
    monkeypatch.setattr(train, "build", lambda part: Ask() if part.get("_target_") == "Ask" else build(part))
    with pytest.raises(Interrupted, match=f"at {at} images") as stop:
        start(ours)
    assert stop.value.signal == number
    folder = train.Path(ours["run_dir"])
    assert RunDir(folder).status == "interrupted"
    del ours["callbacks"]["ask"]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(ours))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_asked_to_stop_it_saves_and_leaves(tmp_path, number, monkeypatch):
    start(config(tmp_path / "whole"))
    before = signal.getsignal(number)
    asked_to_stop(config(tmp_path / "resumed"), 272, number, monkeypatch)  # where no look is due
    assert signal.getsignal(number) is before
    again(tmp_path / "resumed")
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def test_asked_to_stop_in_the_last_batch_it_still_has_its_last_look(tmp_path, monkeypatch):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    start(config(whole, "eval_every=200"))
    asked_to_stop(config(resumed, "eval_every=200"), 480, signal.SIGTERM, monkeypatch)
    again(resumed)
    assert table(whole / "metrics.csv") == table(resumed / "metrics.csv")
    assert list(differences(state(whole)["state_dict"], state(resumed)["state_dict"])) == []  # Lightning's counters differ
    told = [json.loads((folder / "summary.json").read_text())["quality"] for folder in (whole, resumed)]
    assert told[0] == told[1]


def test_a_damaged_row_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("images_seen,x\n5,1\n7\n8\0,\n,\n12,3\n")
    CSV(str(tmp_path)).drop_rows_after(10)
    assert table(tmp_path / "metrics.csv") == [{"images_seen": "5", "x": "1"}]


def ctrl_c(*_, **__):
    raise KeyboardInterrupt


def test_interrupted_where_nothing_can_be_saved_it_says_so(cli, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    for part, name, said in (
        (Evaluation, "setup", "ganlab: train was interrupted; python -m ganlab resume="),
        (hydra_app, "validate_types", "ganlab: train was interrupted"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, ctrl_c)
            code, out = cli(*WORDS, f"hydra.run.dir={name}")
        assert code == 1 and out.count("ganlab: ") == 1 and said in out and "Traceback" not in out
    signal.signal(signal.SIGINT, before)  # which Lightning ignores from then on


def test_ctrl_c_after_training_leaves_the_run_finished_and_ends_the_sweep(tmp_path, cli, monkeypatch):
    look = checkpoints.Checkpoints.run

    def looking(self, trainer, gan):
        look(self, trainer, gan)
        if gan.images_seen == 480:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoints.Checkpoints, "run", looking)
    code, out = cli("-m", "seed=1,2", *WORDS, "eval_every=200", "hydra.sweep.dir=a")  # the last one is after the end
    assert code == 1 and "ganlab: train was interrupted" in out
    (ended,) = (tmp_path / "a").rglob("checkpoints/last.ckpt")
    assert json.loads((ended.parents[1] / "summary.json").read_text())["status"] == "finished"


def test_a_kill_while_w_and_b_is_awaited_leaves_a_run_that_can_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(CSV, "log_hyperparams", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        start(config(tmp_path / "a"))
    monkeypatch.undo()
    again(tmp_path / "a")
    assert RunDir(tmp_path / "a").is_complete


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 27648 vs 27544"), "the disk may be full"),
        (RuntimeError("basic_ios::clear: iostream error"), "the disk may be full"),
    ],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, error, said):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"good": 1}, path)

    def half(content, to):
        train.Path(to).write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints.torch, "save", half)
    with pytest.raises(OSError, match=rf"last.ckpt cannot be written .*{said}\); the previous one is kept"):
        AtomicCheckpointIO().save_checkpoint({"good": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"good": 1} and list(tmp_path.iterdir()) == [path]


def test_two_runs_in_one_folder(tmp_path):
    ours = config(tmp_path / "a")
    start(ours)
    with pytest.raises(ValueError, match=r"holds a run already; continue it \(python -m ganlab resume=.*a\)"):
        start(ours)
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
    start(config(tmp_path / "b"))  # the dead claim nothing


def test_a_refused_run_leaves_the_other_one_s_summary_alone(cli, tmp_path):
    arguments = [*WORDS, f"hydra.run.dir={tmp_path / 'a'}"]
    assert cli(*arguments)[0] == 0
    before = (tmp_path / "a" / "summary.json").read_bytes()
    words = (tmp_path / "a" / "command.yaml").read_text()
    code, out = cli(*arguments, "loss=wgan")
    assert code == 1 and "holds a run already" in out and "choose another directory with hydra.run.dir=DIR" in out
    assert (tmp_path / "a" / "summary.json").read_bytes() == before
    assert (tmp_path / "a" / "command.yaml").read_text() == words


def test_a_folder_that_is_trained_in_is_left_as_it_is(cli, tmp_path):
    with RunDir(tmp_path / "a").lock(resume=False):
        code, out = cli(*WORDS, "hydra.run.dir=a")
    assert code == 1 and "a; wait for it, or choose another directory" in out
    assert not (tmp_path / "a" / "command.yaml").exists()


def test_a_folder_that_hydra_did_not_make_is_refused(cli, tmp_path):
    code, out = cli(*SMALL, f"run_dir={tmp_path / 'mine'}", "hydra.run.dir=a")
    assert code == 1 and "run_dir is the directory that Hydra makes, got" in out and "with hydra.run.dir=DIR" in out
    assert not (tmp_path / "mine").exists()


def test_an_ensemble_resumes_although_less_memory_is_free(tmp_path, monkeypatch):
    start(config(tmp_path / "whole", "seeds=3"))
    stopped(config(tmp_path / "resumed", "seeds=3"), 23)
    monkeypatch.setattr(train, "available_memory", lambda device: 1)
    again(tmp_path / "resumed")
    assert_same(tmp_path / "whole", tmp_path / "resumed")


def test_seeds_that_do_not_fit_are_refused_with_the_sweep_that_does(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "memory_per_member", lambda gan, datamodule: 2**20)
    monkeypatch.setattr(train, "available_memory", lambda device: 5 * 2**20)
    with pytest.raises(ValueError, match=r"10 seeds of about 1.0 MiB .* 5 MiB .*: -m seeds=4 seed=1,5, and the rest"):
        start(config(tmp_path / "a", "seeds=10"))
    assert not (tmp_path / "a" / "config.yaml").exists()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_a_wrong_number_of_seeds_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=f"seeds must be an integer of at least 1, got {bad}"):
        start(config(tmp_path, "seeds=2") | {"seeds": bad})


def test_the_latest_run_may_have_failed_of_a_full_disk(tmp_path, monkeypatch):
    for name, error in (("full", "OSError"), ("infinite", "FloatingPointError")):
        (folder := tmp_path / "outputs" / name).mkdir(parents=True)
        (folder / "config.yaml").write_text("{}")
        (folder / "summary.json").write_text(json.dumps({"status": "failed", "error_type": error}))
    monkeypatch.chdir(tmp_path)
    assert latest_unfinished().path.name == "full"


def test_what_lies_beside_runs_is_none(tmp_path, monkeypatch):
    """W&B keeps a config.yaml of its own below a run; a summary that cannot be read says nothing of it."""
    monkeypatch.chdir(tmp_path)
    for place, text in (("a", "run_dir: x"), ("done", "run_dir: x"), ("done/wandb/run-1/files", "wandb_version: 1")):
        (folder := tmp_path / "outputs" / place).mkdir(parents=True)
        (folder / "config.yaml").write_text(text)
    (tmp_path / "outputs" / "done" / "summary.json").write_text('{"status": "finished"}')
    for summary in ("", "[]", "{}"):
        (tmp_path / "outputs" / "a" / "summary.json").write_text(summary)
        assert latest_unfinished().path.name == "a"


@pytest.mark.parametrize(
    ("name", "text", "said"),
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
def test_a_configuration_of_no_run(tmp_path, cli, name, text, said):
    """Or of one whose files a power cut left empty."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("a: 1")
    (tmp_path / "a" / name).write_text(text)
    code, out = cli("resume=a")
    assert code == 1 and out.count("ganlab: ") == 1 and said in out and "Traceback" not in out


def test_what_cannot_be_resumed(tmp_path, cli):
    start(config(tmp_path / "done"))
    code, out = cli(f"resume={tmp_path / 'done'}")
    assert code == 1 and "done is finished, there is nothing to continue" in out
    code, out = cli(f"resume={tmp_path / 'nowhere'}")
    assert code == 1 and "nowhere holds no run (no config.yaml) and no sweep" in out
    code, out = cli("resume=latest")
    assert code == 1 and "there is no run at or below ./outputs; train first" in out
    stopped(config(tmp_path / "damaged"), 23)
    last = tmp_path / "damaged" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    code, out = cli(f"resume={tmp_path / 'damaged'}")
    assert code == 1 and "last.ckpt is" in out and "is not whole" in out


def test_resuming_builds_no_class_that_nobody_trusts(tmp_path, cli):
    stopped(config(tmp_path / "a"), 23)
    path = tmp_path / "a" / "config.yaml"
    evil = OmegaConf.load(path)
    evil.callbacks.evil = {"_target_": "os.system", "command": f"touch {tmp_path / 'owned'}"}
    path.write_text(OmegaConf.to_yaml(evil))
    code, out = cli(f"resume={tmp_path / 'a'}")
    assert code == 1 and "os.system, which is not ganlab's" in out and not (tmp_path / "owned").exists()


@pytest.fixture
def owned(tmp_path, monkeypatch):
    """A file that a stranger's module makes when it is imported from the folder of a run."""
    (stranger := tmp_path / "stranger").mkdir()
    for module in ("evil", "wandb"):
        (stranger / f"{module}.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\nclass C: pass")
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path / "owned"


def test_resuming_imports_nothing_from_a_stranger_s_folder(tmp_path, cli, owned):
    stopped(config(tmp_path / "a"), 23)
    (tmp_path / "a" / "command.yaml").write_text(f"cwd: {tmp_path / 'stranger'}")
    code, out = cli(f"resume={tmp_path / 'a'}")
    assert code == 0 and not owned.exists(), out
    assert str(tmp_path / "stranger") not in sys.path


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+callbacks.evil={_target_: evil.C}", "add trust=evil"),
        ("+callbacks.evil._target_=evil.C", "add trust=evil"),
        ("hydra.callbacks.evil={_target_: evil.C}", "add trust=hydra.callbacks.evil"),
        ("hydra.launcher.setup=[touch owned]", "add trust=hydra.launcher.setup"),
        ("--config-dir", "add trust=/"),
    ],
)
def test_resuming_a_sweep_builds_no_class_that_nobody_trusts(tmp_path, cli, owned, monkeypatch, word, said):
    (tmp_path / "conf").mkdir()
    dirs = ["--config-dir=conf"] if word == "--config-dir" else []
    assert cli("-m", *dirs, *WORDS, "seed=1,2", "max_images=16", "hydra.sweep.dir=sweep")[0] == 0
    told = OmegaConf.load(path := tmp_path / "sweep" / "multirun.yaml")
    told.hydra.runtime.cwd = str(tmp_path / "stranger")
    if not dirs:
        told.hydra.overrides["hydra" if word.startswith("hydra") else "task"].append(word)
    OmegaConf.save(told, path)
    shutil.rmtree(sorted((tmp_path / "sweep").glob("*/summary.json"))[-1].parent)
    code, out = cli("resume=sweep")
    assert code == 1 and said in out and not owned.exists(), out


def test_a_sweep_asks_for_trust_once(tmp_path, cli, monkeypatch):
    """In a folder of presets, in a class that only these name, and in a word of the command."""
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "my.yaml").write_text("# @package gan\n_target_: my_gan.MyGAN\n")
    (tmp_path / "my_gan.py").write_text("from ganlab import NonSaturatingGAN\nclass MyGAN(NonSaturatingGAN): pass")
    (tmp_path / "mine.py").write_text("from lightning import Callback\nclass Quiet(Callback): pass")
    words = ["loss=my", "seed=1,2", "max_images=16", "+callbacks.mine={_target_: mine.Quiet}"]
    assert cli("-m", "--config-dir=conf", *WORDS, *words, "hydra.sweep.dir=sweep")[0] == 0
    left_out = sorted((tmp_path / "sweep").glob("*/summary.json"))[-1]
    left_out.unlink()
    code, out = cli("resume=sweep")
    (names,) = re.findall(r"add trust=(\S+)", out)
    assert code == 1 and sorted(names.split(",")) == sorted([str(tmp_path / "conf"), "mine"])
    code, out = cli("resume=sweep", f"trust={names}")
    assert code == 0 and json.loads(left_out.read_text())["status"] == "finished", out


def test_the_way_on_can_be_pasted_into_a_shell_and_names_whom_to_trust(tmp_path):
    (folder := tmp_path / "a run").mkdir()
    assert resume_command(RunDir(folder)) == f"python -m ganlab 'resume={folder}'"  # whatever it holds
    classes = [
        {"_target_": name} for name in ("ganlab.GAN", "torch.optim.Adam", "lightning.Trainer", "mine.A", "other.B", "mine.C")
    ]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({"parts": classes}))
    assert resume_command(RunDir(folder)) == f"python -m ganlab 'resume={folder}' trust=mine,other"


def test_a_run_that_goes_on_adds_to_its_log(tmp_path, cli, monkeypatch):
    assert cli(*WORDS, "hydra.run.dir=run")[0] == 0
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been killed just before
    told = (tmp_path / "run" / "ganlab.log").read_text()
    assert told.count("weights in G") == 1
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # another process, without Hydra's
    assert cli("resume=run")[0] == 0
    more = (tmp_path / "run" / "ganlab.log").read_text().removeprefix(told)
    assert re.fullmatch(r"\[[\d :,-]+\]\[ganlab\.runs\.train\]\[INFO\] - .* weights in G.*, from 480 images on\n", more)


def test_a_sweep_runs_only_what_is_missing(tmp_path, cli, monkeypatch):
    """Of four jobs one finished, one was killed before its summary, one became infinite, and one never began."""
    (here := tmp_path / "Zoë's runs (a, b=1)").mkdir()  # what Hydra does not read without quotes
    monkeypatch.chdir(here)
    assert cli("-m", *WORDS, "seed=1,2,3,4", "hydra.sweep.dir=sweep")[0] == 0
    jobs = sorted(path.parent for path in (here / "sweep").rglob("summary.json"))
    assert len(jobs) == 4
    whole = {job.name: state(job) for job in jobs}
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
        assert list(differences(whole[job.name], state(job))) == []
        assert json.loads((job / "summary.json").read_text())["status"] == "finished"
