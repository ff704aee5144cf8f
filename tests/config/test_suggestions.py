"""Advice about overrides that do not fit: what it proposes must work."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ganlab.cli import job
from ganlab.config import suggestions
from ganlab.config.paths import conf_folder


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
        ("optimizer.lr", "optimizer.discriminator.lr or optimizer.generator.lr?"),
        ("regularizer.gamma", "regularizer.r1.gamma or regularizer.r1_approx.gamma or"),
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
    sentence = suggestions.unresolved("networks.generator.channels", "data.channels")
    assert "networks.generator.channels needs data.channels" in sentence and "networks=mlp for points" in sentence
    assert "networks=" not in suggestions.unresolved("gan.x", "data.y")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("loss", "'loss' cannot be read; type KEY=VALUE, with quotes"),
        ("+seed=2", "there is a seed already; leave the + out"),
        ("~seeed", "there is no seeed to delete; leave ~seeed out"),
        ("loss=3", "a group of choices takes the name of one, or several as [name,name]"),
        ("seed=1,2", "seed=1,2 has several values; -m runs one after another, and [1,2] is a list"),
        ("loss=nonsense", "there is no loss=nonsense; choose one of alpha, cgan, "),
        ("hydra.mode=x", "Error merging override hydra.mode=x (Invalid value 'x', expected one of [RUN, MULTIRUN])"),
    ],
)
def test_other_refusals_of_hydra_become_one_line(typed, sentence):
    with initialize_config_dir(conf_folder(), version_base="1.3"), pytest.raises((HydraException, ValueError)) as caught:
        compose("config", [typed])
    assert job.explain(caught.value).splitlines()[0].startswith(sentence)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"lr": -1.0}, "a learning rate must be at least 0, got -1.0; correct optimizer.generator.lr or"),
        ({"betas": (0.5, 2)}, "no optimizer takes beta=2; correct it in optimizer.generator or optimizer.discriminator"),
        ({"eps": -1}, "no optimizer takes epsilon=-1; correct it in"),
    ],
)
def test_a_refusal_of_torch_s_optimizers_names_the_key(setting, sentence):
    with pytest.raises(ValueError) as caught:
        torch.optim.Adam([torch.zeros(1)], **setting)
    assert job.explain(caught.value).splitlines()[0].startswith(sentence)


def test_a_loss_of_probabilities_is_told_of_logits():
    with pytest.raises(RuntimeError) as caught:
        torch.nn.functional.binary_cross_entropy(torch.tensor([2.0]), torch.ones(1))
    assert job.explain(caught.value).startswith("a loss takes probabilities and got logits")


def settled(*overrides):
    """As a job sees it; the interpolations that need a job lead to the folder of tests."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", ["run_dir=here", "name=x", *overrides])
    job.validate_types(config)
    return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    ("key", "typed", "becomes"),
    [
        ("optimizer.generator.betas", "[0,0.99]", [0.0, 0.99]),
        ("optimizer.generator.lr", "1", 1.0),
        ("max_images", "1e5", 100_000),
        ("gan.gradient_clip", "2", 2),  # null in conf/: its class knows
        ("name", "7", "7"),
        ("trainer.devices", "[0,1]", [0, 1]),
        ("callbacks.sample_grid", "null", None),
        ("monitor.on_verdict", "stop", "stop"),
    ],
)
def test_a_setting_gets_the_kind_that_conf_gives_it(key, typed, becomes):
    found = OmegaConf.select(OmegaConf.create(settled(f"{key}={typed}")), key)
    found = OmegaConf.to_container(found) if OmegaConf.is_list(found) else found
    assert repr(found) == repr(becomes)


def test_a_number_that_became_a_float_reaches_the_optimizer():
    assert repr(settled("optimizer.generator.betas=[0,0.99]")["gan"]["generator_optimizer"]["betas"]) == "[0.0, 0.99]"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("optimizer.generator.lr=abc", "optimizer.generator.lr must be a number, got 'abc'"),
        ("optimizer.generator.lr=null", "optimizer.generator.lr must be a number, got null"),
        ("optimizer.generator.betas=[0,x]", "optimizer.generator.betas[1] must be a number, got 'x'"),
        ("max_images=1.5", "max_images must be an integer, got 1.5"),
        ("max_images=true", "max_images must be an integer, got True"),
        ("gan.critic_warmup=1", "gan.critic_warmup must be true or false, got 1"),
        ("data.batch_size=[1]", "data.batch_size must be an integer, got [1]"),
        ("gan=5", "gan must be a section, got 5"),
        ("seeds=0", "seeds must be an integer of at least 1, got 0"),
        ("published=5", "published must be a section or null, got 5"),
        ("gan.generator_scheduler=7", "gan.generator_scheduler must be a section or null, got 7"),
        ("callbacks.sample_grid=7", "callbacks.sample_grid must be a section, got 7"),
        ("~trainer", "trainer is missing in this config; leave ~trainer out"),
        ("seed=-1", "seed must be an integer in 0 … 4294967295, got -1"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 trains nothing; set the length with max_images="),
        (f"optimizer.generator.lr={10**400}", f"optimizer.generator.lr must be a number, got {10**400}"),
    ],
)
def test_a_setting_of_another_kind_is_refused(typed, sentence):
    with pytest.raises(ValueError) as caught:
        settled(typed)
    assert str(caught.value) == sentence


def test_what_leads_to_null_is_judged_where_it_arrives():
    """As Hydra's own facts do until a job begins: run_dir is one of them."""
    assert settled("run_dir=${published}")["run_dir"] is None


def test_every_preset_keeps_its_own_kinds():
    for experiment in sorted(path.stem for path in (Path(conf_folder()) / "experiment").glob("*.yaml")):
        settled(f"+experiment={experiment}")
    settled(
        "regularizer=[r1,gp,lecam,clip,diffaugment,consistency]", "monitor=[verdicts,vanishing,counterfactual]", "trainer=ddp"
    )


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "..", "", "é" * 200, "a\nb"])
def test_a_run_s_name_makes_one_folder(name):
    folder = job.stem(name)
    assert "/" not in folder and folder.isprintable() and 0 < len(folder.encode()) < 200 and not folder.startswith(".")


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 60},
            "CosineAnnealingLR is called when training starts, with the optimizer; write _partial_: true beside its _target_",
        ),
        (
            {"_target_": "torch.optim.Adam", "lr": 1e-3},
            "Adam is called when training starts, with the params; write _partial_: true beside its _target_",
        ),
        ({"_target_": "ganlab.data.TensorData"}, "TensorData does not say what its load is; write that method"),
        (
            {"_target_": "torch.optim.RAdam", "params": [], "fused": True},
            "RAdam has no setting fused; correct its name, or leave it out (with ~ before its whole key where a preset brings it)",
        ),
    ],
)
def test_a_part_of_one_s_own_choice_that_cannot_be_built(part, sentence):
    with pytest.raises(HydraException) as caught:
        instantiate(part)
    assert job.explain(caught.value).splitlines()[0] == sentence
