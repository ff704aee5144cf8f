"""Advice about overrides that do not fit: what it proposes must work."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf

from ganlab import advice, job
from ganlab.__main__ import conf_folder


def refusal(*overrides):
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        with pytest.raises(ConfigCompositionException) as caught:
            compose("config", list(overrides))
    return job.explain(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_image", "max_images"),
        ("gan.n_crtic", "gan.n_critic"),
        ("networks.widht", "networks.width"),
        ("optimizer.generator.lt", "optimizer.generator.lr"),
        ("trainer.precison", "trainer.precision"),
    ],
)
def test_a_typo_is_met_with_the_nearest_key(key, meant):
    sentence = refusal(f"{key}=1")
    assert sentence.startswith(f"there is no key {key}; did you mean {meant}")


@pytest.mark.parametrize(
    ("key", "value", "choice"),
    [
        ("regularizer.r1.gamma", "3", "regularizer=[r1]"),
        ("regularizer.gp.weight", "3", "regularizer=[gp]"),
        ("callbacks.vanishing.critic_steps", "3", "monitor=[vanishing]"),
        ("gan.alpha_d", "0.3", "loss=alpha"),
    ],
)
def test_a_key_of_a_part_that_was_not_chosen_names_the_choice_and_the_choice_works(key, value, choice):
    assert refusal(f"{key}={value}") == f"there is no {key} in this config; it comes with " + (
        f"'{choice}'" if "[" in choice else choice
    )
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", [choice, f"{key}={value}"])
    assert OmegaConf.select(config, key) == float(value)


def test_a_key_like_no_other_is_told_where_all_are():
    assert "--cfg job" in refusal("foo.bar.baz=1")


def test_networks_that_do_not_fit_the_data_are_named_with_those_that_do():
    sentence = advice.unresolved("networks.generator.channels", "data.channels")
    assert "networks.generator.channels needs data.channels" in sentence and "networks=mlp for points" in sentence
    assert "networks=" not in advice.unresolved("gan.x", "data.y")


def test_other_refusals_of_hydra_keep_their_words():
    with initialize_config_dir(conf_folder(), version_base="1.3"), pytest.raises(HydraException) as caught:
        compose("config", ["loss"])
    assert str(caught.value).strip() in job.explain(caught.value)
