"""`python -m ganlab inspect` as a person meets it: the card, the files, and what it says of broken losses."""

import json
from functools import partial

import pytest
from PIL import Image

from ganlab.cli.inspect import playable
from ganlab.losses import WGAN
from ganlab.regularizers import GradientPenalty
from ganlab.report.runs import find_runs

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
    "raises in rich's words": "raise ValueError('logits [n, 1] or [/n]')",
}


def left_by(folder):
    (report,) = (folder / "outputs").rglob("inspect.json")
    return json.loads(report.read_text()), report.with_name("inspect.png")


def test_the_card_and_the_files_of_a_shipped_loss(cli, tmp_path):
    code, printed = cli("inspect", "loss=wgan", "regularizer=[gp]", "regularizer.gp.weight=0.35")
    assert code == 0, printed
    assert "WGAN + gp" in printed and "bounded: |dL_G/df| = 1 at f = -10, 1 at f = -30" in printed
    assert "undefined" in printed and "W1(p, q), the earth mover's distance" in printed and "0 failed" in printed
    found, picture = left_by(tmp_path)
    assert picture.parent.name.startswith("inspect-digits-wgan-seed1_")
    assert Image.open(picture).size == (1600, 1000)
    assert found["failed"] == 0 and found["saturation"]["at_minus_10"] == 1
    assert found["dirac"]["discontinuous"] is True and found["dirac"]["eigenvalues"] is None
    assert found["dirac"]["radius_simultaneous"] == pytest.approx(1.80, abs=0.005)  # facts, section 2
    assert found["optimum"]["value_error"] < 1e-6
    assert {check["where"] for check in found["checks"]} >= {"discriminator_loss", "generator_loss", "training_step"}
    assert not list(picture.parent.glob(".*.png"))


def test_a_game_too_stiff_for_the_papers_step_takes_a_shorter_one():
    game = playable(partial(WGAN, regularizers={"gp": GradientPenalty(10.0)}))
    assert game.lr == 0.02 and max(game.radius_simultaneous, game.radius_alternating) < 1e3


def test_a_loss_of_ones_own_in_ones_own_folder(cli, tmp_path):
    words = r"Least squares of logits [n]: $\begin{aligned} (r - 1)^2 \end{aligned}$ [/]."
    (tmp_path / "my_gan.py").write_text(GOOD.replace("(GAN):\n", f'(GAN):\n    r"""{words}"""\n\n'))
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 0, printed
    assert words in printed
    found, _ = left_by(tmp_path)
    assert found["name"] == "MyGAN" and found["saturation"]["at_minus_10"] == pytest.approx(11)
    assert found["optimum"]["declared_logits"] is None  # the class declares nothing


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_loss_is_inspected_to_the_end_and_exits_with_1(cli, tmp_path, defect):
    body = GOOD.replace("return ((fake_logits - 1) ** 2).mean() / 2", BROKEN[defect])
    assert body != GOOD
    (tmp_path / "my_gan.py").write_text(body)
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 1 and "Traceback" not in printed
    assert "[n, 1] or [/n]" in printed or "rich" not in defect
    found, picture = left_by(tmp_path)
    assert picture.exists()
    failed = [check for check in found["checks"] if check["ok"] is False]
    assert found["failed"] == len(failed) > 0
    assert any(check["where"] == "generator_loss" for check in failed)
    assert all(check["message"] for check in failed)
    hook = body[: body.index("@", body.index("@") + 1)].count("\n") + 1  # the second decorator
    assert f"generator_loss in my_gan.py, line {hook}" in " ".join(printed.split())
    assert (f" in line {hook + 2}" in " ".join(printed.split())) == ("raises" in defect or "bf16" in defect)
    assert not [check for check in failed if check["where"] == "discriminator_loss"]


def test_what_is_no_loss_gets_a_sentence(cli, tmp_path):
    (tmp_path / "my_gan.py").write_text("class MyGAN:\n    pass\n")
    code, printed = cli("inspect", "gan._target_=my_gan.MyGAN")
    assert code == 1 and "gan._target_ must be a subclass of ganlab.GAN, got my_gan.MyGAN" in printed
    assert "must be a subclass of ganlab.GAN" in left_by(tmp_path)[0]["error"]
    with pytest.raises(ValueError, match="there is no run in"):
        find_runs([tmp_path / "outputs"])
    code, printed = cli("inspect", "-m", "loss=ns,wgan")
    assert code == 1 and "one loss at a time" in printed
    code, printed = cli("inspekt", "loss=ns")
    assert code == 1 and "unknown verb 'inspekt'; choose one of train, inspect, evaluate" in printed
