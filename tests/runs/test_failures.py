"""Failures around a run: each is one sentence, keeps the last good state, and leaks no secret."""

import json
import os
import pickletools
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

from ganlab.callbacks import Evaluation, loggers

TINY = [
    "data=ring",
    "data.train_size=256",
    "data.test_size=64",
    "networks.hidden=[4]",
    "metrics.samples=16",
    "max_images=512",
    "eval_every=128",
    "trainer=cpu",
    "callbacks.sample_grid=null",
    "hydra.run.dir=run",
]
SECRETS = {"WANDB_API_KEY": "5ec2e7" + "a1" * 17, "AWS_SECRET_ACCESS_KEY": "planted-aws-7d1f", "HF_TOKEN": "hf_planted_9c4b"}
FAILING_GAN = """
import torch
from ganlab import CGAN

class Failing(CGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        Failing.steps = getattr(Failing, "steps", 0) + 1
        if Failing.steps == 3:
            raise {error}
        return CGAN.discriminator_loss(real_logits, fake_logits)
"""


@pytest.fixture
def secrets(monkeypatch, tmp_path):
    """An environment with secrets and an offline W&B."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def files_containing(folder: Path, *texts: str) -> list[str]:
    """Every file below the directory that has one of the texts in its content or its path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(f) for f in files for text in texts if text.encode() in f.read_bytes() or text in str(f)]


