"""The command line as a user types it: files of a run, sweeps, your own loss, and error messages."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganlab
from ganlab.cli.main import VERBS
from ganlab.runs.run_dir import RunDir

SHORT = ["max_images=640", "eval_every=320", "logger=csv", "trainer=cpu"]
UNMEASURED = [*SHORT, "metrics=none"]  # no classifier to train first


def only_run(folder: Path) -> Path:
    (run,) = (path.parent for path in folder.rglob("summary.json"))
    return run


def test_run_writes_its_files(cli, tmp_path):
    code, printed = cli(*SHORT)
    assert code == 0, printed
    run = only_run(tmp_path / "outputs")
    assert run.name.startswith("digits-cgan-seed1_")
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert files >= {
        "config.yaml", "metrics.csv", "summary.json", "samples.png", "samples/0000000320.png", "samples/0000000640.png",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt",
    }  # fmt: skip
    assert not [name for name in files if name.endswith(".partial")]

    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["seed"] == 1 and summary["family"] == "CGAN"
    assert summary["counters"] == {"images_seen": 640, "d_updates": 10, "g_updates": 10, "d_steps_since_g": 0}
    assert summary["protocol"]["extractor"]["accuracy"] > 0.9
    assert {"quality/frechet_classifier_360", "quality/label_agreement_360", "quality/classes_360"} <= set(summary["quality"])
    assert summary["quality"].keys() == summary["real"].keys()

    rows = list(csv.DictReader((run / "metrics.csv").open()))
    training = [row for row in rows if row["d/loss"]]
    evaluations = [row for row in rows if row["quality/frechet_classifier_360"]]
    assert [row["images_seen"] for row in training] == ["64"] and [row["images_seen"] for row in evaluations] == ["320", "640"]
    for column in [
        "g/loss",
        "d/accuracy_real",
        "d/accuracy_fake",
        "d/logit_real",
        "d/logit_fake",
        "d/grad_norm",
        "g/grad_norm",
    ]:
        assert np.isfinite(float(training[0][column]))
    assert evaluations[0]["quality/frechet_classifier_360_real"]

    assert Image.open(run / "samples.png").width > Image.open(run / "samples.png").height  # ten columns of eight
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(name.split(".")[0] in {"generator", "discriminator", "generator_ema", "_extra_state"} for name in weights)

    gan = ganlab.load(run)
    images = gan.sample(6, y=torch.arange(6))
    assert images.shape == (6, 1, 8, 8) and images.abs().max() <= 1
    assert str(run.name) in printed and "frechet_classifier_360" in printed


def test_same_seed_gives_the_same_run(cli, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        code, printed = cli(*UNMEASURED, f"seed={seed}", f"hydra.run.dir={name}")
        assert code == 0, printed
    a, b, c = (torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"]["generator.stem.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_sweep_ends_with_a_table(cli, tmp_path):
    overrides = [*SHORT, "metrics.samples=200", "callbacks.sample_grid=null"]
    code, printed = cli("-m", "+experiment=ring", "loss=ns,wgan_gp", "seed=1,2", *overrides)
    assert code == 0, printed
    (sweep,) = (tmp_path / "outputs").glob("sweep_*")
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert sorted((row["loss"], row["seed"]) for row in rows) == [(loss, s) for loss in ("ns", "wgan_gp") for s in "12"]
    assert all(row["status"] == "finished" and row["quality/modes_200"] for row in rows)
    table = printed[printed.index("sweep of 4 jobs") :]
    assert "loss=ns " in table and "loss=wgan_gp " in table
    assert len(list(sweep.glob("+experiment=ring,*loss=wgan_gp,*seed=2*"))) == 1


MY_GAN = '''
import torch
from ganlab import GAN

class MyGAN(GAN):
    """Least squares with targets 1 and 0."""

    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return ((real_logits - 1) ** 2).mean() / 2 + (fake_logits ** 2).mean() / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return ((fake_logits - 1) ** 2).mean() / 2

class Broken(MyGAN):
    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return fake_logits.mean() + torch.zeros(3)[7]

class Choosy(MyGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        raise ValueError("not these")

class TakesNoReal(MyGAN):
    def generator_loss(self, fake_logits):
        return -fake_logits.mean()

class TakesNoSelf(MyGAN):
    def discriminator_loss(real_logits, fake_logits):
        return fake_logits.mean() - real_logits.mean()

class NotFinite(MyGAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return (real_logits.mean() - fake_logits.mean()) / 0 * 0
'''


@pytest.mark.parametrize("conditioning", ["none", "labels"])
def test_your_own_loss_trains_and_loads(cli, tmp_path, conditioning):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    code, printed = cli("loss=ns", "gan._target_=my_gan.MyGAN", f"conditioning={conditioning}", *UNMEASURED)
    assert code == 0, printed
    run = only_run(tmp_path / "outputs")
    assert run.name.startswith("digits-MyGAN-seed1_")
    with pytest.raises(ValueError, match="trust"):
        ganlab.load(run)
    gan = ganlab.load(run, trust=["my_gan"])
    assert type(gan).__name__ == "MyGAN" and gan.conditioning.num_classes == (0 if conditioning == "none" else 10)


def test_error_in_your_own_loss_names_its_line(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    code, printed = cli("loss=ns", "gan._target_=my_gan.Broken", *UNMEASURED)
    assert code == 1 and "IndexError" in printed and "my_gan.py, line 19" in printed


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("TakesNoReal", "generator_loss cannot be called; write def generator_loss(self, fake_logits, real_logits=None), or"),
        (
            "TakesNoSelf",
            "discriminator_loss cannot be called; write def discriminator_loss(self, real_logits, fake_logits), or",
        ),
    ],
)
def test_wrong_signature_of_a_loss_is_explained(cli, tmp_path, family, message):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    code, printed = cli("loss=ns", f"gan._target_=my_gan.{family}", *UNMEASURED)
    assert code == 1 and f"ganlab: {family}.{message} without self below @staticmethod\n" in printed


@pytest.mark.parametrize("members", [[], ["seeds=2"]], ids=["one", "two"])
@pytest.mark.parametrize(
    ("family", "settings", "status"),
    [
        ("Broken", [], "failed"),
        ("Choosy", [], "failed"),  # a ValueError, but not ganlab's
        ("MyGAN", ["gan.pack=3", "data.batch_size=2"], "refused"),
    ],
)
def test_crash_in_the_first_step_is_a_failed_run_and_a_refusal_none(cli, tmp_path, members, family, settings, status):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    overrides = ["data=ring", "loss=ns", f"gan._target_=my_gan.{family}", *settings, *members, *UNMEASURED, "hydra.run.dir=run"]
    assert cli(*overrides)[0] == 1
    run = RunDir(tmp_path / "run")
    assert run.is_run == (status == "failed") and run.read_summary().get("status", "refused") == status
    assert run.path.exists() == (status == "failed")


def test_your_own_config_directory(cli, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /data: ring\n  - override /loss: ns\nmax_images: 256\n"
    (tmp_path / "mine" / "experiment" / "my.yaml").write_text(text)
    code, printed = cli("--config-dir", "mine", "+experiment=my", "logger=csv", "metrics=none")
    assert code == 0, printed


def broken_image_folder() -> str:
    folder = Path("broken")
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes((folder / "3.png").read_bytes()[:40])
    return str(folder)


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["regularizer=[r1,typo]"], ["there is no regularizer=typo; choose one of clip, consistency", "sn"]),
        (["loss=nonsense"], ["there is no loss=nonsense; choose one of alpha, cgan", "wgan_gp"]),
        (["max_images=many"], ["max_images", "'many'"]),
        (["gan.n_critic=two"], ["gan.n_critic", "'two'"]),
        (["gan.n_critic=0"], ["gan.n_critic", "at least 1", "0"]),
        (["gan.n_critics=1"], ["n_critics"]),
        (["data.batch_size=0"], ["data.batch_size", "at least 1", "0"]),
        (["data.batch_size=5000", "metrics=none"], ["data.batch_size", "5000"]),
        (["conditioning=none"], ["CGAN needs labels", "conditioning=labels"]),
        (["data.num_classes=7"], ["data.num_classes", "10"]),
        (["data=folder", "metrics=none", "loss=ns"], ["data.root"]),
        (["data=folder", "data.root=empty", "metrics=none", "loss=ns"], ["empty"]),
        (["data=folder", "data.root=broken", "metrics=none", "loss=ns"], ["bad.png"]),
        (["data=ring", "metrics=classifier"], ["metrics=toy"]),
        (["metrics=inception"], ["metrics=classifier", "inception"]),
        (["data=mnist"], ["MNIST/raw", "network"]),
        (["networks.discriminator.norm=bath"], ["'bath'", "batch"]),
        (["hydra.run.dir=file/run"], ["file"]),
        (["hydra.run.dir=" + "x" * 400], ["File name too long"]),
        (["trainer.precision=17"], ["17"]),
        (["inspect"], ["inspect comes first: python -m ganlab inspect"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence(cli, tmp_path, monkeypatch, arguments, fragments):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file, where a folder is needed")
    broken_image_folder()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no network, wherever this test runs
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    code, printed = cli(*SHORT, *arguments)
    assert code != 0, printed
    assert "Traceback" not in printed and len(printed.splitlines()) < 25, printed
    for fragment in fragments:
        assert fragment in printed


def test_ascii_terminal_gets_escaped_characters():
    command = [sys.executable, "-m", "ganlab", "sample", "-h"]
    ran = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert ran.returncode == 0 and "\\u2026" in ran.stdout, ran.stderr


def test_help_names_every_verb(cli):
    code, printed = cli("--help")
    assert code == 0 and all(verb in printed.partition("==")[0] for verb in VERBS)


@pytest.mark.parametrize("verb", ["evaluate", "export", "interpolate", "neighbors", "report", "sample"])
def test_verbs_without_hydra(cli, tmp_path, make_run, verb):
    """Help, a typo in an option, no run: never a traceback, and nothing written."""
    code, printed = cli(verb, "--help")
    assert code == 0 and f"python -m ganlab {verb}" in printed and "  out=…" in printed
    code, printed = cli(verb, "ouut=x")
    assert code == 1 and f"ganlab: {verb} has no option ouut=, perhaps out; its options are" in printed
    code, printed = cli(verb, *(["nowhere"] if verb == "report" else ["run=nowhere"]))
    assert code == 1 and "ganlab: " in printed and "nowhere" in printed and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_verbs_use_a_trained_run(cli, tmp_path, make_run):
    gan = make_run(tmp_path / "outputs" / "run", classes=0)
    code, printed = cli("sample", "n=5", "seed=2", "out=a.npy")
    assert code == 0 and printed == "5 samples of digits-test, seed 2\na.npy\n"
    assert np.array_equal(np.load("a.npy"), gan.sample(5, seed=2).numpy())
    code, printed = cli("export", "run=outputs/run", "format=torchscript")
    assert code == 0 and "outputs/run/generator.pt\noutputs/run/generator.pt.json" in printed
    code, printed = cli("interpolate", "rows=100000000000000")
    assert code == 1 and "ganlab: the memory does not hold 2000000000000000 bytes more; choose" in printed
    assert "Traceback" not in printed


def test_verbs_load_your_own_loss_with_trust(cli, tmp_path, make_run):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    make_run(tmp_path / "run", classes=0)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["ganlab"]["config"]["gan"]["_target_"] = "my_gan.MyGAN"
    torch.save(content, path)
    code, printed = cli("sample", "run=run", "n=5", "out=a.npy")
    assert code == 1 and "trust=my_gan on the command line" in printed
    code, printed = cli("sample", "run=run", "n=5", "out=a.npy", "trust=my_gan")
    assert code == 0, printed


def test_several_devices_in_a_local_sweep_are_refused(cli):
    code, printed = cli("-m", "data=ring", "loss=ns", "trainer.devices=2", "seed=1,2", *SHORT)
    assert code == 1 and "one device per job" in printed


def test_non_finite_loss_stops_the_run(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text(MY_GAN)
    code, printed = cli("loss=ns", "gan._target_=my_gan.NotFinite", *UNMEASURED)
    assert code == 1 and "d/loss is nan on the first batch; look at the loss with python -m ganlab inspect" in printed
    summary = json.loads((only_run(tmp_path / "outputs") / "summary.json").read_text())
    assert summary["status"] == "failed" and "d/loss is nan" in summary["error"]


def test_wandb_is_offline_without_a_key(cli, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, printed = cli("data=ring", "loss=ns", "max_images=640", "metrics=none", "trainer=cpu")
    assert code == 0, printed
    folder = only_run(tmp_path / "outputs")
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
    (folder / "summary.json").unlink()  # as if it had been killed before
    code, printed = cli("resume=latest")
    assert code == 0, printed
    first, second = (path.name.split("-")[3] for path in (folder / "wandb").glob("offline-run-*"))  # …-1: within one second
    assert first == second, "one run in W&B"


def test_wheel_contains_conf_and_runs_elsewhere(tmp_path):
    root = Path(ganlab.__file__).parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(installed)], check=True)
    assert (installed / "ganlab" / "conf" / "config.yaml").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); sys.argv = ['ganlab', '--cfg', 'job', '+experiment=ring'];"
        "import ganlab.cli.main as m; print(m.__file__); m.main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True)
    assert ran.returncode == 0 and "ganlab.data.Ring" in ran.stdout, ran.stderr
    assert ran.stdout.startswith(str(installed))
