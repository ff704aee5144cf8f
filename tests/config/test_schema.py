"""Overrides get the types of conf/, or are refused."""

import inspect
import os
import re
from pathlib import Path

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ganlab.config.resolvers  # noqa: F401  registers the resolvers that the config uses
from ganlab.config.paths import conf_folder
from ganlab.config.schema import TRAINER_WITHOUT_EFFECT, validate_devices, validate_types


def validated(*overrides):
    """The config as a job gets it."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", ["run_dir=here", "name=x", *overrides])
    OmegaConf.set_struct(config, False)
    validate_types(config, overrides)
    return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    ("key", "typed", "becomes"),
    [
        ("optimizer.generator.betas", "[0,0.99]", [0.0, 0.99]),
        ("optimizer.generator.lr", "1", 1.0),
        ("max_images", "1e5", 100_000),
        ("data.batch_size", "1e2", 100),
        ("callbacks.evaluation.every", "1e3", 1000),
        ("gan.gradient_clip", "2", 2),  # null in conf/: left to its class
        ("name", "7", "7"),
        ("trainer.devices", "[0,1]", [0, 1]),
        ("callbacks.sample_grid", "null", None),
        ("monitor.on_verdict", "stop", "stop"),
    ],
)
def test_numbers_get_the_type_of_conf(key, typed, becomes):
    value = OmegaConf.select(OmegaConf.create(validated(f"{key}={typed}")), key)
    value = OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
    assert repr(value) == repr(becomes)


def test_converted_number_reaches_the_optimizer():
    assert repr(validated("optimizer.generator.betas=[0,0.99]")["gan"]["generator_optimizer"]["betas"]) == "[0.0, 0.99]"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("optimizer.generator.lr=abc", "optimizer.generator.lr must be a number, got 'abc'"),
        ("optimizer.generator.lr=null", "optimizer.generator.lr must be a number, got null"),
        ("optimizer.generator.betas=[0,x]", "optimizer.generator.betas[1] must be a number, got 'x'"),
        (f"optimizer.generator.lr={10**400}", f"optimizer.generator.lr must be a number, got {10**400}"),
        ("max_images=1.5", "max_images must be an integer, got 1.5"),
        ("max_images=true", "max_images must be an integer, got True"),
        ("data.batch_size=[1]", "data.batch_size must be an integer, got [1]"),
        ("gan.critic_warmup=1", "gan.critic_warmup must be true or false, got 1"),
        ("gan=5", "gan must be a section, got 5"),
        ("gan.regularizers=2", "gan.regularizers must be a section, got 2"),
        ("gan.generator_scheduler=7", "gan.generator_scheduler must be a section or null, got 7"),
        ("callbacks.sample_grid=7", "callbacks.sample_grid must be a section, got 7"),
        ("published=5", "published must be a section or null, got 5"),
        ("~trainer", "trainer is missing in this config; leave ~trainer out"),
        ("seed=-1", "seed must be an integer in 0 … 4294967295, got -1"),
        ("seeds=0", "seeds must be an integer of at least 1, got 0"),
    ],
)
def test_value_of_another_type_is_refused(typed, sentence):
    with pytest.raises(ValueError) as caught:
        validated(typed)
    assert str(caught.value) == sentence


def test_interpolation_that_resolves_to_null_passes():
    """As Hydra's own values do until its job begins: run_dir is one of them."""
    assert validated("run_dir=${published}")["run_dir"] is None


def test_every_preset_has_valid_types():
    for experiment in sorted(path.stem for path in (Path(conf_folder()) / "experiment").glob("*.yaml")):
        validated(f"+experiment={experiment}")
    validated("regularizer=[r1,gp,lecam,clip,diffaugment,consistency]", "monitor=[vanishing,counterfactual]", "trainer=ddp")


@pytest.mark.parametrize(
    ("trainer", "limit"),
    [
        ({"accelerator": "cpu", "devices": 5}, "4 CPU cores"),
        ({"accelerator": "auto", "devices": 3}, "2 GPUs"),
        ({"accelerator": "gpu", "devices": 3}, "2 GPUs"),
        ({"accelerator": "cpu", "devices": 4}, None),
        ({"accelerator": "gpu", "devices": 2}, None),
        ({"accelerator": "gpu", "devices": "auto"}, None),
        ({"accelerator": "gpu", "devices": -1}, None),
        ({"accelerator": "gpu", "devices": [5]}, None),  # Lightning names those there are
    ],
)
def test_more_devices_than_the_machine_has_are_refused(monkeypatch, trainer, limit):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    trainer = OmegaConf.create(trainer)
    if limit is None:
        validate_devices(trainer)
        return
    with pytest.raises(ValueError, match=f"^trainer.devices={trainer.devices}, but this machine has {limit}$"):
        validate_devices(trainer)


# Lightning's arguments that act on a run as they do elsewhere
WORKING = {
    "accelerator", "strategy", "devices", "num_nodes", "precision", "fast_dev_run", "max_steps", "max_time", "log_every_n_steps",
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "deterministic", "benchmark", "profiler",
    "detect_anomaly", "sync_batchnorm", "default_root_dir", "enable_autolog_hparams", "model_registry",
}  # fmt: skip


def test_every_argument_of_the_trainer_works_or_is_refused():
    arguments = {*inspect.signature(lightning.Trainer).parameters}
    assert arguments == WORKING | TRAINER_WITHOUT_EFFECT.keys() and not WORKING & TRAINER_WITHOUT_EFFECT.keys()


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("trainer.max_epochs=10", "max_images="),
        ("trainer.max_epochs=0", "max_images="),
        ("+trainer.min_epochs=3", "max_images="),
        ("+trainer.min_steps=1000", "max_images="),
        ("+trainer.limit_train_batches=0.1", "max_images="),
        ("+trainer.limit_train_batches=1", "max_images="),
        ("+trainer.overfit_batches=2", "choose smaller data"),
        ("+trainer.val_check_interval=0.5", "eval_every="),
        ("+trainer.check_val_every_n_epoch=2", "eval_every="),
        ("+trainer.limit_val_batches=3", "eval_every="),
        ("+trainer.num_sanity_val_steps=2", "eval_every="),
        ("+trainer.reload_dataloaders_every_n_epochs=1", "leave it out"),
        ("+trainer.accumulate_grad_batches=2", "raise data.batch_size"),
        ("+trainer.gradient_clip_val=1", "gan.gradient_clip=NUMBER"),
        ("+trainer.gradient_clip_algorithm=value", "gan.gradient_clip=NUMBER"),
        ("+trainer.logger=false", "logger=csv"),
        ("+trainer.callbacks=[]", "+callbacks.NAME="),
    ],
)
def test_trainer_argument_without_effect_is_refused_with_the_key_that_works(typed, instead):
    key, _, value = typed.lstrip("+").partition("=")
    with pytest.raises(
        ValueError, match=rf"^{key}={re.escape(value.title() if value == 'false' else value)} has no effect: "
    ) as caught:
        validated(typed)
    assert instead in str(caught.value)


@pytest.mark.parametrize(
    "typed", ["+trainer.limit_train_batches=1.0", "+trainer.accumulate_grad_batches=1", "+trainer.overfit_batches=0"]
)
def test_trainer_argument_that_asks_for_nothing_is_accepted(typed):
    validated(typed)