def last_images_seen(folder: Path) -> int:
    """images_seen of the last checkpoint."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["state_dict"]["_extra_state"]["images_seen"]


def status(folder: Path) -> str:
    return json.loads((folder / "summary.json").read_text())["status"]


# Secrets


def test_no_secret_of_the_environment_is_written(cli, tmp_path, secrets):
    """By a finished run with W&B, and by one that fails."""
    (tmp_path / "my_gan.py").write_text(FAILING_GAN.format(error="RuntimeError('broken')"))
    assert cli(*TINY)[0] == 0 and list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    code, out = cli(*TINY, "gan._target_=my_gan.Failing", "hydra.run.dir=failed")
    assert code == 1 and "broken" in out and (tmp_path / "failed" / "command.yaml").exists()
    assert files_containing(tmp_path, *SECRETS.values()) == []


@pytest.mark.parametrize(
    "override",
    [
        "+note=${oc.env:HF_TOKEN}",
        "name=${oc.env:HF_TOKEN}",
        "+note=${oc.decode:${oc.env:HF_TOKEN}}",
        "hydra.run.dir=${oc.env:HF_TOKEN}",
        "hydra.job.env_copy=[HF_TOKEN]",
        f"+note={SECRETS['HF_TOKEN']}",
    ],
)
def test_override_with_a_secret_is_refused_by_its_name(cli, tmp_path, secrets, override):
    code, out = cli(*TINY, "logger=csv", override)
    assert code == 1 and out.count("ganlab: ") == 1 and "HF_TOKEN" in out and SECRETS["HF_TOKEN"] not in out
    assert not (tmp_path / "run" / "config.yaml").exists()
    (tmp_path / "nothing").touch()
    assert files_containing(tmp_path, SECRETS["HF_TOKEN"]) == []


def test_sweep_with_a_secret_creates_no_directory(cli, tmp_path, secrets):
    code, out = cli("-m", *TINY, "seed=1,2", "hydra.job.env_copy=[HF_TOKEN]")
    assert code == 1 and "would write HF_TOKEN" in out and list(tmp_path.iterdir()) == []


def test_other_environment_variables_may_be_read(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDENT", "ada")
    assert cli(*TINY, "logger=csv", "name=${oc.env:STUDENT}")[0] == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["name"] == "ada"


# Weights & Biases


@pytest.mark.parametrize("answers", [False, True], ids=["closed port", "accepts and never answers"])
def test_unreachable_wandb_falls_back_to_offline(cli, tmp_path, secrets, monkeypatch, answers):
    assert loggers.INIT_TIMEOUT <= 60 and loggers.FINISH_TIMEOUT <= 300
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
        wandb.teardown()  # W&B reads the environment once in a process
        code, out = cli(*TINY)
        if answers:
            server.settimeout(0)
            server.accept()  # it was asked
    wandb.teardown()
    assert code == 0, out
    assert "W&B cannot be reached" in out and "WANDB_MODE=offline" in out and "logger=csv" in out and "Traceback" not in out
    assert status(tmp_path / "run") == "finished" and list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_run_survives_the_death_of_wandb_s_process(cli, tmp_path, secrets, monkeypatch):
    """The next run starts a new one."""
    run = Evaluation.run

    def kill_and_run(*arguments):
        children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
        for pid in children:
            if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                killed.append(pid)
        run(*arguments)

    killed = []
    monkeypatch.setattr(Evaluation, "run", kill_and_run)
    code, out = cli(*TINY)
    monkeypatch.setattr(Evaluation, "run", run)
    assert killed and code == 0 and status(tmp_path / "run") == "finished", out
    assert (
        out.count("W&B failed (") == 1
        and out.count("logger.wandb failed") == 1
        and "metrics.csv" in out
        and "Traceback" not in out
    )
    assert [row.split(",")[0] for row in (tmp_path / "run" / "metrics.csv").read_text().split()][-1] == "512"
    assert cli(*TINY, "hydra.run.dir=next")[0] == 0 and list((tmp_path / "next" / "wandb").glob("offline-run-*/*.wandb"))


# Damage on the way


def test_full_device_memory_keeps_the_last_checkpoint(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text(
        FAILING_GAN.format(error="torch.OutOfMemoryError('CUDA out of memory. Tried 2 GiB.\\nMore.')")
    )
    code, out = cli(*TINY, "logger=csv", "gan._target_=my_gan.Failing")
    assert code == 1 and out.count("ganlab: ") == 1 and "Traceback" not in out
    assert "the device's memory is full (CUDA out of memory. Tried 2 GiB.); halve data.batch_size, or seeds" in out
    assert status(tmp_path / "run") == "failed" and last_images_seen(tmp_path / "run") == 256


def failed_run(cli, folder: Path) -> Path:
    """Train a run that fails after its second checkpoint; returns the checkpoint."""
    Path("my_gan.py").write_text(FAILING_GAN.format(error="RuntimeError('broken')"))
    cli(*TINY, "logger=csv", "gan._target_=my_gan.Failing")
    assert last_images_seen(folder) == 256
    return folder / "checkpoints" / "last.ckpt"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_byte(path: Path) -> None:
    """One byte of a weight, which torch.load would not notice."""
    with zipfile.ZipFile(path) as file:
        entry = max((e for e in file.infolist() if "/data/" in e.filename), key=lambda e: e.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 200] ^= 0xFF
    path.write_bytes(content)


def plant_class(path: Path) -> None:
    """A pickle that names a class, which must not be looked up."""
    torch.save({"ganlab": Path("/")}, path)


@pytest.mark.parametrize("damage", [truncate, flip_byte, plant_class])
def test_damaged_checkpoint_is_named_with_remedies(cli, tmp_path, damage):
    checkpoint = failed_run(cli, tmp_path / "run")
    good = checkpoint.with_name("best.ckpt").read_bytes()
    damage(checkpoint)
    code, out = cli("resume=run", "trust=my_gan")
    assert code == 1 and out.count("ganlab: ") == 1 and "Traceback" not in out
    assert "last.ckpt is no checkpoint of a ganlab run, or is not whole" in out
    assert "copy best.ckpt over it to continue from there, or delete it to start again" in out
    assert checkpoint.with_name("best.ckpt").read_bytes() == good
    checkpoint.write_bytes(good)
    code, out = cli("resume=run", "trust=my_gan")
    assert code == 0 and status(tmp_path / "run") == "finished", out


def test_unwritable_metrics_are_one_sentence(cli, tmp_path):
    """Root may write everywhere, so something else has the file's name."""
    (tmp_path / "run" / "metrics.csv" / "x").mkdir(parents=True)
    code, out = cli(*TINY, "logger=csv")
    assert code == 1 and out.count("ganlab: ") == 1 and "Traceback" not in out
    assert "run/metrics.csv cannot be opened" in out and "choose another directory with hydra.run.dir=DIR" in out


