"""Every experiment composes, names only keys that exist, and builds."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab import GAN
from ganlab.config.paths import conf_folder

CONF = Path(conf_folder())
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
OUTSIDE_A_JOB = ["name=test", "run_dir=somewhere"]  # read from Hydra's state in a job


def composed(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*overrides, *OUTSIDE_A_JOB])


def keys(config: dict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in config.items():
        names |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return names


def test_documented_experiments_exist():
    documented = "digits cgan_fashion ns_fashion minimax_fashion wgan_fashion wgan_gp_fashion ring grid cgan_mnist cgan_cifar10"
    assert set(documented.split()) <= set(EXPERIMENTS)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_has_a_question_and_only_known_keys(experiment):
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    package, question = text.splitlines()[:2]
    assert package == "# @package _global_" and question.startswith("# ")
    body = OmegaConf.to_container(OmegaConf.create(text))
    body.pop("published", None)  # numbers of a paper
    overrides = []
    for entry in body.pop("defaults"):
        if isinstance(entry, str):  # another experiment that this one varies, or _self_
            overrides += [f"+experiment={entry}"] * (entry != "_self_")
            continue
        ((key, value),) = entry.items()
        choice = value if isinstance(value, str) else f"[{','.join(value)}]"
        overrides.append(f"{key.removeprefix('override /')}={choice}")
    known_keys = keys(OmegaConf.to_container(composed(*overrides)))
    unknown = {key for key in keys(body) if not any(f"{key}.".startswith(f"{name}.") for name in known_keys)}
    assert not unknown, f"unknown keys: {sorted(unknown)}"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_builds(experiment):
    config = OmegaConf.to_container(composed(f"+experiment={experiment}"), resolve=True, throw_on_missing=True)
    gan = instantiate(config["gan"], _convert_="all")
    assert isinstance(gan, GAN)
    data = instantiate(config["data"], _convert_="all")
    assert tuple(gan.sample(2).shape[1:]) == tuple(data.shape)
    callbacks = [instantiate(callback, _convert_="all") for callback in config["callbacks"].values()]
    trainer = instantiate(config["trainer"], _partial_=True, _convert_="all")(callbacks=callbacks, logger=False)
    assert trainer.max_epochs == -1


def test_default_run_is_the_digits_experiment():
    assert composed() == composed("+experiment=digits")


def test_presets_match_the_papers():
    """WGAN RMSprop 5e-5, ±0.01, 5; WGAN-GP Adam 1e-4 (0, 0.9), weight 10, 5; DCGAN Adam 2e-4, beta1 0.5."""
    wgan, gp, ns = composed("loss=wgan"), composed("loss=wgan_gp"), composed("loss=ns", "optimizer=adam")
    for role in ("generator", "discriminator"):
        assert wgan.optimizer[role] == {"_target_": "torch.optim.RMSprop", "_partial_": True, "lr": 5e-5}
        assert (gp.optimizer[role].lr, gp.optimizer[role].betas) == (1e-4, [0.0, 0.9])
        assert (ns.optimizer[role].lr, ns.optimizer[role].betas) == (2e-4, [0.5, 0.999])
    assert (wgan.gan.n_critic, wgan.regularizer.clip.bound) == (5, 0.01) and set(wgan.regularizer) == {"clip"}
    assert (gp.gan.n_critic, gp.regularizer.gp.weight) == (5, 10) and set(gp.regularizer) == {"gp"}
    assert ns.gan.n_critic == 1 and not ns.regularizer


def test_named_regularizers_merge():
    config = composed("loss=ns", "regularizer=[r1,gp]", "regularizer.r1.gamma=10")
    assert config.regularizer.r1.gamma == 10 and config.regularizer.gp.weight == 10


@pytest.mark.parametrize("trainer", sorted(path.stem for path in (CONF / "trainer").glob("*.yaml")))
def test_trainer_presets_have_the_keys_of_auto(trainer):
    config = OmegaConf.to_container(composed(f"trainer={trainer}").trainer)
    assert set(config) == set(composed("trainer=auto").trainer)
    if trainer in ("ddp", "multi_node"):
        assert config["strategy"] == "ddp_find_unused_parameters_true"  # each step gives gradients to one network only
