"""`python -m ganlab inspect`: its output, its files, and its messages about broken losses."""

import json
from functools import partial

import pytest
from PIL import Image

from ganlab.cli.inspect import dirac_gan
from ganlab.losses import WGAN
from ganlab.regularizers import GradientPenalty

GOOD = """
from ganlab import GAN


class MyGAN(GAN):
    @staticmethod
    def discriminator_loss(real_logits, fake_logits):
        return ((real_logits - 1) ** 2).mean() / 2 + (fake_logits**2).mean() / 2

    @staticmethod
    def generator_loss(fake_logits, real_logits=None):
        return ((fake_logits - 1) ** 2).mean() / 2
"""
BROKEN = {
    "returns a vector": "return ((fake_logits - 1) ** 2) / 2",
    "returns NaN": "return (fake_logits - fake_logits - 1).sqrt().mean()",
    "breaks under bf16": "return -fake_logits.numpy(force=True).mean() if fake_logits.dtype.itemsize == 2"
    " else ((fake_logits - 1) ** 2).mean() / 2",
    "raises": "raise KeyError('temperature')",
    "raises with rich's markup": "raise ValueError('logits [n, 1] or [/n]')",
}


def written_files(folder):
    (report,) = (folder / "outputs").rglob("inspect.json")
    return json.loads(report.read_text()), report.with_name("inspect.png")


def test_output_and_files_of_a_shipped_loss(cli, tmp_path):
    code, printed = cli("inspect", "loss=wgan", "regularizer=[gp]", "regularizer.gp.weight=0.35")
    assert code == 0, printed
    assert "WGAN + gp" in printed and "bounded: |dL_G/df| = 1 at f = -10, 1 at f = -30" in printed
    assert "undefined" in printed and "W1(p, q), the earth mover's distance" in printed and "0 failed" in printed
    results, picture = written_files(tmp_path)
    assert picture.parent.name.startswith("inspect-digits-wgan-seed1_")
    assert Image.open(picture).size == (1600, 1000)
    assert results["failed"] == 0 and results["saturation"]["at_minus_10"] == 1
    assert results["dirac_gan"]["discontinuous"] is True and results["dirac_gan"]["eigenvalues"] is None
    assert results["dirac_gan"]["radius_simultaneous"] == pytest.approx(1.80, abs=0.005)  # facts, section 2
    assert results["optimal_discriminator"]["value_error"] < 1e-6
    assert {check["where"] for check in results["checks"]} >= {"discriminator_loss", "generator_loss", "training_step"}
    assert not list(picture.parent.glob(".*.png"))


def test_dirac_gan_takes_a_shorter_step_where_the_paper_s_overflows():
    simulation = dirac_gan(partial(WGAN, regularizers={"gp": GradientPenalty(10.0)}))
    assert simulation.lr == 0.02 and max(simulation.radius_simultaneous, simulation.radius_alternating) < 1e3


def test_loss_of_your_own(cli, tmp_path):
    summary = r"Least squares of logits [n]: $\begin{aligned} (r - 1)^2 \end{aligned}$ [/]."
    (tmp_path / "my_gan.py").write_text(GOOD.replace("(GAN):\n", f'(GAN):\n    r"""{summary}"""\n\n'))
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 0, printed
    assert summary in printed
    results, _ = written_files(tmp_path)
    assert results["name"] == "MyGAN" and results["saturation"]["at_minus_10"] == pytest.approx(11)
    assert results["optimal_discriminator"]["declared_logits"] is None  # the class declares nothing


@pytest.mark.parametrize("defect", BROKEN)
def test_broken_loss_is_inspected_completely_and_exits_with_1(cli, tmp_path, defect):
    body = GOOD.replace("return ((fake_logits - 1) ** 2).mean() / 2", BROKEN[defect])
    assert body != GOOD
    (tmp_path / "my_gan.py").write_text(body)
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 1 and "Traceback" not in printed
    assert "[n, 1] or [/n]" in printed or "rich" not in defect
    results, picture = written_files(tmp_path)
    assert picture.exists()
    failed = [check for check in results["checks"] if check["state"] == "fail"]
    assert results["failed"] == len(failed) > 0
    assert any(check["where"] == "generator_loss" for check in failed)
    assert all(check["message"] for check in failed)
    first_line = body[: body.index("@", body.index("@") + 1)].count("\n") + 1  # the second decorator
    assert f"generator_loss in my_gan.py, line {first_line}" in " ".join(printed.split())
    assert (f" in line {first_line + 2}" in " ".join(printed.split())) == ("raises" in defect or "bf16" in defect)
    assert not [check for check in failed if check["where"] == "discriminator_loss"]


def test_class_that_is_not_a_gan_is_refused(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text("class MyGAN:\n    pass\n")
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 1 and "gan._target_ must be a subclass of ganlab.GAN, got my_gan.MyGAN" in printed
    assert not (tmp_path / "outputs").exists()
    code, printed = cli("inspect", "-m", "loss=ns,wgan")
    assert code == 1 and "one loss at a time" in printed
    code, printed = cli("inspekt", "loss=ns")
    assert code == 1 and "unknown verb 'inspekt'; choose one of inspect, evaluate" in printed