def test_unwritable_pictures_cost_no_run(cli, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples").write_text("a file, where a folder is needed")
    code, out = cli(*(override for override in TINY if "sample_grid" not in override), "logger=csv")
    assert code == 0 and status(tmp_path / "run") == "finished" and last_images_seen(tmp_path / "run") == 512
    assert (
        out.count("callbacks.sample_grid failed and is switched off") == 1 and "File exists" in out and "Traceback" not in out
    )


def test_unwritable_checkpoints_fail_the_run(cli, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("a file, where a folder is needed")
    code, out = cli(*TINY, "logger=csv")
    assert code == 1 and out.count("ganlab: ") == 1 and "run/checkpoints" in out and "Traceback" not in out
    assert status(tmp_path / "run") == "failed"


def test_changed_images_are_refused_on_resume(cli, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(40):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(images / f"{i:02}.png")
    (tmp_path / "my_gan.py").write_text(FAILING_GAN.format(error="RuntimeError('broken')").replace("CGAN", "NonSaturatingGAN"))
    overrides = [
        "data=folder",
        "data.root=images",
        "data.size=8",
        "data.batch_size=16",
        "networks.width=2",
        "loss=ns",
        "metrics=none",
    ]
    overrides += ["max_images=64", "eval_every=16", "logger=csv", "trainer=cpu", "hydra.run.dir=run"]
    code, out = cli(*overrides, "gan._target_=my_gan.Failing")
    assert code == 1 and last_images_seen(tmp_path / "run") == 32, out
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    content = (images / "20.png").read_bytes()
    (images / "20.png").write_bytes(content[: len(content) // 2])
    code, out = cli("resume=run", "trust=my_gan")
    assert code == 1 and out.count("ganlab: ") == 1 and "Traceback" not in out
    assert "images/20.png cannot be read as an 8-bit image" in out and "repair, convert or remove it" in out
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    (images / "20.png").rename(tmp_path / "20.png")
    code, out = cli("resume=run", "trust=my_gan")
    assert code == 1 and out.count("ganlab: ") == 1 and "Traceback" not in out
    assert "31 samples" in out and "training data" in out
    (images / "20.png").write_bytes(content)
    code, out = cli("resume=run", "trust=my_gan")
    assert code == 0 and last_images_seen(tmp_path / "run") == 64, out


# Files that execute nothing

PLAIN = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch.jit._pickle restore_type_tag"}
TYPES = (
    "torch FloatStorage",
    "torch LongStorage",
    "torch ByteStorage",
    "torch BoolStorage",
    "torch DoubleStorage",
    "torch IntStorage",
)


def pickled_names(pickled: bytes) -> set[str]:
    """The names that unpickling would look up."""
    names, strings = set(), []
    for code, argument, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL":
            names.add(argument)
        elif code.name == "STACK_GLOBAL":
            names.add(" ".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return names


def test_files_of_a_run_and_its_exports_execute_nothing(cli, tmp_path):
    code, out = cli("max_images=640", "eval_every=320", "networks.width=4", "logger=csv", "trainer=cpu", "hydra.run.dir=run")
    assert code == 0, out
    for verb, option in (("export", "format=safetensors"), ("export", "format=torchscript"), ("sample", "out=a.npy")):
        code, out = cli(verb, "run=run", option)
        assert code == 0, out
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".ckpt", ".npy", ".pt", ".safetensors"} <= {path.suffix for path in files}
    assert not {".pkl", ".pickle", ".joblib"} & {path.suffix for path in files}
    for path in files:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        if path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                for name in (name for name in file.namelist() if name.endswith(".pkl")):
                    unknown = {
                        n for n in pickled_names(file.read(name)) if n not in PLAIN and not n.startswith((*TYPES, "__torch__."))
                    }
                    assert not unknown, (path, name, unknown)
        else:
            assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")), path


# Start-up


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--help"], 0, "Configuration groups"),
        (["optimizer.generator.lr=abc"], 1, "ganlab: optimizer.generator.lr must be a number, got 'abc'"),
        (["--foo"], 2, "unrecognized arguments: --foo"),
        (["sample", "-h"], 0, "truncation=…"),
    ],
)
def test_help_and_refusals_import_no_torch(tmp_path, arguments, code, message):
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('LOADED', *{'torch', 'lightning', 'matplotlib', 'wandb', 'sklearn'} & {*sys.modules}))\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "from ganlab.cli.main import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == code and message in ran.stdout + ran.stderr, ran.stderr
    assert ran.stdout.splitlines()[-1] == "LOADED"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
