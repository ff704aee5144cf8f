"""Hints about overrides that do not fit: what they propose works."""

import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ganlab.config import suggestions
from ganlab.config.paths import conf_folder

CONF = Path(conf_folder())


def composed(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("max_image=1", "there is no key max_image; did you mean max_images?"),
        ("gan.n_crtic=1", "did you mean gan.n_critic?"),
        ("networks.widht=1", "did you mean networks.width"),
        ("optimizer.generator.lt=1", "did you mean optimizer.generator.lr"),
        ("optimizer.lr=1", "did you mean optimizer.discriminator.lr or optimizer.generator.lr?"),
        ("lr=1e-3", "did you mean optimizer.discriminator.lr or optimizer.generator.lr?"),
        ("learning_rate=1e-3", "did you mean optimizer.generator.lr or optimizer.discriminator.lr?"),
        ("regularizer.gamma=1", "did you mean regularizer.r1.gamma or regularizer.r1_approx.gamma or"),
        ("epochs=10", "did you mean max_images (a run's length is counted in real images)?"),
        ("max_epochs=10", "did you mean max_images"),
        ("batch_size=10", "did you mean data.batch_size?"),
        ("n_critic=5", "did you mean gan.n_critic?"),
        ("foo.bar.baz=1", "python -m ganlab --cfg job prints all keys"),
        ("experiment=ring", "no experiment is chosen by default, so one is added with a plus: +experiment=ring"),
        ("+experiment=rign", "did you mean +experiment=ring?"),
        ("loss=minmax", "there is no loss=minmax; did you mean loss=minimax? Or choose one of alpha, cgan, "),
        ("loss=wasserstein", "did you mean loss=wgan?"),
        ("loss=wgan-gp", "did you mean loss=wgan_gp?"),
        ("loss=saturating", "did you mean loss=minimax?"),
        ("loss=vanilla", "did you mean loss=minimax or loss=ns?"),
        ("loss=LSGAN", "did you mean loss=ls?"),
        ("loss=nonsaturating", "did you mean loss=ns?"),
        ("loss=r1gan", "did you mean loss=ns 'regularizer=[r1]'?"),
        ("loss=dcgan", "did you mean networks=dcgan?"),
        ("data=fashion", "did you mean data=fashion_mnist?"),
        ("networks=resnt", "did you mean networks=resnet?"),
        ("regularizer=[r1,gradient_penalty]", "did you mean 'regularizer=[gp]'? Or choose one of clip, consistency"),
        ("loss=nonsense", "there is no loss=nonsense; choose one of alpha, cgan, "),
        ("networks=mlp", "networks.generator.shape[0] needs data.dim, which this config does not have; take networks=mlp for"),
        ("gan._target_=my_gan.MyGAN", "does my_gan.py stand in {cwd}, and does it define MyGAN?"),
        ("gan._target_=ganlab.MyGAN", "there is no MyGAN in the module ganlab; correct this _target_"),
        ("trainer.devices=99", "trainer.devices=99, but this machine has"),
    ],
)
def test_override_that_does_not_fit_gets_a_hint(cli, tmp_path, typed, hint):
    code, printed = cli(typed, "logger=csv", "trainer=cpu")
    assert code == 1 and printed.count("ganlab: ") == 1 and "Traceback" not in printed
    assert hint.format(cwd=tmp_path) in printed


@pytest.mark.parametrize("proposal", [*suggestions.OTHER_NAMES, *suggestions.OTHER_KEYS])
def test_proposals_exist(proposal):
    if "=" not in proposal:
        assert all(OmegaConf.select(composed(), key.split(" (")[0]) is not None for key in proposal.split(" or "))
        return
    for choice in proposal.split(" or "):
        composed(*shlex.split(choice))


@pytest.mark.parametrize(
    ("key", "value", "choice"),
    [
        ("regularizer.r1.gamma", "3", "regularizer=[r1]"),
        ("regularizer.gp.weight", "3", "regularizer=[gp]"),
        ("callbacks.vanishing.critic_steps", "3", "monitor=[vanishing]"),
        ("gan.alpha_d", "0.3", "loss=alpha"),
    ],
)
def test_key_of_another_choice_names_the_choice(cli, key, value, choice):
    code, printed = cli(f"{key}={value}")
    assert code == 1 and f"there is no {key} in this config; it comes with {shlex.quote(choice)}\n" in printed
    assert OmegaConf.select(composed(choice, f"{key}={value}"), key) == float(value)


@pytest.mark.parametrize(
    ("typed", "corrected"),
    [
        ("loss=ns --config-dir mine +experiment=my", "--config-dir mine loss=ns +experiment=my"),
        ("loss=ns -m seed=1,2", "-m loss=ns seed=1,2"),
        ("-m loss=ns --config-dir=mine seed=1,2", "-m --config-dir=mine loss=ns seed=1,2"),
        ("loss=ns --cfg job ~monitor", "--cfg job loss=ns '~monitor'"),
    ],
)
def test_option_between_overrides_is_explained(cli, typed, corrected):
    code, printed = cli(*typed.split())
    assert code == 1 and f"stands between overrides; options come first: python -m ganlab {corrected}\n" in printed
    assert suggestions.misplaced_option(shlex.split(corrected)) is None


@pytest.mark.parametrize("typed", ["", "-m", "loss=ns", "loss=ns --cfg job", "--config-dir mine loss=ns seed=1"])
def test_options_before_or_after_all_overrides_are_fine(typed):
    assert suggestions.misplaced_option(typed.split()) is None
